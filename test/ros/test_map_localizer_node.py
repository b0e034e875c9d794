"""map_localizer in this process, its map and localizer replaced: what it takes, refuses, publishes and survives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")
pytest.importorskip("ros2_loc.msg", reason="ros2_loc.msg is not compiled: pip install .")

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from rclpy.parameter import Parameter
from ros2_loc.msg import LocalizationStatus, RetrievedPlaces
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, Detection, Frame, PoseEstimate, Rejection, RejectionReason
from ros2_loc.localization.map_localizer import Localization
from ros2_loc.localization.place_search import FoundPlaces
from ros2_loc.ros import conversions, map_localizer_node, qos
from ros2_loc.ros.detection_messages import detections_to_message, mask_to_message
from ros2_loc.ros.tf import StaticTransformBroadcaster

S = 1_000_000_000
START = 1_700_000_000 * S
WIDTH, HEIGHT = 64, 48
# optical frame on base_link: looks along x, 1.5 m up
BASE_FROM_CAMERA = Pose(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.array([0.2, 0.0, 1.5]))


class FakeLocalizer:
    """Finds every image where its brightness says; knows what it was given."""

    def __init__(self, *arguments: Any) -> None:
        self.frames: list[tuple[Frame, PoseEstimate | None]] = []
        self.gate = threading.Event()
        self.gate.set()

    def localize(self, frame: Frame, prior: PoseEstimate | None = None) -> Localization:
        self.frames.append((frame, prior))
        self.gate.wait(5.0)
        level = int(frame.image[0, 0, 0])
        if level == 13:
            raise ZeroDivisionError("unlucky")
        if level == 7:
            return Localization(Rejection(frame.stamp_ns, RejectionReason.TOO_FEW_INLIERS, "7 of 12"), stage_s={"extract": 0.01})
        estimate = PoseEstimate(frame.stamp_ns, Pose(np.eye(3), np.array([level, 0.0, 0.0])), np.eye(6) * 0.01, 80, "map")
        pixels = np.array([[10.5, 10.5], [20.5, 20.5]])
        candidates, pairs = (Candidate(1, 75.0), Candidate(0, 0.5)), np.hstack([pixels, pixels])
        places = FoundPlaces(candidates, np.array([0.4, 0.5]), np.array([75, 0]), 0.875, "confirmed")
        return Localization(estimate, places, pixels, 120, pixels, np.zeros((2, 3)), 1, pairs, {"extract": 0.01})


@pytest.fixture
def localizer(monkeypatch: pytest.MonkeyPatch) -> FakeLocalizer:
    fake = FakeLocalizer()
    places = tuple(SimpleNamespace(name=f"place{i}", map_from_base=Pose(np.eye(3), np.array([i, 0.0, 0.0]))) for i in range(2))
    jpeg = cv2.imencode(".jpg", np.full((30, 40, 3), 200, dtype=np.uint8))[1].tobytes()
    sparse_map = SimpleNamespace(places=places, thumbnail_jpeg=lambda place: jpeg, masked_otherwise=lambda detector: "")
    monkeypatch.setattr(map_localizer_node.SparseMap, "load", staticmethod(lambda folder, verify=True: sparse_map))
    monkeypatch.setattr(map_localizer_node, "MapLocalizer", lambda *arguments: fake)
    return fake


class World:
    """The other side of the topics."""

    def __init__(self, node: Any, spin: Callable[..., bool], transport: str) -> None:
        self.node, self._spin = node, spin
        kind, topic = (Image, "camera/image_raw") if transport == "raw" else (CompressedImage, "camera/image_raw/compressed")
        self.images = node.create_publisher(kind, topic, qos.image_qos())
        self.infos = node.create_publisher(CameraInfo, "camera/camera_info", qos.image_qos())
        self.fused = node.create_publisher(PoseWithCovarianceStamped, "localization/pose", qos.RESULT)
        self.states = node.create_publisher(LocalizationStatus, "localization/state", qos.LATCHED)
        self.transforms = StaticTransformBroadcaster(node)
        self.poses, self.statuses, self.places, self.overlays, self.diagnostics = [], [], [], [], []
        node.create_subscription(PoseWithCovarianceStamped, "localization/map_pose", self.poses.append, qos.RESULT)
        node.create_subscription(LocalizationStatus, "localization/status", self.statuses.append, qos.RESULT)
        node.create_subscription(RetrievedPlaces, "localization/places", self.places.append, qos.RESULT)
        node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)

    def mount(self) -> None:
        self.transforms.sendTransform(conversions.transform_stamped(BASE_FROM_CAMERA, 0, "base_link", "camera"))

    def calibrate(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.frame_id = "camera"
        info.k = np.array([50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0])
        self.infos.publish(info)

    def image(self, stamp_ns: int, level: int = 100, width: int = WIDTH, height: int = HEIGHT) -> Image:
        return conversions.image_from_rgb(np.full((height, width, 3), level, dtype=np.uint8), stamp_ns, "camera")

    def answer(self, message: Any) -> LocalizationStatus:
        """The status that the node sends for an image."""
        before = len(self.statuses)
        self.images.publish(message)
        assert self.until(lambda: len(self.statuses) > before), "no status"
        return self.statuses[-1]

    def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        return self._spin(condition, self.node, self.localizer_node, timeout_s=timeout_s)

    localizer_node: Any = None


@pytest.fixture
def world(localizer: FakeLocalizer, make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> Iterator[Callable[..., World]]:
    started: list[Any] = []

    def make(ready: bool = True, **parameters: object) -> World:
        made = World(make_node("world"), spin_until, str(parameters.get("image_transport", "raw")))
        overrides = [Parameter(name, value=value) for name, value in {"map": "/maps/fake", "pipeline": "default", **parameters}.items()]
        node = map_localizer_node.MapLocalizerNode(parameter_overrides=overrides)
        started.append(node)
        made.localizer_node = node
        assert node.start()
        assert made.until(lambda: made.images.get_subscription_count() == 1 and made.infos.get_subscription_count() == 1)
        heard = [node._pose_publisher, node._status_publisher, node._places_publisher]
        assert made.until(lambda: all(p.get_subscription_count() == 1 for p in heard))
        if ready:
            made.mount()
            made.calibrate()
            assert made.until(lambda: node._frames.is_calibrated)
        return made

    yield make
    for node in started:
        node.stop()
        node.destroy_node()


def test_an_image_becomes_a_pose_with_its_stamp_a_status_and_places(world: Callable[..., World], localizer: FakeLocalizer) -> None:
    there = world()
    status = there.answer(there.image(START + 5, level=42))
    assert there.until(lambda: len(there.poses) == 1 and len(there.places) == 1)
    (pose,) = there.poses
    assert conversions.ns_from_stamp(pose.header.stamp) == START + 5 and pose.header.frame_id == "map"
    assert pose.pose.pose.position.x == 42.0 and pose.pose.covariance[0] == pytest.approx(0.01)
    assert status.accepted and status.num_inliers == 80 and status.num_matches == 120 and list(status.stage_names) == ["extract"]
    assert [place.place_id for place in there.places[0].places] == ["place1", "place0"]
    found = there.places[0]
    assert (found.confidence, found.reranking) == (0.875, "confirmed")
    assert [place.verified_matches for place in found.places] == [75, 0] and found.places[0].similarity == pytest.approx(0.4)
    assert not len(found.places[0].thumbnail.data)
    (frame, prior), *_ = localizer.frames
    assert prior is None and frame.camera.principal_point_px == (32.0, 24.0)
    assert np.allclose(frame.base_from_camera.matrix, BASE_FROM_CAMERA.matrix)


def test_a_rejected_image_gets_a_status_and_no_pose(world: Callable[..., World]) -> None:
    there = world()
    status = there.answer(there.image(START, level=7))
    assert (status.accepted, status.rejection_reason, status.rejection_detail) == (False, "too_few_inliers", "7 of 12")
    there.answer(there.image(START + S, level=50))
    assert there.until(lambda: len(there.poses) == 1) and there.poses[0].pose.pose.position.x == 50.0


def bad_images(there: World) -> dict[str, tuple[Any, str]]:
    nan = there.image(START)
    nan.encoding, nan.step = "32FC1", WIDTH * 4
    nan.data = np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32).tobytes()
    unknown, short, unstamped = there.image(START), there.image(START), there.image(START)
    unknown.encoding = "h264"
    short.data = short.data[:100]
    unstamped.header.stamp.sec = unstamped.header.stamp.nanosec = 0
    empty = Image()
    empty.header.stamp.sec = 5
    return {
        "wrong size": (there.image(START, width=32, height=32), "image is 32x32 but its camera says 64x48"),
        "unknown encoding": (unknown, "image encoding 'h264' is unknown"),
        "not finite": (nan, "image refused"),
        "cut short": (short, "has 100 bytes"),
        "no stamp": (unstamped, "the image has no stamp"),
        "empty": (empty, "image encoding '' is unknown"),
    }


@pytest.mark.parametrize("which", ["wrong size", "unknown encoding", "not finite", "cut short", "no stamp", "empty"])
def test_a_bad_image_is_one_rejection_and_the_next_is_localized(world: Callable[..., World], which: str) -> None:
    there = world()
    message, words = bad_images(there)[which]
    status = there.answer(message)
    assert status.rejection_reason == "bad_input" and words in status.rejection_detail and "\n" not in status.rejection_detail
    assert there.answer(there.image(START + S)).accepted


def test_a_missing_camera_info_is_told_and_comes_late(world: Callable[..., World]) -> None:
    there = world(ready=False)
    there.mount()
    status = there.answer(there.image(START))
    assert status.rejection_reason == "bad_input" and "no camera_info yet" in status.rejection_detail
    there.calibrate()
    assert there.until(lambda: there.localizer_node._frames.is_calibrated)
    assert there.answer(there.image(START + S)).accepted


@pytest.mark.parametrize("k", [[0.0] * 9, [float("nan")] * 9])
def test_an_uncalibrated_camera_is_told(world: Callable[..., World], k: list[float]) -> None:
    there = world(ready=False)
    there.mount()
    info = CameraInfo(width=WIDTH, height=HEIGHT, k=np.array(k))
    there.infos.publish(info)
    assert there.until(lambda: there.localizer_node._frames.is_calibrated)
    status = there.answer(there.image(START))
    assert status.rejection_reason == "bad_input" and "calibrate the camera" in status.rejection_detail


def test_a_missing_transform_is_told_and_comes_late(world: Callable[..., World]) -> None:
    there = world(ready=False, transform_patience_s=0.05)
    there.calibrate()
    assert there.until(lambda: there.localizer_node._frames.is_calibrated)
    status = there.answer(there.image(START))
    assert status.rejection_reason == "no_transform" and "no transform from camera to base_link" in status.rejection_detail
    there.mount()
    assert there.until(lambda: there.answer(there.image(START + S)).accepted)


def test_the_workers_exception_reaches_the_diagnostics_and_the_node_lives(world: Callable[..., World]) -> None:
    there = world()
    status = there.answer(there.image(START, level=13))
    assert status.rejection_reason == "internal_error" and "ZeroDivisionError: unlucky" in status.rejection_detail

    def reported() -> bool:
        found = [s for array in there.diagnostics for s in array.status if s.name == "map_localizer: errors"]
        return any(s.level == b"\x02" and "ZeroDivisionError: unlucky" in s.message for s in found)

    assert there.until(reported)
    assert there.answer(there.image(START + S)).accepted


def test_the_fused_pose_is_the_prior_until_it_is_old_or_not_tracked(world: Callable[..., World], localizer: FakeLocalizer) -> None:
    there = world()
    fused = PoseEstimate(START, Pose(np.eye(3), np.array([9.0, 0.0, 0.0])), np.eye(6) * 0.01, 80, "fusion")
    there.fused.publish(conversions.estimate_to_message(fused, "map"))
    assert there.until(lambda: there.localizer_node._prior.at(START) is not None)
    there.answer(there.image(START + S // 10))
    prior = localizer.frames[-1][1]
    assert prior is not None and prior.map_from_base.translation[0] == 9.0 and prior.stamp_ns == START + S // 10
    there.answer(there.image(START + 3 * S))
    assert localizer.frames[-1][1] is None
    there.states.publish(LocalizationStatus(state=LocalizationStatus.LOST))
    assert there.until(lambda: there.localizer_node._prior.at(START) is None)
    assert there.answer(there.image(START + 4 * S)).state == LocalizationStatus.LOST


def test_while_it_is_busy_only_the_newest_image_waits(world: Callable[..., World], localizer: FakeLocalizer) -> None:
    there = world()
    localizer.gate.clear()
    there.images.publish(there.image(START, level=1))
    assert there.until(lambda: len(localizer.frames) == 1)
    for k in range(2, 9):
        received = there.localizer_node._images.count
        there.images.publish(there.image(START + k, level=k))
        assert there.until(lambda received=received: there.localizer_node._images.count > received)
    localizer.gate.set()
    assert there.until(lambda: len(there.poses) == 2)
    assert [pose.pose.pose.position.x for pose in there.poses] == [1.0, 8.0]


def test_a_jump_back_in_time_drops_the_prior_and_the_frame_in_work(world: Callable[..., World], localizer: FakeLocalizer) -> None:
    there = world()
    late = PoseEstimate(START + 100 * S, Pose.identity(), np.eye(6) * 0.01, 80, "fusion")
    there.fused.publish(conversions.estimate_to_message(late, "map"))
    localizer.gate.clear()
    there.images.publish(there.image(START + 100 * S, level=1))
    assert there.until(lambda: len(localizer.frames) == 1 and there.localizer_node._prior.at(START + 100 * S) is not None)
    there.images.publish(there.image(START, level=2))
    assert there.until(lambda: there.localizer_node._images.count == 2)
    assert there.localizer_node._prior.at(START + 100 * S) is None
    localizer.gate.set()
    assert there.until(lambda: len(there.poses) == 1) and there.poses[0].pose.pose.position.x == 2.0


def test_compressed_images_and_the_overlay_for_those_who_ask(world: Callable[..., World], make_node: Callable[..., Any]) -> None:
    there = world(image_transport="compressed")
    there.node.create_subscription(Image, "localization/matches_image", there.overlays.append, qos.image_qos())
    place_poses: list[PoseArray] = []
    there.node.create_subscription(PoseArray, "localization/place_poses", place_poses.append, qos.RESULT)
    assert there.until(lambda: there.localizer_node._overlay_publisher.get_subscription_count() == 1)
    message = CompressedImage(format="png")
    message.header = conversions.header(START, "camera")
    message.data = cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 60, dtype=np.uint8))[1].tobytes()
    assert there.answer(message).accepted
    assert there.until(lambda: len(there.overlays) == 1 and len(place_poses) == 1)
    assert there.overlays[0].width == WIDTH and there.overlays[0].header.stamp == message.header.stamp
    assert [p.position.x for p in place_poses[0].poses] == [1.0, 0.0]
    message.data = b"no jpeg at all"
    assert "OpenCV can decode" in there.answer(message).rejection_detail


def test_thumbnails_and_the_picture_of_places_for_those_who_ask(world: Callable[..., World]) -> None:
    there = world(thumbnails=True)
    pictures: list[Image] = []
    there.node.create_subscription(Image, "localization/places_image", pictures.append, qos.image_qos())
    assert there.until(lambda: there.localizer_node._places_image_publisher.get_subscription_count() == 1)
    assert there.answer(there.image(START)).accepted
    assert there.until(lambda: len(there.places) == 1 and len(pictures) == 1)
    for place in there.places[0].places:
        assert place.thumbnail.format == "jpeg" and place.thumbnail.header.stamp == there.places[0].header.stamp
        assert cv2.imdecode(np.frombuffer(place.thumbnail.data, np.uint8), cv2.IMREAD_COLOR).shape == (30, 40, 3)
    assert pictures[0].header.frame_id == "camera" and pictures[0].height > 150


def test_odometry_is_asked_for_by_pipelines_that_use_it(world: Callable[..., World], localizer: FakeLocalizer, tmp_path: Path) -> None:
    (tmp_path / "sequence.yaml").write_text("localizer: {sequence: true}\n")
    there = world(pipeline=str(tmp_path / "sequence.yaml"), transform_patience_s=0.05)
    assert there.answer(there.image(START)).accepted
    assert localizer.frames[-1][0].odom_from_base is None, "nobody sent odometry"
    odom_from_base = Pose(np.eye(3), np.array([3.0, 4.0, 0.0]))
    there.transforms.sendTransform(conversions.transform_stamped(odom_from_base, 0, "odom", "base_link"))

    def arrived() -> bool:
        there.answer(there.image(START + len(localizer.frames) * S))
        return localizer.frames[-1][0].odom_from_base is not None

    assert there.until(arrived)
    np.testing.assert_allclose(localizer.frames[-1][0].odom_from_base.matrix, odom_from_base.matrix)


def moving(there: World, stamp_ns: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """A mask in whose left half something moves."""
    seen = np.zeros((height, width), dtype=bool)
    seen[:, : width // 2] = True
    return mask_to_message(seen, conversions.header(stamp_ns, "camera"))


def test_masks_of_the_same_stamp_are_taken_and_late_ones_done_without(world: Callable[..., World], localizer: FakeLocalizer) -> None:
    there = world(context="mask", context_wait_ms=1000.0)
    masks = there.node.create_publisher(Image, "detections/mask", qos.image_qos())
    assert there.until(lambda: masks.get_subscription_count() == 1)
    there.images.publish(there.image(START))
    masks.publish(moving(there, START))
    assert there.until(lambda: len(there.statuses) == 1)
    mask = localizer.frames[-1][0].mask
    assert mask is not None and not mask[:, :32].any() and mask[:, 32:].all()
    there.node.create_subscription(Image, "localization/matches_image", there.overlays.append, qos.image_qos())
    assert there.until(lambda: there.localizer_node._overlay_publisher.get_subscription_count() == 1)
    there.images.publish(there.image(START + 1))
    masks.publish(moving(there, START + 1))
    assert there.until(lambda: len(there.overlays) == 1)
    picture = np.frombuffer(there.overlays[0].data, np.uint8).reshape(-1, WIDTH, 3)
    assert picture[40, 5].tolist() == [33] * 3 and picture[40, 60].tolist() == [100] * 3, "what is masked is dark"
    masks.publish(moving(there, START + 5, width=10))
    assert there.answer(there.image(START + 5)).accepted and localizer.frames[-1][0].mask is None, "of another size: refused"
    began = time.monotonic()
    assert there.answer(there.image(START + S)).accepted and time.monotonic() - began >= 1.0
    assert localizer.frames[-1][0].mask is None

    def reported() -> bool:
        found = [s for array in there.diagnostics for s in array.status if s.name == "map_localizer: context"]
        counts = [{kv.key: kv.value for kv in s.values} for s in found]
        return any((c.get("paired by stamp"), c.get("localized without"), c.get("refused")) == ("3", "1", "1") for c in counts)

    assert there.until(reported)


def test_boxes_of_anybody_mask_by_the_pipelines_context(world: Callable[..., World], localizer: FakeLocalizer, tmp_path: Path) -> None:
    (tmp_path / "context.yaml").write_text('context: {labels: ["7"], margin_px: 0.0, margin_share: 0.0}\n')
    there = world(context="detections", pipeline=str(tmp_path / "context.yaml"), context_wait_ms=5000.0)
    boxes = there.node.create_publisher(Detection2DArray, "detections", qos.RESULT)
    assert there.until(lambda: boxes.get_subscription_count() == 1)
    edges = {"7": [8, 4, 24, 40], "2": [30, 4, 40, 40]}
    found = [Detection(np.array(box, dtype=np.float32), label, 0.9) for label, box in edges.items()]
    boxes.publish(detections_to_message(found, conversions.header(START, "camera")))
    assert there.answer(there.image(START)).accepted
    mask = localizer.frames[-1][0].mask
    assert mask is not None and (~mask).sum() == 16 * 36 and not mask[4:40, 8:24].any()


def test_the_pipelines_own_detector_runs_only_where_it_is_asked_for(
    localizer: FakeLocalizer, domain: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(map_localizer_node, "MapLocalizer", lambda *arguments: given.append(arguments[1]))
    (tmp_path / "own.yaml").write_text("detector: {name: centernet}\n")
    for context in ("pipeline", "none", "mask", "detections"):
        values = {"map": "/maps/fake", "pipeline": str(tmp_path / "own.yaml"), "context": context}
        node = map_localizer_node.MapLocalizerNode(parameter_overrides=[Parameter(k, value=v) for k, v in values.items()])
        assert node.start()
        node.stop()
        node.destroy_node()
    assert [pipeline.detector for pipeline in given] == [{"name": "centernet"}, {}, {}, {}]


def test_a_loop_of_a_bag_with_masks_pairs_again(world: Callable[..., World], localizer: FakeLocalizer) -> None:
    there = world(context="mask", context_wait_ms=5000.0)
    masks = there.node.create_publisher(Image, "detections/mask", qos.image_qos(depth=5))
    assert there.until(lambda: masks.get_subscription_count() == 1)
    for _ in range(2):
        for k in (0, 1, 2):
            there.images.publish(there.image(START + k * S))
            masks.publish(moving(there, START + k * S))
            count = len(there.poses) + 1
            assert there.until(lambda count=count: len(there.poses) == count)
            assert localizer.frames[-1][0].mask is not None


def test_cleanup_and_another_start_leave_nothing_behind(world: Callable[..., World]) -> None:
    there = world()
    assert there.answer(there.image(START)).accepted
    node = there.localizer_node
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert node.count_publishers("localization/map_pose") == 0 and not [t for t in threading.enumerate() if t.name == "localize"]
    assert node.start()
    assert there.until(lambda: there.images.get_subscription_count() == 1 and there.infos.get_subscription_count() == 1)
    there.calibrate()
    assert there.until(lambda: node._frames.is_calibrated)
    assert there.until(lambda: there.answer(there.image(START + S)).accepted)


def test_an_empty_map_parameter_is_refused(localizer: FakeLocalizer, domain: int) -> None:
    node = map_localizer_node.MapLocalizerNode()
    assert not node.start()
    node.destroy_node()
