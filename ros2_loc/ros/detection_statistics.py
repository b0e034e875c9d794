"""What a detector did with its images, for /diagnostics."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from ros2_loc.core.types import Detection
from ros2_loc.ros.diagnostics import Level, RateMeter, Report

_RECENT = 20


class DetectionStatistics:
    """Any thread may add and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = RateMeter()
        self._latencies_s: deque[float] = deque(maxlen=_RECENT)
        self._batches: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._objects: deque[int] = deque(maxlen=_RECENT)
        self._labels: Counter[str] = Counter()
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._refused, self._last_refusal = 0, ""

    def add_batch(self, size: int, detect_s: float) -> None:
        """The detector has taken `detect_s` seconds for `size` images."""
        with self._lock:
            self._batches.append((size, detect_s))

    def add(self, detections: Sequence[Detection], latency_s: float) -> None:
        """An image was answered with these detections, so long after it had arrived."""
        self._images.tick()
        with self._lock:
            self._recent.append(True)
            self._latencies_s.append(latency_s)
            self._objects.append(len(detections))
            self._labels.update(detection.label for detection in detections)

    def add_refusal(self, why: str) -> None:
        """An image could not be used."""
        with self._lock:
            self._recent.append(False)
            self._refused, self._last_refusal = self._refused + 1, why

    def report(self) -> Report:
        """ERROR when no recent image could be used, WARN when most could not."""
        with self._lock:
            if not self._recent:
                return Report(Level.OK, "no image yet")
            values: dict[str, Any] = {
                "rate (Hz)": self._images.rate_hz,
                "latency (s)": _mean(self._latencies_s),
                "longest latency (s)": max(self._latencies_s, default=None),
                "detector per image (s)": _mean([seconds / size for size, seconds in self._batches]),
                "images per batch": _mean([size for size, _ in self._batches]),
                "images": self._images.count,
                "images refused": self._refused,
                "objects per image": _mean(self._objects),
                "objects in the last image": self._objects[-1] if self._objects else None,
                **{f"objects: {label}": count for label, count in sorted(self._labels.items())},
            }
            used, count, refusal = sum(self._recent), len(self._recent), self._last_refusal
        if self._refused:
            values["last refusal"] = refusal
        if 2 * used < count:
            return Report(Level.WARN if used else Level.ERROR, f"{count - used} of the last {count} images refused: {refusal}", values)
        return Report(Level.OK, f"{values['objects per image']:.1f} objects per image, {values['rate (Hz)']:.1f} images/s", values)


def _mean(values: Sequence[float] | deque[float] | deque[int]) -> float | None:
    return sum(values) / len(values) if values else None
