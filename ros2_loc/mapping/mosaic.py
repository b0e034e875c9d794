"""One picture of the ground from above, north up, in the map's east-north frame: in memory, or read by windows from its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.io.imagery.geotiff import BLOCK_PX, geotiff_writer, read_window
from ros2_loc.mapping import resampling

Bounds = tuple[float, float, float, float]
_VALID_ALPHA = 128  # half of a pixel


class Raster(Protocol):
    """What can be cropped: a north-up picture of which any window can be had."""

    @property
    def west_m(self) -> float: ...

    @property
    def north_m(self) -> float: ...

    @property
    def metres_per_px(self) -> float: ...

    @property
    def size_px(self) -> tuple[int, int]: ...

    def window(self, column: int, row: int, width: int, height: int, factor: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """A picture in memory.

    Attributes:
        rgb: (H, W, 3) uint8; row 0 is the northmost, column 0 the westmost.
        valid: (H, W) bool, False where nothing is known.
        west_m, north_m: outer corner of the first pixel in the map's east-north frame.
        metres_per_px: side of a pixel.

    Raises:
        DataError: arrays that do not fit together, or a pixel without size.
    """

    rgb: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    west_m: float
    north_m: float
    metres_per_px: float

    def __post_init__(self) -> None:
        shape = self.rgb.shape
        if len(shape) != 3 or shape[2] != 3 or self.rgb.dtype != np.uint8 or self.valid.shape != shape[:2] or self.valid.dtype != bool:
            got = f"{shape} {self.rgb.dtype}, {self.valid.shape} {self.valid.dtype}"
            raise DataError(f"a mosaic is (H, W, 3) uint8 with (H, W) bool, got {got}")
        if not (np.isfinite([self.west_m, self.north_m]).all() and 0.0 < self.metres_per_px < np.inf):
            raise DataError(f"a mosaic has a finite corner and metres_per_px > 0, got {self.west_m}, {self.north_m}, {self.metres_per_px}")

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def bounds_m(self) -> Bounds:
        """(east, north) of the south-west and of the north-east corner."""
        return _bounds(self)

    def window(self, column: int, row: int, width: int, height: int, factor: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(height / factor, width / factor, 3) RGB and (...) valid share 0..255 of a window inside of the picture."""
        rgb = self.rgb[row : row + height, column : column + width]
        return resampling.reduce(rgb, self.valid[row : row + height, column : column + width].astype(np.uint8) * 255, factor)

    def crop(
        self, centre_m: ArrayLike, size_px: int, metres_per_px: float, heading_rad: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A square around a place; see `crop`."""
        return crop(self, centre_m, size_px, metres_per_px, heading_rad)


@dataclass(frozen=True, slots=True)
class StoredMosaic:
    """A picture that stays in its GeoTIFF and is read by windows: for areas larger than the memory.

    Attributes:
        path: the file.
        size_px: (width, height).
        west_m, north_m, metres_per_px: as of `Mosaic`.
    """

    path: Path
    size_px: tuple[int, int]
    west_m: float
    north_m: float
    metres_per_px: float

    @property
    def bounds_m(self) -> Bounds:
        """(east, north) of the south-west and of the north-east corner."""
        return _bounds(self)

    def window(self, column: int, row: int, width: int, height: int, factor: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """As `Mosaic.window`; raises DataError when the file can't be read."""
        return read_window(self.path, (column, row, width, height), factor)

    def crop(
        self, centre_m: ArrayLike, size_px: int, metres_per_px: float, heading_rad: float | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A square around a place; see `crop`."""
        return crop(self, centre_m, size_px, metres_per_px, heading_rad)

    def load(self) -> Mosaic:
        """All of it in memory, for whoever crops a lot."""
        rgb, alpha = self.window(0, 0, *self.size_px)
        return Mosaic(rgb, alpha >= _VALID_ALPHA, self.west_m, self.north_m, self.metres_per_px)


def store(mosaic: Mosaic, path: Path, origin: GeoOrigin) -> StoredMosaic:
    """Write a picture as GeoTIFF, in one step of the file system.

    Raises:
        DataError: it can't be written.
    """
    width, height = mosaic.size_px
    corner = (mosaic.west_m, mosaic.north_m)
    with atomic_path(path) as draft, geotiff_writer(draft, mosaic.size_px, corner, mosaic.metres_per_px, origin) as writer:
        for row in range(0, height, BLOCK_PX):
            writer.write(0, row, *mosaic.window(0, row, width, min(BLOCK_PX, height - row)))
    return StoredMosaic(path, mosaic.size_px, mosaic.west_m, mosaic.north_m, mosaic.metres_per_px)


def crop(
    raster: Raster, centre_m: ArrayLike, size_px: int, metres_per_px: float, heading_rad: float | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A square picture around a place, resampled by area.

    Args:
        raster: what to take it from.
        centre_m: (2,) east, north of its centre.
        size_px: side of the square.
        metres_per_px: of the result.
        heading_rad: the yaw (0 = east, counter-clockwise) that points up; north when None.

    Returns:
        rgb (s, s, 3) uint8, black where nothing is known; valid (s, s) bool.
    """
    place = _output_affine(raster, np.asarray(centre_m, dtype=np.float64), size_px, metres_per_px, heading_rad)
    ratio = metres_per_px / raster.metres_per_px
    factor = resampling.reduction(ratio)
    found = _read_around(raster, place, size_px, factor)
    if found is None:
        return np.zeros((size_px, size_px, 3), np.uint8), np.zeros((size_px, size_px), bool)
    (rgb, alpha), corner = found
    local = place.copy()
    local[:, 2] -= corner
    samples = resampling.samples_per_px(ratio / factor)
    rgb, alpha = resampling.warp_affine(rgb, alpha, local / factor, (size_px, size_px), samples)
    valid = alpha >= _VALID_ALPHA
    if not valid.all():
        rgb[~valid] = 0
    return rgb, valid


def _output_affine(raster: Raster, centre_m: NDArray, size_px: int, metres_per_px: float, heading_rad: float | None) -> NDArray[np.float64]:
    """(2, 3) px of the raster from px of the output, both from outer corners."""
    yaw = np.pi / 2 if heading_rad is None else heading_rad
    right = (1.0, 0.0) if heading_rad is None else (np.sin(yaw), -np.cos(yaw))
    down = (right[1], -right[0])
    scale = metres_per_px / raster.metres_per_px
    linear = scale * np.array([[right[0], down[0]], [-right[1], -down[1]]])
    centre = np.array([centre_m[0] - raster.west_m, raster.north_m - centre_m[1]]) / raster.metres_per_px
    return np.column_stack([linear, centre - linear @ [size_px / 2, size_px / 2]])


def _read_around(raster: Raster, place: NDArray, size_px: int, factor: int) -> tuple[tuple[NDArray, NDArray], NDArray] | None:
    """The pixels that the output sees, with the window's corner (x, y), px; None when all of it is outside."""
    corners = place[:, :2] @ (np.array([[0, 1, 0, 1], [0, 0, 1, 1]]) * size_px) + place[:, 2:]
    low = np.floor((corners.min(axis=1) - 1.0) / factor).astype(int) * factor
    high = np.ceil((corners.max(axis=1) + 1.0) / factor).astype(int) * factor
    low, high = np.maximum(low, 0), np.minimum(high, np.array(raster.size_px) // factor * factor)
    if (high <= low).any():
        return None
    width, height = (int(v) for v in high - low)
    return raster.window(int(low[0]), int(low[1]), width, height, factor), low.astype(np.float64)


def _bounds(raster: Raster) -> Bounds:
    width, height = (n * raster.metres_per_px for n in raster.size_px)
    return raster.west_m, raster.north_m - height, raster.west_m + width, raster.north_m
