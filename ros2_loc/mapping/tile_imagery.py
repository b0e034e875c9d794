"""Imagery of any reference system, drawn into the local east-north frame: pixel by pixel through latitude and longitude, by area."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from tqdm import tqdm

from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic, geodetic_from_enu
from ros2_loc.core.pose import Array
from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.io.imagery.geotiff import BLOCK_PX, geotiff_writer
from ros2_loc.io.imagery.source import Imagery
from ros2_loc.mapping import resampling
from ros2_loc.mapping.mosaic import Bounds, StoredMosaic
from ros2_loc.mapping.tile_layout import TileLayout

FINEST_M = 0.2  # imagery is kept finer than the tiles down to this: for whoever crops tiles at other places
_MAX_FINER = 4
_MAX_PX = 10**11
_LATTICE_PX = 32  # between exact transforms; a map projection bends by less than 1e-4 px in between
_MARGIN_PX = 2
_EDGE_POINTS = 65

Bytes = NDArray[np.uint8]


class ImageryOnPlane:
    """One source of imagery as seen from the tangent plane at `origin`."""

    def __init__(self, source: Imagery, origin: GeoOrigin) -> None:
        self.source, self._origin = source, origin
        self._crs_from_geodetic = Transformer.from_crs("EPSG:4326", source.crs, always_xy=True)
        self._px_from_crs = np.linalg.inv(np.vstack([source.crs_from_px, [0.0, 0.0, 1.0]]))[:2]

    def source_px(self, enu_m: Array) -> Array:
        """(..., 2) px of the source, counted from its outer corner, of points (..., 2) on the plane; not finite where it has none."""
        lat, lon, _ = geodetic_from_enu(self._origin, np.concatenate([enu_m, np.zeros((*enu_m.shape[:-1], 1))], axis=-1))
        x, y = self._crs_from_geodetic.transform(lon, lat)
        return np.stack([x, y], axis=-1) @ self._px_from_crs[:, :2].T + self._px_from_crs[:, 2]

    def bounds_m(self) -> Bounds:
        """(west, south, east, north) of all of it; raises DataError where its place does not exist."""
        lat, lon = _geodetic_edges(self.source)
        east, north = enu_from_geodetic(self._origin, lat, lon, self._origin.alt_m)[:, :2].T
        return float(east.min()), float(north.min()), float(east.max()), float(north.max())

    def metres_per_px(self, at_m: Array) -> float:
        """Of the source at a place (2,) on the plane: the finer of its two axes."""
        px = self.source_px(at_m + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        scales = np.linalg.svd((px[1:] - px[0]).T, compute_uv=False)
        return float(1.0 / scales.max())

    def draw(self, west_m: float, north_m: float, size_px: tuple[int, int], metres_per_px: float) -> tuple[Bytes, Bytes]:
        """RGB (h, w, 3) and valid share 0..255 (h, w) of a rectangle of the plane whose upper left outer corner is given."""
        empty = np.zeros((*size_px[::-1], 3), np.uint8), np.zeros(size_px[::-1], np.uint8)
        nodes, lattice = self._lattice(west_m, north_m, size_px, metres_per_px)
        if not np.isfinite(lattice).all():
            return empty
        ratio = _longest_step(nodes, lattice)
        factor = resampling.reduction(ratio)
        low = np.floor((lattice.min(axis=(0, 1)) - _MARGIN_PX * factor) / factor).astype(np.int64) * factor
        high = np.ceil((lattice.max(axis=(0, 1)) + _MARGIN_PX * factor) / factor).astype(np.int64) * factor
        window = self._padded_window(low, high)
        if window is None:
            return empty
        rgb, alpha = resampling.reduce(*window, factor)
        samples = resampling.samples_per_px(ratio / factor)
        x, y = (_between(nodes, lattice[..., k], size_px, samples) - low[k] for k in range(2))
        return resampling.warp_map(rgb, alpha, x / factor, y / factor, samples)

    def _lattice(self, west_m: float, north_m: float, size_px: tuple[int, int], metres_per_px: float) -> tuple[tuple[Array, Array], Array]:
        """Output px (columns, rows) of a lattice, and the source px (rows, columns, 2) there."""
        columns, rows = (np.linspace(0.0, n, max(2, int(np.ceil(n / _LATTICE_PX)) + 1)) for n in size_px)
        east, north = np.meshgrid(west_m + columns * metres_per_px, north_m - rows * metres_per_px)
        return (columns, rows), self.source_px(np.stack([east, north], axis=-1))

    def _padded_window(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[Bytes, Bytes] | None:
        """The source between two corners (x, y); nothing is known beyond its edge. None when all of that is beyond."""
        first, last = np.maximum(low, 0), np.minimum(high, self.source.size_px)
        if (first >= last).any():
            return None
        rgb, alpha = self.source.window(int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1]))
        before, after = first - low, high - last
        around = ((int(before[1]), int(after[1])), (int(before[0]), int(after[0])))
        return np.pad(rgb, (*around, (0, 0))), np.pad(alpha, around)


def middle_of(sources: Sequence[Imagery]) -> GeoOrigin:
    """The middle of all sources, on the ellipsoid, to a tenth of a metre.

    Raises:
        DataError: coordinates that are no places on earth.
    """
    corner = _geodetic_edges(sources[0])
    provisional = GeoOrigin(float(corner[0].mean()), float(corner[1].mean()))
    boxes = np.array([ImageryOnPlane(source, provisional).bounds_m() for source in sources])
    middle = (boxes[:, :2].min(axis=0) + boxes[:, 2:].max(axis=0)) / 2
    lat, lon, _ = geodetic_from_enu(provisional, [*middle, 0.0])
    return GeoOrigin(round(float(lat), 6), round(float(lon), 6))


def plan_area(sources: Sequence[ImageryOnPlane], layout: TileLayout, bounds_m: Bounds | None) -> tuple[Bounds, float]:
    """Which rectangle to draw, on whole pixels, and at which metres per pixel.

    The imagery is kept up to four times finer than the tiles, where the sources are and down to FINEST_M.

    Raises:
        DataError: no imagery there, or more than can be kept.
    """
    all_bounds = np.array([source.bounds_m() for source in sources])
    union = (*all_bounds[:, :2].min(axis=0), *all_bounds[:, 2:].max(axis=0))
    box = np.array(union if bounds_m is None else (*np.maximum(union[:2], bounds_m[:2]), *np.minimum(union[2:], bounds_m[2:])))
    if (box[2:] <= box[:2]).any():
        wanted, there = (" ".join(f"{v:.0f}" for v in b) for b in (bounds_m or union, union))
        where = f"the area wanted ({wanted}; west south east north, m) is outside of the imagery ({there})"
        raise DataError(f"{where}: check --bounds and --origin")
    finest = min(source.metres_per_px((bounds[:2] + bounds[2:]) / 2) for source, bounds in zip(sources, all_bounds, strict=True))
    times = layout.metres_per_px / max(finest, min(FINEST_M, layout.metres_per_px))
    metres_per_px = layout.metres_per_px / int(np.clip(np.floor(times + 0.05), 1, _MAX_FINER))
    low, high = np.floor(box[:2] / metres_per_px + 1e-6), np.ceil(box[2:] / metres_per_px - 1e-6)
    if (high - low).prod() > _MAX_PX:
        width, height = (high - low) * metres_per_px / 1000.0
        size = f"{width:.1f} x {height:.1f} km at {metres_per_px} m per pixel"
        raise DataError(f"the area is too large ({size}): give a part of it, --bounds")
    west, south, east, north = (float(v) for v in (*(low * metres_per_px), *(high * metres_per_px)))
    return (west, south, east, north), metres_per_px


def draw_imagery(
    sources: Sequence[ImageryOnPlane], path: Path, bounds_m: Bounds, metres_per_px: float, origin: GeoOrigin, show_progress: bool
) -> StoredMosaic:
    """Write all sources as one GeoTIFF, block by block; where they overlap, the first has its way.

    Raises:
        DataError: a source can't be read, or the file can't be written.
    """
    west, south, east, north = bounds_m
    width, height = round((east - west) / metres_per_px), round((north - south) / metres_per_px)
    blocks = [(column, row) for row in range(0, height, BLOCK_PX) for column in range(0, width, BLOCK_PX)]
    extents = [source.bounds_m() for source in sources]
    with atomic_path(path) as draft, geotiff_writer(draft, (width, height), (west, north), metres_per_px, origin) as writer:
        for column, row in tqdm(blocks, desc="  imagery", disable=not show_progress, leave=False, dynamic_ncols=True):
            size = (min(BLOCK_PX, width - column), min(BLOCK_PX, height - row))
            corner = (west + column * metres_per_px, north - row * metres_per_px)
            place = (corner[0], corner[1] - size[1] * metres_per_px, corner[0] + size[0] * metres_per_px, corner[1])
            touching = [s for s, extent in zip(sources, extents, strict=True) if _overlap(place, extent)]
            rgb, alpha = _stack([source.draw(*corner, size, metres_per_px) for source in touching], size)
            if alpha.any():
                writer.write(column, row, rgb, alpha)
    return StoredMosaic(path, (width, height), west, north, metres_per_px)


def describe_sources(sources: Sequence[Imagery]) -> list[dict[str, object]]:
    """Their provenance, as plain values."""
    return json.loads(json.dumps([source.provenance() for source in sources]))  # type: ignore[no-any-return]


def _geodetic_edges(source: Imagery) -> tuple[Array, Array]:
    """(latitude, longitude) in degrees of points along the edges of a source."""
    t = np.linspace(0.0, 1.0, _EDGE_POINTS)
    edges = np.concatenate([np.column_stack(pair) for pair in ((t, 0 * t), (t, 0 * t + 1), (0 * t, t), (0 * t + 1, t))])
    points = edges * source.size_px @ source.crs_from_px[:, :2].T + source.crs_from_px[:, 2]
    geodetic_from_crs = Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True)
    lon, lat = geodetic_from_crs.transform(points[:, 0], points[:, 1])
    if not (np.isfinite([lon, lat]).all() and np.abs(lat).max() <= 90.0 and np.abs(lon).max() <= 180.0):
        raise DataError(f"{source.name}: its coordinates are no places of {source.crs.name}: is its CRS right?")
    return np.asarray(lat), np.asarray(lon)


def _stack(layers: list[tuple[Bytes, Bytes]], size_px: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """One picture over the other, the first on top."""
    if not layers:
        return np.zeros((*size_px[::-1], 3), np.uint8), np.zeros(size_px[::-1], np.uint8)
    rgb, alpha = layers[0]
    for below, below_alpha in layers[1:]:
        if alpha.min() == 255:
            break
        top = alpha / np.float32(255.0)
        under = (1.0 - top) * (below_alpha / np.float32(255.0))
        total = top + under
        mixed = (rgb * top[..., None] + below * under[..., None]) / np.maximum(total, 1e-6)[..., None]
        rgb, alpha = np.rint(mixed).astype(np.uint8), np.rint(total * 255.0).astype(np.uint8)
    return rgb, alpha


def _overlap(a: Bounds, b: Bounds) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _longest_step(nodes: tuple[Array, Array], lattice: Array) -> float:
    """Source px along an output px, the longer of the two axes of the ellipse, at the worst node."""
    across = np.diff(lattice, axis=1)[:-1] / np.diff(nodes[0])[None, :, None]
    down = np.diff(lattice, axis=0)[:, :-1] / np.diff(nodes[1])[:, None, None]
    return float(np.linalg.svd(np.stack([across, down], axis=-1), compute_uv=False).max())


def _between(nodes: tuple[Array, Array], values: Array, size_px: tuple[int, int], samples: int) -> Array:
    """Values (rows, columns) at the nodes, interpolated at the middles of `samples` parts of each output px."""
    columns, rows = ((np.arange(n * samples) + 0.5) / samples for n in size_px)
    along = np.stack([np.interp(columns, nodes[0], row) for row in values])
    k = np.clip(np.searchsorted(nodes[1], rows) - 1, 0, len(nodes[1]) - 2)
    share = ((rows - nodes[1][k]) / (nodes[1][k + 1] - nodes[1][k]))[:, None]
    return np.asarray(along[k] * (1.0 - share) + along[k + 1] * share)
