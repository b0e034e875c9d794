"""What became of a localizer's images, for /diagnostics."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from ros2_loc.core.types import PoseEstimate, Rejection
from ros2_loc.ros.diagnostics import Level, RateMeter, Report

_RECENT = 20


class FrameStatistics:
    """Any thread may add and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = RateMeter()
        self._accepted, self._rejected = 0, Counter[str]()
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._stages: deque[dict[str, float]] = deque(maxlen=_RECENT)
        self._latencies_s: deque[float] = deque(maxlen=_RECENT)
        self._last: PoseEstimate | Rejection | None = None
        self._more: Mapping[str, Any] = {}

    def add(
        self, result: PoseEstimate | Rejection, stage_s: dict[str, float], latency_s: float, more: Mapping[str, Any] | None = None
    ) -> None:
        """Count one image.

        Args:
            result: what it led to.
            stage_s: seconds per stage.
            latency_s: from the arrival of the image to its result.
            more: values that are shown for the newest image.
        """
        accepted = isinstance(result, PoseEstimate)
        self._frames.tick()
        with self._lock:
            self._last, self._more = result, dict(more or {})
            self._recent.append(accepted)
            self._latencies_s.append(latency_s)
            self._stages.append(stage_s)
            self._accepted += accepted
            if isinstance(result, Rejection):
                self._rejected[result.reason.value] += 1

    def report(self) -> Report:
        """WARN when most of the last images were rejected."""
        with self._lock:
            if self._last is None:
                return Report(Level.OK, "no image yet")
            values: dict[str, Any] = {
                "rate (Hz)": self._frames.rate_hz,
                "latency (s)": sum(self._latencies_s) / len(self._latencies_s),
                "accepted": self._accepted,
                **{f"rejected: {reason}": count for reason, count in sorted(self._rejected.items())},
                **{f"stage {name} (s)": seconds for name, seconds in self._mean_stages().items()},
                **self._more,
            }
            result = self._last
            share = sum(self._recent) / len(self._recent)
        if isinstance(result, PoseEstimate):
            values |= {"inliers": result.num_inliers, "sigma (m)": result.sigma_m, "sigma (rad)": result.sigma_rad}
        else:
            values |= {"last rejection": f"{result.reason.value}: {result.detail}"}
        text = f"{share:.0%} of the last {len(self._recent)} images localized"
        return Report(Level.OK if share >= 0.5 else Level.WARN, text, values)

    def _mean_stages(self) -> dict[str, float]:
        names = dict.fromkeys(name for stages in self._stages for name in stages)
        return {name: sum(s.get(name, 0.0) for s in self._stages) / len(self._stages) for name in names}
