"""Processes that run together: who died and how, a clean end, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ros2_loc.supervisor import Patience, Process, how_it_ended, supervise

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)]; time.sleep(60)"


def python(name: str, code: str, **options: bool) -> Process:
    return Process(name, (sys.executable, "-c", code), **options)


def run(*processes: Process, patience: Patience | None = None) -> tuple[int, list[str], float]:
    lines: list[str] = []
    began = time.monotonic()
    code = supervise(processes, os.environ, lines.append, patience)
    return code, lines, time.monotonic() - began


def test_the_node_that_died_is_named_with_its_exit_code_and_the_others_are_stopped(tmp_path: Path) -> None:
    witness = tmp_path / "stopped"
    waits = f"import time, pathlib\ntry: time.sleep(60)\nexcept KeyboardInterrupt: pathlib.Path({str(witness)!r}).touch()"
    code, lines, seconds = run(python("map_server", waits), python("map_localizer", "import time; time.sleep(0.5); raise SystemExit(3)"))
    assert code == 1 and lines == ["map_localizer died: exit code 3; stopping the other nodes"]
    assert witness.exists() and seconds < 5


def test_a_crash_is_named_by_its_signal() -> None:
    code, lines, _ = run(python("pose_fusion", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert code == 1 and lines[0].startswith("pose_fusion died: killed by SIGSEGV (signal 11)")


def test_the_end_of_the_bag_ends_the_run_well() -> None:
    code, lines, seconds = run(python("map_server", SLEEP), python("bag_player", "pass", ends_run=True))
    assert code == 0 and lines == ["bag_player has finished"] and seconds < 5


def test_a_player_that_fails_does_not_end_the_run_well() -> None:
    code, lines, _ = run(python("bag_player", "raise SystemExit(1)", ends_run=True))
    assert code == 1 and "bag_player died: exit code 1" in lines[0]


def test_what_is_not_required_may_go() -> None:
    bag_player = python("bag_player", "import time; time.sleep(1)", ends_run=True)
    code, lines, _ = run(python("rviz2", "raise SystemExit(1)", required=False), bag_player)
    assert code == 0 and lines == ["rviz2 has ended: exit code 1; the others go on", "bag_player has finished"]


def test_a_program_that_is_not_installed_is_named() -> None:
    code, lines, _ = run(Process("rviz2", ("no-such-rviz",), required=False), python("bag_player", "pass", ends_run=True))
    assert code == 0 and lines[0] == "rviz2 can't be started: no-such-rviz is not installed; going on without it"
    code, lines, _ = run(Process("node", ("no-such-node",)))
    assert code == 1 and lines == ["node can't be started: no-such-node is not installed"]


def test_who_does_not_stop_is_killed() -> None:
    code, lines, seconds = run(
        python("deaf", STUBBORN), python("bag_player", "import time; time.sleep(0.5)", ends_run=True), patience=Patience(0.3, 0.3)
    )
    assert code == 0 and seconds < 8
    assert lines == [
        "bag_player has finished",
        "deaf did not stop: sending SIGTERM",
        "deaf did not stop: sending SIGKILL",
        "deaf stopped with killed by SIGKILL (signal 9)",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_leaves_nobody_behind(number: signal.Signals, tmp_path: Path, is_alive: Callable[[int], bool]) -> None:
    code = f"""
import os, sys
from ros2_loc.supervisor import Process, supervise
child = "import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)"
sys.exit(supervise([Process(n, (sys.executable, "-c", child)) for n in "ab"], os.environ, print))
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 10
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    supervisor.send_signal(number)
    output, _ = supervisor.communicate(timeout=10)
    assert supervisor.returncode == 0 and output == ""
    children = [int(path.name) for path in tmp_path.iterdir()]
    assert len(children) == 2 and not any(is_alive(pid) for pid in children)


def test_exit_codes_in_words() -> None:
    assert [how_it_ended(code) for code in (7, -9, -200)] == ["exit code 7", "killed by SIGKILL (signal 9)", "killed by signal 200"]
