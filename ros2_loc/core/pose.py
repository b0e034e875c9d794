"""Rigid transforms and how their uncertainty travels.

A variable that holds a `Pose` is called `b_from_a`; it takes coordinates in frame a to frame b and chains by eye:
`c_from_a = c_from_b @ b_from_a`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.errors import GeometryError

Array = NDArray[np.float64]

_ORTHONORMAL_TOLERANCE = 1e-6

# REP-103: rotation from an optical frame (x right, y down, z forward) to a body frame (x forward, y left, z up) that looks the same way
BODY_FROM_OPTICAL: Array = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
BODY_FROM_OPTICAL.setflags(write=False)


def skew(vector: ArrayLike) -> Array:
    """Cross-product matrices: (..., 3) -> (..., 3, 3) with `skew(a) @ b == cross(a, b)`."""
    v = np.asarray(vector, dtype=np.float64)
    out = np.zeros((*v.shape, 3))
    out[..., 0, 1], out[..., 0, 2] = -v[..., 2], v[..., 1]
    out[..., 1, 0], out[..., 1, 2] = v[..., 2], -v[..., 0]
    out[..., 2, 0], out[..., 2, 1] = -v[..., 1], v[..., 0]
    return out


def so3_exp(rotation_vector_rad: ArrayLike) -> Array:
    """Rotation matrix (3, 3) of a rotation vector (3,) in rad (Rodrigues)."""
    w = np.asarray(rotation_vector_rad, dtype=np.float64)
    angle = float(np.linalg.norm(w))
    k = skew(w)
    if angle < 1e-8:
        return np.eye(3) + k + 0.5 * k @ k
    return np.eye(3) + np.sin(angle) / angle * k + (1.0 - np.cos(angle)) / angle**2 * k @ k


def so3_log(rotation: ArrayLike) -> Array:
    """Rotation vector (3,) in rad, norm at most pi, of a rotation matrix (3, 3)."""
    x, y, z, w = quaternion_xyzw_from_rotation(rotation)
    vector = np.array([x, y, z])
    norm = float(np.linalg.norm(vector))
    if norm < 1e-12:
        return 2.0 * vector
    return vector * (2.0 * np.arctan2(norm, w) / norm)


def quaternion_xyzw_from_rotation(rotation: ArrayLike) -> Array:
    """Unit quaternion (x, y, z, w), w >= 0, of a rotation matrix (3, 3); stable for every angle (Shepperd's method)."""
    r = np.asarray(rotation, dtype=np.float64)
    trace = np.trace(r)
    squares = np.array([r[0, 0], r[1, 1], r[2, 2], trace])
    i = int(np.argmax(squares))
    q = np.empty(4)
    if i == 3:
        q[:] = [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1.0 + trace]
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q[i] = 1.0 - trace + 2.0 * r[i, i]
        q[j] = r[j, i] + r[i, j]
        q[k] = r[k, i] + r[i, k]
        q[3] = r[k, j] - r[j, k]
    q /= np.linalg.norm(q)
    return q if q[3] >= 0 else -q


def rotation_from_quaternion_xyzw(quaternion_xyzw: ArrayLike) -> Array:
    """Rotation matrix (3, 3) of a quaternion (x, y, z, w).

    Raises:
        GeometryError: the norm differs from 1 by more than 1e-3 (navigation2 refuses such poses as well), or a value is not finite.
    """
    q = np.asarray(quaternion_xyzw, dtype=np.float64)
    norm = float(np.linalg.norm(q)) if q.shape == (4,) else float("nan")
    if not abs(norm - 1.0) <= 1e-3:
        raise GeometryError(f"quaternion {q.tolist()} has norm {norm:.4g}; send a unit quaternion (x, y, z, w)")
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """A rigid transform `b_from_a`.

    Attributes:
        rotation: (3, 3) float64, orthonormal with determinant 1.
        translation: (3,) float64, metres: the origin of frame a in frame b.

    Raises:
        GeometryError: wrong shape, not finite, or not a rotation.
    """

    rotation: Array
    translation: Array

    def __post_init__(self) -> None:
        rotation = np.array(self.rotation, dtype=np.float64)
        translation = np.array(self.translation, dtype=np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise GeometryError(f"a pose needs rotation (3, 3) and translation (3,), got {rotation.shape} and {translation.shape}")
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
            raise GeometryError(f"a pose needs finite numbers, got translation {translation.tolist()}")
        if abs(rotation @ rotation.T - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE or np.linalg.det(rotation) < 0:
            raise GeometryError(f"not a rotation matrix: {rotation.round(4).tolist()}; use Pose.from_matrix to project a rounded one")
        rotation.setflags(write=False)
        translation.setflags(write=False)
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    @staticmethod
    def identity() -> Pose:
        """The transform that changes nothing."""
        return Pose(np.eye(3), np.zeros(3))

    @staticmethod
    def from_matrix(matrix: ArrayLike) -> Pose:
        """From (3, 4) or (4, 4); the rotation part is projected to the nearest rotation (text files round theirs).

        Raises:
            GeometryError: the rotation part is further than 1e-2 from a rotation.
        """
        m = np.asarray(matrix, dtype=np.float64)
        if m.shape not in ((3, 4), (4, 4)) or not np.isfinite(m).all():
            raise GeometryError(f"a pose matrix is a finite (3, 4) or (4, 4), got shape {m.shape}")
        u, _, vt = np.linalg.svd(m[:3, :3])
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        if abs(rotation - m[:3, :3]).max() > 1e-2:
            raise GeometryError(f"not a rotation matrix: {m[:3, :3].round(4).tolist()}")
        return Pose(rotation, m[:3, 3])

    @staticmethod
    def from_quaternion_xyzw(quaternion_xyzw: ArrayLike, translation_m: ArrayLike) -> Pose:
        """From a unit quaternion (x, y, z, w) and a translation (3,) in metres."""
        return Pose(rotation_from_quaternion_xyzw(quaternion_xyzw), np.asarray(translation_m, dtype=np.float64))

    @staticmethod
    def exp(twist: ArrayLike) -> Pose:
        """Pose of (x, y, z, rotX, rotY, rotZ) with the translation taken as it is (SO(3) x R^3, the ROS order, not the SE(3) screw)."""
        t = np.asarray(twist, dtype=np.float64)
        return Pose(so3_exp(t[3:]), t[:3])

    @property
    def matrix(self) -> Array:
        """(4, 4) homogeneous matrix."""
        m = np.eye(4)
        m[:3, :3], m[:3, 3] = self.rotation, self.translation
        return m

    @property
    def quaternion_xyzw(self) -> Array:
        """Unit quaternion (x, y, z, w), w >= 0."""
        return quaternion_xyzw_from_rotation(self.rotation)

    @property
    def yaw_rad(self) -> float:
        """Heading of the x axis about z, counter-clockwise from x (east in ENU), rad."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    def inverse(self) -> Pose:
        """`a_from_b` of `b_from_a`."""
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: Pose) -> Pose:
        """`c_from_b @ b_from_a -> c_from_a`; the product is re-orthonormalized so that long chains stay rotations."""
        rotation = self.rotation @ other.rotation
        rotation = 1.5 * rotation - 0.5 * rotation @ rotation.T @ rotation
        return Pose(rotation, self.rotation @ other.translation + self.translation)

    def apply(self, points: ArrayLike) -> Array:
        """Points (..., 3) m in frame a -> (..., 3) m in frame b."""
        return np.asarray(points, dtype=np.float64) @ self.rotation.T + self.translation

    def perturbed(self, delta: ArrayLike) -> Pose:
        """The pose moved by delta (6,) = (x, y, z, rotX, rotY, rotZ) in the axes of frame b: what its ROS covariance describes."""
        d = np.asarray(delta, dtype=np.float64)
        return Pose(so3_exp(d[3:]) @ self.rotation, self.translation + d[:3])

    def difference(self, reference: Pose) -> Array:
        """delta (6,) with `reference.perturbed(delta) == self`: m and rad, axes of frame b."""
        return np.concatenate([self.translation - reference.translation, so3_log(self.rotation @ reference.rotation.T)])


def rotation_angle_rad(rotation: ArrayLike) -> float:
    """Angle in [0, pi] of a rotation matrix (3, 3)."""
    return float(np.linalg.norm(so3_log(rotation)))


def interpolate(b_from_a0: Pose, b_from_a1: Pose, fraction: float) -> Pose:
    """The pose at `fraction` (0 to 1) between two: linear in translation, slerp in rotation (as tf2 does)."""
    step = so3_log(b_from_a0.rotation.T @ b_from_a1.rotation)
    translation = (1.0 - fraction) * b_from_a0.translation + fraction * b_from_a1.translation
    return Pose(b_from_a0.rotation @ so3_exp(fraction * step), translation)


def transport_to_left(c_from_b: Pose, covariance: ArrayLike) -> Array:
    """Covariance (6, 6) of `b_from_a` (axes of b) -> that of `c_from_b @ b_from_a` (axes of c), `c_from_b` exact."""
    j = np.kron(np.eye(2), c_from_b.rotation)
    return j @ np.asarray(covariance, dtype=np.float64) @ j.T


def transport_to_right(b_from_a: Pose, a_from_x: Pose, covariance: ArrayLike) -> Array:
    """Covariance (6, 6) of `b_from_a` (axes of b) -> that of `b_from_a @ a_from_x` (axes of b), `a_from_x` exact.

    A rotation error turns the lever arm from a to x: dt_x = dt_a - skew(R_ba t_ax) dtheta.
    """
    j = np.eye(6)
    j[:3, 3:] = -skew(b_from_a.rotation @ a_from_x.translation)
    return j @ np.asarray(covariance, dtype=np.float64) @ j.T


def compose_covariance(b_from_a: Pose, cov_b_from_a: ArrayLike, a_from_x: Pose, cov_a_from_x: ArrayLike) -> Array:
    """Covariance (6, 6) of `b_from_a @ a_from_x` (axes of b) where both are uncertain and independent."""
    return transport_to_right(b_from_a, a_from_x, cov_b_from_a) + transport_to_left(Pose(b_from_a.rotation, np.zeros(3)), cov_a_from_x)


def inverse_covariance_of_pose(b_from_a: Pose, covariance: ArrayLike) -> Array:
    """Covariance (6, 6) of `a_from_b` (axes of a) from that of `b_from_a` (axes of b)."""
    r = b_from_a.rotation.T
    j = np.zeros((6, 6))
    j[:3, :3] = -r
    j[:3, 3:] = -r @ skew(b_from_a.translation)
    j[3:, 3:] = -r
    return j @ np.asarray(covariance, dtype=np.float64) @ j.T


def largest_sigma(covariance: Array) -> float:
    """The standard deviation along the axis where an (n, n) covariance is widest, in the unit of its axes."""
    return float(np.sqrt(np.linalg.eigvalsh(covariance)[-1]))


def check_covariance(covariance: ArrayLike) -> Array:
    """The (6, 6) covariance, made exactly symmetric.

    Raises:
        GeometryError: wrong shape, not finite, not symmetric, or not positive definite.
    """
    c = np.asarray(covariance, dtype=np.float64)
    if c.shape != (6, 6) or not np.isfinite(c).all():
        raise GeometryError(f"a pose covariance is a finite (6, 6), got shape {c.shape}")
    if abs(c - c.T).max() > 1e-6 * max(abs(c).max(), 1e-12):
        raise GeometryError("a pose covariance must be symmetric")
    c = 0.5 * (c + c.T)
    if np.linalg.eigvalsh(c).min() <= 0:
        raise GeometryError(f"a pose covariance must be positive definite, smallest eigenvalue {np.linalg.eigvalsh(c).min():.3g}")
    return c
