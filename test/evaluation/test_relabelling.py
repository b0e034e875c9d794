"""Labels by hand: on disk after each word, kept over sessions, applied once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.relabelling import LABELS, Relabelling
from ros2_loc.io.geotagged import geotagged_name, read_geotagged
from ros2_loc.io.images import write_image

PIXELS = np.zeros((8, 12, 3), np.uint8)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Three photos, and a database every 10 m to the east of the first."""
    for k in range(3):
        name = geotagged_name(500_000.0 + 20 * k, 5_000_000.0, heading_deg=90.0, zone="32U", note=f"q{k}")
        write_image(tmp_path / "queries" / name, PIXELS)
    for k in range(5):
        name = geotagged_name(500_000.0 + 10 * k, 5_000_002.0, heading_deg=10.0 * k, zone="32U")
        write_image(tmp_path / "database" / name, PIXELS)
    return tmp_path / "queries", tmp_path / "database"


def test_a_session_is_taken_up_where_it_was(places: tuple[Path, Path]) -> None:
    work = Relabelling(*places)
    assert (work.num_open, work.first_open) == (3, 0)
    work.say(0, "right")
    work.say(1, "moved", 500_050.5, 5_000_001.0, 370.0)
    again = Relabelling(*places)
    assert again.labels == work.labels and (again.num_open, again.first_open) == (1, 2)
    moved = again.label_of(1)
    assert moved is not None and (moved.word, moved.east_m, moved.heading_deg) == ("moved", 500_050.5, 10.0)
    again.say(1, "right")  # another thought
    assert Relabelling(*places).label_of(1).word == "right"  # type: ignore[union-attr]
    assert len(read_geotagged(places[0])) == 3  # photos stay as they are until they are told


def test_neighbours_come_nearest_first(places: tuple[Path, Path]) -> None:
    near = Relabelling(*places).neighbours(500_021.0, 5_000_000.0, 3)
    assert [(round(n.east_m), round(n.north_m), n.heading_deg) for n in near] == [(-1, 2, 20.0), (9, 2, 30.0), (-11, 2, 10.0)]


def test_what_was_said_is_applied_once(places: tuple[Path, Path]) -> None:
    work = Relabelling(*places)
    work.say(0, "moved", 500_009.0, 5_000_001.0, None)
    work.say(1, "dropped")
    assert work.apply() == {"right": 0, "moved": 1, "dropped": 1}
    left = read_geotagged(places[0])
    assert [(image.east_m, image.heading_deg, image.note) for image in left] == [(500_009.0, None, "q0"), (500_040.0, 90.0, "q2")]
    assert left[0].zone == "32U"
    assert [image.note for image in read_geotagged(places[0].with_name("queries_dropped"))] == ["q1"]
    again = Relabelling(*places)
    assert again.num_open == 1 and again.apply() == {"right": 1, "moved": 0, "dropped": 0}


def test_no_photo_is_overwritten(places: tuple[Path, Path]) -> None:
    work = Relabelling(*places)
    write_image(places[0] / geotagged_name(500_009.0, 5_000_001.0, zone="32U", note="q0"), PIXELS)
    work.say(0, "moved", 500_009.0, 5_000_001.0, None)
    with pytest.raises(DataError, match="exists already"):
        work.apply()
    assert len(read_geotagged(places[0])) == 4


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ((3, "right"), "no photo 3"),
        ((-1, "right"), "no photo -1"),
        ((0, "wrong"), "is no label"),
        ((0, "moved"), "not to None"),
        ((0, "moved", float("nan"), 0.0), "not to nan"),
        ((0, "moved", "1; rm", 0.0), "not to '1; rm'"),
        ((0, "moved", True, 0.0), "not to True"),
    ],
)
def test_what_makes_no_sense_is_not_written(places: tuple[Path, Path], said: tuple, error: str) -> None:
    work = Relabelling(*places)
    with pytest.raises(ConfigError, match=error):
        work.say(*said)
    assert not (places[0] / LABELS).exists() and work.num_open == 3


@pytest.mark.parametrize("text", ["", "[1]", '{"format": 9, "labels": {}}', json.dumps({"format": 1, "labels": {"a": {"x": 1}}})])
def test_damaged_labels_are_one_line(places: tuple[Path, Path], text: str) -> None:
    (places[0] / LABELS).write_text(text)
    with pytest.raises(DataError, match=r"relabel.json: is damaged"):
        Relabelling(*places)


def test_two_zones_are_refused(places: tuple[Path, Path]) -> None:
    write_image(places[1] / geotagged_name(500_000.0, 5_000_000.0, zone="33U"), PIXELS)
    with pytest.raises(DataError, match="zones 32, 33"):
        Relabelling(*places)
