"""Which messages are paired, and what is said when none are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")

from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from ros2_loc.ros import message_sync as sync
from ros2_loc.ros.conversions import header


class Source(sync.PythonSimpleFilter):
    """A filter fed by hand."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic

    def send(self, seconds: float) -> None:
        self.signalMessage(Image(header=header(round(seconds * 1e9), self.topic)))


class Heard(list):
    def __call__(self, *messages: Any) -> None:
        self.append(tuple(round(m.header.stamp.sec + m.header.stamp.nanosec * 1e-9, 4) if isinstance(m, Image) else m for m in messages))


def approximate(count: int, queue_size: int = 10, slop: float = 0.1) -> tuple[list[Source], sync.PythonApproximateTimeSynchronizer, Heard]:
    sources = [Source(f"topic{i}") for i in range(count)]
    synchronizer, heard = sync.PythonApproximateTimeSynchronizer(sources, queue_size, slop), Heard()
    synchronizer.registerCallback(heard)
    return sources, synchronizer, heard


def test_pairs_come_in_the_order_of_the_filters_whoever_is_first() -> None:
    (a, b), _, heard = approximate(2)
    a.send(1.0)
    b.send(1.05)
    b.send(2.0)
    a.send(2.02)
    assert heard == [(1.0, 1.05), (2.02, 2.0)]


def test_a_message_is_used_once_and_the_nearest_one_is_taken() -> None:
    (a, b), _, heard = approximate(2)
    for t in (1.00, 1.04, 1.08):
        a.send(t)
    b.send(1.05)
    b.send(1.06)
    assert heard == [(1.04, 1.05), (1.08, 1.06)]


def test_the_span_of_a_set_is_less_than_the_slop() -> None:
    (a, b), _, heard = approximate(2, slop=0.1)
    a.send(1.0)
    b.send(1.1)
    assert heard == []
    b.send(1.0999)
    assert heard == [(1.0, 1.0999)]


def test_three_inputs_must_all_be_within_the_slop_of_each_other() -> None:
    (a, b, c), _, heard = approximate(3, slop=0.1)
    a.send(1.00)
    c.send(1.14)
    b.send(1.07)  # near both, which are too far apart
    assert heard == []
    a.send(1.08)
    assert heard == [(1.08, 1.07, 1.14)]


def test_the_oldest_leave_a_full_queue() -> None:
    (a, b), _, heard = approximate(2, queue_size=2)
    for t in (1.0, 2.0, 3.0):
        a.send(t)
    b.send(1.0)
    b.send(2.0)
    assert heard == [(2.0, 2.0)]


def test_extra_arguments_are_handed_on() -> None:
    (a, b), synchronizer, _ = approximate(2)
    heard = Heard()
    synchronizer.registerCallback(heard, "left", 7)
    a.send(1.0)
    b.send(1.0)
    assert heard == [(1.0, 1.0, "left", 7)]


def test_stamps_that_start_over_are_paired_again() -> None:
    (a, b), _, heard = approximate(2, queue_size=3)
    for t in range(100, 110):
        a.send(t)  # nothing on b: the queue is full of the first round
    for t in (1.0, 2.0):
        a.send(t)
        b.send(t)
    assert heard == [(1.0, 1.0), (2.0, 2.0)]


def test_equal_stamps_only() -> None:
    sources, heard = [Source("a"), Source("b")], Heard()
    sync.PythonTimeSynchronizer(sources, 5).registerCallback(heard)
    sources[0].send(1.0)
    sources[1].send(1.000000001)
    sources[1].send(1.0)
    assert heard == [(1.0, 1.0)]


def test_the_problem_is_told() -> None:
    (a, b), synchronizer, _ = approximate(2, slop=0.1)
    assert synchronizer.problem == "nothing was received on topic0, topic1"
    a.send(10.0)
    assert synchronizer.problem == "nothing was received on topic1"
    b.send(10.4)
    b.send(10.3)
    assert synchronizer.problem == "the stamps of topic0, topic1 are 0.300 s apart, slop is 0.100 s"
    b.send(10.05)
    assert synchronizer.problem == ""


def test_messages_without_a_header_or_with_a_broken_stamp_are_named() -> None:
    (a, b), synchronizer, heard = approximate(2)
    a.signalMessage(String(data="x"))
    assert "topic0 have no header: set allow_headerless" in synchronizer.problem
    broken = Image(header=Header(frame_id="camera"))
    broken.header.stamp.nanosec = 4_000_000_000
    b.signalMessage(broken)
    assert "topic1: stamp 0 s 4000000000 ns is not a time" in synchronizer.problem and heard == []


def test_subscribers_over_topics(make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    node = make_node()
    filters = [sync.PythonSubscriber(node, Image, "image"), sync.PythonSubscriber(node, CameraInfo, "info", qos_profile=5)]
    synchronizer = sync.PythonApproximateTimeSynchronizer(filters, 5, 0.05)
    pairs: list[tuple[Any, ...]] = []
    synchronizer.registerCallback(lambda *messages: pairs.append(messages))
    image, info = node.create_publisher(Image, "image", 5), node.create_publisher(CameraInfo, "info", 5)
    assert spin_until(lambda: image.get_subscription_count() == info.get_subscription_count() == 1, node)
    image.publish(Image(header=header(1_000_000_000, "camera")))
    info.publish(CameraInfo(header=header(1_010_000_000, "camera")))
    assert spin_until(lambda: len(pairs) == 1, node)
    assert isinstance(pairs[0][0], Image) and isinstance(pairs[0][1], CameraInfo) and filters[1].getTopic() == "info"


def test_a_message_without_a_header_gets_its_time_of_arrival(make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    node = make_node()
    filters = [sync.PythonSubscriber(node, String, "word"), sync.PythonSubscriber(node, Image, "image")]
    synchronizer = sync.PythonApproximateTimeSynchronizer(filters, 5, 5.0, allow_headerless=True)
    pairs: list[tuple[Any, ...]] = []
    synchronizer.registerCallback(lambda *messages: pairs.append(messages))
    synchronizer.add(String(data="now"), 0)
    synchronizer.add(Image(header=header(node.get_clock().now().nanoseconds, "camera")), 1)
    assert len(pairs) == 1
