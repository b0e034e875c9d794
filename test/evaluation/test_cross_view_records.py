"""What is written is what was found: JSON there and back, and metrics that belong to it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ros2_loc.errors import DataError
from ros2_loc.evaluation.cross_view_records import CrossViewEvaluation, SingleShot, rank_key

sys.path.insert(0, str(Path(__file__).parent))
from cross_view_cases import evaluation, query


def test_json_there_and_back(tmp_path: Path) -> None:
    e = evaluation()
    e.write_json(tmp_path / "e.json")
    assert CrossViewEvaluation.read_json(tmp_path / "e.json") == e
    content = json.loads((tmp_path / "e.json").read_text())
    assert content["single"][0]["metrics"]["queries"] == 3
    assert content["filters"][0]["metrics"]["runs"] == 2
    assert "NaN" not in (tmp_path / "e.json").read_text() and "Infinity" not in (tmp_path / "e.json").read_text()


def test_metrics_by_hand() -> None:
    m = evaluation().single[0].metrics
    assert m.recalls[rank_key(2, 10.0, "position")] == pytest.approx((1 / 3, 2 / 3, 2 / 3, 1.0))
    assert m.aligned is not None and m.aligned.lateral_median_m == 1.0
    assert m.top is not None and m.top.count == 2  # of the third, the best tile is far off
    assert m.nearest is not None and m.nearest.median == 5.0
    assert m.heading_error_deg is None


def test_of_no_queries_there_are_no_numbers() -> None:
    m = SingleShot("none", 4, {}, (0, 0), ()).metrics
    assert m.queries == 0 and m.aligned is None and set(m.recalls[rank_key(1, 10.0, "tile")]) == {None}


def test_heading_errors_are_of_queries_that_found_their_place() -> None:
    queries = tuple(replace(query(i), heading_error_rad=error) for i, error in enumerate((0.01, -0.03, 2.0)))
    found = SingleShot("turned", 4, {}, (3, 9), queries).metrics.heading_error_deg
    assert found is not None and found.count == 2 and found.max == pytest.approx(1.719, abs=1e-3)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: text[:-30], "not JSON"),
        (lambda text: text.replace("cross-view evaluation", "recipe"), "not a ros2_loc cross-view evaluation"),
        (lambda text: text.replace('"yaw_rad"', '"yaw"'), "damaged evaluation"),
        (lambda text: text.replace("test1_10m_tile", "test1_11m_tile"), "damaged evaluation"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version 1"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, damage: object, expected: str) -> None:
    evaluation().write_json(tmp_path / "e.json")
    (tmp_path / "e.json").write_text(damage((tmp_path / "e.json").read_text()))  # type: ignore[operator]
    with pytest.raises(DataError, match=expected) as error:
        CrossViewEvaluation.read_json(tmp_path / "e.json")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json"):
        CrossViewEvaluation.read_json(tmp_path / "absent.json")
