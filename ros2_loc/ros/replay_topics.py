"""What of a bag goes onto topics: which topics, as which type, with which quality of service, and which transforms not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from rosbags.interfaces import Connection, Qos
from sensor_msgs.msg import CompressedImage, Image

from ros2_loc.ros.qos import recorded_qos


@dataclass(frozen=True, slots=True)
class Selection:
    """Which topics are played: patterns with * and ?.

    Attributes:
        include: only these, all when empty.
        exclude: not these.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __contains__(self, topic: str) -> bool:
        wanted = not self.include or any(fnmatchcase(topic, pattern) for pattern in self.include)
        return wanted and not any(fnmatchcase(topic, pattern) for pattern in self.exclude)


def message_class(msgtype: str) -> type | None:
    """The class of `package/msg/Name`, None where that package is not installed."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


class ReplayTopics:
    """One publisher for each topic that is played; they take messages as they are in the bag."""

    def __init__(self, node: Node, connections: Sequence[Connection], selection: Selection, left_out: Sequence[str]) -> None:
        """
        Args:
            node: makes the publishers.
            connections: of the bag.
            selection: which of them.
            left_out: transforms "parent->child" that are taken out of /tf and /tf_static.
        """
        self._node = node
        self._publishers: dict[str, Publisher] = {}
        self._types: dict[str, type] = {}
        self._left_out = {tuple(name.strip() for name in pair.split("->")) for pair in left_out}
        self.unknown: dict[str, str] = {}
        offers: dict[str, list[Qos]] = {c.topic: [] for c in connections}  # several, where several nodes published
        for connection in connections:
            offers[connection.topic] += getattr(connection.ext, "offered_qos_profiles", [])
        for topic, msgtype in {c.topic: c.msgtype for c in connections}.items():
            if topic in selection:
                self._advertise(topic, msgtype, offers[topic])

    @property
    def names(self) -> frozenset[str]:
        """The topics that are played."""
        return frozenset(self._publishers)

    @property
    def latched(self) -> frozenset[str]:
        """Those of them whose last message a late subscriber still gets."""
        return frozenset(n for n, p in self._publishers.items() if p.qos_profile.durability.name == "TRANSIENT_LOCAL")

    def publish(self, topic: str, raw: bytes) -> None:
        """Publish a message in its serialized form (CDR)."""
        kept = self._without_left_out(raw, self._types[topic]) if topic in ("/tf", "/tf_static") and self._left_out else raw
        if kept is not None:
            self._publishers[topic].publish(kept)

    def images_without_subscribers(self, count: int) -> list[str]:
        """The image topics, when none of them has so many subscribers; localizers take one of raw and compressed."""
        images = [name for name, kind in self._types.items() if kind in (Image, CompressedImage)]
        return [] if any(self._publishers[name].get_subscription_count() >= count for name in images) else images

    def flush(self, timeout_s: float) -> None:
        """Wait until the subscribers have all that was sent reliably, or the time is over."""
        end = time.monotonic() + timeout_s
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(nanoseconds=max(0, round((end - time.monotonic()) * 1e9))))

    def close(self) -> None:
        """Take the publishers away."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _advertise(self, topic: str, msgtype: str, offered: list[Qos]) -> None:
        kind = message_class(msgtype)
        if kind is None:
            self.unknown[topic] = msgtype
            return
        self._types[topic] = kind
        self._publishers[topic] = self._node.create_publisher(kind, topic, recorded_qos(topic, offered))

    def _without_left_out(self, raw: bytes, kind: type) -> Any:
        """The message without the transforms that are left out: as it was where there are none, None where nothing stays."""
        message: Any = deserialize_message(raw, kind)
        kept = [t for t in message.transforms if (t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/")) not in self._left_out]
        if len(kept) == len(message.transforms):
            return raw
        message.transforms = kept
        return message if kept else None
