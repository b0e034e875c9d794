"""Choice of image pairs, and the epipolar geometry of known poses."""

from __future__ import annotations

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.mapping.config import PairsConfig
from ros2_loc.mapping.pairs import pose_pairs, retrieval_pairs, sequence_pairs
from ros2_loc.mapping.sfm import epipolar_error_px, near_epipolar_lines


def test_sequence_pairs_reach_the_window_and_not_further() -> None:
    assert sequence_pairs(4, 2) == {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)}


def test_pose_pairs_join_second_visits_but_not_opposite_views() -> None:
    ahead, back = np.eye(3), so3_exp([0.0, np.pi, 0.0])
    poses = [
        Pose(ahead, np.array([0.0, 0, 0])),
        Pose(ahead, np.array([0.0, 0, 100])),
        Pose(ahead, np.array([1.0, 0, 1])),
        Pose(back, np.array([0.5, 0, 0])),
    ]
    assert pose_pairs(poses, PairsConfig(pose_neighbours=2, pose_max_distance_m=15.0)) == {(0, 2)}


def test_retrieval_pairs_take_the_most_similar() -> None:
    vectors = np.array([[1.0, 0, 0], [0.9, 0.43, 0], [0, 0, 1.0], [0, 0.1, 0.99]], dtype=np.float32)
    assert retrieval_pairs(vectors, 1) == {(0, 1), (2, 3)}


def test_epipolar_error_is_zero_for_true_matches_and_large_for_others() -> None:
    camera = Camera.pinhole(640, 480, 500, 500, 320, 240)
    a, b = Pose.identity(), Pose(so3_exp([0.02, 0.1, 0.0]), np.array([-1.0, 0.1, -0.2]))
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-5, 5, 40), rng.uniform(-3, 3, 40), rng.uniform(6, 30, 40)])
    rays_a, rays_b = (camera.unproject(camera.project(pose.apply(points))) for pose in (a, b))
    assert epipolar_error_px(camera, rays_a, rays_b, a, b).max() < 1e-6
    off = epipolar_error_px(camera, rays_a, rays_b + np.array([0.0, 10 / 500]), a, b)
    assert np.median(off) > 5
    allowed = near_epipolar_lines(camera, rays_a, rays_b, a, b, max_px=2.0)
    assert allowed.shape == (40, 40) and allowed.diagonal().all() and allowed.mean() < 0.2
    assert np.isinf(epipolar_error_px(camera, rays_a, rays_b, a, a)).all()
    assert not near_epipolar_lines(camera, rays_a, rays_b, a, a, 2.0).any()
