"""Detections and masks as messages, ours and anybody's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vision_msgs", reason="needs rclpy and the compiled messages: pip install .")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose

from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.ros import conversions
from ros2_loc.ros.detection_messages import detections_from_message, detections_to_message, mask_from_message, mask_to_message

SIZE = (60, 100)
HEADER = conversions.header(1_700_000_000_123_456_789, "camera")


def box_message(x: float, y: float, w: float, h: float, theta: float = 0.0, **scores: float) -> Detection2D:
    box = BoundingBox2D(size_x=w, size_y=h)
    box.center.position.x, box.center.position.y, box.center.theta = x, y, theta
    results = [ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=score)) for name, score in scores.items()]
    return Detection2D(bbox=box, results=results)


coordinates = st.floats(0, 60, width=32)
detections = st.builds(
    lambda x, y, w, h, label, score: Detection(np.array([x, y, x + w, y + h], dtype=np.float32), label, score),
    *(coordinates, st.floats(0, 30, width=32), st.floats(0, 40, width=32), st.floats(0, 30, width=32)),
    *(st.sampled_from(["car", "person", "straßenbahn"]), st.floats(0, 1)),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(detections, max_size=5))
def test_what_goes_out_comes_back(found: list[Detection]) -> None:
    found.sort(key=lambda one: -one.score)
    sent = deserialize_message(serialize_message(detections_to_message(found, HEADER)), Detection2DArray)
    assert sent.header == HEADER and all(one.header == HEADER for one in sent.detections)
    back = detections_from_message(sent, SIZE)
    assert [(one.label, one.score) for one in back] == [(one.label, one.score) for one in found]
    for one, other in zip(back, found, strict=True):
        np.testing.assert_allclose(one.box, other.box, atol=1e-4)


def test_what_is_not_known_stays_empty() -> None:
    (message,) = detections_to_message([Detection(np.array([10, 20, 11, 22], dtype=np.float32), "car", 0.5)], HEADER).detections
    assert (message.bbox.center.position.x, message.bbox.center.position.y) == (10.5, 21.0)
    assert (message.bbox.size_x, message.bbox.size_y, message.bbox.center.theta, message.id) == (1.0, 2.0, 0.0, "")
    (result,) = message.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("car", 0.5) and not np.any(result.pose.covariance)
    assert detections_to_message([], HEADER).detections == []


def test_of_several_classes_the_best_counts_and_of_none_nothing_is_said() -> None:
    boxes = [box_message(10, 10, 4, 4, car=0.3, truck=0.6), box_message(5, 5, 2, 2), box_message(5, 5, 2, 2, bus=0.9)]
    found = detections_from_message(Detection2DArray(detections=boxes), SIZE)
    assert [(one.label, one.score) for one in found] == [("bus", 0.9), ("truck", 0.6)]


def test_boxes_are_cut_at_the_image_and_turned_ones_become_upright() -> None:
    turned = box_message(50, 30, 20, 10, math.pi / 2, car=0.9)
    outside = box_message(95, 2, 20, 10, car=0.8)
    far = box_message(500, 500, 20, 10, car=0.7)
    boxes = [one.box.tolist() for one in detections_from_message(Detection2DArray(detections=[turned, outside, far]), SIZE)]
    assert boxes[0] == pytest.approx([45, 20, 55, 40]) and boxes[1] == [85, 0, 100, 7]
    assert boxes[2] == [100, 60, 100, 60], "without an area: it masks nothing"


@pytest.mark.parametrize(
    "bad",
    [
        box_message(float("nan"), 0, 1, 1, car=0.5),
        box_message(0, 0, float("inf"), 1, car=0.5),
        box_message(0, 0, 1, 1, float("nan"), car=0.5),
        box_message(0, 0, 1, 1, car=0.5, truck=float("nan")),
        box_message(0, 0, -1, 1, car=0.5),
    ],
)
def test_numbers_that_are_none_are_refused_with_the_detection(bad: Detection2D) -> None:
    with pytest.raises(DataError, match="detection 1 \\('car'\\) refused") as refused:
        detections_from_message(Detection2DArray(detections=[box_message(1, 1, 1, 1, car=1.0), bad]), SIZE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("padding", [0, 3])
def test_a_mask_comes_back(padding: int) -> None:
    moving = np.random.default_rng(0).random(SIZE) > 0.5
    message = mask_to_message(moving, HEADER)
    assert (message.encoding, message.step, message.header) == ("mono8", 100, HEADER) and set(message.data) == {0, 255}
    rows = np.frombuffer(message.data, np.uint8).reshape(SIZE)
    message.step, message.data = 100 + padding, np.pad(rows, ((0, 0), (0, padding))).tobytes()
    np.testing.assert_array_equal(mask_from_message(message, SIZE), moving)


def changed(**fields: Any) -> Image:
    message = mask_to_message(np.zeros(SIZE, dtype=bool), Header())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (changed(encoding="rgb8"), "its encoding is 'rgb8'; send mono8"),
        (changed(height=59), "it is 100x59 but the image is 100x60"),
        (changed(data=b"\0" * 10), "has 10 bytes"),
        (Image(), "its encoding is ''"),
    ],
)
def test_a_mask_that_is_none_of_the_image_is_refused(message: Image, words: str) -> None:
    with pytest.raises(DataError, match=words):
        mask_from_message(message, SIZE)
