"""Rapid spatial scoring against the formula, one candidate and one match at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.retrieval.scoring.rapid import rapid_scores


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 60))
def test_it_is_the_published_formula(seed: int, places: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    query, place = rng.integers(0, [12, 8], (2, count, 2))
    owner = rng.integers(0, places, count)
    expected = np.zeros(places)
    for number in range(places):
        moved = (place - query)[owner == number]
        for row in moved:
            expected[number] += ((np.array([11, 7]) - np.abs(row - moved.mean(axis=0))) ** 2).sum() / 40
    found = rapid_scores(query, place, owner, places, (11, 7), 40)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_like_displacements_score_higher_than_unlike_ones_and_none_lowest() -> None:
    rng = np.random.default_rng(0)
    query = rng.integers(0, 10, (20, 2))
    place = np.concatenate([query + 3, rng.integers(0, 10, (20, 2))])
    scores = rapid_scores(np.concatenate([query, query]), place, np.repeat([0, 2], 20), 3, (12, 12), 50)
    assert scores[0] > scores[2] > scores[1] == 0


@pytest.mark.parametrize("number, size", list(enumerate((2, 5, 8))))
def test_it_gives_what_the_authors_code_gave(shared_data: Path, number: int, size: int) -> None:
    path = shared_data.parent / "parity" / "patchnetvlad" / "golden_seed0.npz"
    if not path.is_file():
        pytest.skip(f"no golden outputs at {path}")
    golden = np.load(path)
    grid = golden[f"indices_psize{size}"].T
    rng = np.random.RandomState(77)
    for patches in (golden[f"indices_psize{earlier}"].shape[1] for earlier in (2, 5, 8)[: number + 1]):
        descriptors = rng.standard_normal((32, patches))
        turned = rng.permutation(patches)[: patches // 3]
        order = np.arange(patches)
        order[turned] = np.roll(turned, 1)
        rng.standard_normal((32, patches))
    # a third of the patches lie elsewhere; all find their like
    place = np.argsort(order, kind="stable")
    score = rapid_scores(grid, grid[place], np.zeros(len(grid), int), 1, tuple(grid.max(axis=0)), descriptors.shape[1])
    np.testing.assert_allclose(-score[0], golden["synscore_spatialApproximator"][number], rtol=1e-5)
