"""Runs the processes of a graph together: says which one died and how, and stops them all when asked or when one that is needed is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `required`: the run is over when it dies. `ends_run`: the run is over when it ends well."""

    name: str
    command: tuple[str, ...]
    required: bool = True
    ends_run: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a process may take to stop after SIGINT, then after SIGTERM, before SIGKILL; s."""

    interrupt_s: float = 6.0
    terminate_s: float = 3.0


def supervise(
    processes: Sequence[Process],
    environment: Mapping[str, str],
    report: Callable[[str], None],
    patience: Patience | None = None,
) -> int:
    """Run processes until one ends the run, or SIGINT or SIGTERM comes; none of them is left behind.

    Args:
        processes: started in this order.
        environment: of all of them.
        report: takes one line for people: who died, with which exit code.
        patience: how long to wait for those that don't stop.

    Returns:
        0 when the run ended as it should (by a signal, or by the end of a process with `ends_run`), else 1.
    """
    stopping: list[int] = []
    previous = {number: signal.signal(number, lambda n, frame: stopping.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    running = _Running(environment, report, patience or Patience())
    try:
        for process in processes:
            if not stopping and not running.start(process):
                return 1
        while not stopping and not running.over:
            running.check()
            time.sleep(_POLL_S)
        return running.exit_code
    finally:
        running.stop_all()
        _restore(previous)


def how_it_ended(return_code: int) -> str:
    """An exit code in words: "exit code 1", "killed by SIGSEGV (signal 11)"."""
    if return_code >= 0:
        return f"exit code {return_code}"
    try:
        return f"killed by {signal.Signals(-return_code).name} (signal {-return_code})"
    except ValueError:
        return f"killed by signal {-return_code}"


class _Running:
    """The processes that live, and what became of the others."""

    def __init__(self, environment: Mapping[str, str], report: Callable[[str], None], patience: Patience) -> None:
        self._environment, self._report, self._patience = environment, report, patience
        self._alive: dict[Process, subprocess.Popen[bytes]] = {}
        self.over = False
        self.exit_code = 0

    def start(self, process: Process) -> bool:
        """Start one; False when that is not possible and it is required."""
        if shutil.which(process.command[0], path=self._environment.get("PATH")) is None:
            consequence = "" if process.required else "; going on without it"
            self._report(f"{process.name} can't be started: {process.command[0]} is not installed{consequence}")
            return not process.required
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which then stops the others in order.
        popen = subprocess.Popen(process.command, env=dict(self._environment), start_new_session=True, stdin=subprocess.DEVNULL)
        self._alive[process] = popen
        return True

    def check(self) -> None:
        """Note who has ended."""
        for process, popen in list(self._alive.items()):
            if popen.poll() is None:
                continue
            del self._alive[process]
            self._ended(process, popen.returncode)
        self.over = self.over or not self._alive

    def _ended(self, process: Process, return_code: int) -> None:
        if return_code == 0 and process.ends_run:
            self._report(f"{process.name} has finished")
            self.over = True
        elif process.required:
            self._report(f"{process.name} died: {how_it_ended(return_code)}; stopping the other nodes")
            self.over, self.exit_code = True, 1
        else:
            self._report(f"{process.name} has ended: {how_it_ended(return_code)}; the others go on")

    def stop_all(self) -> None:
        """SIGINT to each in reverse order, and what more it takes; says who did not stop by itself or not with exit code 0."""
        waiting = dict(reversed(list(self._alive.items())))
        patience = self._patience
        for number, seconds in ((signal.SIGINT, patience.interrupt_s), (signal.SIGTERM, patience.terminate_s), (signal.SIGKILL, 5.0)):
            if waiting and number is not signal.SIGINT:
                self._report(f"{', '.join(p.name for p in waiting)} did not stop: sending {number.name}")
            for popen in waiting.values():
                _signal_group(popen, number)
            waiting = self._wait(waiting, seconds)
        self._alive.clear()

    def _wait(self, waiting: dict[Process, subprocess.Popen[bytes]], seconds: float) -> dict[Process, subprocess.Popen[bytes]]:
        end = time.monotonic() + seconds
        while waiting and time.monotonic() < end:
            for process, popen in list(waiting.items()):
                if popen.poll() is not None:
                    del waiting[process]
                    if popen.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
                        self._report(f"{process.name} stopped with {how_it_ended(popen.returncode)}")
            time.sleep(0.02)
        return waiting


def _signal_group(popen: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has gone in this moment
        os.killpg(popen.pid, number)


def _restore(handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
