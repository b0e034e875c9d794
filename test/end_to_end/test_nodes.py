"""Whole runs: the TF tree against the truth, a killed node, a bag in a loop, bad messages, a clean end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

S = 1_000_000_000


@pytest.mark.parametrize("container", ["false", "true"])
def test_the_tf_tree_is_right(container: str, town: Any, observe: Callable[..., Any], run_graph: Callable[..., Any]) -> None:
    observer = observe(town)
    run = run_graph(**town.arguments, bag=town.bag, container=container)
    assert observer.until(lambda: len(run.node_pids()) == (2 if container == "true" else 4))
    assert observer.until(lambda: not run.is_running, timeout_s=120.0), "the run does not end with its bag"
    assert run.process.returncode == 0 and "died" not in run.log and "Traceback" not in run.log
    assert observer.state == observer.states[-1].TRACKING
    statuses, estimates = observer.statuses, observer.errors_m(observer.estimates)
    assert len(statuses) >= 10 and np.mean([s.accepted for s in statuses]) > 0.9
    assert np.median(estimates) < 0.05 and estimates.max() < 0.5
    assert {(t.header.frame_id, t.child_frame_id) for t in observer.tf} == {("odom", "base_link"), ("map", "odom")}
    errors = observer.tf_errors_m()
    assert len(errors) > 100 and np.median(errors) < 0.1 and errors.max() < 0.5
    assert "no errors" in observer.diagnostics["map_localizer: errors"].message
    assert "localized" in observer.diagnostics["map_localizer: localization"].message


def test_a_killed_node_is_named_and_the_others_are_stopped(
    street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any], is_alive: Callable[[int], bool]
) -> None:
    observer = observe(street)
    run = run_graph(**street.arguments)
    assert observer.until(lambda: "map_localizer: input" in observer.diagnostics and observer.state is not None, 60.0)
    pids = run.node_pids()
    assert set(pids) == {"map_server", "map_localizer", "pose_fusion"}
    os.kill(pids["map_localizer"], signal.SIGKILL)
    assert run.process.wait(20) == 1
    assert "[run] map_localizer died: killed by SIGKILL (signal 9); stopping the other nodes" in run.log
    assert not any(is_alive(pid) for pid in pids.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_cleanly(
    number: signal.Signals, street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any], is_alive: Callable[[int], bool]
) -> None:
    observer = observe(street)
    run = run_graph(**street.arguments, bag=street.bag, image_transport="compressed", loop="true")
    assert observer.until(lambda: len(observer.statuses) > 2, 60.0)
    pids = run.node_pids()
    began = time.monotonic()
    assert run.stop(number) == 0 and time.monotonic() - began < 8
    assert len(pids) == 4 and not any(is_alive(pid) for pid in pids.values())
    assert "Traceback" not in run.log and "stopped with" not in run.log and "did not stop" not in run.log


def test_a_map_that_is_none_is_told_in_one_line(street: Any, run_graph: Callable[..., Any]) -> None:
    run = run_graph(map=street.bag, pipeline=street.pipeline)
    assert run.process.wait(60) == 1
    assert "died: exit code 1" in run.log and "Traceback" not in run.log
    assert any("map" in line and str(street.bag) in line for line in run.log.splitlines() if line.startswith("[ERROR]"))


def test_a_bag_in_a_loop_is_localized_in_every_round(street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any]) -> None:
    observer = observe(street)
    run = run_graph(**street.arguments, bag=street.bag, image_transport="compressed", loop="true")
    assert observer.until(lambda: "round 1 is over" in run.log, 90.0)
    pids = run.node_pids()
    first = len(observer.estimates)
    assert first >= 4
    observer.poses.clear()
    observer.tf.clear()
    assert observer.until(lambda: "round 2 is over" in run.log, 60.0)
    assert "starting anew" in run.log and run.node_pids() == pids
    assert len(observer.estimates) - first >= 4 and observer.errors_m(observer.estimates).max() < 0.5
    assert len(observer.poses) >= 10 and observer.errors_m(observer.poses).max() < 0.5
    assert run.stop() == 0 and "Traceback" not in run.log


class Sender:
    """A camera, and whoever else sends messages, good and bad."""

    def __init__(self, observer: Any) -> None:
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from nav_msgs.msg import Odometry
        from sensor_msgs.msg import CameraInfo, Image

        from ros2_loc.ros import qos
        from ros2_loc.ros.tf import StaticTransformBroadcaster

        self.observer, self.recording = observer, observer.town.recording
        node = observer.node
        self.images = node.create_publisher(Image, "camera/image_raw", qos.image_qos())
        self.infos = node.create_publisher(CameraInfo, "camera/camera_info", qos.image_qos())
        self.initial = node.create_publisher(PoseWithCovarianceStamped, "initialpose", qos.RESULT)
        self.estimates = node.create_publisher(PoseWithCovarianceStamped, "localization/map_pose", qos.RESULT)
        self.odometry = node.create_publisher(Odometry, "odom", qos.odometry_qos())
        self.broadcaster = StaticTransformBroadcaster(node)
        self.received = [self.images, self.infos, self.initial, self.estimates, self.odometry]

    def image(self, i: int) -> Any:
        from ros2_loc.ros import conversions

        return conversions.image_from_rgb(self.recording.view(i).rgb, int(self.recording.stamps_ns[i]), "camera_optical_frame")

    def info(self) -> Any:
        from sensor_msgs.msg import CameraInfo

        k, model, d = self.recording.camera.to_ros()
        info = CameraInfo(width=self.recording.camera.width, height=self.recording.camera.height, distortion_model=model, d=d)
        info.k = k.ravel()
        info.header.frame_id = "camera_optical_frame"
        return info

    def mount(self) -> None:
        from ros2_loc.ros import conversions

        mounting = conversions.transform_stamped(self.recording.base_from_camera, 0, "base_link", "camera_optical_frame")
        self.broadcaster.sendTransform(mounting)

    def pose(self, i: int) -> Any:
        from ros2_loc.core.types import PoseEstimate
        from ros2_loc.ros import conversions

        stamp_ns = int(self.recording.stamps_ns[i])
        estimate = PoseEstimate(stamp_ns, self.recording.drive.at(stamp_ns), np.eye(6) * 0.01, 50, "test")
        return conversions.estimate_to_message(estimate, "map")

    def answer(self, message: Any) -> Any:
        """The status that map_localizer sends for an image."""
        before = len(self.observer.statuses)
        self.images.publish(message)
        assert self.observer.until(lambda: len(self.observer.statuses) > before), "no status for an image"
        return self.observer.statuses[-1]

    def refusal(self, publisher: Any, message: Any) -> Any:
        """The refusal of pose_fusion."""
        before = len(self.observer.states)
        publisher.publish(message)
        assert self.observer.until(lambda: len(self.observer.states) > before), "no refusal"
        return self.observer.states[-1]


def send_bad_images(sender: Sender) -> None:
    def details(message: Any) -> str:
        status = sender.answer(message)
        assert not status.accepted and status.rejection_reason in ("bad_input", "no_transform"), status
        return str(status.rejection_detail)

    assert "no camera_info yet" in details(sender.image(0))
    bad_info = sender.info()
    bad_info.k = np.full(9, np.nan)
    sender.infos.publish(bad_info)
    assert sender.observer.until(lambda: "not finite" in details(sender.image(0)))
    sender.infos.publish(sender.info())
    assert sender.observer.until(lambda: "no transform from camera_optical_frame" in details(sender.image(0)))
    sender.mount()
    nan, unknown, wrong, short = sender.image(0), sender.image(0), sender.image(0), sender.image(0)
    nan.encoding, nan.step, nan.data = "32FC1", nan.width * 4, np.full((nan.height, nan.width), np.nan, dtype=np.float32).tobytes()
    unknown.encoding = "holographic8"
    wrong.width, wrong.step, wrong.data = 160, 480, wrong.data[: 480 * wrong.height]
    short.data = short.data[:1000]
    assert "refused" in details(nan)
    assert "'holographic8' is unknown" in details(unknown)
    assert "image is 160x" in details(wrong)
    assert "1000 bytes" in details(short)


def send_bad_poses(sender: Sender) -> None:
    def refused(change: Callable[[Any], None]) -> str:
        message = sender.pose(0)
        change(message)
        state = sender.refusal(sender.initial, message)
        assert state.rejection_reason == "bad_input" and state.state == state.INITIALIZING
        sender.estimates.publish(message)
        return str(state.rejection_detail)

    def set_w(message: Any) -> None:
        message.pose.pose.orientation.w = 2.0

    def set_x(message: Any) -> None:
        message.pose.pose.position.x = float("nan")

    def set_frame(message: Any) -> None:
        message.header.frame_id = ""

    def set_variance(message: Any) -> None:
        message.pose.covariance[0] = -4.0

    assert "unit length" in refused(set_w)
    assert "not all finite" in refused(set_x)
    assert "frame" in refused(set_frame)
    assert "negative" in refused(set_variance)


@pytest.mark.parametrize("container", ["false", "true"])
def test_bad_messages_crash_no_node_and_become_no_pose(
    container: str, town: Any, observe: Callable[..., Any], run_graph: Callable[..., Any]
) -> None:
    from nav_msgs.msg import Odometry

    observer = observe(town)
    sender = Sender(observer)
    run = run_graph(**town.arguments, container=container)
    assert observer.until(lambda: all(p.get_subscription_count() for p in sender.received), 60.0)
    pids = run.node_pids()
    send_bad_images(sender)
    send_bad_poses(sender)
    bad = Odometry(child_frame_id="base_link")
    bad.header.frame_id = "odom"
    bad.pose.pose.orientation.w = float("nan")
    sender.odometry.publish(bad)
    assert not observer.poses and not [t for t in observer.tf if t.header.frame_id == "map"]
    for i in range(8):
        assert observer.until(lambda i=i: sender.answer(sender.image(i)).accepted), observer.statuses[-1]
    assert observer.until(lambda: observer.state == observer.states[-1].TRACKING and bool(observer.poses))
    assert observer.errors_m(observer.poses).max() < 0.3
    assert not [t for t in observer.tf if t.header.frame_id == "map"], "map->odom cannot be known without odometry"
    assert run.is_running and run.node_pids() == pids
    assert run.stop() == 0 and "Traceback" not in run.log
