"""cross_view_localizer in this process, with an encoder that needs no network: what it takes, refuses, publishes and survives."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
pytest.importorskip("ros2_loc.msg", reason="ros2_loc.msg is not compiled: pip install .")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.time import Time
from ros2_loc.msg import LocalizationStatus
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from ros2_loc import registry
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic, geodetic_from_enu
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import ConfigError
from ros2_loc.mapping.sparse_map import MapFrame
from ros2_loc.ros import conversions, cross_view_localizer_node, qos
from ros2_loc.ros.cross_view_localizer_node import CrossViewLocalizerNode
from ros2_loc.ros.tf import StaticTransformBroadcaster

S = 1_000_000_000
ORIGIN = GeoOrigin(48.0, 9.0)
# optical frame on base_link: looks along x, 1.5 m up
BASE_FROM_CAMERA = Pose(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.array([0.2, 0.0, 1.5]))
# an Imu that was mounted on its side, looking to the left
BASE_FROM_IMU = Pose(so3_exp([0.0, 0.0, np.pi / 2]) @ so3_exp([np.pi / 2, 0.0, 0.0]), np.zeros(3))
EVERY = 3  # of the drive's poses, which are 1 m apart, one is an image


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("field_plugin", Path(__file__).with_name("field_plugin.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["field_plugin"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(plugin: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles and a pipeline."""
    made = tmp_path_factory.mktemp("field")
    plugin.world().tiles().save(made / "tiles")
    (made / "pipeline.yaml").write_text(plugin.PIPELINE)
    (made / "other.yaml").write_text("encoder: {name: field, seed: 7}\n")
    return made


