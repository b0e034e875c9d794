"""RANSAC of one candidate after another with OpenCV, as the public re-ranking code does it: to reproduce published scores."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.retrieval.scoring.verified import SAMPLE, Model, Verified


def fit_each(
    query_px: NDArray,
    place_px: NDArray,
    owner: NDArray[np.integer],
    num_places: int,
    model: Model = "homography",
    threshold_px: float = 24.0,
    max_iterations: int = 2000,
    confidence: float = 0.995,
) -> Verified:
    """What `ransac.fit_many` does, with the random numbers and the refinement of OpenCV; slower, so not the default anywhere.

    Args:
        query_px, place_px: (M, 2) matched pixels.
        owner: (M,) place of each match, in [0, num_places).
        num_places: P.
        model: 8 or 6 parameters.
        threshold_px: an inlier's transformed place point is at most so far from its query point.
        max_iterations: hypotheses for one place.
        confidence: that one of them is free of outliers, at which the search ends.
    """
    mask, transforms = np.zeros(len(owner), dtype=bool), np.zeros((num_places, 3, 3))
    for place in np.unique(owner):
        rows = np.flatnonzero(owner == place)
        if len(rows) < SAMPLE[model]:
            mask[rows] = True
            continue
        found, inlier = _fit(query_px[rows], place_px[rows], model, threshold_px, max_iterations, confidence)
        if found is not None and np.isfinite(found).all():
            transforms[place], mask[rows] = found, inlier.ravel().astype(bool)
    return Verified(np.bincount(owner[mask], minlength=num_places).astype(np.int32), mask, transforms)


def _fit(
    query_px: NDArray, place_px: NDArray, model: Model, threshold_px: float, max_iterations: int, confidence: float
) -> tuple[NDArray | None, NDArray]:
    pairs = (np.asarray(place_px, dtype=np.float64), np.asarray(query_px, dtype=np.float64))
    if model == "homography":
        # by position: this is the call of the public code
        return cv2.findHomography(*pairs, cv2.RANSAC, threshold_px, maxIters=max_iterations, confidence=confidence)
    settings = {"ransacReprojThreshold": threshold_px, "maxIters": max_iterations, "confidence": confidence}
    found, inlier = cv2.estimateAffine2D(*pairs, method=cv2.RANSAC, **settings)
    return None if found is None else np.vstack([found, [0.0, 0.0, 1.0]]), inlier
