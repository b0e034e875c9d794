"""`ros2-loc places` as a user calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from ros2_loc.io.geotagged import geotagged_name, read_geotagged
from ros2_loc.io.images import write_image


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """(photos, database): two nights, one of them far away, and a day."""
    rng = np.random.default_rng(0)
    for k, (east, high) in enumerate(((500_000.0, 50), (500_900.0, 50), (500_010.0, 255))):
        image = rng.integers(0, high, (12, 16, 3)).astype(np.uint8).repeat(10, axis=0).repeat(10, axis=1)
        write_image(tmp_path / "photos" / geotagged_name(east, 5_000_000.0, zone="32U", note=f"p{k}"), image)
    for k in range(3):
        write_image(tmp_path / "database" / geotagged_name(500_000.0 + 10 * k, 5_000_005.0, zone="32U"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "photos", tmp_path / "database"


@pytest.mark.slow
def test_synthesize(call: Callable, tmp_path: Path) -> None:
    out = tmp_path / "set"
    words = ("--seed", 4, "--extent", 185, "--size", 48, 32, "--spacing", 40, "--queries", 2, "--directions", "forward,left")
    said = call("places", "synthesize", out, "--domains", "night,fog", *words)
    assert said.code == 0 and said.err == "" and "queries_night, queries_fog" in said.out
    assert all(len(read_geotagged(out / f"queries_{name}")) == 4 for name in ("night", "fog"))
    assert {image.note for image in read_geotagged(out / "database")} == {"forward", "left"}
    other = call("places", "synthesize", out, "--seed", 5)
    assert other.code == 2 and "other settings" in other.err and other.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--domains", "day,dark"), "there is no domain 'dark'"),
        (("--directions", "up"), "forward, left, back, right"),
        (("--extent", 90), "160 m of extent"),
    ],
)
def test_synthesize_wrongly(call: Callable, tmp_path: Path, words: tuple, said: str) -> None:
    answer = call("places", "synthesize", tmp_path / "set", *words)
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1 and not (tmp_path / "set").exists()


def test_collect(call: Callable, photos: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    dry = call("places", "collect", photos[0], out, "--database", photos[1], "--dry-run")
    assert dry.code == 0 and "nothing was written" in dry.out and not out.exists()
    said = call("places", "collect", photos[0], out, "--database", photos[1])
    assert said.code == 0
    for line in ("kept                           1", "another time of day            1", "no place of the database near  1"):
        assert line in said.out
    assert [image.note for image in read_geotagged(out / "queries_night")] == ["p0"]
    assert len(read_geotagged(out / "database")) == 3 and (out / "photos.csv").is_file()
    again = call("places", "collect", photos[0], out, "--database", photos[1], "--time", "any")
    assert again.code == 0 and len(read_geotagged(out / "queries")) == 2 and not list((out / "queries_night").iterdir())


def test_collect_wrongly(call: Callable, photos: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("a")
    for words, said in (
        ((tmp_path / "none", tmp_path / "out", "--database", photos[1]), "no such folder"),
        ((photos[0], tmp_path / "out", "--database", tmp_path / "mine"), "holds no images"),
        ((photos[0], tmp_path / "mine", "--database", photos[1]), "holds something that is no collection"),
        ((photos[0], photos[0] / "out", "--database", photos[1]), "lies in the folder of the photos"),
        ((photos[0], tmp_path / "out", "--database", photos[1], "--radius", "0"), "positive radius"),
        ((photos[0], tmp_path / "out", "--database", photos[1], "--day-night", tmp_path / "a.onnx", "--day-night-labels", "day"), "a.onnx"),
    ):
        answer = call("places", "collect", *words)
        assert answer.code in (1, 2) and said in answer.err and answer.err.count("\n") == 1, answer.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.txt"]


@pytest.mark.slow
def test_relabel_serves_until_it_is_stopped(photos: tuple[Path, Path]) -> None:
    words = [sys.executable, "-u", "-m", "ros2_loc.cli.main", "places", "relabel", str(photos[0]), "--database", str(photos[1])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("3 photos, 3 open") and lines[1].startswith("open http://127.0.0.1:")
        with urlopen(lines[1].split()[1], timeout=20) as page:
            assert b"places relabel" in page.read()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_relabel_applies(call: Callable, photos: tuple[Path, Path]) -> None:
    from ros2_loc.evaluation.relabelling import Relabelling

    Relabelling(*photos).say(1, "dropped")
    said = call("places", "relabel", photos[0], "--database", photos[1], "--apply")
    assert said.code == 0 and "0 right, 0 moved, 1 dropped, 2 open" in said.out
    assert len(read_geotagged(photos[0])) == 2
