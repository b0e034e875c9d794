"""Between the thread of the callbacks and the thread of the work: a slot for one item, in which the newest wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """One slot. `put` never waits and replaces what was not fetched yet; `take` waits for something to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """How many items were overwritten by a newer one before anybody took them."""
        return self._replaced

    def put(self, item: T) -> None:
        """Offer an item; after `close` it is thrown away."""
        with self._changed:
            if self._closed:
                return
            self._replaced += self._item is not None
            self._item = item
            self._changed.notify()

    def take(self) -> T | None:
        """The newest item, waiting for one; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> None:
        """Throw away what waits."""
        with self._changed:
            self._item = None

    def close(self) -> None:
        """Wake whoever waits in `take`, for good."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()


class BatchMailbox(Mailbox[dict[str, T]]):
    """A slot for each sender, in each of which the newest wins; `take` gives what waits in all of them, by sender.

    Batches come no closer than `period_s`: what arrives meanwhile replaces what waits, so that the rate is kept with the newest. The first
    item waits up to `patience_s` for those of the other senders.
    """

    def __init__(self, num_senders: int = 1, patience_s: float = 0.0, period_s: float = 0.0) -> None:
        super().__init__()
        self._num_senders, self._patience_s, self._period_s = num_senders, patience_s, period_s
        self._first_s = self._taken_s = -float("inf")

    def set_period(self, period_s: float) -> None:
        """Another least time between batches, at once."""
        with self._changed:
            self._period_s = period_s
            self._changed.notify()

    def put(self, item: dict[str, T]) -> None:
        """Offer items by sender."""
        with self._changed:
            if self._closed:
                return
            waiting = self._item or {}
            self._replaced += len(waiting.keys() & item.keys())
            self._first_s = self._first_s if waiting else time.monotonic()
            self._item = {**waiting, **item}
            self._changed.notify()

    def take(self) -> dict[str, T] | None:
        """What waits, once it is time; None once the mailbox is closed."""
        with self._changed:
            while not self._closed:
                missing_s = self._missing_s()
                if missing_s is not None and missing_s <= 0:
                    break
                self._changed.wait(missing_s)
            item, self._item, self._taken_s = self._item, None, time.monotonic()
            return None if self._closed else item

    def _missing_s(self) -> float | None:
        """How long to wait before the batch is taken; None: until something comes."""
        if not self._item:
            return None
        patience_s = self._patience_s if len(self._item) < self._num_senders else 0.0
        return max(self._taken_s + self._period_s, self._first_s + patience_s) - time.monotonic()


class Worker(Generic[T]):
    """A thread that works on the newest item of a mailbox. What the work raises goes to `on_error`, and the thread lives on."""

    def __init__(
        self, name: str, work: Callable[[T], None], on_error: Callable[[Exception], None], mailbox: Mailbox[T] | None = None
    ) -> None:
        self.mailbox: Mailbox[T] = Mailbox() if mailbox is None else mailbox
        self._work, self._on_error = work, on_error
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Close the mailbox, wait until the present item is done; False when that took longer than `timeout_s`."""
        self.mailbox.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while (item := self.mailbox.take()) is not None:
            try:
                self._work(item)
            except Exception as error:  # the edge of the node: whatever one frame does, the next one is tried
                self._on_error(error)
