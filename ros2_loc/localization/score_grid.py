"""From the scores of tiles and shifts to the scores of positions.

A position is covered by several tiles, each with its own shifts. Its score is the mean of theirs, each interpolated between the shifts
around the position, and weighted so that a tile fades out towards the end of its shifts: the result is continuous over the whole map.
All of that is linear in the scores and always the same, hence one sparse matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from ros2_loc.core.overhead import OverheadGrid

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class ScoreGrid:
    """Cells over the tiles, north-up: row 0 is the northmost.

    Attributes:
        west_m, north_m: outer corner of the north-western cell, ENU of the map.
        metres_per_cell: side of a cell.
        shape: (rows, columns).
        covered: (rows, columns) True where some tile and shift stands for the cell.
        num_tiles, num_shifts: T and K.
    """

    def __init__(self, centres_m: Array, grid: OverheadGrid, metres_per_cell: float, margin_m: float) -> None:
        """Args:
        centres_m: (T, 2) of the tiles, ENU of the map.
        grid: the encoder's; its shifts are those of the scores.
        margin_m: cells beyond the tiles' shifts.
        """
        reach_m = reach_of(grid)
        low, high = centres_m.min(axis=0) - reach_m - margin_m, centres_m.max(axis=0) + reach_m + margin_m
        self.metres_per_cell = metres_per_cell
        self.west_m, self.north_m = float(low[0]), float(high[1])
        columns, rows = (int(n) for n in np.ceil((high - low) / metres_per_cell))
        self.shape = (rows, columns)
        self.num_tiles, self.num_shifts = len(centres_m), grid.num_shifts
        self._weights = self._matrix(centres_m, grid)
        self.covered = (np.diff(self._weights.indptr) > 0).reshape(self.shape)

    def cell_of(self, east_m: ArrayLike, north_m: ArrayLike) -> tuple[Array, Array]:
        """(row, column) of positions; whole numbers are centres of cells."""
        east_m, north_m = np.asarray(east_m, dtype=np.float64), np.asarray(north_m, dtype=np.float64)
        return (self.north_m - north_m) / self.metres_per_cell - 0.5, (east_m - self.west_m) / self.metres_per_cell - 0.5

    def cells_in(self, box: tuple[int, int, int, int]) -> IntArray:
        """(rows, columns) indices of the cells in a box: top, left, rows, columns."""
        top, left, rows, columns = box
        return np.arange(top, top + rows)[:, None] * self.shape[1] + np.arange(left, left + columns)

    def tiles_of(self, cells: IntArray) -> IntArray:
        """Ids of the tiles that cover any of these cells (N,)."""
        touched = np.zeros(self.num_tiles, dtype=bool)
        touched[self._weights[cells].indices // self.num_shifts**2] = True
        return np.flatnonzero(touched)

    def arranged(self, scores: FloatArray, tile_ids: IntArray) -> FloatArray:
        """Scores (Q, M, K, K) of Q headings and M tiles (M,) as `scores_of` takes them; all other tiles have 0."""
        shifts = self.num_shifts**2
        dense = np.zeros((self.num_tiles, shifts, len(scores)), dtype=np.float32)
        dense[tile_ids] = np.moveaxis(scores.reshape(len(scores), len(tile_ids), shifts), 0, 2)
        return dense.reshape(self.num_tiles * shifts, len(scores))

    def scores_of(self, arranged: FloatArray, cells: IntArray) -> FloatArray:
        """(Q, ...) float32 scores of cells (...), 0 where no tile covers them."""
        every = cells.size == self.shape[0] * self.shape[1]
        result = (self._weights if every else self._weights[cells.ravel()]) @ arranged
        return np.ascontiguousarray(result.T).reshape(arranged.shape[1], *cells.shape)

    def _matrix(self, centres_m: Array, grid: OverheadGrid) -> csr_array:
        """(cells, T K K) float32; each row sums up to 1, or is empty."""
        cell, k = self.metres_per_cell, self.num_shifts
        half = int(np.ceil(reach_of(grid) / cell)) + 1
        around = np.arange(-half, half + 1)
        nearest = np.rint(np.stack([(self.north_m - centres_m[:, 1]) / cell - 0.5, (centres_m[:, 0] - self.west_m) / cell - 0.5], axis=1))
        axes = []
        for axis, sign in ((0, -1.0), (1, 1.0)):
            index = nearest[:, axis, None].astype(np.int64) + around  # (T, n)
            position = self.north_m - (index + 0.5) * cell if axis == 0 else self.west_m + (index + 0.5) * cell
            axes.append((index, *_along(sign * (position - centres_m[:, 1 - axis, None]), grid)))
        (row, row_shift, row_weight), (column, column_shift, column_weight) = axes
        inside = ((row >= 0) & (row < self.shape[0]))[:, :, None] & ((column >= 0) & (column < self.shape[1]))[:, None, :]
        parts = []
        for i in range(2):
            for j in range(2):
                value = row_weight[:, :, None, i] * column_weight[:, None, :, j]
                keep = inside & (value > 0)
                target = (row[:, :, None] * self.shape[1] + column[:, None, :])[keep]
                tile = np.broadcast_to(np.arange(self.num_tiles)[:, None, None], keep.shape)[keep]
                shift = (row_shift[:, :, None, i] * k + column_shift[:, None, :, j])[keep]
                parts.append((value[keep], target, tile * k * k + shift))
        value, target, source = (np.concatenate(p) for p in zip(*parts, strict=True))
        total = np.bincount(target, weights=value, minlength=self.shape[0] * self.shape[1])
        value = (value / total[target]).astype(np.float32)
        shape = (self.shape[0] * self.shape[1], self.num_tiles * k * k)
        return csr_array(coo_array((value, (target.astype(np.int32), source.astype(np.int32))), shape=shape))


def between_headings(scores: FloatArray, scored_rad: Array, wanted_rad: Array) -> FloatArray:
    """(H, rows, columns) under wanted headings (H,) from (Q, rows, columns) under scored ones (Q,), ascending; linear, constant beyond."""
    if len(scored_rad) == 1:
        return np.broadcast_to(scores, (len(wanted_rad), *scores.shape[1:]))
    at = np.interp(wanted_rad, scored_rad, np.arange(len(scored_rad)))
    low = np.minimum(at.astype(int), len(scored_rad) - 2)
    return np.stack([scores[i] + np.float32(f) * (scores[i + 1] - scores[i]) for i, f in zip(low, at - low, strict=True)])


def reach_of(grid: OverheadGrid) -> float:
    """How far from a tile's centre, east or north, its scores still speak: to the last shift, without shifts half a cell. m."""
    return max(grid.shift_cells, 0.5) * grid.metres_per_cell


def _along(offset_m: Array, grid: OverheadGrid) -> tuple[IntArray, Array]:
    """Of one axis: indices (..., 2) of the shifts on both sides of an offset from the tile's centre, and their weights (..., 2)."""
    k = grid.num_shifts
    at = np.clip(offset_m / grid.metres_per_cell + grid.shift_cells, 0.0, k - 1.0)
    low = np.minimum(np.floor(at).astype(np.int64), max(k - 2, 0))
    fraction = at - low
    fade = np.where(np.abs(offset_m) <= reach_of(grid), 1.0 - np.abs(offset_m) / ((grid.shift_cells + 1) * grid.metres_per_cell), 0.0)
    return np.stack([low, np.minimum(low + 1, k - 1)], axis=-1), np.stack([(1.0 - fraction) * fade, fraction * fade], axis=-1)
