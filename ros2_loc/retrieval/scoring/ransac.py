"""RANSAC for all candidates at once (Fischler and Bolles, 1981; section 4.4.1 of the re-ranking paper)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros2_loc.retrieval.scoring.ransac_opencv import fit_each
from ros2_loc.retrieval.scoring.verified import Model, Verified


def fit_many(
    query_px: NDArray,
    place_px: NDArray,
    owner: NDArray[np.integer],
    num_places: int,
    model: Model = "homography",
    threshold_px: float = 24.0,
    max_iterations: int = 2000,
    confidence: float = 0.995,
    seed: int = 0,
) -> Verified:
    """The transform of each place's matches that most of them agree with."""
    return fit_each(query_px, place_px, owner, num_places, model, threshold_px, max_iterations, confidence)
