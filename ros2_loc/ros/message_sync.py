"""Sets of messages that belong together by their stamps: message_filters where a ROS install has it, else the same names in Python.

Source of the behaviour: message_filters (__init__.py): each new message looks, in every other topic's queue, for messages within `slop`,
and the first combination (nearest first) whose stamps span less than `slop` is signalled and taken from the queues. Ours also knows why it
does not fire (`problem`), and starts over when stamps jump back.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from ros2_loc.errors import DataError
from ros2_loc.ros.conversions import ns_from_stamp

_MAX_COMBINATIONS = 10_000
_JUMP_NS = 1_000_000_000  # a stamp this much older than its topic's newest starts over


class PythonSimpleFilter:
    """Something that callbacks can be registered with."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:  # noqa: N802 - message_filters' name
        """Call `cb(*messages, *args)` for every message or set; returns the registration's number."""
        number = len(self.callbacks)
        self.callbacks[number] = (cb, args)
        return number

    def signalMessage(self, *msg: Any) -> None:  # noqa: N802 - message_filters' name
        """Pass a message, or a set of them, to every callback."""
        for cb, args in list(self.callbacks.values()):
            cb(*msg, *args)


class PythonSubscriber(PythonSimpleFilter):
    """message_filters.Subscriber: a subscription as a filter."""

    def __init__(self, node: Node, msg_type: type, topic: str, qos_profile: QoSProfile | int = 10, **kwargs: Any) -> None:
        super().__init__()
        self.node, self.topic = node, topic
        self.sub = node.create_subscription(msg_type, topic, self.signalMessage, qos_profile, **kwargs)

    def getTopic(self) -> str:  # noqa: N802 - message_filters' name
        """The topic as it was given."""
        return self.topic


class PythonApproximateTimeSynchronizer(PythonSimpleFilter):
    """message_filters.ApproximateTimeSynchronizer: callbacks get one message of every filter, stamps less than `slop` apart.

    Args:
        fs: the filters, in the order of the callback's arguments.
        queue_size: how many messages of each filter are kept while they wait; the oldest go first.
        slop: seconds.
        allow_headerless: a message without a header gets its time of arrival (the node's clock) as its stamp, else it is left out.
    """

    def __init__(self, fs: Sequence[Any], queue_size: int, slop: float, allow_headerless: bool = False) -> None:
        super().__init__()
        self.queue_size, self.slop_ns, self.allow_headerless = queue_size, round(slop * 1e9), allow_headerless
        self.lock = threading.Lock()
        self.input_connections: list[int] = []
        self.queues: list[dict[int, Any]] = []
        self._fs: list[Any] = []
        self._received: list[int] = []
        self._newest: list[int] = []
        self._fired, self._refused = 0, ""
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[Any]) -> None:  # noqa: N802 - message_filters' name
        """Listen to these filters, with empty queues."""
        self._fs, self.queues = list(fs), [{} for _ in fs]
        self._received, self._newest = [0] * len(fs), [0] * len(fs)
        self.input_connections = [f.registerCallback(self.add, i) for i, f in enumerate(fs)]

    def add(self, msg: Any, index: int) -> None:
        """Take a message of filter number `index` and signal the set it completes, if any."""
        stamp_ns = self._stamp_ns(msg, index)
        if stamp_ns is None:
            return
        with self.lock:
            self._queue(msg, stamp_ns, index)
            stamps = self._matching(stamp_ns, index)
            messages = [queue.pop(ns) for queue, ns in zip(self.queues, stamps, strict=True)] if stamps else None
            self._fired += messages is not None
        if messages:
            self.signalMessage(*messages)

    @property
    def problem(self) -> str:
        """Why no set has been signalled yet: which input is silent, has no header, or how far apart the stamps are; "" once one was."""
        with self.lock:
            if self._fired:
                return ""
            if self._refused:
                return self._refused
            silent = [self._name(i) for i, count in enumerate(self._received) if not count]
            if silent:
                return f"nothing was received on {', '.join(silent)}"
            if not all(self.queues):
                return "the stamps have just started over"
            names = ", ".join(map(self._name, range(len(self._fs))))
            return f"the stamps of {names} are {self._smallest_span_ns() * 1e-9:.3f} s apart, slop is {self.slop_ns * 1e-9:.3f} s"

    def _queue(self, msg: Any, stamp_ns: int, index: int) -> None:
        queue = self.queues[index]
        if stamp_ns < self._newest[index] - max(self.slop_ns, _JUMP_NS):
            self._newest = [0] * len(self.queues)
            for other in self.queues:  # of full queues the older messages fall out at once: for ever, when a bag starts over
                other.clear()
        self._received[index] += 1
        self._newest[index] = stamp_ns
        queue[stamp_ns] = msg
        while len(queue) > self.queue_size:
            del queue[min(queue)]

    def _matching(self, stamp_ns: int, index: int) -> tuple[int, ...] | None:
        """The stamps, one for each queue, of the set that the new message completes."""
        choices: list[list[int]] = []
        for i, queue in enumerate(self.queues):
            near = [stamp_ns] if i == index else [ns for ns in queue if abs(ns - stamp_ns) <= self.slop_ns]
            choices.append(sorted(near, key=lambda ns: abs(ns - stamp_ns)))
        if stamp_ns not in self.queues[index]:
            return None
        combinations = itertools.islice(itertools.product(*choices), _MAX_COMBINATIONS)
        return next((stamps for stamps in combinations if self._belong_together(stamps)), None)

    def _belong_together(self, stamps: Sequence[int]) -> bool:
        return max(stamps) - min(stamps) < self.slop_ns

    def _stamp_ns(self, msg: Any, index: int) -> int | None:
        if not hasattr(msg, "header") and self.allow_headerless:
            return int(self._fs[index].node.get_clock().now().nanoseconds)
        try:
            return ns_from_stamp(msg.header.stamp)
        except AttributeError:
            self._refused = f"messages of {self._name(index)} have no header: set allow_headerless, or send stamped ones"
        except DataError as error:
            self._refused = f"{self._name(index)}: {error}"
        return None

    def _smallest_span_ns(self) -> int:
        """The span of the closest set around any waiting message."""
        return min(self._span_around(centre) for queue in self.queues for centre in queue)

    def _span_around(self, centre_ns: int) -> int:
        nearest = [min(queue, key=lambda ns: abs(ns - centre_ns)) for queue in self.queues]
        return max(nearest) - min(nearest)

    def _name(self, index: int) -> str:
        return str(getattr(self._fs[index], "topic", f"input {index}"))


class PythonTimeSynchronizer(PythonApproximateTimeSynchronizer):
    """message_filters.TimeSynchronizer: sets of messages with equal stamps."""

    def __init__(self, fs: Sequence[Any], queue_size: int) -> None:
        super().__init__(fs, queue_size, slop=0.0)

    def _belong_together(self, stamps: Sequence[int]) -> bool:
        return max(stamps) == min(stamps)


try:  # a ROS install's own
    from message_filters import ApproximateTimeSynchronizer, Subscriber, TimeSynchronizer
except ImportError:
    Subscriber = PythonSubscriber
    ApproximateTimeSynchronizer, TimeSynchronizer = PythonApproximateTimeSynchronizer, PythonTimeSynchronizer
