"""Quaternions and Euler angles: tf_transformations where a ROS install has it, else the functions of it that people need here.

Quaternions are (x, y, z, w). Euler angles are about fixed axes, first x (roll), then y (pitch), then z (yaw): axes "sxyz", the
default of tf_transformations and the only ones that ours knows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.pose import quaternion_xyzw_from_rotation, rotation_from_quaternion_xyzw

Array = NDArray[np.float64]


def _quaternion_from_euler(roll: float, pitch: float, yaw: float) -> Array:
    """Unit quaternion (4,) of angles in rad."""
    about_x, about_y, about_z = (_about(axis, angle) for axis, angle in enumerate((roll, pitch, yaw)))
    return _quaternion_multiply(about_z, _quaternion_multiply(about_y, about_x))


def _euler_from_quaternion(quaternion: ArrayLike) -> tuple[float, float, float]:
    """(roll, pitch, yaw) in rad; looking straight up or down, where only one of roll and yaw counts, yaw is 0."""
    r = rotation_from_quaternion_xyzw(quaternion)
    cos_pitch = float(np.hypot(r[0, 0], r[1, 0]))
    pitch = float(np.arctan2(-r[2, 0], cos_pitch))
    if cos_pitch < 1e-9:
        return float(np.arctan2(-r[1, 2], r[1, 1])), pitch, 0.0
    return float(np.arctan2(r[2, 1], r[2, 2])), pitch, float(np.arctan2(r[1, 0], r[0, 0]))


def _quaternion_matrix(quaternion: ArrayLike) -> Array:
    """Homogeneous (4, 4) rotation matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_quaternion_xyzw(quaternion)
    return matrix


def _quaternion_from_matrix(matrix: ArrayLike) -> Array:
    """Unit quaternion (4,) of a rotation matrix (3, 3) or (4, 4)."""
    return quaternion_xyzw_from_rotation(np.asarray(matrix, dtype=np.float64)[:3, :3])


def _quaternion_multiply(quaternion1: ArrayLike, quaternion0: ArrayLike) -> Array:
    """The product (4,): the rotation `quaternion0` followed by `quaternion1`."""
    x1, y1, z1, w1 = np.asarray(quaternion1, dtype=np.float64)
    x0, y0, z0, w0 = np.asarray(quaternion0, dtype=np.float64)
    return np.array(
        [
            w1 * x0 + x1 * w0 + y1 * z0 - z1 * y0,
            w1 * y0 - x1 * z0 + y1 * w0 + z1 * x0,
            w1 * z0 + x1 * y0 - y1 * x0 + z1 * w0,
            w1 * w0 - x1 * x0 - y1 * y0 - z1 * z0,
        ]
    )


def _quaternion_inverse(quaternion: ArrayLike) -> Array:
    """The inverse (4,) of a quaternion that is not zero."""
    q = np.asarray(quaternion, dtype=np.float64)
    return q * [-1.0, -1.0, -1.0, 1.0] / (q @ q)


def _about(axis: int, angle_rad: float) -> Array:
    q = np.zeros(4)
    q[axis], q[3] = np.sin(angle_rad / 2), np.cos(angle_rad / 2)
    return q


try:  # a ROS install's own
    from tf_transformations import (
        euler_from_quaternion,
        quaternion_from_euler,
        quaternion_from_matrix,
        quaternion_inverse,
        quaternion_matrix,
        quaternion_multiply,
    )
except ImportError:
    euler_from_quaternion, quaternion_from_euler = _euler_from_quaternion, _quaternion_from_euler
    quaternion_from_matrix, quaternion_matrix = _quaternion_from_matrix, _quaternion_matrix
    quaternion_inverse, quaternion_multiply = _quaternion_inverse, _quaternion_multiply
