"""What a node says about its health on /diagnostics: rates, ages, counts (diagnostic_updater is not on PyPI)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True)
class Report:
    """How one thing is: level, one line for people, and named values (numbers are shortened to 4 digits)."""

    level: Level
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Diagnostics:
    """Asks each of its tasks how it is and publishes the answers together, named "<node>: <task>" as diagnostic_updater does."""

    def __init__(self, node: Node, hardware_id: str = "") -> None:
        self._node, self._hardware_id = node, hardware_id
        self._tasks: dict[str, Callable[[], Report]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))

    def add(self, name: str, task: Callable[[], Report]) -> None:
        """Ask `task` from now on; one of the same name is replaced."""
        self._tasks[name] = task

    def publish(self) -> None:
        """Ask all and publish; call it about once a second from a timer. A task that raises is reported as an error."""
        array = DiagnosticArray(status=[self._status(name, task) for name, task in self._tasks.items()])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def close(self) -> None:
        """Take the publisher away."""
        self._node.destroy_publisher(self._publisher)

    def _status(self, name: str, task: Callable[[], Report]) -> DiagnosticStatus:
        try:
            report = task()
        except Exception as error:
            report = Report(Level.ERROR, f"cannot be diagnosed: {type(error).__name__}: {error}")
        return DiagnosticStatus(
            level=bytes([report.level]),
            name=f"{self._node.get_name()}: {name}",
            message=report.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in report.values.items()],
        )


class RateMeter:
    """Rate and age of what happens now and then, by the steady clock; any thread may tick."""

    def __init__(self, window: int = 50, clock: Callable[[], float] = time.monotonic) -> None:
        self._ticks: deque[float] = deque(maxlen=window)
        self._clock, self._lock = clock, threading.Lock()
        self._count = 0

    def tick(self) -> None:
        """It happened."""
        with self._lock:
            self._ticks.append(self._clock())
            self._count += 1

    @property
    def count(self) -> int:
        """How often it has happened."""
        return self._count

    @property
    def age_s(self) -> float | None:
        """Seconds since it last happened, None if never."""
        with self._lock:
            return self._clock() - self._ticks[-1] if self._ticks else None

    @property
    def rate_hz(self) -> float:
        """Mean rate over the window, falling towards 0 once it stops; 0 before the second time."""
        with self._lock:
            if len(self._ticks) < 2:
                return 0.0
            intervals = len(self._ticks) - 1
            period = (self._ticks[-1] - self._ticks[0]) / intervals
            silence = self._clock() - self._ticks[-1]
            return 1.0 / max(period, silence, 1e-9)


def _text(value: Any) -> str:
    if value is None:
        return "never"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
