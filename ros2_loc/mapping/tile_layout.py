"""Where the tiles of an area lie: on a lattice of east-north metres, wherever enough of a tile is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from ros2_loc.core.pose import Array
from ros2_loc.errors import ConfigError
from ros2_loc.mapping.mosaic import Bounds, Raster


@dataclass(frozen=True)
class TileLayout:
    """How an area is cut into tiles; CVLNet's are 512 px of 0.2 m, 10 m apart (section 4).

    Attributes:
        metres_per_px, size_px: of a tile's image.
        spacing_m: between the centres of neighbours; they lie at whole multiples of it, so that every build of an area has the same.
        min_valid: tiles of which a smaller share is known are left out.

    Raises:
        ConfigError: a value that makes no tile.
    """

    metres_per_px: float = 0.2
    size_px: int = 512
    spacing_m: float = 10.0
    min_valid: float = 0.5

    def __post_init__(self) -> None:
        positive = self.metres_per_px > 0 and self.size_px > 0 and self.spacing_m > 0
        if not (positive and np.isfinite([self.metres_per_px, self.spacing_m]).all() and 0 < self.min_valid <= 1):
            raise ConfigError(f"tiles need metres_per_px, size_px and spacing_m above 0 and min_valid in (0, 1], got {self}")

    @property
    def coverage_m(self) -> float:
        """Side of a tile on the ground, m."""
        return self.metres_per_px * self.size_px


def tile_centres(raster: Raster, layout: TileLayout, area_m: Bounds | None = None) -> Array:
    """(T, 2) east, north of the tiles that are known well enough, from north to south and there from west to east.

    `area_m` (west, south, east, north) holds the centres; the imagery's own edges do when it is None.
    """
    width, height = (n * raster.metres_per_px for n in raster.size_px)
    box = area_m or (raster.west_m, raster.north_m - height, raster.west_m + width, raster.north_m)
    first, last = np.ceil(np.array(box[:2]) / layout.spacing_m - 1e-6), np.floor(np.array(box[2:]) / layout.spacing_m + 1e-6)
    east, north = np.meshgrid(np.arange(first[0], last[0] + 1), np.arange(last[1], first[1] - 1, -1))
    centres = np.column_stack([east.ravel(), north.ravel()]) * layout.spacing_m
    return centres[valid_share(raster, centres, layout.coverage_m) >= layout.min_valid - 1e-9]


def valid_share(raster: Raster, centres_m: Array, side_m: float) -> Array:
    """(T,) share in 0..1 of squares around centres (T, 2) that is known."""
    sums, metres_per_px = _summed_alpha(raster, side_m)
    x = (centres_m[:, 0] - raster.west_m) / metres_per_px
    y = (raster.north_m - centres_m[:, 1]) / metres_per_px
    half = side_m / metres_per_px / 2

    def summed(rows: ArrayLike, columns: ArrayLike) -> Array:
        return np.asarray(map_coordinates(sums, [rows, columns], order=1, mode="nearest"))

    inside = summed(y + half, x + half) - summed(y - half, x + half) - summed(y + half, x - half) + summed(y - half, x - half)
    return inside / (2 * half) ** 2


def _summed_alpha(raster: Raster, side_m: float) -> tuple[NDArray[np.float64], float]:
    """The known area above and left of every corner of a pixel, (rows + 1, columns + 1), with that pixel's side."""
    finest = min(raster.size_px)
    factor = int(np.clip(side_m / 64 / raster.metres_per_px, 1, finest))
    width, height = (n // factor * factor for n in raster.size_px)
    strip = max(1, 2**26 // (width * factor)) * factor  # some 64 MB at a time
    alpha = np.concatenate([raster.window(0, row, width, min(strip, height - row), factor)[1] for row in range(0, height, strip)])
    sums = np.zeros((alpha.shape[0] + 1, alpha.shape[1] + 1))
    sums[1:, 1:] = (alpha / 255.0).cumsum(0).cumsum(1)
    return sums, factor * raster.metres_per_px
