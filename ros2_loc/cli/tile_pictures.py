"""The pictures of `tiles show`, and what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.tile_checks import shift_reach_m

if TYPE_CHECKING:
    from ros2_loc.mapping.tile_database import TileDatabase

_AREA_PX = 1400


def show_tile(
    tiles: TileDatabase, geodetic_deg: Sequence[float], enu_m: Sequence[float] | None, heading_deg: float | None, out: Path | None
) -> str:
    """Draw the tile at a place; what it is, in words.

    Raises:
        DataError: there is no tile.
    """
    import numpy as np

    from ros2_loc.core.geodesy import check_geodetic, enu_from_geodetic, geodetic_from_enu
    from ros2_loc.errors import DataError
    from ros2_loc.io.images import write_image
    from ros2_loc.visualization.tiles import TilePicture, draw_tile

    if enu_m is None:
        check_geodetic(geodetic_deg[0], geodetic_deg[1], 0.0)
        place = enu_from_geodetic(tiles.origin, geodetic_deg[0], geodetic_deg[1], tiles.origin.alt_m)[:2]
    else:
        place = np.array(enu_m, dtype=np.float64)
    index = int(tiles.nearest(place))
    if index < 0:
        away = float(np.linalg.norm(tiles.centres_m - place, axis=1).min())
        where = f"east {place[0]:.1f} north {place[1]:.1f} m"
        raise DataError(f"no tile at {where}: the nearest is {away:.0f} m away; `ros2-loc tiles show` without a place draws all of them")
    centre = tiles.centres_m[index]
    up = np.pi / 2 if heading_deg is None else np.radians(heading_deg)
    tile = tiles.tile(index, None if heading_deg is None else float(up))
    _, valid = tiles.mosaic.crop(centre, 128, tiles.layout.coverage_m / 128)
    lat, lon, _ = geodetic_from_enu(tiles.origin, [*centre, 0.0])
    at = f"east {centre[0]:.1f}, north {centre[1]:.1f} m; {float(lat):.7f} {float(lon):.7f}"
    distance_m = float(np.linalg.norm(place - centre))
    said = f"tile {index}: centre {at}; the place is {distance_m:.1f} m from it; {valid.mean():.0%} of the tile is known"
    below = f"{at}   {tiles.layout.size_px} px of {tiles.layout.metres_per_px:g} m"
    title = f"tile {index}, " + ("north up" if heading_deg is None else f"heading {heading_deg:g}° up")
    picture = TilePicture(tile.image, tiles.layout.coverage_m, float(up), centre, place, shift_reach_m(tiles), (title, below))
    path = out or Path(f"tile_{index}.png")
    write_image(path, draw_tile(picture))
    return f"{said}\nwritten: {path}"


def show_area(tiles: TileDatabase, out: Path | None) -> str:
    """Draw all of the area with the places that have a tile; where it is, in words."""
    import numpy as np

    from ros2_loc.io.images import write_image
    from ros2_loc.visualization.tiles import draw_coverage

    west, south, east, north = tiles.bounds_m
    centre, extent = np.array([(west + east) / 2, (south + north) / 2]), np.array([east - west, north - south])
    scale = extent.max() / _AREA_PX
    rgb, valid = tiles.mosaic.crop(centre, _AREA_PX, scale)
    rgb[~valid] = 255
    columns, rows = (((_AREA_PX - extent / scale) / 2).astype(int)).tolist()
    rgb = rgb[rows : _AREA_PX - rows, columns : _AREA_PX - columns]
    half = np.array(rgb.shape[1::-1]) * scale / 2
    bounds = (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
    title = f"{len(tiles)} tiles every {tiles.layout.spacing_m:g} m, {len(tiles) * tiles.layout.spacing_m**2 / 1e6:.3f} km²"
    path = out or Path("tiles.png")
    write_image(path, draw_coverage(rgb, bounds, tiles.centres_m, tiles.layout.spacing_m, title))
    return f"written: {path}"
