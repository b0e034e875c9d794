"""Geometry of patches and fusion of their scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError
from ros2_loc.retrieval.mutual_nearest import Pairs
from ros2_loc.retrieval.rerankers.patch_scores import Patches, check_size, fused, grid, verified


def patches(columns: int, rows: int, side: int = 1) -> Patches:
    cells = grid(columns, rows)
    return Patches(np.zeros((len(cells), 2), dtype=np.float32), cells, side)


def test_cells_go_row_by_row_and_centres_lie_in_the_middle_of_a_patch() -> None:
    assert grid(3, 2).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    # two cells of 16 px: from 0 to 32; 15.5 where the first pixel is at 0, and rounded down
    assert patches(3, 2, side=2).centres_px()[4].tolist() == [32.0, 32.0]
    assert patches(3, 2, side=2).centres_px("authors")[0].tolist() == [15.0, 15.0]
    assert patches(3, 2, side=5).centres_px("authors")[1].tolist() == [55.0, 39.0]


@pytest.mark.parametrize("geometry", ["exact", "authors"])
def test_matches_that_move_together_are_inliers(geometry: str) -> None:
    query, rng = patches(20, 15), np.random.default_rng(0)
    moved = np.flatnonzero((query.cells[:, 0] < 17) & (query.cells[:, 1] < 14))[::3]
    target = moved + 20 + 3
    wrong = rng.permutation(300)[:25]
    pairs = Pairs(
        np.concatenate([moved, wrong, [0, 5, 9]]),
        np.concatenate([target, rng.permutation(300)[:25], [3, 8, 1]]),
        np.concatenate([np.zeros(len(moved) + 25, dtype=int), [2, 2, 2]]),
        np.ones(len(moved) + 28, dtype=np.float32),
    )
    found = verified(pairs, query, [query, query, query], 24.0, geometry)  # type: ignore[arg-type]
    assert len(moved) <= found.inliers_per_place[0] <= len(moved) + 8 and found.inlier_mask[: len(moved)].all()
    # three matches fix no homography: the published code has no inliers then
    assert found.inliers_per_place[1] == 0 and found.inliers_per_place[2] == (3 if geometry == "exact" else 0)
    assert found.inlier_mask[-3:].all() == (geometry == "exact")


@given(seed=st.integers(0, 999), count=st.integers(1, 9))
def test_normalized_scores_have_the_mean_0_and_don_t_depend_on_units(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    scores, weights = rng.normal(size=(count, 3)), (0.45, 0.15, 0.4)
    total = fused(scores, weights, "zscore")
    assert np.isfinite(total).all() and abs(total.mean()) < 1e-5
    np.testing.assert_allclose(fused(scores * [3.0, 0.1, 7.0] + [1.0, 2.0, -4.0], weights, "zscore"), total, atol=1e-4)


def test_a_size_that_says_the_same_of_all_adds_nothing() -> None:
    scores = np.array([[0.1, 0.7], [0.1, 0.2], [0.1, 0.3]])
    np.testing.assert_allclose(fused(scores, (0.9, 0.1), "zscore"), fused(scores[:, 1:], (0.1,), "zscore"))
    assert fused(np.full((4, 2), 0.3), (0.5, 0.5), "zscore").tolist() == [0.0] * 4
    assert fused(np.zeros((0, 2)), (0.5, 0.5), "zscore").shape == (0,)
    np.testing.assert_allclose(fused(scores, (0.9, 0.1), "plain"), [0.16, 0.11, 0.12])


def test_sizes_that_hold_no_patch_are_refused() -> None:
    check_size("x", (640, 480), 8)
    for size in ((640, 481), (640,), (640, 112), (0, 0)):
        with pytest.raises(ConfigError, match="multiples of 16 px"):
            check_size("x", size, 8)
