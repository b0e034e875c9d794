"""/diagnostics and the qualities of service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("diagnostic_msgs", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from ros2_loc.ros import qos
from ros2_loc.ros.diagnostics import Diagnostics, Level, RateMeter, Report


def test_reports_are_published_together_and_a_raising_task_is_an_error(
    make_node: Callable[..., Any], spin_until: Callable[..., bool]
) -> None:
    node = make_node("localizer")
    diagnostics, heard = Diagnostics(node, "front camera"), []
    diagnostics.add("images", lambda: Report(Level.WARN, "slow", {"rate_hz": 3.14159, "count": 7, "age_s": None}))
    diagnostics.add("worker", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    assert spin_until(lambda: node.count_subscribers("/diagnostics") == 1, node)
    assert spin_until(lambda: bool(diagnostics.publish() or heard), node)
    images, worker = heard[0].status
    assert (images.name, images.message, images.level, images.hardware_id) == (
        "localizer: images",
        "slow",
        DiagnosticStatus.WARN,
        "front camera",
    )
    assert {v.key: v.value for v in images.values} == {"rate_hz": "3.142", "count": "7", "age_s": "never"}
    assert worker.level == DiagnosticStatus.ERROR and "ZeroDivisionError" in worker.message
    assert heard[0].header.stamp.sec > 0


def test_the_rate_falls_when_nothing_comes_any_more() -> None:
    now = [0.0]
    meter = RateMeter(window=10, clock=lambda: now[0])
    assert meter.rate_hz == 0.0 and meter.age_s is None
    for i in range(30):
        now[0] = i * 0.1
        meter.tick()
    assert meter.rate_hz == pytest.approx(10.0) and meter.age_s == 0.0 and meter.count == 30
    now[0] += 5.0
    assert meter.rate_hz == pytest.approx(0.2) and meter.age_s == pytest.approx(5.0)


def offer(reliability: str = "RELIABLE", durability: str = "VOLATILE", depth: int = 1) -> Qos:
    t = QosTime(0, 0)
    return Qos(QosHistory.KEEP_LAST, depth, QosReliability[reliability], QosDurability[durability], t, t, QosLiveliness.AUTOMATIC, t, False)


@pytest.mark.parametrize(
    ("topic", "offered", "reliability", "durability"),
    [
        ("/odom", [], ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
        ("/tf_static", [], ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
        ("/map", [offer(durability="TRANSIENT_LOCAL")], ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
        ("/imu", [offer("BEST_EFFORT")], ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE),
        ("/imu", [offer("BEST_EFFORT"), offer()], ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
        ("/imu", [offer("UNKNOWN", "UNKNOWN")], ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
    ],
)
def test_a_player_offers_what_was_recorded(topic: str, offered: list[Qos], reliability: Any, durability: Any) -> None:
    profile = qos.recorded_qos(topic, offered)
    assert (profile.reliability, profile.durability) == (reliability, durability) and profile.depth >= 100


def test_image_qos_is_reliable_unless_told() -> None:
    assert qos.image_qos().reliability == ReliabilityPolicy.RELIABLE and qos.image_qos().depth == 1
    assert (
        isinstance(qos.image_qos("best_effort"), QoSProfile) and qos.image_qos("best_effort").reliability == ReliabilityPolicy.BEST_EFFORT
    )
