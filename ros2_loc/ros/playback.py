"""Time while a bag is played: when a recorded message is due. No ROS in here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class PlaybackClock:
    """Recorded time as a function of the steady time. One thread waits for it; any other may pause it, change its rate or end it."""

    def __init__(self, rate: float = 1.0, paused: bool = False, steady: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._paused, self._closed, self._steady = rate, paused, False, steady
        self._changed = threading.Condition()
        self._origin_ns, self._origin_s = 0, steady()
        self._max_late_s = 0.0

    @property
    def now_ns(self) -> int:
        """The recorded time that it is now."""
        with self._changed:
            return self._now_ns()

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._paused

    @property
    def max_late_s(self) -> float:
        """By how much, at most, something was overdue when it was waited for; since the last start."""
        return self._max_late_s

    def start(self, stamp_ns: int) -> None:
        """Be `stamp_ns` now."""
        with self._changed:
            self._set_origin(stamp_ns)
            self._max_late_s = 0.0

    def wait_until(self, stamp_ns: int) -> bool:
        """Wait until it is `stamp_ns` and no pause; False when the clock was closed."""
        with self._changed:
            while not self._closed:
                missing_s = (stamp_ns - self._now_ns()) * 1e-9 / self._rate
                if missing_s <= 0 and not self._paused:
                    self._max_late_s = max(self._max_late_s, -missing_s)
                    return True
                self._changed.wait(None if self._paused else missing_s)
            return False

    def pause(self, paused: bool) -> None:
        """Stand still, or go on from there."""
        with self._changed:
            now_ns, self._paused = self._now_ns(), paused
            self._set_origin(now_ns)

    def set_rate(self, rate: float) -> None:
        """Go on at `rate` recorded seconds per second."""
        with self._changed:
            now_ns, self._rate = self._now_ns(), rate
            self._set_origin(now_ns)

    def close(self) -> None:
        """Wake whoever waits, for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _now_ns(self) -> int:
        if self._paused:
            return self._origin_ns
        return self._origin_ns + round((self._steady() - self._origin_s) * self._rate * 1e9)

    def _set_origin(self, stamp_ns: int) -> None:
        self._origin_ns, self._origin_s = stamp_ns, self._steady()
        self._changed.notify_all()
