"""The Rerun recording: whole and readable, or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import MissingDependencyError
from ros2_loc.visualization.rerun_log import RerunLog

S = 1_000_000_000


def record(path: Path, start_ns: int, frames: int = 12) -> None:
    rng = np.random.default_rng(0)
    camera = Camera.pinhole(64, 48, 50, 50, 32, 24)
    with RerunLog(path) as log:
        log.log_map(rng.uniform(-5, 5, (50, 3)), rng.integers(0, 255, (50, 3)).astype(np.uint8), rng.uniform(-5, 5, (4, 3)))
        for i in range(frames):
            truth = Pose(so3_exp([0, 0, 0.1 * i]), np.array([1.0 * i, 0, 0]))
            stamp_ns = start_ns + i * S // 10
            result = PoseEstimate(stamp_ns, truth, np.diag([0.01, 0.04, 0.09, 1e-4, 1e-4, 1e-4]), 40, "map")
            rejection = Rejection(stamp_ns, RejectionReason.TOO_FEW_INLIERS, "3")
            image = np.full((48, 64, 3), 10 * i, np.uint8)
            log.log_frame(stamp_ns, rejection if i == 3 else result, image, truth, "tracking", camera, Pose.identity())


@pytest.mark.parametrize("start_ns", [0, 1_700_000_000 * S])
def test_a_recording_holds_every_entity(start_ns: int, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    path = tmp_path / "drive.rrd"
    record(path, start_ns)
    content = path.read_bytes()
    assert content[:4] == b"RRF2" and list(tmp_path.iterdir()) == [path]
    for entity in ("camera", "map/points", "map/places", "map/path/0", "map/truth/0", "map/covariance", "map/vehicle/camera", "state"):
        assert f"/{entity}".encode() in content, entity


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    with pytest.raises(RuntimeError, match="on purpose"), RerunLog(tmp_path / "drive.rrd") as log:
        log.log_map(np.zeros((3, 3)))
        raise RuntimeError("on purpose")
    assert list(tmp_path.iterdir()) == []


def test_without_rerun_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        RerunLog(tmp_path / "drive.rrd")


def test_importing_the_pictures_needs_no_rerun() -> None:
    code = "import sys; sys.modules['rerun'] = None; import ros2_loc.visualization.rerun_log, ros2_loc.visualization.overlay"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
