"""The overhead grid: which ground cell a camera sees where, and what the shifts between a video and a satellite tile mean.

The grid is square and north-up: row 0 is the northmost, column 0 the westmost, as in the tile's image. CVLNet (Shi et al., ACCV 2022),
section 3.1, with the centres of cells where they are: half a cell from the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import GeometryError

Array = NDArray[np.float64]

# Of a descriptor, whose length is 1, in the cells where a video and a tile meet: below it they say nothing and the similarity fades to 0.
LEAST_ENERGY = 1e-6


@dataclass(frozen=True, slots=True)
class OverheadGrid:
    """Cells of the ground around base_link (of the video's newest frame) or around a tile's centre.

    Attributes:
        cells: S, cells along a side.
        metres_per_cell: side of a cell, m.
        shift_cells: R; a video is compared with a tile at shifts of -R to R cells along both axes.

    Raises:
        GeometryError: no cells, a size that is not positive, or shifts that leave no overlap.
    """

    cells: int = 32
    metres_per_cell: float = 3.2
    shift_cells: int = 3

    def __post_init__(self) -> None:
        if self.cells < 1 or not 0.0 < self.metres_per_cell < np.inf or not 0 <= self.shift_cells < self.cells:
            raise GeometryError(f"an overhead grid needs cells > shift_cells >= 0 and a positive size, got {self}")

    @property
    def coverage_m(self) -> float:
        """Side of the square, m."""
        return self.cells * self.metres_per_cell

    @property
    def num_shifts(self) -> int:
        """K = 2 R + 1."""
        return 2 * self.shift_cells + 1

    def cell_centres_m(self) -> Array:
        """(S, S, 2) m: (east, north) of each cell's centre relative to the grid's centre."""
        along = (np.arange(self.cells) + 0.5 - 0.5 * self.cells) * self.metres_per_cell
        east, north = np.meshgrid(along, -along)
        return np.stack([east, north], axis=-1)

    def shift_offsets_m(self) -> Array:
        """(K, K, 2) m: (east, north) of base_link relative to the tile's centre for each shift [i, j]."""
        rows, columns = np.meshgrid(np.arange(self.num_shifts), np.arange(self.num_shifts), indexing="ij")
        return self.shift_offset_m(rows, columns)

    def shift_offset_m(self, row: ArrayLike, column: ArrayLike) -> Array:
        """(..., 2) m: as `shift_offsets_m`, at positions between the whole shifts (of `subcell_peak`) as well."""
        east = np.asarray(column, dtype=np.float64) - self.shift_cells
        north = self.shift_cells - np.asarray(row, dtype=np.float64)
        return np.stack([east, north], axis=-1) * self.metres_per_cell


def project_overhead(
    grid: OverheadGrid, camera: Camera, base_from_camera: Pose, query_from_base: Pose, ground_height_m: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where a camera sees the centres of the grid's cells, taken as points on a horizontal ground (CVLNet, equation 1).

    Args:
        grid: cells around the query, that is base_link of the video's newest frame.
        camera: of any model.
        base_from_camera: mounting.
        query_from_base: pose of this frame's base_link in the frame centred at the query's base_link with x east, y north, z up. Roll and
            pitch, where they are known, are part of it.
        ground_height_m: height of the ground in that frame, m.

    Returns:
        (S, S, 2) px in the image, 0 where not visible; (S, S) True where the cell is in front of the camera and in its image.
    """
    # camera_from_query without the checks of Pose: this runs for every frame of every hypothesis
    camera_in_query = query_from_base.apply(base_from_camera.translation)
    query_from_camera = query_from_base.rotation @ base_from_camera.rotation
    points_in_camera = (_ground_points(grid, float(ground_height_m)) - camera_in_query) @ query_from_camera
    pixels = camera.project(points_in_camera)
    visible = camera.contains(pixels)
    if any(camera.distortion):
        visible[visible] = _is_seen_there(camera, pixels[visible], points_in_camera[visible])
    shape = (grid.cells, grid.cells)
    return np.where(visible[:, None], pixels, 0.0).astype(np.float32).reshape(*shape, 2), visible.reshape(shape)


@lru_cache(maxsize=16)
def _ground_points(grid: OverheadGrid, height_m: float) -> Array:
    centres = grid.cell_centres_m().reshape(-1, 2)
    points = np.column_stack([centres, np.full(len(centres), height_m)])
    points.setflags(write=False)
    return points


def _is_seen_there(camera: Camera, pixels: Array, points_in_camera: Array) -> NDArray[np.bool_]:
    # Outside of its field of view the polynomial of a distortion folds back into the image.
    rays = camera.rays(pixels)
    directions = points_in_camera / np.linalg.norm(points_in_camera, axis=1, keepdims=True)
    return np.asarray((rays * directions).sum(axis=1) > np.cos(np.radians(0.5)))


def subcell_peak(scores: ArrayLike) -> tuple[float, float]:
    """(row, column) of the highest of (K, K) scores, refined by the quadratic through its neighbours, within 0.5 of the whole index.

    On an edge of the array nothing is refined across that edge.
    """
    s = np.asarray(scores, dtype=np.float64)
    i, j = (int(k) for k in np.unravel_index(int(s.argmax()), s.shape))
    inner = 0 < i < s.shape[0] - 1, 0 < j < s.shape[1] - 1
    gi, hi = _slope_and_curvature(s[i - 1 : i + 2, j]) if inner[0] else (0.0, -1.0)
    gj, hj = _slope_and_curvature(s[i, j - 1 : j + 2]) if inner[1] else (0.0, -1.0)
    mixed = 0.25 * (s[i + 1, j + 1] - s[i + 1, j - 1] - s[i - 1, j + 1] + s[i - 1, j - 1]) if all(inner) else 0.0
    determinant = hi * hj - mixed**2
    if hi >= 0 or hj >= 0 or determinant <= 1e-9 * hi * hj:
        return float(i), float(j)
    di, dj = (mixed * gj - hj * gi) / determinant, (mixed * gi - hi * gj) / determinant
    return i + float(np.clip(di, -0.5, 0.5)), j + float(np.clip(dj, -0.5, 0.5))


def _slope_and_curvature(triple: Array) -> tuple[float, float]:
    return 0.5 * float(triple[2] - triple[0]), float(triple[2] - 2.0 * triple[1] + triple[0])
