"""How good keypoints and matches are against a known homography or a known relative pose. Pure functions of arrays.

Repeatability: Mikolajczyk et al., "A comparison of affine region detectors", IJCV 2005, by positions alone as in DeTone et al.,
"SuperPoint", 2018, section 7.2. Mean matching accuracy: Dusmanu et al., "D2-Net", CVPR 2019, section 5.1. Homography accuracy: SuperPoint,
appendix. Pose errors and their area under the curve: Sarlin et al., "SuperGlue", CVPR 2020, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ros2_loc.core.pose import Pose, rotation_angle_rad, skew

Array = NDArray[np.float64]

MATCHING_THRESHOLDS_PX = tuple(range(1, 11))
REPEATABILITY_PX = 3.0
CORNER_THRESHOLDS_PX = (1.0, 3.0, 5.0)
POSE_THRESHOLDS_DEG = (5.0, 10.0, 20.0)
EPIPOLAR_PX = 3.0  # a match this near the true epipolar line is called right


def warp(points: ArrayLike, b_from_a: ArrayLike) -> Array:
    """Points (N, 2) px in image a -> (N, 2) px in image b by a homography (3, 3); infinite where they lie at or behind its horizon."""
    p = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    q = np.column_stack([p, np.ones(len(p))]) @ np.asarray(b_from_a, dtype=np.float64).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(q[:, 2:] > 1e-12, q[:, :2] / q[:, 2:], np.inf)


def inside(points: ArrayLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) whether points (N, 2) px lie in an image of (width, height) px."""
    p = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return ((p >= 0.0) & (p < np.array(size))).all(axis=1)


def repeatability(
    keypoints_a: ArrayLike,
    keypoints_b: ArrayLike,
    b_from_a: ArrayLike,
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    threshold_px: float = REPEATABILITY_PX,
) -> float | None:
    """Share of the keypoints that both images show which have one of the other image within `threshold_px`; None where there are none.

    Args:
        keypoints_a, keypoints_b: (N, 2), (M, 2) px.
        b_from_a: homography (3, 3).
        size_a, size_b: (width, height) px.
    """
    a, b = np.asarray(keypoints_a, float).reshape(-1, 2), np.asarray(keypoints_b, float).reshape(-1, 2)
    a_in_b, b_in_a = warp(a, b_from_a), warp(b, np.linalg.inv(np.asarray(b_from_a, float)))
    seen_a, seen_b = inside(a_in_b, size_b), inside(b_in_a, size_a)
    shown = int(seen_a.sum() + seen_b.sum())
    if shown == 0:
        return None
    if not seen_a.any() or not seen_b.any():
        return 0.0
    near_b = cKDTree(b).query(a_in_b[seen_a], distance_upper_bound=threshold_px)[0]
    near_a = cKDTree(a).query(b_in_a[seen_b], distance_upper_bound=threshold_px)[0]
    return float((np.isfinite(near_a).sum() + np.isfinite(near_b).sum()) / shown)


def transfer_errors_px(pairs: ArrayLike, b_from_a: ArrayLike) -> Array:
    """(M,) distances in image b of matches (M, 4) px (x, y in a; x, y in b) from where the homography puts them."""
    p = np.asarray(pairs, dtype=np.float64).reshape(-1, 4)
    return np.linalg.norm(warp(p[:, :2], b_from_a) - p[:, 2:], axis=1)


def matching_accuracy(errors_px: ArrayLike, thresholds_px: Sequence[float] = MATCHING_THRESHOLDS_PX) -> tuple[float, ...]:
    """Share of the matches (M,) of one pair within each threshold; 0 where there are no matches, as D2-Net counts."""
    e = np.asarray(errors_px, dtype=np.float64)
    return tuple(float((e <= t).mean()) if e.size else 0.0 for t in thresholds_px)


def corner_error_px(estimated: ArrayLike | None, b_from_a: ArrayLike, size_a: tuple[int, int]) -> float:
    """Mean distance in b of the four corners of a by the estimated and the true homography; infinite without an estimate."""
    if estimated is None:
        return float("inf")
    width, height = size_a
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    difference = warp(corners, estimated) - warp(corners, b_from_a)
    error = float(np.linalg.norm(difference, axis=1).mean())
    return error if np.isfinite(error) else float("inf")


def pose_error_deg(estimated: Pose | None, b_from_a: Pose) -> tuple[float, float]:
    """(rotation, direction of translation) errors in degrees; infinite without an estimate.

    The sign of the translation is left open, as SuperGlue's evaluation does: at most 90 degrees can be wrong.
    """
    if estimated is None:
        return float("inf"), float("inf")
    rotation = float(np.degrees(rotation_angle_rad(b_from_a.rotation.T @ estimated.rotation)))
    lengths = np.linalg.norm(estimated.translation) * np.linalg.norm(b_from_a.translation)
    if lengths < 1e-12:
        return rotation, float("inf")
    cosine = float(np.clip(estimated.translation @ b_from_a.translation / lengths, -1.0, 1.0))
    return rotation, float(np.degrees(np.arccos(abs(cosine))))


def area_under_curve(errors: ArrayLike, thresholds: Sequence[float]) -> tuple[float, ...] | None:
    """Area under the recall over the error (N,) up to each threshold, divided by it; None of none. Infinite: failed."""
    e = np.sort(np.asarray(errors, dtype=np.float64))
    if e.size == 0:
        return None
    recall = np.arange(1, e.size + 1) / e.size
    e, recall = np.concatenate([[0.0], e]), np.concatenate([[0.0], recall])
    areas = []
    for threshold in thresholds:
        last = int(np.searchsorted(e, threshold))
        x, y = np.append(e[:last], threshold), np.append(recall[:last], recall[last - 1])
        areas.append(float(np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2.0) / threshold))
    return tuple(areas)


def epipolar_errors_px(rays_a: ArrayLike, rays_b: ArrayLike, b_from_a: Pose, focals_px: tuple[float, float]) -> Array:
    """(M,) larger distance of matches to their true epipolar lines, px.

    Args:
        rays_a, rays_b: (M, 2) normalized coordinates.
        b_from_a: relative pose; its translation is not zero.
        focals_px: of the two cameras.
    """
    essential = skew(b_from_a.translation / np.linalg.norm(b_from_a.translation)) @ b_from_a.rotation
    a, b = (np.column_stack([np.asarray(r, float).reshape(-1, 2), np.ones(len(np.asarray(r)))]) for r in (rays_a, rays_b))
    line_b, line_a = a @ essential.T, b @ essential
    residual = np.abs((b * line_b).sum(axis=1))
    in_a = focals_px[0] * residual / np.maximum(np.hypot(line_a[:, 0], line_a[:, 1]), 1e-12)
    in_b = focals_px[1] * residual / np.maximum(np.hypot(line_b[:, 0], line_b[:, 1]), 1e-12)
    return np.asarray(np.maximum(in_a, in_b))
