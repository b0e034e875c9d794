"""Images and what was detected in them: who is paired with whom, who is waited for, what is said when nobody comes."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("vision_msgs", reason="needs rclpy and the compiled messages: pip install .")

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection, Frame
from ros2_loc.errors import DataError
from ros2_loc.perception.scene_context import SceneContextConfig
from ros2_loc.ros import conversions
from ros2_loc.ros.context_pairing import ContextInput, PairingMailbox, ReceivedImage
from ros2_loc.ros.detection_messages import detections_to_message, mask_to_message
from ros2_loc.ros.diagnostics import Level

LONG_S = 60.0


def image(stamp_ns: int, received_s: float | None = None) -> ReceivedImage:
    return ReceivedImage(f"image {stamp_ns}", stamp_ns, time.perf_counter() if received_s is None else received_s, 0)


def taken(box: PairingMailbox) -> tuple[int, object] | None:
    item = box.take()
    return None if item is None else (item.stamp_ns, item.partner)


def test_the_newest_image_with_a_partner_comes_before_newer_ones_without() -> None:
    box = PairingMailbox(LONG_S)
    for stamp_ns in (1, 2, 3, 4):
        box.put(image(stamp_ns))
    for stamp_ns in (1, 3):
        box.offer(stamp_ns, f"mask {stamp_ns}")
    assert taken(box) == (3, "mask 3") and box.replaced == 2
    box.offer(4, "mask 4")
    assert taken(box) == (4, "mask 4"), "what was newer still waits"
    now = box.pairings()
    assert (now.paired, now.unpaired, now.heard, now.recent) == (2, 0, 3, (True, True)) and len(now.delays_s) == 3


def test_a_partner_may_come_first() -> None:
    box = PairingMailbox(LONG_S)
    box.offer(5, "mask")
    box.put(image(5))
    assert taken(box) == (5, "mask") and box.pairings().delays_s == ()


def test_a_late_partner_wakes_the_one_who_waits() -> None:
    box = PairingMailbox(LONG_S)
    box.put(image(1))
    threading.Timer(0.03, lambda: box.offer(1, "mask")).start()
    assert taken(box) == (1, "mask")


def test_after_the_budget_the_newest_goes_on_without() -> None:
    box = PairingMailbox(0.1)
    began = time.perf_counter()
    box.put(image(1))
    box.put(image(2))
    assert taken(box) == (2, None) and time.perf_counter() - began >= 0.1
    box.offer(2, "too late")
    box.put(image(3))
    assert taken(box) == (3, None)
    now = box.pairings()
    assert (now.paired, now.unpaired, now.heard) == (0, 2, 1) and now.delays_s[0] >= 0.1


def test_an_image_that_is_too_old_is_not_taken_even_with_its_partner() -> None:
    box, now = PairingMailbox(0.2), time.perf_counter()
    box.put(image(1, now - 0.5))
    box.put(image(2, now))
    box.offer(1, "mask of long ago")
    assert taken(box) == (2, None)


def test_nobody_is_waited_for_who_never_comes_until_he_does() -> None:
    box = PairingMailbox(0.02)
    for stamp_ns in range(1, 6):
        box.put(image(stamp_ns))
        assert taken(box) == (stamp_ns, None)
    patient = PairingMailbox(LONG_S)
    patient._without = box._without  # the same, with a budget that would be felt
    patient.put(image(6))
    assert taken(patient) == (6, None)
    patient.offer(6, "late, but alive")
    patient.put(image(7))
    threading.Timer(0.03, lambda: patient.offer(7, "mask")).start()
    assert taken(patient) == (7, "mask")


def test_who_is_always_later_than_the_budget_is_not_waited_for() -> None:
    box = PairingMailbox(LONG_S)
    for stamp_ns in range(1, 6):
        box.put(image(stamp_ns, time.perf_counter() - 2 * LONG_S))
        box.offer(stamp_ns, "late")
        assert taken(box) == (stamp_ns, "late")
    box.put(image(6))
    assert taken(box) == (6, None)
    box.put(image(7))
    box.offer(7, "in time at last")
    assert taken(box) == (7, "in time at last")
    threading.Timer(0.03, lambda: box.offer(8, "mask")).start()
    box.put(image(8))
    assert taken(box) == (8, "mask")


def test_a_jump_back_forgets_images_and_partners() -> None:
    box, s = PairingMailbox(LONG_S), 1_000_000_000
    box.put(image(100 * s))
    box.offer(100 * s, "mask")
    assert taken(box) == (100 * s, "mask")
    box.offer(101 * s, "of the round before")
    box.offer(7 * s, "of the new round, before its image")
    box.clear()
    box.put(image(101 * s))
    box.put(image(7 * s))
    assert taken(box) == (7 * s, "of the new round, before its image")
    box.offer(101 * s, "mask")
    assert taken(box) == (101 * s, "mask")


def test_closing_wakes_and_nothing_comes_any_more() -> None:
    box = PairingMailbox(LONG_S)
    box.put(image(1))
    threading.Timer(0.03, box.close).start()
    assert taken(box) is None
    box.put(image(2))
    assert taken(box) is None


def test_memory_does_not_grow() -> None:
    box = PairingMailbox(LONG_S)
    for stamp_ns in range(1, 1001):
        box.put(image(stamp_ns))
        box.offer(5000 + stamp_ns, "mask of another camera")
    assert max(map(len, (box._images, box._partners, box._arrived))) <= 64


def frame(mask: np.ndarray | None = None) -> Frame:
    return Frame(1, np.zeros((40, 60, 3), dtype=np.uint8), Camera.pinhole(60, 40, 50.0, 50.0, 30.0, 20.0), Pose.identity(), mask=mask)


def car(label: str = "car", score: float = 0.9) -> Detection:
    return Detection(np.array([10, 10, 20, 20], dtype=np.float32), label, score)


HEADER = conversions.header(1, "camera")


def test_boxes_of_movers_are_masked_by_the_pipelines_context() -> None:
    heard = ContextInput("detections", SceneContextConfig(margin_px=2.0, margin_share=0.0), 0.1)
    found = [car(), car("bench"), car("person", score=0.1)]
    mask = heard.masked(frame(), detections_to_message(found, HEADER)).mask
    assert mask is not None
    expected = np.ones((40, 60), dtype=bool)
    expected[8:22, 8:22] = False
    np.testing.assert_array_equal(mask, expected)
    empty = heard.masked(frame(), detections_to_message([], HEADER)).mask
    assert empty is not None and empty.all()


def test_a_mask_is_taken_as_it_is() -> None:
    heard = ContextInput("mask", SceneContextConfig(), 0.1)
    moving = np.random.default_rng(1).random((40, 60)) > 0.7
    np.testing.assert_array_equal(heard.masked(frame(), mask_to_message(moving, HEADER)).mask, ~moving)
    with pytest.raises(DataError, match="it is 59x40 but the image is 60x40"):
        heard.masked(frame(), mask_to_message(moving[:, 1:], HEADER))
    assert heard.report("/detections/mask").values["refused"] == 1


def test_the_report_says_why_images_go_without() -> None:
    def after(*, messages: tuple[int, ...] = (), late_s: float = 0.0, wait_s: float = 0.0) -> str:
        heard = ContextInput("mask", SceneContextConfig(), wait_s)
        heard.mailbox.put(image(1, time.perf_counter() - late_s))
        assert taken(heard.mailbox) == (1, None)
        for stamp_ns in messages:
            heard.received(mask_to_message(np.zeros((4, 4), dtype=bool), conversions.header(stamp_ns, "")))
        report = heard.report("/detections/mask")
        assert report.level == Level.WARN and report.message.startswith("1 of the last 1 images were localized without: ")
        return report.message.split(": ", 1)[1]

    assert after() == "nothing comes on /detections/mask"
    assert after(messages=(7, 8)) == "no message on /detections/mask has the stamp of an image"
    assert after(messages=(1,), late_s=2.0) == "/detections/mask is 2.00 s behind the images; raise context_wait_ms (0)"
    assert ContextInput("mask", SceneContextConfig(), 0.1).report("x").level == Level.OK


def test_class_ids_that_are_numbers_are_told() -> None:
    heard = ContextInput("detections", SceneContextConfig(), 0.1)
    mask = heard.masked(frame(), detections_to_message([car("2"), car("0")], HEADER)).mask
    assert mask is not None and mask.all()
    assert "class ids on /yolo are numbers (0, 2): name those to mask" in heard.report("/yolo").message
    known = ContextInput("detections", SceneContextConfig(labels=("2",)), 0.1)
    mask = known.masked(frame(), detections_to_message([car("2")], HEADER)).mask
    assert mask is not None and not mask.all() and known.report("/yolo").level == Level.OK
