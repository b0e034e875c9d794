"""object_detector in this process with a detector of colours: what it takes, refuses, publishes and survives."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vision_msgs", reason="needs rclpy and the compiled messages: pip install .")

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from ros2_loc import registry
from ros2_loc.ros import conversions, object_detector_node, qos

S = 1_000_000_000
START = 1_700_000_000 * S
CAR, PERSON, LIGHT = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector of colours in the table."""
    spec = importlib.util.spec_from_file_location("colour_plugin", Path(__file__).with_name("colour_plugin.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "colour_plugin", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(registry.TABLE["detector"], "colours", registry.Component("colour_plugin:Colours", "for tests"))


def street(*objects: tuple[tuple[int, int, int], int], size: tuple[int, int] = (48, 64), gray: int = 100) -> np.ndarray:
    """A gray picture with upright boxes 8 x 12 px of these colours at these columns, 20 px down."""
    picture = np.full((*size, 3), gray, dtype=np.uint8)
    for colour, x in objects:
        picture[20:32, x : x + 8] = colour
    return picture


class World:
    """The other side of the topics of one or several cameras."""

    def __init__(self, node: Any, spin: Callable[..., bool], cameras: list[str], transport: str) -> None:
        self.node, self._spin, self.cameras = node, spin, cameras
        kind, suffix = (Image, "") if transport == "raw" else (CompressedImage, "/compressed")
        self.images = {c: node.create_publisher(kind, f"{c}image{suffix}", qos.image_qos()) for c in cameras}
        self.found: dict[str, list[Detection2DArray]] = {c: [] for c in cameras}
        self.diagnostics: list[DiagnosticArray] = []
        for c in cameras:
            node.create_subscription(Detection2DArray, f"{c}detections", self.found[c].append, qos.RESULT)
        node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)

    def listen(self, topic: str) -> list[Image]:
        heard: list[Image] = []
        self.node.create_subscription(Image, topic, heard.append, qos.image_qos(depth=10))
        assert self.until(lambda: self.node.count_publishers(topic) == 1)
        publisher = {"mask": "mask", "overlay": "overlay"}[topic.rpartition("/")[2]]
        cameras = self.detector_node._cameras.values()
        assert self.until(lambda: any(getattr(c, publisher).get_subscription_count() for c in cameras))
        return heard

    def message(self, picture: np.ndarray, stamp_ns: int = START) -> Image:
        return conversions.image_from_rgb(picture, stamp_ns, "camera_optical_frame")

    def answer(self, message: Any, camera: str = "") -> Detection2DArray:
        """What the node says of an image."""
        before = len(self.found[camera])
        self.images[camera].publish(message)
        assert self.until(lambda: len(self.found[camera]) > before), "no detections"
        return self.found[camera][-1]

    def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        return self._spin(condition, self.node, self.detector_node, timeout_s=timeout_s)

    def said(self, task: str) -> list[Any]:
        return [s for array in self.diagnostics for s in array.status if s.name == f"object_detector: {task}"]

    def received(self, count: int) -> bool:
        return self.until(lambda: sum(c.images.count for c in self.detector_node._cameras.values()) == count)

    detector_node: Any = None


@pytest.fixture
def world(colours: None, make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> Iterator[Callable[..., World]]:
    started: list[Any] = []

    def make(**parameters: object) -> World:
        cameras = [f"{name}/" for name in parameters.get("cameras", ())] or [""]  # type: ignore[attr-defined]
        made = World(make_node("world"), spin_until, cameras, str(parameters.get("image_transport", "raw")))
        overrides = [Parameter(name, value=value) for name, value in {"detector": "colours", **parameters}.items()]
        node = object_detector_node.ObjectDetectorNode(parameter_overrides=overrides)
        started.append(node)
        made.detector_node = node
        assert node.start()
        assert made.until(lambda: all(p.get_subscription_count() == 1 for p in made.images.values()))
        assert made.until(lambda: all(c.detections.get_subscription_count() == 1 for c in node._cameras.values()))
        return made

    yield make
    for node in started:
        node.stop()
        node.destroy_node()


def labels(message: Detection2DArray) -> list[str]:
    return [one.results[0].hypothesis.class_id for one in message.detections]


def pixels(message: Image) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)


def test_objects_come_with_stamp_and_frame_of_the_image_and_without_invented_poses(world: Callable[..., World]) -> None:
    there = world()
    found = there.answer(there.message(street((CAR, 10), (PERSON, 40)), START + 5))
    assert found.header == conversions.header(START + 5, "camera_optical_frame") and sorted(labels(found)) == ["car", "person"]
    (car,) = [one for one in found.detections if one.results[0].hypothesis.class_id == "car"]
    assert (car.bbox.center.position.x, car.bbox.center.position.y) == (14.0, 26.0) and (car.bbox.size_x, car.bbox.size_y) == (8.0, 12.0)
    assert not np.any(car.results[0].pose.covariance) and car.header == found.header
    assert there.answer(there.message(street(), START + S)).detections == [], "an image without objects is answered too"


def test_the_mask_is_where_movers_are_with_a_margin(world: Callable[..., World]) -> None:
    there = world(mask_margin_px=2.0, mask_margin_share=0.0)
    masks = there.listen("detections/mask")
    there.answer(there.message(street((CAR, 10), (LIGHT, 40)), START + 7))
    assert there.until(lambda: len(masks) == 1)
    assert masks[0].encoding == "mono8" and masks[0].header == conversions.header(START + 7, "camera_optical_frame")
    mask = pixels(masks[0])[..., 0]
    assert set(np.unique(mask)) == {0, 255} and mask[20:32, 10:18].all() and mask[19, 9:19].all()
    assert not mask[:18].any() and not mask[:, 20:].any(), "a traffic light stays where it is"


def test_the_overlay_is_drawn_for_those_who_ask(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    there = world()
    drawn: list[int] = []
    draw = object_detector_node.draw_detections
    monkeypatch.setattr(object_detector_node, "draw_detections", lambda *a: drawn.append(1) or draw(*a))
    there.answer(there.message(street((CAR, 10))))
    assert not drawn
    overlays = there.listen("detections/overlay")
    there.answer(there.message(street((CAR, 10)), START + S))
    assert there.until(lambda: len(overlays) == 1) and drawn
    assert overlays[0].header == conversions.header(START + S, "camera_optical_frame") and overlays[0].width >= 64


def test_labels_and_scores_are_filtered(world: Callable[..., World]) -> None:
    there = world(labels=["car", "traffic light"])
    hollow = street((CAR, 10), (PERSON, 40), (LIGHT, 52))
    hollow[22:30, 12:16] = 100  # fills two thirds of its box
    assert sorted(labels(there.answer(there.message(hollow)))) == ["car", "traffic light"]
    there.detector_node.set_parameters([Parameter("min_score", value=0.9)])
    assert labels(there.answer(there.message(hollow, START + S))) == ["traffic light"]


def test_several_cameras_share_a_batch_and_each_is_answered(world: Callable[..., World]) -> None:
    there = world(cameras=["front", "rear"], batch_wait_ms=1000.0)
    there.images["front/"].publish(there.message(street((CAR, 10)), START))
    there.images["rear/"].publish(there.message(street((PERSON, 10), size=(40, 80)), START + 1))
    assert there.until(lambda: bool(there.found["front/"]) and bool(there.found["rear/"]))
    assert [len(batch) for batch in there.detector_node._detector.batches] == [2]
    assert labels(there.found["front/"][0]) == ["car"] and labels(there.found["rear/"][0]) == ["person"]
    assert conversions.ns_from_stamp(there.found["rear/"][0].header.stamp) == START + 1
    assert {name for name, _ in there.node.get_topic_names_and_types()} >= {"/front/detections/mask", "/rear/detections/overlay"}


def test_batches_are_no_larger_than_the_detector_likes(world: Callable[..., World]) -> None:
    there = world(cameras=["a", "b", "c"], batch_wait_ms=1000.0, settings=["batch_size=2"])
    for camera in there.cameras:
        there.images[camera].publish(there.message(street()))
    assert there.until(lambda: all(there.found.values()))
    assert [len(batch) for batch in there.detector_node._detector.batches] == [2, 1]


def test_while_it_is_busy_only_the_newest_image_waits(world: Callable[..., World]) -> None:
    there = world()
    detector = there.detector_node._detector
    detector.gate.clear()
    there.images[""].publish(there.message(street(), START))
    assert there.until(lambda: len(detector.batches) == 1)
    for k in range(1, 8):
        there.images[""].publish(there.message(street(), START + k))
        assert there.received(k + 1)
    detector.gate.set()
    assert there.until(lambda: len(there.found[""]) == 2)
    assert [conversions.ns_from_stamp(m.header.stamp) for m in there.found[""]] == [START, START + 7]

    def counted() -> bool:
        return any(kv.key == "images replaced by newer ones" and kv.value == "6" for s in there.said("input") for kv in s.values)

    assert there.until(counted)


def test_the_rate_is_limited_and_the_limit_can_be_changed(world: Callable[..., World]) -> None:
    there = world(max_rate_hz=0.01)
    assert there.answer(there.message(street(), START)) is not None
    there.images[""].publish(there.message(street(), START + 1))
    assert there.received(2)
    assert not there.until(lambda: len(there.found[""]) > 1, timeout_s=0.3)
    there.detector_node.set_parameters([Parameter("max_rate_hz", value=0.0)])
    assert there.until(lambda: len(there.found[""]) == 2)


def bad_images(there: World) -> dict[str, tuple[Any, str]]:
    good = [there.message(street()) for _ in range(5)]
    nan, unknown, short, unstamped, narrow = good
    nan.encoding, nan.step, nan.data = "32FC1", 64 * 4, np.full((48, 64), np.nan, dtype=np.float32).tobytes()
    unknown.encoding = "h264"
    short.data = short.data[:100]
    unstamped.header.stamp.sec = unstamped.header.stamp.nanosec = 0
    narrow.step = 10
    empty = Image(header=conversions.header(START, "camera"), encoding="rgb8")
    return {
        "not finite": (nan, "image refused"),
        "unknown encoding": (unknown, "image encoding 'h264' is unknown"),
        "cut short": (short, "has 100 bytes"),
        "no stamp": (unstamped, "the image has no stamp"),
        "wrong step": (narrow, "says step 10"),
        "empty": (empty, "image"),
    }


@pytest.mark.parametrize("which", ["not finite", "unknown encoding", "cut short", "no stamp", "wrong step", "empty"])
def test_a_bad_image_is_one_refusal_and_the_next_is_answered(world: Callable[..., World], which: str, capfd: Any) -> None:
    there = world()
    message, words = bad_images(there)[which]
    there.images[""].publish(message)
    assert there.until(lambda: there.detector_node._statistics.report().values.get("images refused") == 1)
    refusal = there.detector_node._statistics.report()
    assert words in refusal.message and "\n" not in refusal.message and refusal.level == 2
    assert there.answer(there.message(street((CAR, 10)), START + S)).detections
    lines = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert len(lines) == 1 and "/image: " in lines[0] and words in lines[0]


def test_images_may_change_their_size(world: Callable[..., World]) -> None:
    there = world()
    for k, size in enumerate([(48, 64), (96, 128), (33, 35)]):
        assert labels(there.answer(there.message(street((CAR, 10), size=size), START + k))) == ["car"]


def test_the_detectors_exception_reaches_the_diagnostics_and_the_node_lives(world: Callable[..., World]) -> None:
    there = world()
    there.images[""].publish(there.message(street(gray=13)))
    assert there.until(lambda: any(s.level == b"\x02" and "ZeroDivisionError: unlucky" in s.message for s in there.said("errors")))
    assert there.answer(there.message(street((CAR, 10)), START + S)).detections


def test_a_jump_back_in_time_drops_the_image_in_work(world: Callable[..., World]) -> None:
    there = world()
    detector = there.detector_node._detector
    detector.gate.clear()
    there.images[""].publish(there.message(street(), START + 100 * S))
    assert there.until(lambda: len(detector.batches) == 1)
    there.images[""].publish(there.message(street(), START))
    assert there.received(2)
    detector.gate.set()
    assert there.until(lambda: bool(there.found[""]))
    assert [conversions.ns_from_stamp(m.header.stamp) for m in there.found[""]] == [START]


def test_compressed_images(world: Callable[..., World]) -> None:
    there = world(image_transport="compressed")
    message = CompressedImage(format="png", header=conversions.header(START, "camera"))
    message.data = cv2.imencode(".png", street((CAR, 10))[..., ::-1])[1].tobytes()
    assert labels(there.answer(message)) == ["car"]
    message.data = b"no image at all"
    there.images[""].publish(message)
    assert there.until(lambda: there.detector_node._statistics.report().values.get("images refused") == 1)


def test_the_diagnostics_say_latency_rate_and_objects(world: Callable[..., World]) -> None:
    there = world(settings=["slow_s=0.05"])
    assert there.until(lambda: any("no images on /image" in s.message for s in there.said("input")))
    for k in range(3):
        there.answer(there.message(street((CAR, 10), (CAR, 30)), START + k))
    assert there.until(lambda: any(kv.key == "images" and kv.value == "3" for s in there.said("detection") for kv in s.values))
    values = {kv.key: kv.value for kv in there.said("detection")[-1].values}
    assert float(values["latency (s)"]) >= 0.05 and float(values["detector per image (s)"]) >= 0.05
    assert values["objects per image"] == "2" and values["objects: car"] == "6" and values["images refused"] == "0"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"detector": ""}, "parameter 'detector' is empty: name one"),
        ({"detector": "colors"}, "there is no detector 'colors'; there are: "),
        ({"labels": ["cars"]}, "parameter 'labels': the detector does not know 'cars'; did you mean 'car'?"),
        ({"mask_labels": ["tree"]}, "parameter 'mask_labels': the detector does not know 'tree'; it knows car, person, traffic light"),
        ({"settings": ["fast"]}, "parameter 'settings': 'fast' is not key=value"),
        ({"settings": ["speed=3"]}, "known keys: weights, batch_size, slow_s, masks"),
        ({"cameras": ["front", "front"]}, "parameter 'cameras' names one twice"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(colours: None, domain: int, parameters: dict[str, Any], words: str, capfd: Any) -> None:
    overrides = [Parameter(name, value=value) for name, value in {"detector": "colours", **parameters}.items()]
    node = object_detector_node.ObjectDetectorNode(parameter_overrides=overrides)
    assert not node.start()
    node.destroy_node()
    lines = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert len(lines) == 1 and words in lines[0]


def test_cleanup_and_another_start_leave_nothing_behind(world: Callable[..., World]) -> None:
    there = world()
    assert there.answer(there.message(street((CAR, 10)))).detections
    node = there.detector_node
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert node.count_publishers("detections") == 0 and not [t for t in threading.enumerate() if t.name == "detect"]
    assert node.start()
    assert there.until(lambda: there.images[""].get_subscription_count() == 1)
    assert there.until(lambda: there.answer(there.message(street((CAR, 10)), START + S)).detections)