class World:
    """A vehicle that drives over the field, and what the node says about it."""

    def __init__(self, node: Any, plugin: ModuleType, localizer: Any) -> None:
        self.node, self._plugin, self.localizer = node, plugin, localizer
        self._executor = SingleThreadedExecutor()
        for member in (node, localizer):
            self._executor.add_node(member)
        self.drive = plugin.field.Drive(way(), start_ns=1_700_000_000 * S)
        self.odometry_poses = list(self.drive.odometry())
        self.images = node.create_publisher(Image, "camera/image_raw", qos.image_qos())
        self.infos = node.create_publisher(CameraInfo, "camera/camera_info", qos.image_qos())
        self.odometry = node.create_publisher(Odometry, "odom", qos.odometry_qos())
        self.imu = node.create_publisher(Imu, "imu/data", qos.odometry_qos())
        self.fixes = node.create_publisher(NavSatFix, "gps/fix", qos.odometry_qos())
        self.initial = node.create_publisher(PoseWithCovarianceStamped, "initialpose", qos.RESULT)
        self.relocalize = node.create_client(Trigger, "/cross_view_localizer/relocalize")
        self.transforms = StaticTransformBroadcaster(node)
        self.poses, self.statuses, self.fixes_out, self.beliefs, self.modes, self.pictures = [], [], [], [], [], []
        self.health: dict[str, Any] = {}
        node.create_subscription(PoseWithCovarianceStamped, "localization/cross_view_pose", self.poses.append, qos.RESULT)
        node.create_subscription(LocalizationStatus, "localization/cross_view_status", self.statuses.append, qos.RESULT)
        node.create_subscription(NavSatFix, "localization/cross_view_fix", self.fixes_out.append, qos.RESULT)
        node.create_subscription(OccupancyGrid, "localization/belief", self.beliefs.append, qos.LATCHED)
        node.create_subscription(MarkerArray, "localization/belief_modes", self.modes.append, qos.LATCHED)
        node.create_subscription(Image, "localization/overhead_image", self.pictures.append, qos.image_qos())
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.health.update({s.name: s for s in m.status}), 10)

    def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        end = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)
        return condition()

    def mount(self) -> None:
        mountings = {"camera": BASE_FROM_CAMERA, "imu": BASE_FROM_IMU, "gps": Pose(np.eye(3), np.array([0.0, 0.0, 2.0]))}
        made = [conversions.transform_stamped(pose, 0, "base_link", frame) for frame, pose in mountings.items()]
        self.transforms.sendTransform(made)

    def calibrate(self) -> None:
        camera = self._plugin.field.CAMERA
        k, model, d = camera.to_ros()
        info = CameraInfo(width=camera.width, height=camera.height, distortion_model=model, d=d, k=k.ravel())
        info.header.frame_id = "camera"
        self.infos.publish(info)

    def send_odometry(self, i: int, stamp_ns: int = 0) -> None:
        message = Odometry(header=conversions.header(stamp_ns or self.drive.stamp_ns(i), "odom"), child_frame_id="base_link")
        message.pose.pose = conversions.pose_to_message(self.odometry_poses[i])
        self._wait_for(self.odometry, message, lambda: self.localizer._odometry.count + self.localizer._errors)

    def send_imu(self, i: int, stamp_ns: int = 0, sigma_rad: float = 0.03) -> None:
        world_from_imu = self.drive.truth(i) @ BASE_FROM_IMU
        message = Imu(header=conversions.header(stamp_ns or self.drive.stamp_ns(i), "imu"))
        message.orientation = conversions.pose_to_message(world_from_imu).orientation
        message.orientation_covariance = np.diag([0.01, 0.01, sigma_rad]).ravel() ** 2
        self._wait_for(self.imu, message, lambda: self.localizer._headings.count + self.localizer._errors)

    def image(self, i: int, stamp_ns: int = 0) -> Image:
        return conversions.image_from_rgb(self._plugin.image_of(*self.drive.poses[i]), stamp_ns or self.drive.stamp_ns(i), "camera")

    def send_image(self, i: int, stamp_ns: int = 0) -> None:
        """And wait until it has been dealt with."""
        before = self.localizer.done
        self.images.publish(self.image(i, stamp_ns))
        assert self.until(lambda: self.localizer.done > before), "the image is not dealt with"

    def send(self, first: int, last: int, start_ns: int = 0, imu: bool = True, odometry: bool = True) -> None:
        """The vehicle's way from one pose to another."""
        for i in range(first, last, EVERY):
            stamp_ns = start_ns + self.drive.stamp_ns(i) - self.drive.stamp_ns(0) if start_ns else self.drive.stamp_ns(i)
            if odometry:
                self.send_odometry(i, stamp_ns)
            if imu:
                self.send_imu(i, stamp_ns)
            self.send_image(i, stamp_ns)

    def _wait_for(self, publisher: Any, message: Any, count: Callable[[], int]) -> None:
        before = count()
        publisher.publish(message)
        self.until(lambda: count() > before, timeout_s=0.5)

    def answer(self, i: int) -> LocalizationStatus:
        before = len(self.statuses)
        self.send_image(i)
        assert self.until(lambda: len(self.statuses) > before), "no status"
        return self.statuses[-1]

    def errors_m(self) -> list[float]:
        stamps = [self.drive.stamp_ns(i) for i in range(len(self.drive))]
        found = []
        for message in self.poses:
            truth = self.drive.truth(stamps.index(conversions.ns_from_stamp(message.header.stamp)))
            pose = conversions.pose_from_message(message.pose.pose)
            found.append(float(np.linalg.norm((pose.translation - truth.translation)[:2])))
        return found


class CountingNode(CrossViewLocalizerNode):
    """Says how many images it has dealt with."""

    done = 0

    def _work(self, item: Any) -> None:
        try:
            super()._work(item)
        finally:
            self.done += 1


