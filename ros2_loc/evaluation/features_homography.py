"""The protocol of HPatches: keypoints, matches and the homography that they give, against the true one."""

from __future__ import annotations

import numpy as np
import poselib
from numpy.typing import NDArray

from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.features_methods import Features, pairs_px
from ros2_loc.evaluation.features_records import HomographyResult
from ros2_loc.io.image_pairs import HomographyPair

_RANSAC = {"max_reproj_error": 3.0, "max_iterations": 10_000, "seed": 0}
_LEAST = 4


def measure_homography(features: Features, pair: HomographyPair) -> HomographyResult:
    """All numbers of one pair."""
    first, second = features.of(pair.first), features.of(pair.second)
    matched = pairs_px(first, second, features.matches(first, second))
    corner = fm.corner_error_px(estimate_homography(matched), pair.second_from_first, first.size)
    return HomographyResult(
        name=f"{pair.first.name} {pair.second.name}",
        group=pair.group,
        keypoints=(len(first), len(second)),
        matches=len(matched),
        repeatability=fm.repeatability(first.keypoints, second.keypoints, pair.second_from_first, first.size, second.size),
        accuracy=fm.matching_accuracy(fm.transfer_errors_px(matched, pair.second_from_first)),
        corner_error_px=corner if np.isfinite(corner) else None,
    )


def estimate_homography(pairs: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(3, 3) from matches (M, 4) px by PoseLib's LO-RANSAC with 3 px; None from fewer than four, or where fewer agree."""
    if len(pairs) < _LEAST:
        return None
    found, info = poselib.estimate_homography(pairs[:, :2], pairs[:, 2:], _RANSAC, {})
    homography = np.asarray(found, dtype=np.float64)
    if info["num_inliers"] < _LEAST or not np.isfinite(homography).all() or abs(homography[2, 2]) < 1e-12:
        return None
    return homography / homography[2, 2]
