"""Hypothesis strategies for poses, covariances and cameras."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp

finite = st.floats(-100.0, 100.0, allow_subnormal=False)
vectors = st.tuples(finite, finite, finite).map(np.array)
# every direction, angles that include 0, tiny ones and those next to pi
_directions = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array).filter(lambda v: np.linalg.norm(v) > 1e-3)
_directions = _directions.map(lambda v: v / np.linalg.norm(v))
_angles = st.one_of(st.floats(0.0, np.pi), st.sampled_from([0.0, 1e-12, 1e-9, 1e-7, 1e-4, np.pi - 1e-9, np.pi - 1e-6, np.pi - 1e-3, np.pi]))
rotation_vectors = st.builds(lambda d, a: d * a, _directions, _angles)
rotations = rotation_vectors.map(so3_exp)
poses = st.builds(Pose, rotations, vectors)
seeds = st.integers(0, 2**32 - 1)


def covariance(seed: int, sigma: float = 1e-3) -> np.ndarray:
    """A full (6, 6) covariance with correlations between position (m) and rotation (rad), small enough to be linear."""
    root = sigma * (np.eye(6) + 0.3 * np.random.default_rng(seed).standard_normal((6, 6)))
    return root @ root.T


CAMERAS = [
    Camera("SIMPLE_PINHOLE", 640, 480, (500, 321.5, 239.0)),
    Camera("PINHOLE", 1242, 375, (721.5, 718.2, 610.1, 173.4)),
    Camera("SIMPLE_RADIAL", 640, 480, (500, 320, 240, -0.08)),
    Camera("RADIAL", 640, 480, (500, 320, 240, -0.08, 0.01)),
    Camera("OPENCV", 640, 480, (500, 505, 320, 240, -0.08, 0.01, 1e-3, -5e-4)),
    Camera("FULL_OPENCV", 640, 480, (500, 505, 320, 240, -0.08, 0.01, 1e-3, -5e-4, 0.002, 0.01, 0.002, 0.0001)),
    Camera("OPENCV_FISHEYE", 640, 480, (300, 305, 320, 240, -0.02, 0.005, -0.001, 0.0002)),
    Camera("SIMPLE_RADIAL_FISHEYE", 640, 480, (300, 320, 240, -0.02)),
    Camera("RADIAL_FISHEYE", 640, 480, (300, 320, 240, -0.02, 0.005)),
]
