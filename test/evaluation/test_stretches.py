"""Mapped streets and others: which part of a drive is which, who answered there, and what the answers were worth."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.evaluation.records import FrameResult
from ros2_loc.evaluation.stretches import Answers, inside, off_the_map, worth
from ros2_loc.io.trajectories import Trajectory

S = 1_000_000_000


def pose(x: float, y: float = 0.0, yaw_rad: float = 0.0) -> Pose:
    return Pose(so3_exp([0.0, 0.0, yaw_rad]), np.array([x, y, 0.0]))


def answer(k: int, truth: Pose, error: np.ndarray, sigma: np.ndarray) -> FrameResult:
    """`error`, `sigma`: x, y, yaw."""
    estimate = Pose(so3_exp([0.0, 0.0, error[2]]) @ truth.rotation, truth.translation + np.array([error[0], error[1], 0.0]))
    covariance = np.diag([sigma[0] ** 2, sigma[1] ** 2, 4.0, 0.01, 0.01, sigma[2] ** 2])
    return FrameResult(str(k), k * S, truth, PoseEstimate(k * S, estimate, covariance, 0, "x"))


def refusal(k: int) -> FrameResult:
    return FrameResult(str(k), k * S, pose(k), Rejection(k * S, RejectionReason.AMBIGUOUS, ""))


def test_off_the_map_is_where_no_place_is_near_or_looks_the_same_way() -> None:
    places = [pose(x) for x in range(0, 41, 4)]
    drive = Trajectory(np.arange(200) * S // 2, tuple(pose(x) for x in np.linspace(0.0, 100.0, 200)))
    (begin, end), *others = off_the_map(drive, places).tolist()
    assert not others and drive.at(begin, S) is not None and end == drive.stamps_ns[-1]
    assert drive.at(begin, S).translation[0] == pytest.approx(55.0, abs=1.0)  # type: ignore[union-attr]
    back = Trajectory(drive.stamps_ns, tuple(pose(x, 2.0, np.pi) for x in np.linspace(40.0, 0.0, 200)))
    assert off_the_map(back, places).tolist() == [[0, int(drive.stamps_ns[-1])]]
    east, north = np.r_[np.linspace(0, 30, 100), np.full(100, 30.0)], np.r_[np.zeros(100), np.linspace(0, 60, 100)]
    bend = Trajectory(drive.stamps_ns, tuple(pose(x, y) for x, y in zip(east, north, strict=True)))
    assert len(off_the_map(bend, places)) == 1 and off_the_map(bend, [])[0, 0] == 0


def test_a_moment_is_no_stretch() -> None:
    drive = Trajectory(np.arange(100) * S // 10, tuple(pose(0.0, 0.0 if k != 50 else 80.0) for k in range(100)))
    assert off_the_map(drive, [pose(0.0)]).shape == (0, 2)


def test_inside() -> None:
    intervals = np.array([[2, 4], [8, 8]])
    assert inside(range(10), intervals).nonzero()[0].tolist() == [2, 3, 4, 8]
    assert not inside(range(10), np.zeros((0, 2), np.int64)).any()


def test_one_that_speaks_all_the_time_is_asked_at_stamps() -> None:
    frames = [FrameResult(str(ns), ns, pose(0.0), PoseEstimate(ns, pose(0.0), np.eye(6), 0, "fusion")) for ns in (100, 150, 200, 400)]
    said = Answers.at(frames, [90, 160, 178, 300, 700], 20)
    assert [f.stamp_ns for f in said.frames] == [100, 150] and len(said.asked_ns) == 5
    assert [f.stamp_ns for f in Answers.at(frames, [90, 160, 178, 300, 700], 30).frames] == [100, 150, 200]
    assert Answers.at([], [1, 2], 20).frames == () and worth(Answers.at([], [1, 2], 20)).answered == 0
    part = said.inside(np.array([[140, 310]]))
    assert [f.stamp_ns for f in part.frames] == [150] and part.asked_ns.tolist() == [160, 178, 300]
    assert said.outside(np.array([[140, 310]])).asked_ns.tolist() == [90, 700]


def test_worth_of_errors_that_are_as_large_as_claimed() -> None:
    rng = np.random.default_rng(0)
    sigma = np.array([0.5, 0.2, 0.03])
    frames = [answer(k, pose(k, 1.0, 3.0), rng.standard_normal(3) * sigma, sigma) for k in range(300)]
    found = worth(Answers.of_localizer([*frames, *(refusal(k) for k in range(300, 400))]))
    assert (found.asked, found.answered) == (400, 300) and found.nees is not None and found.nees.verdict.value == "consistent"
    assert found.position_m is not None and 0.2 < found.position_m.median < 0.5
    assert found.heading_deg is not None and found.heading_deg.p95 == pytest.approx(np.degrees(1.96 * 0.03), rel=0.2)
    assert found.wrong_and_confident <= 2


def test_a_filter_is_judged_by_one_draw() -> None:
    sigma = np.array([0.5, 0.5, 0.03])
    repeated = [answer(k, pose(k), np.array([0.9, 0.6, 0.03]), sigma) for k in range(50)]
    each, filtered = (worth(Answers.of_localizer(repeated, filtered)).nees for filtered in (False, True))
    assert each is not None and each.verdict.value == "overconfident" and each.upper < 4.0
    assert filtered is not None and filtered.verdict.value == "consistent" and filtered.upper == pytest.approx(9.35, abs=0.01)
    assert filtered.mean == each.mean == pytest.approx((0.9 / 0.5) ** 2 + (0.6 / 0.5) ** 2 + 1.0, rel=1e-6)


def test_wrong_and_confident_is_both() -> None:
    sigma = np.array([0.1, 0.1, 0.03])
    near, far, vague = (
        answer(0, pose(0), np.array([0.9, 0.0, 0.0]), sigma),
        answer(1, pose(1), np.array([0.0, -1.5, 0.0]), sigma),
        answer(2, pose(2), np.array([4.0, 0.0, 0.0]), np.array([2.0, 2.0, 0.03])),
    )
    assert worth(Answers.of_localizer([near, far, vague])).wrong_and_confident == 1
