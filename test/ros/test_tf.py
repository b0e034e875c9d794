"""The buffer over topics: waiting, time jumps, latched static transforms, invalid input."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tf2_msgs", reason="needs rclpy and the compiled messages: pip install .")

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from ros2_loc.core.pose import Pose
from ros2_loc.ros import tf
from ros2_loc.ros.conversions import stamp_from_ns, transform_stamped

S = 1_000_000_000
POSE = Pose.exp([1, 2, 3, 0.1, 0.2, 0.3])


def sample(parent: str, child: str, seconds: float, pose: Pose = POSE) -> TransformStamped:
    return transform_stamped(pose, int(seconds * S), parent, child)


def test_lookup_gives_a_stamped_transform_of_the_target_from_the_source() -> None:
    buffer = tf.PythonBuffer()
    buffer.set_transform(sample("/odom", "base", 2), "test")
    found = buffer.lookup_transform("odom", "/base", Time())
    assert (found.header.frame_id, found.child_frame_id, found.header.stamp.sec) == ("odom", "base", 2)
    np.testing.assert_allclose([found.transform.translation.x, found.transform.rotation.w], [1, POSE.quaternion_xyzw[3]])
    assert buffer.can_transform("odom", "base", Time(seconds=2)) and not buffer.can_transform("odom", "base", Time(seconds=3))
    assert buffer.can_transform("odom", "nose", Time(), return_debug_tuple=True)[1].startswith('"nose" passed')
    assert buffer.all_frames_as_string() == "Frame base exists with parent odom.\n"


def test_a_lookup_waits_in_its_own_thread_until_the_data_comes() -> None:
    buffer = tf.PythonBuffer()
    buffer.set_transform(sample("odom", "base", 1), "test")
    threading.Timer(0.2, lambda: buffer.set_transform(sample("odom", "base", 3), "test")).start()
    begin = time.monotonic()
    found = buffer.lookup_transform("odom", "base", Time(seconds=2), Duration(seconds=5))
    assert 0.1 < time.monotonic() - begin < 2 and found.header.stamp.sec == 2


def test_a_lookup_gives_up_at_its_timeout() -> None:
    buffer, begin = tf.PythonBuffer(), time.monotonic()
    with pytest.raises(tf.tree.LookupException):
        buffer.lookup_transform("odom", "base", Time(), Duration(seconds=0.2))
    assert 0.15 < time.monotonic() - begin < 1


def test_the_thread_that_fills_the_buffer_never_waits() -> None:
    buffer = tf.PythonBuffer()
    buffer.fed_by_this_thread()
    begin = time.monotonic()
    assert not buffer.can_transform("odom", "base", Time(), Duration(seconds=5))
    assert time.monotonic() - begin < 0.5


def test_what_is_not_valid_is_ignored() -> None:
    buffer = tf.PythonBuffer()
    nan, long, same, anonymous = (sample("odom", "base", 1) for _ in range(4))
    nan.transform.translation.x = float("nan")
    long.transform.rotation.w = 2.0
    same.child_frame_id, anonymous.child_frame_id = "odom", ""
    for message in (nan, long, same, anonymous):
        buffer.set_transform(message, "test")
    assert buffer.all_frames_as_string() == ""


def test_a_late_listener_gets_all_static_transforms(make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    sender = make_node("sender")
    static = tf.PythonStaticTransformBroadcaster(sender)
    static.sendTransform(sample("base", "camera", 0))
    static.sendTransform([sample("base", "gps", 0)])
    listener = make_node("listener")
    reader = tf.TransformReader(listener)
    assert spin_until(lambda: reader.buffer.can_transform("camera", "gps", Time()), sender, listener)
    np.testing.assert_allclose(reader.pose("base", "gps", 123 * S).matrix, POSE.matrix, atol=1e-12)
    reader.close()


def test_moving_transforms_travel(make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    sender, listener = make_node("sender"), make_node("listener")
    broadcaster, reader = tf.PythonTransformBroadcaster(sender), tf.TransformReader(listener)
    assert spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 1, sender, listener)
    broadcaster.sendTransform([sample("odom", "base", 1), sample("odom", "base", 2)])
    assert spin_until(lambda: reader.buffer.can_transform("odom", "base", Time(seconds=1.5)), sender, listener)
    with pytest.raises(tf.ExtrapolationException):
        reader.pose("odom", "base", 3 * S)
    reader.close()
    assert listener.count_subscribers("/tf") == 0


def test_a_jump_back_of_the_clock_empties_the_buffer(make_node: Callable[..., Any], spin_until: Callable[..., bool]) -> None:
    node = make_node("listener", parameter_overrides=[Parameter("use_sim_time", value=True)])
    reader, clock = tf.TransformReader(node), node.create_publisher(Clock, "/clock", 1)
    assert spin_until(lambda: clock.get_subscription_count() > 0, node)
    clock.publish(Clock(clock=stamp_from_ns(100 * S)))
    assert spin_until(lambda: node.get_clock().now().nanoseconds == 100 * S, node)
    reader.buffer.set_transform(sample("odom", "base", 100), "test")
    reader.buffer.set_transform_static(sample("base", "camera", 0), "test")
    clock.publish(Clock(clock=stamp_from_ns(101 * S)))
    assert spin_until(lambda: node.get_clock().now().nanoseconds == 101 * S, node)
    assert reader.buffer.can_transform("odom", "camera", Time()), "time that goes on takes nothing away"
    clock.publish(Clock(clock=stamp_from_ns(50 * S)))
    assert spin_until(lambda: node.get_clock().now().nanoseconds == 50 * S, node)
    assert not reader.buffer.can_transform("odom", "camera", Time())
    assert reader.buffer.can_transform("base", "camera", Time()), "nobody sends static transforms again"
    reader.close()
