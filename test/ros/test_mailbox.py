"""One slot between two threads, and the worker behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install . on x86-64 Linux, or a ROS 2 workspace")

from ros2_loc.ros.mailbox import BatchMailbox, Mailbox, Worker


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_the_newest_wins_and_the_others_are_counted() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for item in (1, 2, 3):
        mailbox.put(item)
    assert mailbox.take() == 3 and mailbox.replaced == 2
    mailbox.put(4)
    assert mailbox.take() == 4 and mailbox.replaced == 2


def test_take_waits_and_close_wakes() -> None:
    mailbox: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: [taken.append(mailbox.take()) for _ in range(2)])
    thread.start()
    mailbox.put(7)
    assert eventually(lambda: taken == [7])  # the second take still waits
    mailbox.close()
    thread.join(5.0)
    assert not thread.is_alive() and taken == [7, None]
    mailbox.put(8)
    assert mailbox.take() is None


def test_clear_throws_the_waiting_item_away() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.clear()
    mailbox.put(2)
    assert mailbox.take() == 2 and mailbox.replaced == 0


def test_while_the_worker_is_busy_all_but_the_newest_are_dropped() -> None:
    began, go_on, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        began.set()
        go_on.wait(5.0)
        done.append(item)

    worker: Worker[int] = Worker("test", work, pytest.fail)
    worker.mailbox.put(0)
    assert began.wait(5.0)
    for item in range(1, 50):
        worker.mailbox.put(item)
    go_on.set()
    assert eventually(lambda: len(done) == 2) and done == [0, 49]
    assert worker.mailbox.replaced == 48 and worker.stop()


def test_what_the_work_raises_is_reported_and_the_worker_lives() -> None:
    errors: list[Exception] = []
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            raise ValueError("one")
        done.append(item)

    worker: Worker[int] = Worker("test", work, errors.append)
    worker.mailbox.put(1)
    assert eventually(lambda: len(errors) == 1)
    worker.mailbox.put(2)
    assert eventually(lambda: done == [2])
    assert [str(e) for e in errors] == ["one"] and worker.stop()


def test_stop_says_when_the_worker_is_still_busy() -> None:
    began, go_on = threading.Event(), threading.Event()
    worker: Worker[int] = Worker("test", lambda item: (began.set(), go_on.wait(5.0))[0], pytest.fail)
    worker.mailbox.put(1)
    assert began.wait(5.0) and not worker.stop(timeout_s=0.05)
    go_on.set()
    assert worker.stop()


def test_a_batch_has_the_newest_of_each_sender() -> None:
    mailbox: BatchMailbox[int] = BatchMailbox(num_senders=2, patience_s=5.0)
    for item in ({"front": 1}, {"front": 2}, {"rear": 3}):
        mailbox.put(item)
    assert mailbox.take() == {"front": 2, "rear": 3} and mailbox.replaced == 1


def test_a_batch_waits_for_the_others_and_not_for_ever() -> None:
    mailbox: BatchMailbox[int] = BatchMailbox(num_senders=2, patience_s=0.1)
    mailbox.put({"front": 1})
    later = threading.Timer(0.02, lambda: mailbox.put({"rear": 2}))
    later.start()
    assert mailbox.take() == {"front": 1, "rear": 2}
    began = time.monotonic()
    mailbox.put({"rear": 3})
    assert mailbox.take() == {"rear": 3} and time.monotonic() - began >= 0.1


def test_batches_keep_their_period_with_the_newest_until_it_changes() -> None:
    mailbox: BatchMailbox[int] = BatchMailbox(period_s=0.2)
    mailbox.put({"": 1})
    assert mailbox.take() == {"": 1}
    began = time.monotonic()
    mailbox.put({"": 2})
    threading.Timer(0.05, lambda: mailbox.put({"": 3})).start()
    assert mailbox.take() == {"": 3} and time.monotonic() - began >= 0.15
    mailbox.set_period(60.0)
    mailbox.put({"": 4})
    threading.Timer(0.02, lambda: mailbox.set_period(0.0)).start()
    assert mailbox.take() == {"": 4}


def test_a_closed_batch_wakes_whoever_waits_for_its_time() -> None:
    mailbox: BatchMailbox[int] = BatchMailbox(period_s=60.0)
    mailbox.put({"": 1})
    assert mailbox.take() == {"": 1}
    mailbox.put({"": 2})
    threading.Timer(0.02, mailbox.close).start()
    assert mailbox.take() is None
