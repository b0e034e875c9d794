"""pose_fusion in this process: what it fuses, refuses and publishes, and that it owns map->odom and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
pytest.importorskip("ros2_loc.msg", reason="ros2_loc.msg is not compiled: pip install .")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros2_loc.msg import LocalizationStatus
from sensor_msgs.msg import NavSatFix
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.core.pose import Pose, rotation_angle_rad, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.map_messages import earth_from_map
from ros2_loc.ros.pose_fusion_node import PoseFusionNode, source_name
from ros2_loc.ros.tf import StaticTransformBroadcaster

S = 1_000_000_000
START = 1_700_000_000 * S
MAP_FROM_ODOM = Pose(so3_exp([0.0, 0.0, 0.7]), np.array([100.0, -20.0, 1.0]))
TRACKING, LOST, RELOCALIZING = LocalizationStatus.TRACKING, LocalizationStatus.LOST, LocalizationStatus.RELOCALIZING


def odom_from_base(t_s: float) -> Pose:
    return Pose(so3_exp([0.0, 0.0, 0.1 * t_s]), np.array([5.0 * t_s, 0.2 * t_s, 0.0]))


class World:
    """The other side of the topics: a vehicle that drives, and what the node says about it."""

    def __init__(self, node: Any, fusion: PoseFusionNode) -> None:
        self.node, self.fusion = node, fusion
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._executor.add_node(fusion)
        self.estimates = node.create_publisher(PoseWithCovarianceStamped, "localization/map_pose", qos.RESULT)
        self.of_tiles = node.create_publisher(PoseWithCovarianceStamped, "localization/cross_view_pose", qos.RESULT)
        self.odometry = node.create_publisher(Odometry, "odom", qos.odometry_qos())
        self.initial = node.create_publisher(PoseWithCovarianceStamped, "initialpose", qos.RESULT)
        self.tf_publisher = node.create_publisher(TFMessage, "/tf", qos.TF)
        self.poses: list[PoseWithCovarianceStamped] = []
        self.odometries: list[Odometry] = []
        self.paths: list[Path] = []
        self.states: list[LocalizationStatus] = []
        self.transforms: list[TransformStamped] = []
        self.diagnostics: list[DiagnosticArray] = []
        node.create_subscription(PoseWithCovarianceStamped, "localization/pose", self.poses.append, qos.RESULT)
        node.create_subscription(Odometry, "localization/odometry", self.odometries.append, qos.RESULT)
        node.create_subscription(Path, "localization/path", self.paths.append, qos.LATCHED)
        node.create_subscription(LocalizationStatus, "localization/state", self.states.append, qos.LATCHED)
        node.create_subscription(TFMessage, "/tf", lambda m: self.transforms.extend(m.transforms), qos.TF)
        node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self.relocalize = node.create_client(Trigger, "/pose_fusion/relocalize")

    def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        end = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)
        return condition()

    def send(self, publisher: Any, message: Any) -> None:
        """Publish, and wait until the node has dealt with it."""
        before = self._dealt_with()
        publisher.publish(message)
        counted = publisher in (self.odometry, self.estimates, self.of_tiles)
        self.until(lambda: self._dealt_with() > before, timeout_s=0.5 if counted else 0.03)

    def _dealt_with(self) -> int:
        f = self.fusion
        return f._odometry_rate.count + f._estimates.count + f._errors

    def send_odometry(self, t_s: float, pose: Pose | None = None, frame: str = "odom", start_ns: int = START) -> None:
        message = Odometry(header=conversions.header(start_ns + round(t_s * 1e9), frame), child_frame_id="base_link")
        message.pose.pose = conversions.pose_to_message(pose or odom_from_base(t_s))
        self.send(self.odometry, message)

    def estimate(self, t_s: float, start_ns: int = START) -> PoseWithCovarianceStamped:
        covariance = np.diag([0.05**2] * 3 + [0.005**2] * 3)
        estimate = PoseEstimate(start_ns + round(t_s * 1e9), MAP_FROM_ODOM @ odom_from_base(t_s), covariance, 90, "map")
        return conversions.estimate_to_message(estimate, "map")

    def drive(self, first_s: float, last_s: float, start_ns: int = START, odometry: bool = True) -> None:
        """Odometry at 20 Hz, estimates at 5 Hz."""
        for k in range(round(first_s * 20), round(last_s * 20) + 1):
            if odometry:
                self.send_odometry(k / 20, start_ns=start_ns)
            if k % 4 == 0:
                self.send(self.estimates, self.estimate(k / 20, start_ns))

    @property
    def state(self) -> int:
        return self.states[-1].state


@pytest.fixture
def world(make_node: Callable[..., Any]) -> Iterator[Callable[..., World]]:
    started: list[PoseFusionNode] = []

    def make(**parameters: object) -> World:
        fusion = PoseFusionNode(parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])
        started.append(fusion)
        assert fusion.start()
        there = World(make_node("world"), fusion)
        wanted = [there.estimates, there.initial] + ([there.odometry] if parameters.get("odometry", "topic") == "topic" else [])
        assert there.until(lambda: all(p.get_subscription_count() == 1 for p in wanted))
        heard = [fusion._pose_publisher, fusion._odometry_publisher, fusion._state_publisher]
        assert there.until(lambda: all(p.get_subscription_count() == 1 for p in heard))
        assert there.until(lambda: bool(there.states))
        return there

    yield make
    for node in started:
        node.stop()
        node.destroy_node()


def test_the_first_state_reaches_who_comes_later(world: Callable[..., World]) -> None:
    assert world().state == LocalizationStatus.INITIALIZING


def test_the_fused_pose_follows_the_vehicle_and_map_odom_is_the_only_transform(world: Callable[..., World]) -> None:
    there = world()
    there.drive(0.0, 2.0)
    assert there.until(lambda: there.state == TRACKING)
    assert there.until(lambda: bool(there.poses) and conversions.ns_from_stamp(there.poses[-1].header.stamp) == START + 2 * S)
    fused = conversions.pose_from_message(there.poses[-1].pose.pose)
    truth = MAP_FROM_ODOM @ odom_from_base(2.0)
    assert np.linalg.norm(fused.translation - truth.translation) < 0.02
    assert {(t.header.frame_id, t.child_frame_id) for t in there.transforms} == {("map", "odom")}
    sent = conversions.pose_from_transform(there.transforms[-1].transform)
    assert np.linalg.norm(sent.translation - MAP_FROM_ODOM.translation) < 0.1
    assert rotation_angle_rad(sent.rotation.T @ MAP_FROM_ODOM.rotation) < 0.005
    assert there.odometries[-1].child_frame_id == "base_link" and there.odometries[-1].header.frame_id == "map"
    assert there.until(lambda: bool(there.paths) and len(there.paths[-1].poses) > 10)


def test_map_odom_is_dated_ahead_by_the_tolerance_and_never_back(world: Callable[..., World]) -> None:
    there = world(transform_tolerance_s=0.25)
    there.drive(0.0, 1.5)
    there.send(there.estimates, there.estimate(1.3))  # an image of a while ago
    there.until(lambda: False, timeout_s=0.1)
    stamps = [conversions.ns_from_stamp(t.header.stamp) for t in there.transforms]
    assert len(stamps) > 10 and all(a < b for a, b in zip(stamps, stamps[1:], strict=False))
    assert START + 7 * S // 4 <= stamps[-1] <= START + 7 * S // 4 + 10


def test_without_odometry_there_is_a_pose_and_no_transform(world: Callable[..., World]) -> None:
    there = world()
    there.drive(0.0, 2.0, odometry=False)
    assert there.until(lambda: there.state == TRACKING and len(there.poses) > 3) and not there.transforms
    there.diagnostics.clear()

    def told() -> bool:
        return any("no odometry: poses only, no TF" in s.message for array in there.diagnostics for s in array.status)

    assert there.until(told)


def test_odometry_may_come_from_tf(world: Callable[..., World]) -> None:
    there = world(odometry="tf")
    for k in range(41):
        transform = conversions.transform_stamped(odom_from_base(k / 20), START + k * S // 20, "odom", "base_link")
        there.send(there.tf_publisher, TFMessage(transforms=[transform]))
        if k % 4 == 0:
            there.send(there.estimates, there.estimate(k / 20))
    assert there.until(lambda: there.state == TRACKING)
    assert there.until(lambda: any(t.header.frame_id == "map" for t in there.transforms))


def test_an_outlier_is_refused_with_a_reason(world: Callable[..., World]) -> None:
    there = world()
    there.drive(0.0, 1.0)
    wrong = there.estimate(1.0)
    wrong.header.stamp = conversions.stamp_from_ns(START + S + 1)
    wrong.pose.pose.position.x += 30.0
    there.send(there.estimates, wrong)
    assert there.until(lambda: not there.states[-1].accepted)
    assert there.states[-1].rejection_reason == "gated" and there.state == TRACKING
    there.until(lambda: False, timeout_s=0.1)
    fused = conversions.pose_from_message(there.poses[-1].pose.pose)
    assert np.linalg.norm(fused.translation - (MAP_FROM_ODOM @ odom_from_base(1.0)).translation) < 0.05


def bad_initial_poses() -> dict[str, Callable[[PoseWithCovarianceStamped], None]]:
    def not_unit(m: PoseWithCovarianceStamped) -> None:
        m.pose.pose.orientation.w = 2.0

    def nan(m: PoseWithCovarianceStamped) -> None:
        m.pose.pose.position.x = float("nan")

    def frame(m: PoseWithCovarianceStamped) -> None:
        m.header.frame_id = "odom"

    def no_frame(m: PoseWithCovarianceStamped) -> None:
        m.header.frame_id = ""

    def negative(m: PoseWithCovarianceStamped) -> None:
        m.pose.covariance[0] = -1.0

    def infinite(m: PoseWithCovarianceStamped) -> None:
        m.pose.covariance[7] = float("inf")

    shape = {"quaternion": not_unit, "not all finite": nan, "'odom'": frame, "frame is ''": no_frame}
    return {**shape, "negative": negative, "not finite": infinite}


@pytest.mark.parametrize("words", list(bad_initial_poses()))
def test_a_bad_initial_pose_is_refused_with_a_reason(world: Callable[..., World], words: str) -> None:
    there = world()
    message = there.estimate(0.0)
    bad_initial_poses()[words](message)
    there.send(there.initial, message)
    assert there.until(lambda: there.states[-1].rejection_reason == "bad_input")
    assert words in there.states[-1].rejection_detail and there.state == LocalizationStatus.INITIALIZING
    assert not there.poses and not there.transforms


def test_an_initial_pose_as_rviz_sends_it_is_taken(world: Callable[..., World]) -> None:
    there = world()
    there.send_odometry(0.0)
    message = there.estimate(0.0)
    message.pose.covariance = np.diag([0.25, 0.25, 0.0, 0.0, 0.0, 0.0685]).ravel()
    there.send(there.initial, message)
    there.send_odometry(0.05)
    assert there.until(lambda: there.state == TRACKING and bool(there.transforms))
    sent = conversions.pose_from_transform(there.transforms[-1].transform)
    assert np.allclose(sent.translation, MAP_FROM_ODOM.translation, atol=1e-3)


def test_relocalize_forgets_the_pose_and_stops_the_transform(world: Callable[..., World]) -> None:
    there = world()
    there.drive(0.0, 1.0)
    assert there.relocalize.wait_for_service(5.0)
    answer = there.relocalize.call_async(Trigger.Request())
    assert there.until(answer.done) and answer.result().success
    assert there.until(lambda: there.state == RELOCALIZING)
    there.until(lambda: False, timeout_s=0.1)
    sent = len(there.transforms)
    for k in range(21, 25):
        there.send_odometry(k / 20)
    there.until(lambda: False, timeout_s=0.1)
    assert len(there.transforms) == sent
    there.drive(1.25, 3.0)
    assert there.until(lambda: there.state == TRACKING and len(there.transforms) > sent)


def test_long_without_an_estimate_is_lost_and_silent(world: Callable[..., World]) -> None:
    there = world()
    there.drive(0.0, 1.0)
    for k in range(2, 30):
        there.send_odometry(float(k))
    assert there.until(lambda: there.state == LOST)
    poses, transforms = len(there.poses), len(there.transforms)
    there.send_odometry(30.0)
    there.until(lambda: False, timeout_s=0.1)
    assert (len(there.poses), len(there.transforms)) == (poses, transforms)


@pytest.mark.parametrize("odometry", [True, False])
def test_a_bag_that_starts_again_is_a_new_start(world: Callable[..., World], odometry: bool) -> None:
    there = world()
    there.drive(0.0, 2.0, START + 60 * S, odometry)
    assert there.until(lambda: there.state == TRACKING)
    there.poses.clear()
    there.drive(0.0, 2.0, START, odometry)
    assert there.until(lambda: there.state == TRACKING and bool(there.poses))
    last = there.poses[-1]
    assert START <= conversions.ns_from_stamp(last.header.stamp) <= START + 2 * S
    truth = MAP_FROM_ODOM @ odom_from_base((conversions.ns_from_stamp(last.header.stamp) - START) * 1e-9)
    assert np.linalg.norm(conversions.pose_from_message(last.pose.pose).translation - truth.translation) < 0.1

    def path_is_new() -> bool:
        poses = there.paths[-1].poses if there.paths else []
        return bool(poses) and all(conversions.ns_from_stamp(p.header.stamp) <= START + 2 * S for p in poses)

    assert there.until(path_is_new)


def test_bad_odometry_and_bad_estimates_do_not_reach_the_pose(world: Callable[..., World]) -> None:
    there = world()
    there.drive(0.0, 1.0)
    there.until(lambda: False, timeout_s=0.1)
    before = conversions.pose_from_message(there.poses[-1].pose.pose)
    bad = Odometry(header=conversions.header(START + S + 10, "odom"), child_frame_id="base_link")
    bad.pose.pose.position.x = float("nan")
    there.send(there.odometry, bad)
    there.send_odometry(1.01, frame="wheel_odom")
    for change in bad_initial_poses().values():
        estimate = there.estimate(1.02)
        change(estimate)
        there.send(there.estimates, estimate)
    after = conversions.pose_from_message(there.poses[-1].pose.pose)
    assert np.array_equal(before.translation, after.translation)

    def reported() -> bool:
        errors = [s for array in there.diagnostics for s in array.status if s.name == "pose_fusion: errors"]
        return bool(errors) and any(v.key == "count" and v.value == "8" for v in errors[-1].values)

    assert there.until(reported)
    there.drive(1.05, 2.0)
    assert there.until(lambda: there.state == TRACKING)


@pytest.mark.parametrize(("topic", "name"), [("localization/map_pose", "map"), ("/robot/cross_view_pose", "cross_view"), ("amcl", "amcl")])
def test_a_topic_names_its_source(topic: str, name: str) -> None:
    assert source_name(topic) == name


def estimate_of_tiles(there: World, t_s: float, offset_m: float = 0.0) -> PoseWithCovarianceStamped:
    message = there.estimate(t_s)
    message.pose.pose.position.x += offset_m
    message.pose.covariance = np.diag([9.0, 9.0, 4.0, 0.0025, 0.0025, 0.0025]).ravel()
    return message


def test_tiles_give_the_first_fix_the_map_takes_over_and_the_tiles_carry_on(world: Callable[..., World]) -> None:
    there = world()

    def error_m() -> float:
        last = there.poses[-1]
        truth = MAP_FROM_ODOM @ odom_from_base((conversions.ns_from_stamp(last.header.stamp) - START) * 1e-9)
        return float(np.linalg.norm(conversions.pose_from_message(last.pose.pose).translation - truth.translation))

    def drive(first: int, last: int, tiles: bool, of_map: bool) -> None:
        for k in range(first, last):  # tenths of a second
            there.send_odometry(k / 10)
            if tiles and k % 5 == 0:
                there.send(there.of_tiles, estimate_of_tiles(there, k / 10, offset_m=2.0))
            if of_map and k % 2 == 0:
                there.send(there.estimates, there.estimate(k / 10))

    drive(0, 20, tiles=True, of_map=False)
    assert there.until(lambda: there.state == TRACKING) and 1.0 < error_m() < 3.0 and there.poses[-1].pose.covariance[0] > 1.0
    drive(20, 35, tiles=True, of_map=True)
    assert there.state == TRACKING and error_m() < 0.1 and there.poses[-1].pose.covariance[0] < 0.1
    drive(35, 60, tiles=True, of_map=False)
    assert there.state == TRACKING and error_m() < 0.5
    counts = there.fusion._diagnose().values
    assert counts["poses of map accepted"] >= 5 and counts["poses of cross_view accepted"] >= 5
    assert counts["poses of cross_view initialized"] == 1


def test_a_fix_is_sent_once_the_map_has_a_place_on_the_earth(world: Callable[..., World]) -> None:
    there, fixes = world(), []
    there.node.create_subscription(NavSatFix, "localization/fix", fixes.append, qos.RESULT)
    assert there.until(lambda: there.fusion._fix_publisher.get_subscription_count() == 1)
    there.drive(0.0, 1.0)
    assert there.poses and not fixes
    origin, enu_from_map = GeoOrigin(49.0, 8.4, 110.0), Pose(so3_exp([0.0, 0.0, 0.5]), np.array([20.0, 30.0, -2.0]))
    earth = StaticTransformBroadcaster(there.node)
    earth.sendTransform(conversions.transform_stamped(earth_from_map(origin, enu_from_map), 0, "earth", "map"))
    assert there.until(lambda: there.fusion._georeference is not None)
    there.drive(1.05, 1.5)
    assert there.until(lambda: bool(fixes) and fixes[-1].header.stamp == there.poses[-1].header.stamp)
    enu = enu_from_geodetic(origin, fixes[-1].latitude, fixes[-1].longitude, fixes[-1].altitude)
    pose = conversions.pose_from_message(there.poses[-1].pose.pose)
    assert np.allclose(enu, enu_from_map.apply(pose.translation), atol=1e-3)
    assert fixes[-1].header.frame_id == "base_link" and fixes[-1].position_covariance_type == NavSatFix.COVARIANCE_TYPE_KNOWN
    expected = enu_from_map.rotation @ np.array(there.poses[-1].pose.covariance).reshape(6, 6)[:3, :3] @ enu_from_map.rotation.T
    assert np.allclose(np.array(fixes[-1].position_covariance).reshape(3, 3), expected, rtol=1e-3, atol=1e-9)
