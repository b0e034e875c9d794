"""TF: tf2_ros where a ROS install has it, else the same names and behaviour in Python; and `TransformReader`, which the nodes use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time

from ros2_loc.core import transform_tree as tree
from ros2_loc.core.pose import Pose
from ros2_loc.errors import Ros2LocError
from ros2_loc.ros import qos as profiles
from ros2_loc.ros.conversions import ns_from_stamp, pose_from_transform, transform_stamped

try:
    from tf2_msgs.msg import TFMessage
except ImportError as error:
    raise ImportError("tf2_msgs is not compiled: run `pip install .` or `colcon build` in the folder of ros2_loc") from error


class PythonBuffer:
    """tf2_ros.Buffer: what is known of the frames in the last `cache_time`. Any thread may look up and insert."""

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        self._tree = tree.TransformTree(cache_time.nanoseconds if cache_time else 10_000_000_000)
        self._changed = threading.Condition()
        self._feeder: int | None = None
        self._logger = node.get_logger() if node else get_logger("tf2_buffer")

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Insert a transform; one that is not valid is reported and ignored, as tf2 does."""
        self._insert(transform, authority, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Insert a transform that holds at all times."""
        self._insert(transform, authority, static=True)

    def lookup_transform(self, target_frame: str, source_frame: str, time: Time, timeout: Duration = Duration()) -> TransformStamped:  # noqa: B008
        """`target_frame`-from-`source_frame` at a time (Time(): the latest that the whole chain has), waiting up to `timeout` for it.

        A callback of the thread that fills this buffer does not wait: what it waits for could not come.

        Raises:
            LookupException, ConnectivityException, ExtrapolationException: there is no such transform.
        """
        target, source = target_frame.lstrip("/"), source_frame.lstrip("/")
        self._wait(target, source, time, timeout)
        with self._changed:
            stamp_ns, pose = self._tree.lookup(target, source, time.nanoseconds)
        return transform_stamped(pose, stamp_ns, target, source)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """Whether `lookup_transform` would succeed; with `return_debug_tuple` also why not."""
        problem = self._wait(target_frame.lstrip("/"), source_frame.lstrip("/"), time, timeout)
        return (not problem, problem) if return_debug_tuple else not problem

    def clear(self) -> None:
        """Forget all but the static transforms."""
        with self._changed:
            self._tree.clear()

    def all_frames_as_string(self) -> str:
        """One line for each frame that has a parent."""
        with self._changed:
            return "".join(f"Frame {child} exists with parent {parent}.\n" for child, parent in self._tree.frames().items())

    def fed_by_this_thread(self) -> None:
        """The calling thread is the one that fills the buffer (the listener says so)."""
        self._feeder = threading.get_ident()

    def _wait(self, target: str, source: str, time: Time, timeout: Duration) -> str:
        """Why there is no transform, "" if there is one; waits up to `timeout` for one to come."""
        problem = ""

        def found() -> bool:
            nonlocal problem
            try:
                self._tree.lookup(target, source, time.nanoseconds)
                problem = ""
            except tree.TransformException as error:
                problem = str(error)
            return not problem

        with self._changed:
            patience_s = 0.0 if threading.get_ident() == self._feeder else timeout.nanoseconds * 1e-9
            self._changed.wait_for(found, patience_s)
        return problem

    def _insert(self, transform: TransformStamped, authority: str, static: bool) -> None:
        parent, child = transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")
        try:
            if not parent or not child or parent == child:
                raise Ros2LocError(f"frames {parent!r} and {child!r} must be two names")
            pose, stamp_ns = pose_from_transform(transform.transform), ns_from_stamp(transform.header.stamp)
        except Ros2LocError as error:
            self._logger.error(f"TF ignores {parent!r} -> {child!r} from {authority}: {error}", throttle_duration_sec=5.0)
            return
        with self._changed:
            self._tree.insert(parent, child, stamp_ns, pose, static)
            self._changed.notify_all()


class PythonTransformListener:
    """tf2_ros.TransformListener: fills a buffer from /tf and /tf_static. The node must be spun by its owner."""

    def __init__(self, buffer: PythonBuffer, node: Node, *, qos: QoSProfile | None = None, static_qos: QoSProfile | None = None) -> None:
        self.buffer, self.node = buffer, node
        self.tf_sub = node.create_subscription(TFMessage, "/tf", self.callback, qos or profiles.TF)
        self.tf_static_sub = node.create_subscription(TFMessage, "/tf_static", self.static_callback, static_qos or profiles.TF_STATIC)

    def callback(self, data: TFMessage) -> None:
        """Insert what moves."""
        self._feed(data, self.buffer.set_transform)

    def static_callback(self, data: TFMessage) -> None:
        """Insert what stays."""
        self._feed(data, self.buffer.set_transform_static)

    def unregister(self) -> None:
        """Stop listening."""
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def _feed(self, data: TFMessage, insert: Callable[[TransformStamped, str], None]) -> None:
        self.buffer.fed_by_this_thread()
        for transform in data.transforms:
            insert(transform, "default_authority")


class PythonTransformBroadcaster:
    """tf2_ros.TransformBroadcaster: publishes on /tf."""

    def __init__(self, node: Node, qos: QoSProfile | None = None) -> None:
        self.pub_tf = node.create_publisher(TFMessage, "/tf", qos or profiles.TF)

    def sendTransform(self, transform: TransformStamped | Sequence[TransformStamped]) -> None:  # noqa: N802 - tf2's name
        """Publish one transform or several."""
        self.pub_tf.publish(TFMessage(transforms=_as_list(transform)))


class PythonStaticTransformBroadcaster:
    """tf2_ros.StaticTransformBroadcaster: one latched message on /tf_static with the newest transform of every child sent so far."""

    def __init__(self, node: Node, qos: QoSProfile | None = None) -> None:
        self.pub_tf = node.create_publisher(TFMessage, "/tf_static", qos or profiles.LATCHED)
        self._sent: dict[str, TransformStamped] = {}

    def sendTransform(self, transform: TransformStamped | Sequence[TransformStamped]) -> None:  # noqa: N802 - tf2's name
        """Publish one transform or several, with all earlier ones."""
        self._sent.update({t.child_frame_id: t for t in _as_list(transform)})
        self.pub_tf.publish(TFMessage(transforms=list(self._sent.values())))


def _as_list(transform: TransformStamped | Sequence[TransformStamped]) -> list[TransformStamped]:
    return [transform] if isinstance(transform, TransformStamped) else list(transform)


try:  # a ROS install's own
    from tf2_ros import (
        Buffer,
        ConnectivityException,
        ExtrapolationException,
        LookupException,
        StaticTransformBroadcaster,
        TransformBroadcaster,
        TransformException,
        TransformListener,
    )
except ImportError:
    Buffer, TransformListener = PythonBuffer, PythonTransformListener
    TransformBroadcaster, StaticTransformBroadcaster = PythonTransformBroadcaster, PythonStaticTransformBroadcaster
    TransformException, LookupException = tree.TransformException, tree.LookupException
    ConnectivityException, ExtrapolationException = tree.ConnectivityException, tree.ExtrapolationException


class TransformReader:
    """Poses between frames for a node: buffer and listener in one, emptied when time jumps back (a bag that starts over)."""

    def __init__(self, node: Node, cache_time_s: float = 10.0) -> None:
        self.buffer: Any = Buffer(Duration(seconds=cache_time_s))
        self._listener = TransformListener(self.buffer, node)
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jumps = node.get_clock().create_jump_callback(threshold, post_callback=lambda jump: self.buffer.clear())

    def pose(self, target_frame: str, source_frame: str, stamp_ns: int = 0, timeout_s: float = 0.0) -> Pose:
        """`target_from_source` at a time (0: the latest); with a timeout only from a thread of one's own, never from a callback.

        Raises:
            TransformException: not known, in tf2's words.
        """
        time, timeout = Time(nanoseconds=stamp_ns), Duration(nanoseconds=int(timeout_s * 1e9))
        return pose_from_transform(self.buffer.lookup_transform(target_frame, source_frame, time, timeout).transform)

    def close(self) -> None:
        """Stop listening."""
        self._jumps.unregister()
        self._listener.unregister()
