"""Help: quick, with an example that can be run as it stands, and one line for a wrong call."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from ros2_loc import __version__
from ros2_loc.cli.main import VERBS, parser_of


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


ALL = [parser for verb in VERBS for parser in parsers(parser_of(verb))]


@pytest.mark.parametrize("parser", ALL, ids=lambda parser: parser.prog)
def test_every_verb_has_help_with_an_example_that_can_be_called(parser: argparse.ArgumentParser) -> None:
    text = parser.format_help()
    examples = re.findall(r"^  (ros2-loc .*)$", text.partition("example:")[2], re.MULTILINE)
    assert examples
    for example in examples:
        _, verb, *words = shlex.split(example)
        parser_of(verb).parse_args(words)
        assert example.startswith(parser.prog)
    described = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    assert all(action.help for action in described), "an argument without a word about it"


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["map", "build", "--help"], ["evaluate", "split", "--help"], ["run", "--help"]]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    heavy = ("numpy", "cv2", "rclpy", "pycolmap", "faiss", "matplotlib", "rosbags", "omegaconf", "torch")
    code = (
        "import sys; from ros2_loc.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"sys.exit(', '.join(m for m in {heavy!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_is_quick() -> None:
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ros2_loc.cli.main", "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.3 * 3, took  # 0.1 s on a quiet machine; tests run on busy ones


def test_version(call: Callable) -> None:
    assert call("--version").out == f"ros2-loc {__version__}\n"


def test_without_a_verb_it_says_what_there_is(call: Callable) -> None:
    said = call()
    assert said.code == 2 and all(verb in said.err for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mapp"], "invalid choice: 'mapp'"),
        (["map"], "the following arguments are required"),
        (["map", "build", "only_a_source"], "the following arguments are required: out"),
        (["evaluate", "split", "--images", "x", "--map-every", "five"], "argument --map-every: invalid int value: 'five'"),
        (["map", "build", "a", "b", "--colour"], "unrecognized arguments: --colour"),
        (["map", "info", "m", "--pipe", "x"], "unrecognized arguments"),
    ],
)
def test_a_wrong_call_is_one_line_and_code_2(call: Callable, words: list[str], expected: str) -> None:
    said = call(*words)
    assert said.code == 2 and not said.out
    assert expected in said.err and said.err.count("\n") == 1 and "--help" in said.err
