"""The rotation, translation and, if wanted, scale that bring one trajectory onto another.

Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ros2_loc.core.pose import Array, Pose
from ros2_loc.errors import GeometryError

_RANK_TOLERANCE = 1e-9  # of a singular value against the greatest one


class Similarity(NamedTuple):
    """`target_from_source`: points go to `scale * rotation @ point + translation`.

    Attributes:
        scale: positive; 1 for a rigid transform.
        pose: rotation, and translation in m.
    """

    scale: float
    pose: Pose

    def apply(self, points_m: ArrayLike) -> Array:
        """Points (..., 3) of the source -> (..., 3) of the target."""
        return self.pose.apply(self.scale * np.asarray(points_m, dtype=np.float64))

    def apply_to_pose(self, source_from_body: Pose) -> Pose:
        """A pose in the source -> the pose in the target; the body itself is not scaled."""
        return Pose(self.pose.rotation @ source_from_body.rotation, self.apply(source_from_body.translation))

    def inverse(self) -> Similarity:
        """`source_from_target`."""
        inverse = self.pose.inverse()
        return Similarity(1.0 / self.scale, Pose(inverse.rotation, inverse.translation / self.scale))


def align(source_m: ArrayLike, target_m: ArrayLike, with_scale: bool = False) -> Similarity:
    """The least-squares `target_from_source` of corresponding points.

    Args:
        source_m, target_m: (N, 3) m, N >= 3, not on a line.
        with_scale: fit Sim(3) instead of SE(3).

    Raises:
        GeometryError: shapes that differ, values that are not finite, or points (fewer than 3, on a line) that leave the rotation open.
    """
    source, target = _checked(source_m, target_m, 3)
    (source_mean, source_c), (target_mean, target_c) = _centred(source), _centred(target)
    u, singular, vt = np.linalg.svd(target_c.T @ source_c / len(source))
    if singular[1] <= _RANK_TOLERANCE * max(singular[0], 1e-12):
        raise GeometryError("points on a line or in one spot leave the rotation open; use poses of a way with a bend, or align_yaw")
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float(singular @ signs / (source_c**2).sum(axis=1).mean()) if with_scale else 1.0
    return Similarity(scale, Pose.from_matrix(np.column_stack([rotation, target_mean - scale * rotation @ source_mean])))


def align_yaw(source_m: ArrayLike, target_m: ArrayLike) -> Pose:
    """The least-squares `target_from_source` that only turns about z, for two frames that both know where up is; a straight way suffices.

    Args:
        source_m, target_m: (N, 3) m, N >= 2, not all above one another.

    Raises:
        GeometryError: shapes that differ, values that are not finite, or points that leave the heading open.
    """
    source, target = _checked(source_m, target_m, 2)
    (source_mean, source_c), (target_mean, target_c) = _centred(source), _centred(target)
    cosine = float((target_c[:, :2] * source_c[:, :2]).sum())
    sine = float((source_c[:, 0] * target_c[:, 1] - source_c[:, 1] * target_c[:, 0]).sum())
    if np.hypot(cosine, sine) <= 1e-12 * max(float((source**2).sum()), 1.0):
        raise GeometryError("points above one another leave the heading open; use poses of a way that leads somewhere")
    yaw = np.arctan2(sine, cosine)
    rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    return Pose(rotation, target_mean - rotation @ source_mean)


def _checked(source_m: ArrayLike, target_m: ArrayLike, minimum: int) -> tuple[Array, Array]:
    source, target = (np.asarray(points, dtype=np.float64) for points in (source_m, target_m))
    if target.shape != source.shape or target.ndim != 2 or target.shape[1] != 3 or len(target) < minimum:
        raise GeometryError(f"alignment needs two (N, 3) arrays with N >= {minimum}, got {source.shape} and {target.shape}")
    if not (np.isfinite(target).all() and np.isfinite(source).all()):
        raise GeometryError("alignment needs finite points")
    return source, target


def _centred(points: Array) -> tuple[Array, Array]:
    mean = points.mean(axis=0)
    return mean, points - mean
