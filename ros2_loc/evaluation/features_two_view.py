"""The protocol of SuperGlue's evaluation: the relative pose that matches give, against the true one.

Where no truth is known, the matches that agree with a fundamental matrix are counted, which is no accuracy: many can agree on a wrong one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import poselib
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.features_methods import Features, pairs_px
from ros2_loc.evaluation.features_records import PoseResult
from ros2_loc.io.image_pairs import PosedPair

Array = NDArray[np.float64]

_RANSAC = {"max_epipolar_error": 1.0, "max_iterations": 10_000, "seed": 0}
_LEAST = {"essential": 5, "fundamental": 8}


def measure_two_view(features: Features, pair: PosedPair) -> PoseResult:
    """All numbers of one pair."""
    first, second = features.of(pair.first), features.of(pair.second)
    matched = pairs_px(first, second, features.matches(first, second))
    common: dict[str, Any] = {
        "name": f"{pair.first.name} {pair.second.name}",
        "group": pair.group,
        "keypoints": (len(first), len(second)),
        "matches": len(matched),
    }
    cameras = _cameras(pair)
    if pair.second_from_first is None or cameras is None:
        agreeing = int(verified(matched).sum())
        return PoseResult(**common, inliers=agreeing, has_truth=False, precision=None, rotation_deg=None, translation_deg=None)
    estimated, inliers = estimate_relative_pose(matched, *cameras)
    rotation, translation = fm.pose_error_deg(estimated, pair.second_from_first)
    return PoseResult(
        **common,
        inliers=inliers,
        has_truth=True,
        precision=float((true_errors_px(pair, matched) <= fm.EPIPOLAR_PX).mean()) if len(matched) else None,
        rotation_deg=rotation if np.isfinite(rotation) else None,
        translation_deg=translation if np.isfinite(translation) else None,
    )


def estimate_relative_pose(pairs: Array, first: Camera, second: Camera) -> tuple[Pose | None, int]:
    """(second_from_first up to scale, number of inliers) of matches (M, 4) px by PoseLib's LO-RANSAC with 1 px; None where fewer than
    five agree."""
    if len(pairs) < _LEAST["essential"]:
        return None, 0
    sides = ((first, pairs[:, :2]), (second, pairs[:, 2:]))
    points = [_ideal_pixels(camera, pixels) for camera, pixels in sides]
    models = [{"model": "PINHOLE", "width": c.width, "height": c.height, "params": list(c.undistorted().params)} for c in (first, second)]
    pose, info = poselib.estimate_relative_pose(*points, *models, _RANSAC, {})
    inliers = int(info["num_inliers"])
    matrix = np.column_stack([pose.R, pose.t])
    if inliers < _LEAST["essential"] or not np.isfinite(matrix).all() or np.linalg.norm(pose.t) < 1e-9:
        return None, 0
    return Pose.from_matrix(matrix), inliers


def verified(pairs: Array) -> NDArray[np.bool_]:
    """(M,) which of the matches (M, 4) px agree with one fundamental matrix to 1 px: that of most of them, right or not."""
    if len(pairs) < _LEAST["fundamental"]:
        return np.zeros(len(pairs), dtype=bool)
    _, info = poselib.estimate_fundamental(pairs[:, :2], pairs[:, 2:], _RANSAC, {})
    return np.asarray(info["inliers"], dtype=bool)


def true_errors_px(pair: PosedPair, pairs: Array) -> Array:
    """(M,) distances of matches to their true epipolar lines, px; the pair has cameras and a pose."""
    assert pair.first.camera is not None and pair.second.camera is not None and pair.second_from_first is not None
    rays = pair.first.camera.unproject(pairs[:, :2]), pair.second.camera.unproject(pairs[:, 2:])
    focals = float(np.mean(pair.first.camera.focal_px)), float(np.mean(pair.second.camera.focal_px))
    return fm.epipolar_errors_px(*rays, pair.second_from_first, focals)


def _cameras(pair: PosedPair) -> tuple[Camera, Camera] | None:
    return None if pair.first.camera is None or pair.second.camera is None else (pair.first.camera, pair.second.camera)


def _ideal_pixels(camera: Camera, pixels: Array) -> Array:
    ideal = camera.undistorted()
    return pixels if camera == ideal else camera.unproject(pixels) * ideal.focal_px + ideal.principal_point_px
