"""recorder in this process: what it hears of two localizers and the fusion is what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
pytest.importorskip("ros2_loc.msg", reason="ros2_loc.msg is not compiled: pip install .")

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.parameter import Parameter
from ros2_loc.msg import LocalizationStatus
from sensor_msgs.msg import CameraInfo
from vision_msgs.msg import Detection2DArray

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Detection, PoseEstimate, Rejection
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.io.trajectories import read_tum
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.detection_messages import detections_to_message
from ros2_loc.ros.recorder_node import Recorder

S = 1_000_000_000
START = 1_700_000_000 * S


class Localizers:
    """The nodes that the recorder listens to."""

    def __init__(self, node: Any) -> None:
        self.publishers = {
            topic: node.create_publisher(kind, topic, profile)
            for kind, topic, profile in (
                (CameraInfo, "camera/camera_info", qos.image_qos(depth=20)),
                (PoseWithCovarianceStamped, "localization/map_pose", qos.RESULT),
                (LocalizationStatus, "localization/status", qos.RESULT),
                (PoseWithCovarianceStamped, "localization/cross_view_pose", qos.RESULT),
                (LocalizationStatus, "localization/cross_view_status", qos.RESULT),
                (Detection2DArray, "detections", qos.RESULT),
                (PoseWithCovarianceStamped, "localization/pose", qos.RESULT),
            )
        }

    def are_heard(self) -> bool:
        return all(publisher.get_subscription_count() for publisher in self.publishers.values())

    def image(self, k: int) -> None:
        self.publishers["camera/camera_info"].publish(CameraInfo(header=conversions.header(START + k * S, "camera")))

    def say(self, prefix: str, k: int, sigma_m: float | None, reason: str = "") -> None:
        """A pose with its status, or a rejection."""
        stamp_ns = START + k * S
        if sigma_m is not None:
            self.pose(f"localization/{prefix or 'map_'}pose", k, sigma_m)
        rejection = None if sigma_m is not None else (reason, "why")
        stages = {"encode": 0.01, "match": 0.002}
        message = conversions.status_message(stamp_ns, state=1, source="x", frame_id="map", rejection=rejection, stage_s=stages)
        self.publishers[f"localization/{prefix}status"].publish(message)

    def pose(self, topic: str, k: int, sigma_m: float) -> None:
        pose = Pose(so3_exp([0.0, 0.0, 0.1 * k]), np.array([1.0 * k, 2.0, 0.0]))
        estimate = PoseEstimate(START + k * S, pose, np.eye(6) * sigma_m**2, 0, "")
        self.publishers[topic].publish(conversions.estimate_to_message(estimate, "map"))


def run_recorder(folder: Path, make_node: Callable[..., Any], spin_until: Callable[..., bool], drive: Callable[[Localizers], None]) -> None:
    recorder = Recorder(parameter_overrides=[Parameter("out", value=str(folder))])
    node = make_node("localizers")
    there = Localizers(node)
    try:
        assert recorder.start() and spin_until(there.are_heard, node, recorder)
        drive(there)
        spin_until(lambda: False, node, recorder, timeout_s=0.5)
    finally:
        recorder.stop()
        recorder.destroy_node()


def test_each_localizer_gets_its_file(tmp_path: Path, make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    def drive(there: Localizers) -> None:
        for k in range(4):
            there.image(k)
        there.say("", 0, 0.01)
        there.say("", 1, None, "too_few_inliers")
        there.say("cross_view_", 1, None, "ambiguous")
        there.say("cross_view_", 3, 2.5)
        there.pose("localization/pose", 3, 0.4)

    run_recorder(tmp_path, make_node, spin_until, drive)
    localized, tiles, fused = (Evaluation.read_json(tmp_path / f"{name}.json") for name in ("localized", "cross_view", "fused"))
    assert [f.stamp_ns for f in localized.frames] == [START, START + S] and localized.settings["images that newer ones replaced"] == 2
    assert isinstance(localized.frames[1].result, Rejection) and localized.frames[1].result.reason.value == "too_few_inliers"
    refused, given = tiles.frames
    assert isinstance(refused.result, Rejection) and refused.result.reason.value == "ambiguous"
    assert given.stamp_ns == START + 3 * S and given.estimate is not None and given.estimate.source == "cross_view"
    assert given.estimate.sigma_m == pytest.approx(2.5) and {"encode", "match", "transport"} == set(given.stage_s)
    assert fused.frames[0].estimate is not None and fused.frames[0].estimate.source == "pose_fusion"
    assert len(read_tum(tmp_path / "cross_view.tum")) == 1
    np.testing.assert_allclose(read_tum(tmp_path / "cross_view.tum").poses[0].translation, [3.0, 2.0, 0.0])


def test_without_tiles_no_file_of_an_earlier_run_is_left(
    tmp_path: Path, make_node: Callable[..., Any], spin_until: Callable[..., bool]
) -> None:
    for name in ("cross_view.json", "cross_view.tum", "detections.json"):
        (tmp_path / name).write_text("of yesterday")
    run_recorder(tmp_path, make_node, spin_until, lambda there: there.say("", 0, 0.01))
    assert len(Evaluation.read_json(tmp_path / "localized.json").frames) == 1
    assert not list(tmp_path.glob("cross_view.*")) and not (tmp_path / "detections.json").exists()


def test_objects_are_written_by_the_stamps_of_their_images(
    tmp_path: Path, make_node: Callable[..., Any], spin_until: Callable[..., bool]
) -> None:
    def drive(there: Localizers) -> None:
        car = Detection(np.array([-4, 8, 24.25, 31], dtype=np.float32), "car", 0.5)
        for k, found in ((2, []), (1, [car])):
            header = conversions.header(START + k * S, "camera")
            there.publishers["detections"].publish(detections_to_message(found, header))

    run_recorder(tmp_path, make_node, spin_until, drive)
    first, second = json.loads((tmp_path / "detections.json").read_text())["images"]
    objects = [{"label": "car", "score": 0.5, "box": [-4, 8, 24.25, 31]}]
    assert first == {"stamp_ns": START + S, "frame_id": "camera", "objects": objects}
    assert second["stamp_ns"] == START + 2 * S and second["objects"] == []
