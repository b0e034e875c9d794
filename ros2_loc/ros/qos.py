"""Quality of service, named by what the topic carries."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

RELIABILITIES = ("reliable", "best_effort")

# what a subscriber that starts later must still get: maps, static transforms
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# poses, status, paths: few, and none may be missed
RESULT = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def image_qos(reliability: str = "reliable", depth: int = 1) -> QoSProfile:
    """For images: `reliable`, as Fast DDS without a profile loses nearly every large best-effort message, or `best_effort`."""
    policy = ReliabilityPolicy.BEST_EFFORT if reliability == "best_effort" else ReliabilityPolicy.RELIABLE
    return QoSProfile(depth=depth, reliability=policy)


def odometry_qos(reliability: str = "reliable") -> QoSProfile:
    """For odometry and Imu: a node that is busy for a second must still find all of it."""
    return image_qos(reliability, depth=200)


def recorded_qos(topic: str, offered: list[Any], depth: int = 100) -> QoSProfile:
    """What a player offers on a topic: what its publishers offered when it was recorded.

    Args:
        topic: its name; /tf_static is latched whatever the bag says.
        offered: `offered_qos_profiles` of a `rosbags` connection; several when several nodes published.
        depth: least queue length.

    Reliability and durability become the strongest of the offers, which every subscriber of the recorded ones can match. Deadlines,
    lifespans and liveliness are left out: a player keeps none of them.
    """
    latched = topic == "/tf_static" or any(_name(q.durability) == "TRANSIENT_LOCAL" for q in offered)
    best_effort = bool(offered) and not latched and all(_name(q.reliability) == "BEST_EFFORT" for q in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max([depth, *(q.depth for q in offered)]),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        liveliness=LivelinessPolicy.AUTOMATIC,
        lifespan=Duration(),
        deadline=Duration(),
    )


def _name(policy: Any) -> str:
    return str(getattr(policy, "name", policy)).upper()
