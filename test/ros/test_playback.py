"""When a recorded message is due: rate, pause, lateness, stop."""

from __future__ import annotations

import threading
import time

import pytest

from ros2_loc.ros.playback import PlaybackClock

MS = 1_000_000


def elapsed(clock: PlaybackClock, stamp_ns: int) -> float:
    begin = time.monotonic()
    assert clock.wait_until(stamp_ns)
    return time.monotonic() - begin


@pytest.mark.parametrize(("rate", "seconds"), [(1.0, 0.2), (4.0, 0.05), (0.5, 0.4)])
def test_recorded_time_passes_at_the_rate(rate: float, seconds: float) -> None:
    clock = PlaybackClock(rate)
    clock.start(5_000 * MS)
    assert elapsed(clock, 5_200 * MS) == pytest.approx(seconds, abs=0.05)


def test_what_is_overdue_is_not_waited_for_and_counted_as_late() -> None:
    now = [10.0]
    clock = PlaybackClock(2.0, steady=lambda: now[0])
    clock.start(0)
    now[0] += 0.3
    assert clock.now_ns == 600 * MS
    assert clock.wait_until(500 * MS) and clock.max_late_s == pytest.approx(0.05)
    clock.start(0)
    assert clock.max_late_s == 0.0


def test_a_pause_holds_whoever_waits_and_no_time_is_lost() -> None:
    clock = PlaybackClock(1.0, paused=True)
    clock.start(0)
    threading.Timer(0.2, clock.pause, [False]).start()
    assert clock.paused and 0.25 < elapsed(clock, 100 * MS) < 0.5
    clock.pause(True)
    at = clock.now_ns
    time.sleep(0.05)
    assert clock.now_ns == at


def test_a_new_rate_holds_for_who_is_waiting() -> None:
    clock = PlaybackClock(0.01)
    clock.start(0)
    threading.Timer(0.1, clock.set_rate, [10.0]).start()
    assert elapsed(clock, 1_000 * MS) == pytest.approx(0.2, abs=0.08)


def test_closing_frees_whoever_waits() -> None:
    clock = PlaybackClock(1.0, paused=True)
    threading.Timer(0.1, clock.close).start()
    begin = time.monotonic()
    assert not clock.wait_until(clock.now_ns + 1) and time.monotonic() - begin < 1.0
