"""An evaluation as a real one looks: a drive through a town, rejected frames, a few poor ones."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.evaluation.records import Evaluation, FrameResult

S = 1_000_000_000


def drive_pose(seconds: float) -> Pose:
    """A winding road at 8 m/s."""
    x, y = 8.0 * seconds, 25.0 * np.sin(0.15 * seconds) + 6 * np.sin(0.4 * seconds)
    slope = 25.0 * 0.15 * np.cos(0.15 * seconds) + 6 * 0.4 * np.cos(0.4 * seconds)
    return Pose(so3_exp([0, 0, np.arctan2(slope, 8.0)]), np.array([x, y, 0.02 * x]))


def make_evaluation(frames: int = 300, seed: int = 0, true_scale: float = 1.0, title: str = "KITTI 03, every fifth frame") -> Evaluation:
    """Errors are drawn from the claimed covariance times true_scale squared."""
    rng = np.random.default_rng(seed)
    results = []
    for i in range(frames):
        seconds = i * 0.1
        truth, stamp_ns = drive_pose(seconds), i * S // 10
        hard = 0.5 + 0.5 * np.sin(0.3 * seconds)
        sigma = (0.008 + 0.03 * hard**4) * np.array([1.6, 0.8, 0.6, 0.05, 0.06, 0.04])
        matches = int(rng.normal(700 - 450 * hard, 40))
        inliers = max(int(matches * rng.uniform(0.35, 0.7)), 15)
        times = {"extract": 0.11, "encode": 0.004, "retrieve": 0.001, "match": 0.05, "solve": 0.018}
        stage_s = {k: v * float(rng.lognormal(0, 0.15)) for k, v in times.items()}
        result: PoseEstimate | Rejection
        if rng.uniform() < 0.12 * hard**6:
            result = Rejection(stamp_ns, RejectionReason.TOO_FEW_INLIERS, "9 inliers, 12 needed")
            stage_s.pop("solve")
        else:
            a = rng.normal(size=(6, 6)) * 0.2 + np.eye(6)
            covariance = np.diag(sigma) @ a @ a.T @ np.diag(sigma)
            error = true_scale * rng.multivariate_normal(np.zeros(6), covariance)
            estimated = Pose(so3_exp(-error[3:]) @ truth.rotation, truth.translation - error[:3])
            result = PoseEstimate(stamp_ns, estimated, 0.5 * (covariance + covariance.T), inliers, "map_localizer")
        place = f"{5 * (i // 5):06d}.png"
        results.append(FrameResult(f"{i:06d}.png", stamp_ns, truth, result, matches, stage_s, place, (place,), 1500))
    places = np.array([drive_pose(i * 0.5).translation for i in range(frames // 5)])
    settings = {"pipeline": "default", "map": "maps/kitti03_n5", "places": len(places), "machine": "2 cores, Intel Xeon 2.8 GHz"}
    return Evaluation(title, tuple(results), places, settings)


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """300 frames, covariances that are true."""
    return make_evaluation()
