"""The evaluation's aggregate and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.evaluation.metrics import Consistency
from ros2_loc.evaluation.records import Evaluation, FrameResult


def result(name: str, error_m: float | None, sigma_m: float = 0.02, truth: bool = True) -> FrameResult:
    """A frame whose estimate is off along x, or a rejected one (None)."""
    outcome: PoseEstimate | Rejection = Rejection(0, RejectionReason.NO_CANDIDATES, "none")
    if error_m is not None:
        covariance = np.diag([sigma_m**2] * 3 + [0.001**2] * 3)
        outcome = PoseEstimate(0, Pose(np.eye(3), np.array([error_m, 0, 0])), covariance, 30, "map")
    return FrameResult(name, 0, Pose.identity() if truth else None, outcome)


def test_rejected_frames_count_against_recall_and_frames_without_truth_do_not() -> None:
    frames = (result("a", 0.01), result("b", 0.2), result("c", None), result("d", 2.0), result("e", 0.0, truth=False))
    m = Evaluation("t", frames).metrics
    assert (m.queries, m.accepted, m.rejected, m.scored) == (5, 4, 1, 3)
    assert m.recall(0.1, 0.5).of_all == pytest.approx(1 / 4) and m.recall(0.1, 0.5).of_accepted == pytest.approx(1 / 3)
    assert m.recall(0.25, 2.0).of_all == pytest.approx(2 / 4) and m.recall(5.0, 10.0).of_all == pytest.approx(3 / 4)
    assert m.rejections == {"no_candidates": 1}
    assert m.wrong_and_confident == ("d",)


def test_wrong_but_unsure_is_not_confident() -> None:
    assert Evaluation("t", (result("a", 2.0, sigma_m=0.5),)).metrics.wrong_and_confident == ()


def test_round_trip_keeps_every_frame_and_number(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    evaluation.write_json(path)
    read = Evaluation.read_json(path)
    assert read.metrics == evaluation.metrics
    assert (read.title, read.settings) == (evaluation.title, evaluation.settings)
    assert np.allclose(read.places_m, evaluation.places_m, atol=1e-4)
    for a, b in zip(read.frames, evaluation.frames, strict=True):
        assert (a.name, a.stamp_ns, a.num_matches, a.stage_s, a.place, a.candidates) == (
            b.name,
            b.stamp_ns,
            b.num_matches,
            b.stage_s,
            b.place,
            b.candidates,
        )
        assert (a.error_m, a.error_rad) == (b.error_m, b.error_rad)
        assert (a.estimate is None) == (b.estimate is None)
        assert a.estimate is None or b.estimate is None or np.array_equal(a.estimate.covariance, b.estimate.covariance)


def test_json_holds_the_numbers_others_read(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write_json(tmp_path / "e.json")
    m = json.loads((tmp_path / "e.json").read_text())["metrics"]
    assert m["recalls"][1] == {
        "threshold_m": 0.1,
        "threshold_deg": 0.5,
        "of_all": evaluation.metrics.recall(0.1, 0.5).of_all,
        "of_accepted": evaluation.metrics.recall(0.1, 0.5).of_accepted,
    }
    assert m["nees_pose"]["verdict"] == "consistent" and m["nees_pose"]["lower"] < m["nees_pose"]["mean"] < m["nees_pose"]["upper"]
    assert m["latency_s"]["total"]["median_s"] > 0.1 and m["wrong_and_confident"] == []


def test_true_covariances_are_found_consistent(evaluation: Evaluation) -> None:
    m = evaluation.metrics
    assert {m.nees_pose.verdict, m.nees_position.verdict, m.nees_rotation.verdict} == {Consistency.CONSISTENT}


def test_an_evaluation_where_nothing_was_localized_has_numbers_too(tmp_path: Path) -> None:
    evaluation = Evaluation("t", (result("a", None), result("b", None)))
    evaluation.write_json(tmp_path / "e.json")
    m = Evaluation.read_json(tmp_path / "e.json").metrics
    assert m.translation_m is None and m.nees_pose is None
    assert m.recall(5.0, 10.0).of_all == 0.0 and m.recall(5.0, 10.0).of_accepted is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a ros2_loc evaluation"),
        ('{"format": "ros2_loc evaluation", "version": 99}', "version 1"),
        ('{"format": "ros2_loc evaluation", "version": 1, "title": "x", "settings": {}, "places_m": []}', "damaged"),
        ('{"format": "ros2_loc evaluation", "version": 1, "title": "x", "settings": {}, "places_m": [], "frames": [{}]}', "damaged"),
    ],
)
def test_bad_files_are_refused_in_one_line(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        Evaluation.read_json(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="can't be read"):
        Evaluation.read_json(tmp_path / "absent.json")
