"""What `tiles build` was asked for: where, cut how, drawn from what."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ros2_loc import __version__
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic, geodetic_from_enu
from ros2_loc.errors import ConfigError
from ros2_loc.io.imagery.open import ImageryOptions, open_imagery
from ros2_loc.io.imagery.tile_server import default_cache
from ros2_loc.mapping.mosaic import Bounds, StoredMosaic, store
from ros2_loc.mapping.sparse_map import MapFrame
from ros2_loc.mapping.tile_database import ORIGIN_TOLERANCE_M
from ros2_loc.mapping.tile_imagery import FINEST_M, ImageryOnPlane, describe_sources, draw_imagery, middle_of, plan_area
from ros2_loc.mapping.tile_layout import TileLayout

if TYPE_CHECKING:
    from ros2_loc.core.interfaces import CrossViewEncoder
    from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig

TOWN_SIZES = ("small", "district")


@dataclass(frozen=True, slots=True, eq=False)
class BuildPlan:
    """Arguments of `mapping.tile_build.build_tiles`, and what the user should know."""

    draw: Callable[[Path], StoredMosaic]
    origin: GeoOrigin
    layout: TileLayout
    provenance: dict[str, Any]
    area_m: Bounds | None
    notes: tuple[str, ...]


def plan_build(arguments: argparse.Namespace, pipeline: CrossViewPipelineConfig, encoder: CrossViewEncoder | None) -> BuildPlan:
    """From the arguments of `tiles build`; tiles of servers are fetched here.

    Raises:
        ConfigError, DataError: arguments that contradict each other, or imagery that can't be used.
    """
    layout = _layout(arguments, pipeline, encoder)
    given = _given_origin(arguments)
    towns = [source for source in arguments.source if source.startswith("town:")]
    if towns:
        if len(arguments.source) > 1:
            raise ConfigError(f"{towns[0]}: a town is the only source, its frame is its own")
        return _plan_town(towns[0], arguments, layout, given)
    return _plan_imagery(arguments, layout, given)


def _plan_imagery(arguments: argparse.Namespace, layout: TileLayout, given: GeoOrigin | None) -> BuildPlan:
    from ros2_loc.cli.arguments import progress_wanted

    if arguments.bounds_enu and given is None:
        raise ConfigError("--bounds-enu counts from the origin: give it by --origin LAT LON or --map MAP")
    options = ImageryOptions(
        metres_per_px=min(layout.metres_per_px, FINEST_M),
        box=_with_margin(_geodetic_box(arguments, given), layout.coverage_m / 2),
        zoom=arguments.zoom,
        crs=arguments.crs,
        bands=_bands(arguments.bands),
        attribution=arguments.attribution,
        cache=arguments.cache or default_cache(),
        rate_hz=arguments.rate_hz,
    )
    sources = open_imagery(arguments.source, options, progress_wanted())
    origin = given or _middle(options.box, sources)
    planes = [ImageryOnPlane(source, origin) for source in sources]
    area = _bounds_m(arguments, origin)
    bounds, metres_per_px = plan_area(planes, layout, _around(area, layout.coverage_m / 2))
    provenance = _provenance(arguments, describe_sources(sources), bounds, metres_per_px)
    notes = [note for source in sources for note in source.notes]
    if given is None:
        place = f"{origin.lat_deg} {origin.lon_deg}"
        notes.append(f"the frame's origin is the middle of the area, {place}, at altitude 0; --map takes that of a map")
    finest = min(plane.metres_per_px(np.array([(bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2])) for plane in planes)
    if finest > 1.5 * layout.metres_per_px:
        notes.append(f"the imagery has {finest:.2f} m per pixel, coarser than the {layout.metres_per_px:g} m of the tiles")

    def draw(path: Path) -> StoredMosaic:
        return draw_imagery(planes, path, bounds, metres_per_px, origin, progress_wanted())

    return BuildPlan(draw, origin, layout, provenance, area, tuple(notes))


def _plan_town(source: str, arguments: argparse.Namespace, layout: TileLayout, given: GeoOrigin | None) -> BuildPlan:
    from ros2_loc.world.imagery import town_mosaic
    from ros2_loc.world.layout import TownSize
    from ros2_loc.world.town import Town

    seed, _, size = source.removeprefix("town:").partition(":")
    if not seed.isdigit() or (size and size not in TOWN_SIZES):
        raise ConfigError(f"{source}: give town:SEED (as in `ros2-loc demo`), town:SEED:small or town:SEED:district")
    town = Town.generate(int(seed), getattr(TownSize, size)() if size else TownSize())
    if given is not None:
        apart_m = float(np.linalg.norm(enu_from_geodetic(town.origin, given.lat_deg, given.lon_deg, given.alt_m)))
        if apart_m > ORIGIN_TOLERANCE_M:
            raise ConfigError(f"{source}: the origin of its frame lies {apart_m:.2f} m from the one given: leave --origin and --map away")
    metres_per_px = min(layout.metres_per_px, FINEST_M)
    area = _bounds_m(arguments, town.origin)
    bounds = _around(area, layout.coverage_m / 2) or town.bounds_m
    facts = [{"kind": "synthetic town", "name": source, "attribution": "made by ros2_loc"}]

    def draw(path: Path) -> StoredMosaic:
        return store(town_mosaic(town, metres_per_px, bounds_m=bounds), path, town.origin)

    return BuildPlan(draw, town.origin, layout, _provenance(arguments, facts, bounds, metres_per_px), area, ())


def _layout(arguments: argparse.Namespace, pipeline: CrossViewPipelineConfig, encoder: CrossViewEncoder | None) -> TileLayout:
    """What was asked for, else what the encoder looks at, else CVLNet's."""
    layout = TileLayout(spacing_m=pipeline.tiles.spacing_m, min_valid=pipeline.tiles.min_valid)
    if encoder is not None:
        layout = replace(layout, size_px=encoder.tile_px, metres_per_px=encoder.grid.coverage_m / encoder.tile_px)
    given = {"spacing_m": arguments.spacing, "size_px": arguments.size}
    given |= {"metres_per_px": arguments.metres_per_px, "min_valid": arguments.min_valid}
    return replace(layout, **{name: value for name, value in given.items() if value is not None})


