"""What comes between two images, kept in order for the worker that will give it to the localizer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 50_000  # minutes of odometry without an image: what is older is of no use


class Inputs(Generic[T]):
    """Callbacks add, the worker takes. Odometry says how far the time has come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[T], object]] = deque(maxlen=_MOST)
        self._odometry_ns: int | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, give: Callable[[T], object], odometry_ns: int | None = None) -> None:
        """Keep something to give; `odometry_ns`: it is odometry of this stamp."""
        with self._changed:
            self._waiting.append(give)
            if odometry_ns is not None:
                self._odometry_ns = odometry_ns
                self._changed.notify_all()

    def wait_until(self, stamp_ns: int, patience_s: float) -> bool:
        """Wait for odometry of a time or later; whether it came. Without any odometry so far there is nothing to wait for."""
        with self._changed:
            if self._odometry_ns is None:
                return False
            return self._changed.wait_for(lambda: (self._odometry_ns or 0) >= stamp_ns, patience_s)

    def take(self) -> list[Callable[[T], object]]:
        """All that waits, in the order of its arrival."""
        with self._changed:
            taken = list(self._waiting)
            self._waiting.clear()
            return taken
