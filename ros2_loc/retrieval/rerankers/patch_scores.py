"""Scores of candidates whose images were described patch by patch on a grid of cells of 16 px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import FloatArray
from ros2_loc.errors import ConfigError
from ros2_loc.retrieval.mutual_nearest import Pairs
from ros2_loc.retrieval.scoring.ransac import fit_many
from ros2_loc.retrieval.scoring.ransac_opencv import fit_each
from ros2_loc.retrieval.scoring.verified import SAMPLE, Verified

CELL_PX = 16
Geometry = Literal["exact", "authors"]
Fusion = Literal["plain", "zscore"]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Of one image and one size of patches.

    Attributes:
        descriptors: (n, D).
        cells: (n, 2) column and row of a patch's first cell.
        side: cells along a patch.
    """

    descriptors: NDArray
    cells: NDArray
    side: int = 1

    def __len__(self) -> int:
        return len(self.cells)

    def centres_px(self, geometry: Geometry = "exact") -> NDArray[np.float64]:
        """(n, 2) in the network's image. The published code has them half a pixel to the left and above, from 0 and rounded down."""
        middles = CELL_PX * (self.cells + self.side / 2.0)
        return middles if geometry == "exact" else np.floor(middles - 0.5)


def grid(columns: int, rows: int) -> NDArray[np.int16]:
    """(rows * columns, 2) column and row, row by row."""
    row, column = np.indices((rows, columns), dtype=np.int16)
    return np.stack([column.ravel(), row.ravel()], axis=1)


def verified(
    pairs: Pairs, query: Patches, places: Sequence[Patches], threshold_px: float, geometry: Geometry = "exact"
) -> Verified:
    """Matches of each place that agree with one homography.

    Args:
        pairs: matches of the query with the places.
        query, places: what was matched.
        threshold_px: in the network's image.
        geometry: authors: centres as in the published code, OpenCV's RANSAC, and no inliers of fewer than four matches.
    """
    starts = np.cumsum([0, *(len(place) for place in places)])
    centres = np.concatenate([place.centres_px(geometry) for place in places])
    points = query.centres_px(geometry)[pairs.query], centres[starts[pairs.owner] + pairs.place]
    if geometry == "exact":
        return fit_many(*points, pairs.owner, len(places), "homography", threshold_px)
    found = fit_each(*points, pairs.owner, len(places), "homography", threshold_px)
    enough = np.bincount(pairs.owner, minlength=len(places)) >= SAMPLE["homography"]
    inliers = np.where(enough, found.inliers_per_place, 0).astype(np.int32)
    return Verified(inliers, found.inlier_mask & enough[pairs.owner], found.transforms)


def fused(scores: NDArray, weights: Sequence[float], how: Fusion) -> FloatArray:
    """One score of several.

    Args:
        scores: (C, S) of C candidates by S kinds.
        weights: S of them.
        how: plain: the weighted sum (equation 7 of Patch-NetVLAD, and the re-ranking benchmark); zscore: each kind is first brought to
            mean 0 and deviation 1 over the candidates, as the published code does; a kind that says the same of all adds nothing.
    """
    if how == "zscore" and len(scores):
        deviation = scores.std(axis=0)
        # what rounding leaves of equal scores is no deviation
        told = deviation > 1e-6 * np.abs(scores).max(axis=0)
        scores = np.where(told, (scores - scores.mean(axis=0)) / np.where(told, deviation, 1.0), 0.0)
    return (scores @ np.asarray(weights, dtype=np.float64)).astype(np.float32)


def check_size(name: str, size: tuple[int, int], smallest_cells: int) -> None:
    """Refuse an image size that is no multiple of a cell or has no patch.

    Raises:
        ConfigError: says which.
    """
    if len(size) != 2 or min(size) < smallest_cells * CELL_PX or any(side % CELL_PX for side in size):
        raise ConfigError(
            f"{name}: image_size is width and height, multiples of {CELL_PX} px of at least {smallest_cells * CELL_PX}, got {list(size)}"
        )
