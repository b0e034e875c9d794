"""Sequences: aliased routes that one frame can't tell apart, the way by odometry and without, and what makes it forget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.config import build
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Candidate
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import read_image, resize_image
from ros2_loc.retrieval.sequence import SequenceMatcher

SPACING_M, LENGTH, ROUTES = 5.0, 40, 3
SECOND = 1_000_000_000


def place(east_m: float, north_m: float = 0.0, yaw_rad: float = 0.0) -> Pose:
    return Pose(so3_exp([0, 0, yaw_rad]), np.array([east_m, north_m, 0.0]))


class Town:
    """Three parallel streets; their houses are those of the first but for a few, and frames are noisy."""

    def __init__(self, seed: int, noise: float = 0.5) -> None:
        self.rng, self.noise = np.random.default_rng(seed), noise
        street = self.rng.normal(size=(LENGTH, 24))
        looks = np.stack([street, street.copy(), street.copy()])
        for route in range(ROUTES):
            own = self.rng.choice(LENGTH, LENGTH // 6, replace=False)
            looks[route, own] = self.rng.normal(size=(len(own), 24))
        self.looks = unit(looks.reshape(-1, 24))
        self.poses = [place(i * SPACING_M, 300.0 * route) for route in range(ROUTES) for i in range(LENGTH)]

    def candidates(self, number: int, k: int = 30) -> list[Candidate]:
        query = unit(self.looks[number] + self.noise * self.rng.normal(size=24) / np.sqrt(24))
        scores = self.looks @ query
        return [Candidate(int(i), float(scores[i])) for i in np.argsort(-scores)[:k]]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def share_right(town: Town, route: int, odometry: bool, speed: float = 5.0) -> tuple[float, float]:
    """Of a drive along a route, after its first ten frames: by one frame, and by the sequence (same street, within two places)."""
    matcher = SequenceMatcher(town.poses, SequenceMatcher.Config())
    single, sequence = [], []
    for i in range(LENGTH):
        number, stamp = route * LENGTH + i, 7 + int(i * SPACING_M / speed * SECOND)
        turn = Pose(so3_exp([0, 0, 0.7]), np.array([9.0, -4.0, 0.0]))  # odometry has a frame of its own
        found = town.candidates(number)
        weighed = matcher.observe(stamp, found, turn @ place(i * SPACING_M) if odometry else None)
        assert len(weighed) == len(found) and len({c.source for c in weighed}) == len(weighed)
        assert all(a.score >= b.score for a, b in zip(weighed, weighed[1:], strict=False))
        if i >= 10:
            single.append(abs(found[0].source - number) <= 2)
            sequence.append(abs(weighed[0].source - number) <= 2)
    return float(np.mean(single)), float(np.mean(sequence))


@pytest.mark.parametrize("odometry", [True, False])
def test_a_sequence_tells_streets_apart_that_one_frame_cannot(odometry: bool) -> None:
    shares = np.array([share_right(Town(seed), route, odometry) for seed, route in ((0, 1), (1, 2))])
    assert shares[:, 0].mean() < 0.6
    assert shares[:, 1].mean() > 0.9


@pytest.mark.parametrize("speed", [0.8, 15.0])
def test_without_odometry_the_speed_need_not_be_known(speed: float) -> None:
    single, sequence = share_right(Town(4), 1, False, speed)
    assert sequence > single + 0.2


def test_the_way_may_bend() -> None:
    """Two streets with the same houses; on the second the road turns, which only odometry tells."""
    angles = np.linspace(0, np.pi / 2, 20)
    straight = [place(5.0 * i) for i in range(20)]
    bent = [place(1000 + 60 * np.sin(a), 60 * (1 - np.cos(a)), a) for a in angles]
    matcher = SequenceMatcher(straight + bent, SequenceMatcher.Config(tolerance_m=2.0, drift=0.05))
    for i in range(15):
        both = [Candidate(i, 0.9), Candidate(20 + i, 0.9), *(Candidate((i + 7 * n) % 40, 0.3) for n in (1, 2, 3))]
        weighed = matcher.observe((i + 1) * SECOND, both, bent[i])
    assert weighed[0].source == 20 + 14 and weighed[0].score > weighed[1].score + 0.2


def test_a_place_that_the_way_leads_to_comes_in_though_this_frame_missed_it() -> None:
    matcher = SequenceMatcher([place(5.0 * i) for i in range(50)], SequenceMatcher.Config())
    for i in range(12):
        matcher.observe((i + 1) * SECOND, [Candidate(i, 0.9), Candidate(30, 0.2), Candidate(40, 0.1)], place(5.0 * i))
    weighed = matcher.observe(13 * SECOND, [Candidate(33, 0.5), Candidate(44, 0.4), Candidate(48, 0.3)], place(60.0))
    assert weighed[0].source == 12 and len(weighed) == 3


def test_the_other_way_along_the_street_is_another_place() -> None:
    there, back = [place(5.0 * i) for i in range(20)], [place(5.0 * i, 1.0, np.pi) for i in range(20)]
    matcher = SequenceMatcher(there + back, SequenceMatcher.Config(tolerance_m=3.0))
    for i in range(12):
        both = [Candidate(i, 0.9), Candidate(20 + i, 0.9), Candidate(19, 0.3)]
        weighed = matcher.observe((i + 1) * SECOND, both, place(5.0 * i))
    assert weighed[0].source == 11


class TestForgetting:
    def frames(self, matcher: SequenceMatcher, count: int, step_m: float = 5.0, first_s: int = 1) -> None:
        for i in range(count):
            matcher.observe((first_s + i) * SECOND, [Candidate(i, 0.9), Candidate(i + 1, 0.5)], place(step_m * i))

    def matcher(self) -> SequenceMatcher:
        return SequenceMatcher([place(5.0 * i) for i in range(50)], SequenceMatcher.Config(frames=8))

    def test_remembers_so_many(self) -> None:
        matcher = self.matcher()
        self.frames(matcher, 20)
        assert matcher.num_frames == 8
        matcher.reset()
        assert matcher.num_frames == 0

    @pytest.mark.parametrize(
        ("stamp_s", "odometry"),
        [
            (3, place(30.0)),  # time goes back
            (6, place(30.0)),  # or stands
            (100, place(30.0)),  # a long gap
            (7, place(3000.0)),  # odometry was set anew
            (7, None),  # or is gone
        ],
    )
    def test_forgets_when_time_or_odometry_jumps(self, stamp_s: int, odometry: Pose | None) -> None:
        matcher = self.matcher()
        self.frames(matcher, 6)
        assert matcher.num_frames == 6
        candidates = [Candidate(30, 0.9), Candidate(6, 0.5)]
        assert [c.source for c in matcher.observe(stamp_s * SECOND, candidates, odometry)] == [30, 6]
        assert matcher.num_frames == 1

    def test_standing_still_proves_nothing_twice(self) -> None:
        matcher = self.matcher()
        self.frames(matcher, 20, step_m=0.05)
        assert matcher.num_frames == 1

    def test_a_frame_that_found_nothing_is_passed_over(self) -> None:
        matcher = self.matcher()
        self.frames(matcher, 3)
        assert matcher.observe(4 * SECOND, [], place(15.0)) == [] and matcher.num_frames == 3
        assert matcher.observe(5 * SECOND, [Candidate(4, 0.9), Candidate(9, 0.4)], place(20.0))[0].source == 4


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20, unique=True), st.floats(0.01, 100), st.floats(-5, 5))
def test_one_frame_keeps_the_order_of_retrieval_in_any_units(scores: list[float], scale: float, shift: float) -> None:
    matcher = SequenceMatcher([place(5.0 * i) for i in range(20)], SequenceMatcher.Config())
    ranked = sorted(scores, reverse=True)
    weighed = matcher.observe(SECOND, [Candidate(i, scale * s + shift) for i, s in enumerate(ranked)])
    heights = [c.score for c in weighed]
    assert sorted(heights, reverse=True) == heights and sorted(c.source for c in weighed) == list(range(len(scores)))
    if np.diff(ranked).max(initial=-1) < -1e-6:
        assert [c.source for c in weighed] == list(range(len(scores)))


def test_bad_input() -> None:
    with pytest.raises(DataError, match="no place of this map, which has 2"):
        SequenceMatcher([place(0), place(5)], SequenceMatcher.Config()).observe(1, [Candidate(2, 0.5)])
    assert SequenceMatcher([], SequenceMatcher.Config()).observe(1, []) == []
    assert SequenceMatcher([place(0)], SequenceMatcher.Config()).observe(1, [Candidate(0, 0.5)])[0].source == 0
    for wrong in ({"frames": 0}, {"tolerance_m": 0.0}, {"fastest_m_per_s": 0.1}, {"drift": -1.0}):
        with pytest.raises(ConfigError, match="here"):
            build(SequenceMatcher.Config, wrong, "here")


def test_the_corridor(shared_data: Path) -> None:
    """Real images, described as poorly as can be; the frames' numbers stand for places, one metre apart."""
    folder = shared_data / "vpr" / "corridor"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    queries, references = (np.stack([tiny(p) for p in sorted((folder / name).glob("*.jpg"))]) for name in ("query", "ref"))
    matcher = SequenceMatcher([place(float(i)) for i in range(len(references))], SequenceMatcher.Config(min_step_m=1.0, tolerance_m=1.5))
    single, sequence = [], []
    for i, scores in enumerate(queries @ references.T):
        found = [Candidate(int(j), float(scores[j])) for j in np.argsort(-scores)[:50]]
        weighed = matcher.observe((i + 1) * SECOND, found, place(float(i)))
        single.append(abs(found[0].source - i) <= 3)
        sequence.append(abs(weighed[0].source - i) <= 3)
    assert np.mean(sequence) > np.mean(single) + 0.15


def tiny(path: Path) -> np.ndarray:
    """Patches of 8x8 px of a tiny grey image, each of zero mean and unit deviation (as SeqSLAM)."""
    grey = resize_image(read_image(path), 32, 24).astype(np.float32).mean(axis=2).reshape(3, 8, 4, 8)
    patches = (grey - grey.mean(axis=(1, 3), keepdims=True)) / (grey.std(axis=(1, 3), keepdims=True) + 1e-3)
    return unit(patches.ravel())
