"""Recall, displacement and the filter's numbers, against cases worked out by hand and properties that must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ros2_loc.evaluation import cross_view_metrics as m

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 8))


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are all different, and which tiles are hits."""
    q, t = draw(SIZES)
    order = np.array([draw(st.permutations(range(t))) for _ in range(q)], dtype=np.float64)
    return order, draw(hnp.arrays(bool, (q, t)))


def track(travelled: list[float], accepted: list[bool], error: list[float], nees: list[float]) -> m.RunTrack:
    return m.RunTrack(np.array(travelled), np.array(accepted), np.array(error), np.array(nees))


def test_rank_counts_what_was_put_before_the_first_hit() -> None:
    scores = [[0.9, 0.1, 0.5, 0.7], [0.2, 0.9, 0.1, 0.3], [1, 2, 3, 4]]
    hits = [[False, True, True, False], [False, True, False, False], [False] * 4]
    assert m.ranks(scores, hits).tolist() == [2, 0, 4]
    assert m.recall_at(m.ranks(scores, hits), 1) == pytest.approx(1 / 3)
    assert m.recall_at(m.ranks(scores, hits), 3) == pytest.approx(2 / 3)
    assert m.recall_at([], 1) is None


def test_who_says_the_same_of_every_tile_knows_nothing() -> None:
    hits = np.eye(5, dtype=bool)
    assert m.ranks(np.ones((5, 5)), hits).tolist() == [4] * 5
    assert m.ranks(np.full((5, 5), np.nan), hits).tolist() == [4] * 5
    broken = np.arange(25.0).reshape(5, 5)
    broken[:, 4] = np.inf
    assert m.ranks(broken, np.eye(5, dtype=bool)).tolist()[4] == 4  # an infinite score is a fault, not the best


@given(scored())
def test_rank_is_the_place_of_the_first_hit_in_the_sorted_list(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, hits = case
    for row, hit, rank in zip(scores, hits, m.ranks(scores, hits), strict=True):
        listed = hit[np.argsort(-row)]
        assert rank == (int(np.argmax(listed)) if listed.any() else len(row))


@given(scored(), st.randoms())
def test_recall_grows_with_k_and_with_hits_and_forgets_the_order_of_tiles(case: tuple[np.ndarray, np.ndarray], random: object) -> None:
    scores, hits = case
    rank = m.ranks(scores, hits)
    curve = [m.recall_at(rank, k) for k in range(1, scores.shape[1] + 2)]
    assert curve == sorted(curve) and curve[-2] == hits.any(axis=1).mean()
    more = hits.copy()
    more[:, 0] = True
    assert (m.ranks(scores, more) <= rank).all()
    mixed = np.random.default_rng(random.randint(0, 99)).permutation(scores.shape[1])  # type: ignore[attr-defined]
    assert (m.ranks(scores[:, mixed], hits[:, mixed]) == rank).all()


def test_nearest_tile() -> None:
    index, distance = m.nearest([[1.0, 1.0], [9.0, 0.0]], [[0.0, 0.0], [10.0, 0.0]])
    assert index.tolist() == [0, 1] and distance == pytest.approx([np.sqrt(2), 1.0])


def test_a_vehicle_that_drives_north_has_north_ahead_and_west_to_its_left() -> None:
    error = m.in_driving_frame([[0.0, 3.0], [-2.0, 0.0]], [np.pi / 2, np.pi / 2])
    np.testing.assert_allclose(error, [[3.0, 0.0], [0.0, 2.0]], atol=1e-12)


@given(hnp.arrays(float, (4, 2), elements=st.floats(-50, 50)), hnp.arrays(float, 4, elements=st.floats(-7, 7)))
def test_the_driving_frame_keeps_lengths(error: np.ndarray, yaw: np.ndarray) -> None:
    np.testing.assert_allclose(np.hypot(*m.in_driving_frame(error, yaw).T), np.hypot(*error.T), atol=1e-9)


def test_displacement_by_hand() -> None:
    found = m.displacement([[3.0, -4.0], [0.0, 0.0], [-6.0, 8.0]])
    assert found is not None
    assert (found.longitudinal_median_m, found.lateral_median_m, found.total_median_m, found.count) == (3.0, 4.0, 5.0, 3)
    assert found.total_p90_m == pytest.approx(9.0)
    assert m.displacement(np.zeros((0, 2))) is None


def test_confidently_wrong_is_far_off_and_outside_of_the_claim() -> None:
    said = track([0, 1, 2, 3], [True, True, True, False], [50.0, 50.0, 9.0, 50.0], [5.0, 400.0, 400.0, np.nan])
    assert m.confidently_wrong(said).tolist() == [False, True, False, False]


def test_filter_numbers_by_hand() -> None:
    sure = track([0, 40, 48, 100, 196], [False, True, True, True, True], [300, 30, 8, 3, 2], [np.nan, 99.0, 1.0, 1.0, 1.0])
    shy = track([0, 50, 95, 199], [False, False, False, True], [200, 9, 5, 4], [np.nan, np.nan, np.nan, 2.0])
    short = track([0, 30], [False, False], [5, 5], [np.nan, np.nan])
    found = m.filter_metrics([sure, shy, short])
    assert found.within == pytest.approx((1 / 3, 1 / 3, 2 / 3))
    assert found.mode_within == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (found.runs, found.runs_wrong, found.poses_wrong, found.poses, found.never) == (3, 1, 1, 5, 1)
    assert found.coverage == pytest.approx(4 / 5)
    assert found.first_fix_m is not None and found.first_fix_m[1] == pytest.approx((40 + 199) / 2)
    assert found.error_median_m == 4.0


def test_what_a_run_says_later_does_not_count_before() -> None:
    late = track([45, 51], [False, True], [900, 1], [np.nan, 1.0])
    assert not m.within_after(late, 50.0, accepted_only=False) and m.within_after(late, 51.0, accepted_only=True)
    assert m.within_after(late, 65.0, accepted_only=True) and not m.within_after(late, 67.0, accepted_only=True)
    assert not m.within_after(late, 40.0, accepted_only=False)


def test_filter_that_never_speaks_has_no_errors() -> None:
    found = m.filter_metrics([track([0, 100], [False, False], [np.inf, np.inf], [np.nan, np.nan])])
    assert found.poses == 0 and found.never == 1 and found.coverage is None and found.nees is None and found.first_fix_m is None
    with pytest.raises(ValueError, match="no runs"):
        m.filter_metrics([])


def test_nees_of_honest_claims_is_two(rng_seed: int = 3) -> None:
    rng = np.random.default_rng(rng_seed)
    covariance = np.array([[9.0, 4.0], [4.0, 5.0]])
    errors = rng.multivariate_normal(np.zeros(2), covariance, 800)
    values = np.array([m.position_nees(e, covariance) for e in errors])
    run = m.RunTrack(np.arange(800.0), np.ones(800, bool), np.hypot(*errors.T), values)
    found = m.filter_metrics([run])
    assert found.nees is not None and found.nees.mean == pytest.approx(2.0, abs=0.2)
    assert found.coverage == pytest.approx(0.95, abs=0.025)


def test_a_track_of_unequal_arrays_is_refused() -> None:
    with pytest.raises(ValueError, match="four arrays"):
        track([0, 1], [True], [1.0], [1.0])