def _given_origin(arguments: argparse.Namespace) -> GeoOrigin | None:
    if arguments.map is not None:
        frame = MapFrame.load(arguments.map)
        if frame.origin is None:
            raise ConfigError(f"{arguments.map}: is not georeferenced, so tiles can't lie in its frame: map a recording with GNSS")
        return frame.origin
    if arguments.origin is None:
        return None
    if len(arguments.origin) not in (2, 3):
        raise ConfigError(f"--origin {' '.join(map(str, arguments.origin))}: give latitude, longitude and, if known, altitude")
    return GeoOrigin(*arguments.origin)


def _geodetic_box(arguments: argparse.Namespace, origin: GeoOrigin | None) -> tuple[float, float, float, float] | None:
    """South, west, north, east in degrees of what is wanted, or None for all."""
    if arguments.bounds:
        south, west, north, east = arguments.bounds
        if not (-90 <= south < north <= 90 and -180 <= west < east <= 180):
            raise ConfigError(f"--bounds {south} {west} {north} {east}: give south, west, north, east in degrees, in this order")
        return south, west, north, east
    if arguments.bounds_enu and origin is not None:
        west, south, east, north = _checked_enu(arguments.bounds_enu)
        corners = [[west, south, 0.0], [west, north, 0.0], [east, south, 0.0], [east, north, 0.0]]
        lat, lon, _ = geodetic_from_enu(origin, corners)
        return float(lat.min()), float(lon.min()), float(lat.max()), float(lon.max())
    return None


def _bounds_m(arguments: argparse.Namespace, origin: GeoOrigin) -> Bounds | None:
    if arguments.bounds_enu:
        return _checked_enu(arguments.bounds_enu)
    box = _geodetic_box(arguments, origin)
    if box is None:
        return None
    lat, lon = np.meshgrid(np.linspace(box[0], box[2], 17), np.linspace(box[1], box[3], 17))
    enu = enu_from_geodetic(origin, lat, lon, origin.alt_m)[..., :2]
    (west, south), (east, north) = enu.min(axis=(0, 1)), enu.max(axis=(0, 1))
    return float(west), float(south), float(east), float(north)


def _around(area: Bounds | None, margin_m: float) -> Bounds | None:
    """A tile at the edge of the area sees beyond it."""
    return None if area is None else (area[0] - margin_m, area[1] - margin_m, area[2] + margin_m, area[3] + margin_m)


def _with_margin(box: tuple[float, float, float, float] | None, margin_m: float) -> tuple[float, float, float, float] | None:
    """`_around` in degrees, a little more."""
    if box is None:
        return None
    south, west, north, east = box
    lat_deg = margin_m / 110_500.0
    lon_deg = lat_deg / max(np.cos(np.radians(max(abs(south), abs(north)))), 0.01)
    return max(south - lat_deg, -90.0), max(west - lon_deg, -180.0), min(north + lat_deg, 90.0), min(east + lon_deg, 180.0)


def _checked_enu(bounds: Sequence[float]) -> Bounds:
    west, south, east, north = bounds
    if not (west < east and south < north and np.isfinite(bounds).all()):
        raise ConfigError(f"--bounds-enu {west} {south} {east} {north}: give west, south, east, north in metres, in this order")
    return west, south, east, north


def _middle(box: tuple[float, float, float, float] | None, sources: Sequence[Any]) -> GeoOrigin:
    if box is None:
        return middle_of(sources)
    return GeoOrigin(round((box[0] + box[2]) / 2, 6), round((box[1] + box[3]) / 2, 6))


def _bands(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 3 or not all(word.strip().isdigit() for word in words):
        raise ConfigError(f"--bands {text}: give three numbers, for instance 3,2,1")
    red, green, blue = (int(word) for word in words)
    return red, green, blue


def _provenance(arguments: argparse.Namespace, sources: Sequence[Any], bounds: Bounds, metres_per_px: float) -> dict[str, Any]:
    origin = f"map {arguments.map}" if arguments.map else "given" if arguments.origin else "of the sources"
    return {
        "ros2_loc": __version__,
        "sources": list(sources),
        **({"attribution": arguments.attribution} if arguments.attribution else {}),
        "origin": origin,
        "bounds_m": [float(v) for v in bounds],
        "imagery_metres_per_px": float(metres_per_px),
    }
