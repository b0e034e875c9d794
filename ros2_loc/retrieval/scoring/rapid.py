"""Rapid spatial scoring: how alike the displacements of matches are, without any search.

Hausler et al., "Patch-NetVLAD", CVPR 2021, equation 6; the re-ranking paper's equation 4.41.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rapid_scores(
    query_grid: NDArray,
    place_grid: NDArray,
    owner: NDArray[np.integer],
    num_places: int,
    extent: tuple[float, float],
    num_query: int,
) -> NDArray[np.float32]:
    """Higher is better, 0 without matches: sum over matches of (extent - |deviation from the mean displacement|)^2, both axes, / num_query.

    Args:
        query_grid, place_grid: (M, 2) x and y of matches, in cells of a grid of patches (or in pixels).
        owner: (M,) place of each match, in [0, num_places).
        num_places: P.
        extent: the largest x and y that there are, in the same unit.
        num_query: features (patches) of the query, matched or not.

    Returns:
        (P,) scores.
    """
    displacement = np.asarray(place_grid, dtype=np.float64).reshape(-1, 2) - np.asarray(query_grid, dtype=np.float64).reshape(-1, 2)
    counts = np.maximum(np.bincount(owner, minlength=num_places), 1)
    total = np.zeros(num_places)
    for axis in range(2):
        mean = np.bincount(owner, displacement[:, axis], num_places) / counts
        closeness = extent[axis] - np.abs(displacement[:, axis] - mean[owner])
        total += np.bincount(owner, closeness**2, num_places)
    return (total / max(num_query, 1)).astype(np.float32)