@pytest.fixture
def world(
    plugin: ModuleType, folder: Path, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    monkeypatch.setitem(registry.TABLE["cross_view"], "field", registry.Component("field_plugin:FieldVideo", "a field"))
    started: list[Any] = []

    def make(ready: bool = True, start: bool = True, **parameters: object) -> World:
        given = {"tiles": str(folder / "tiles"), "cross_view_pipeline": str(folder / "pipeline.yaml"), "odometry_patience_s": 0.02}
        given |= {"belief_rate_hz": 20.0, **parameters}
        localizer = CountingNode(parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
        started.append(localizer)
        made = World(make_node("world"), plugin, localizer)
        if not start:
            return made
        assert localizer.start()
        wanted = [made.images, made.infos, made.odometry, made.initial] + ([made.imu] if given.get("heading", "imu") == "imu" else [])
        assert made.until(lambda: all(p.get_subscription_count() == 1 for p in wanted))
        heard = [localizer._pose_publisher, localizer._status_publisher, localizer._fix_publisher, localizer._picture_publisher]
        assert made.until(lambda: all(p.get_subscription_count() == 1 for p in heard))
        if ready:
            made.mount()
            made.calibrate()
            known = "camera", "imu", "gps"
            assert made.until(lambda: localizer._frames.is_calibrated)
            assert made.until(lambda: all(localizer._transforms.buffer.can_transform("base_link", f, Time()) for f in known))
        return made

    yield make
    for node in started:
        node.stop()
        node.destroy_node()


def way() -> Any:
    """(N, 3) true east, north, yaw, 1 m apart."""
    return sys.modules["field_plugin"].field.wander(200.0, 3, 90)


def test_a_drive_becomes_a_position_with_the_images_stamps(world: Callable[..., World]) -> None:
    there = world()
    there.send(0, 60)
    reasons = [s.rejection_reason for s in there.statuses]
    assert reasons[0] == "ambiguous" and there.statuses[-1].accepted and len(there.statuses) < 12  # not one for each image
    assert there.until(lambda: len(there.fixes_out) == len(there.poses)) and there.poses
    assert max(there.errors_m()) < 5.0 and there.poses[0].header.frame_id == "map"
    last, fix = there.poses[-1], there.fixes_out[-1]
    assert fix.header.stamp == last.header.stamp and fix.header.frame_id == "base_link"
    enu = enu_from_geodetic(ORIGIN, fix.latitude, fix.longitude, fix.altitude)
    assert np.allclose(enu[:2], [last.pose.pose.position.x, last.pose.pose.position.y], atol=1e-3)
    assert fix.position_covariance[0] == pytest.approx(last.pose.covariance[0]) and fix.position_covariance_type == 3
    values = there.localizer._statistics.report().values
    assert values["belief: best mode"] > 0.9 and values["tiles compared"] > 0 and "stage encode (s)" in values


def test_images_that_the_video_does_not_need_are_not_decoded(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    there, built = world(), []
    build = there.localizer._frames.build
    monkeypatch.setattr(there.localizer._frames, "build", lambda message: (built.append(message), build(message))[1])
    for i in range(9):
        there.send_odometry(i)
        there.send_imu(i)
        there.send_image(i)
    assert len(built) == 3 and there.localizer._kept == 3  # at 0 m and every 3 m or a little more


def test_belief_and_modes_and_picture_are_shown(world: Callable[..., World]) -> None:
    there = world()
    there.send(0, 48)
    assert there.until(lambda: bool(there.beliefs and there.modes and there.pictures))
    there.until(lambda: False, timeout_s=0.2)  # the newest belief
    belief = there.beliefs[-1]
    data = np.array(belief.data).reshape(belief.info.height, belief.info.width)
    assert data.max() == 100 and data.min() >= 0 and belief.info.resolution == 2.0 and belief.header.frame_id == "map"
    row, column = np.unravel_index(int(data.argmax()), data.shape)
    peak = np.array([belief.info.origin.position.x, belief.info.origin.position.y]) + 2.0 * (np.array([column, row]) + 0.5)
    assert np.linalg.norm(peak - there.drive.truth(45).translation[:2]) < 5.0
    first, *rest = there.modes[-1].markers
    assert first.action == Marker.DELETEALL and {m.ns for m in rest} == {"modes", "mass"} and rest[1].text.endswith("%")
    picture = there.pictures[-1]
    assert picture.encoding == "rgb8" and picture.width > 4 * 256 and picture.height > 256
    assert np.ptp(np.frombuffer(picture.data, np.uint8)) > 100


def test_without_odometry_and_without_heading_one_word_each(world: Callable[..., World]) -> None:
    there = world()
    assert there.answer(0).rejection_reason == "no_odometry"
    for i in range(3):
        there.send_odometry(i)
    assert there.answer(2).rejection_reason == "no_heading"
    there.send_odometry(5)
    there.send_imu(5)
    before = len(there.statuses)
    there.send_image(5)
    assert len(there.statuses) == before  # kept for the video


def test_without_a_mounting_of_the_camera_it_is_told(world: Callable[..., World]) -> None:
    there = world(ready=False, transform_patience_s=0.05)
    there.calibrate()
    assert there.until(lambda: there.localizer._frames.is_calibrated)
    assert there.answer(0).rejection_reason == "no_transform"


def test_an_imu_without_orientation_with_nan_or_with_a_vague_compass_is_told(
    world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    there = world()
    for i in range(3):
        there.send_odometry(i)
    broken = Imu(header=conversions.header(there.drive.stamp_ns(2), "imu"))
    broken.orientation_covariance[0] = -1.0
    there.imu.publish(broken)
    assert there.until(lambda: there.localizer._errors == 1)
    assert "it has no orientation: use one with a compass, or heading:=odometry" in there.localizer._last_error
    broken.orientation_covariance[0], broken.orientation.w = 0.0, float("nan")
    there.imu.publish(broken)
    assert there.until(lambda: there.localizer._errors == 2) and "not all finite" in there.localizer._last_error
    there.send_imu(2, sigma_rad=1.0)
    assert there.answer(2).rejection_reason == "no_heading"
    assert "it states a sigma of 57.3 deg, the filter searches 10 deg" in capfd.readouterr().err


def test_the_heading_may_come_from_the_odometry(world: Callable[..., World]) -> None:
    there = world(heading="odometry", heading_offset_rad=float(way()[0, 2]) - 1.0)  # the odometry of the drive starts with a yaw of 1
    there.send(0, 54, imu=False)
    assert there.poses and max(there.errors_m()) < 5.0


@pytest.mark.parametrize("help_by", ["fix", "initialpose"])
def test_a_fix_or_an_initial_pose_decides_at_once(world: Callable[..., World], help_by: str) -> None:
    there = world(fix_topic="gps/fix")
    assert there.until(lambda: there.fixes.get_subscription_count() == 1)
    there.send(0, 6)
    truth = there.drive.truth(3)
    if help_by == "fix":
        fix = NavSatFix(header=conversions.header(there.drive.stamp_ns(3), "gps"), position_covariance_type=2)
        fix.status.status = 0
        fix.latitude, fix.longitude, fix.altitude = (float(v) for v in geodetic_from_enu(ORIGIN, truth.translation))
        fix.position_covariance = np.diag([4.0, 4.0, 9.0]).ravel()
        there.fixes.publish(fix)
        there.fixes.publish(fix)
    else:
        given = PoseEstimate(there.drive.stamp_ns(3), truth, np.eye(6), 0, "me")
        there.initial.publish(conversions.estimate_to_message(given, "map"))
    assert there.until(lambda: len(there.localizer._inputs) > 0)
    there.send(6, 21)
    assert there.poses and max(there.errors_m()) < 5.0 and conversions.ns_from_stamp(there.poses[0].header.stamp) < there.drive.stamp_ns(20)
    if help_by == "fix":
        assert there.localizer._fixes.count == 1  # the second one came too soon


def test_relocalize_forgets_the_belief(world: Callable[..., World]) -> None:
    there = world()
    there.send(0, 48)
    assert there.statuses[-1].accepted
    assert there.relocalize.wait_for_service(5.0)
    answer = there.relocalize.call_async(Trigger.Request())
    assert there.until(answer.done) and answer.result().success
    known = len(there.statuses)
    there.send(48, 66)
    after = there.statuses[known:]
    assert after and not after[0].accepted and after[0].rejection_reason == "ambiguous"


def test_a_bag_that_starts_again_is_a_new_start(world: Callable[..., World]) -> None:
    there = world()
    there.send(0, 48, start_ns=there.drive.stamp_ns(0) + 3600 * S)
    assert there.poses
    there.poses.clear()
    there.send(0, 54)
    assert there.statuses[-1].accepted and there.poses and max(there.errors_m()) < 5.0
    assert conversions.ns_from_stamp(there.poses[0].header.stamp) > there.drive.stamp_ns(20)  # not at once: the belief was new


def test_poses_lie_in_the_frame_of_the_map(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    enu_from_map = Pose(so3_exp([0.0, 0.0, 0.8]), np.array([40.0, -10.0, 0.0]))
    places = enu_from_map.inverse().apply(np.column_stack([way()[:, :2], np.full(len(way()), 7.0)]))
    frame = MapFrame(Path("/maps/town"), ORIGIN, enu_from_map, places)
    monkeypatch.setattr(cross_view_localizer_node.MapFrame, "load", staticmethod(lambda folder: frame))
    there = world(map="/maps/town")
    there.send(0, 54)
    assert there.poses and there.until(lambda: len(there.fixes_out) == len(there.poses) and bool(there.beliefs))
    last = conversions.pose_from_message(there.poses[-1].pose.pose)
    fix = there.fixes_out[-1]
    enu = enu_from_geodetic(ORIGIN, fix.latitude, fix.longitude, fix.altitude)
    assert np.allclose(enu_from_map.apply(last.translation), enu, atol=1e-3) and enu[2] == pytest.approx(7.0, abs=0.01)
    stamps = [there.drive.stamp_ns(i) for i in range(len(there.drive))]
    truth = there.drive.truth(stamps.index(conversions.ns_from_stamp(there.poses[-1].header.stamp)))
    yaw = (enu_from_map @ last).yaw_rad - truth.yaw_rad
    assert abs(np.arctan2(np.sin(yaw), np.cos(yaw))) < 0.15
    assert conversions.pose_from_message(there.beliefs[-1].info.origin).yaw_rad == pytest.approx(-0.8)


def refusal(there: World, capfd: pytest.CaptureFixture[str]) -> str:
    assert not there.localizer.start()
    lines = [line.rpartition("]: ")[2] for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert len(lines) == 1 and there.localizer.count_publishers("localization/cross_view_pose") == 0
    return lines[0]


def test_what_can_not_be_used_is_refused_in_one_line(
    world: Callable[..., World], folder: Path, plugin: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "parameter 'tiles' is empty" in refusal(world(start=False, tiles=""), capfd)
    assert "holds no tiles" in refusal(world(start=False, tiles=str(tmp_path)), capfd)
    other = refusal(world(start=False, cross_view_pipeline=str(folder / "other.yaml")), capfd)
    assert "were encoded by field-0, the pipeline has field-7: run `ros2-loc tiles encode`" in other
    assert "is not a map" in refusal(world(start=False, map=str(tmp_path)), capfd)


def test_a_map_of_another_place_is_refused(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for origin, words in ((None, "is not georeferenced"), (GeoOrigin(48.1, 9.0), "give tiles of its place")):
        frame = MapFrame(Path("/maps/town"), origin, Pose.identity(), np.zeros((3, 3)))
        monkeypatch.setattr(cross_view_localizer_node.MapFrame, "load", staticmethod(lambda folder, frame=frame: frame))
        assert words in refusal(world(start=False, map="/maps/town"), capfd)


def test_an_unknown_pipeline_is_a_config_error(world: Callable[..., World]) -> None:
    with pytest.raises(ConfigError, match="heading"):
        world(start=False, heading="stars")


def test_bad_messages_do_not_end_the_node(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    there = world()
    there.send(0, 9)
    bad = Odometry(header=conversions.header(there.drive.stamp_ns(10), "odom"), child_frame_id="base_link")
    bad.pose.pose.position.x = float("nan")
    there.odometry.publish(bad)
    wrong = Odometry(header=conversions.header(there.drive.stamp_ns(10), "wheels"), child_frame_id="base_link")
    wrong.pose.pose.orientation.w = 1.0
    there.odometry.publish(wrong)
    far = PoseWithCovarianceStamped(header=conversions.header(there.drive.stamp_ns(9), "map"))
    far.pose.pose.position.x, far.pose.pose.orientation.w, far.pose.covariance = 1e5, 1.0, np.eye(6).ravel()
    there.initial.publish(far)
    assert there.until(lambda: there.localizer._errors == 2)
    encode, calls = there.localizer._encoder.encode_frame, []

    def unlucky(frame: Any) -> Any:
        calls.append(frame.stamp_ns)
        if len(calls) == 1:
            raise ZeroDivisionError("unlucky")
        return encode(frame)

    monkeypatch.setattr(there.localizer._encoder, "encode_frame", unlucky)
    there.send(9, 18)
    assert "internal_error" in [s.rejection_reason for s in there.statuses]
    there.send(18, 66)
    assert there.statuses[-1].accepted and max(there.errors_m()) < 5.0


def test_what_is_missing_stands_in_the_diagnostics(world: Callable[..., World]) -> None:
    there = world(ready=False)
    said = lambda: there.health.get("cross_view_localizer: input")  # noqa: E731
    assert there.until(lambda: said() is not None and said().message == "no images on /camera/image_raw")
    there.calibrate()
    there.mount()
    there.images.publish(there.image(0))
    assert there.until(lambda: said().message == "no odometry on /odom")
    there.send_odometry(0)
    assert there.until(lambda: said().message == "no heading on /imu/data")
