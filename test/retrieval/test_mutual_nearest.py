"""Mutual nearest neighbours of many places at once are those of each by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros2_loc.retrieval import mutual_nearest
from ros2_loc.retrieval.mutual_nearest import mutual_pairs


def brute_force(query: NDArray, place: NDArray) -> list[tuple[int, int]]:
    """(query, place) indices, in the order of the place's."""
    products = place.astype(np.float64) @ query.astype(np.float64).T
    found = []
    for row in range(len(place)):
        column = max(range(len(query)), key=lambda one, row=row: products[row, one])
        if max(range(len(place)), key=lambda one, column=column: products[one, column]) == row:
            found.append((column, row))
    return found


@given(counts=st.lists(st.integers(0, 12), max_size=6), num_query=st.integers(0, 12), seed=st.integers(0, 999))
def test_pairs_are_those_of_brute_force(counts: list[int], num_query: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(num_query, 5)).astype(np.float16)
    places = [rng.normal(size=(count, 5)).astype(np.float16) for count in counts]
    pairs = mutual_pairs(query, places)
    for owner, place in enumerate(places):
        mine = pairs.owner == owner
        found = list(zip(pairs.query[mine].tolist(), pairs.place[mine].tolist(), strict=True))
        assert found == (brute_force(query, place) if len(query) and len(place) else [])
        products = (query[pairs.query[mine]].astype(np.float32) * place[pairs.place[mine]].astype(np.float32)).sum(axis=1)
        np.testing.assert_allclose(pairs.products[mine], products, rtol=1e-4, atol=1e-4)
    assert len(pairs.owner) == 0 or (np.diff(pairs.owner) >= 0).all()


def test_small_blocks_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query, places = rng.normal(size=(20, 8)), [rng.normal(size=(count, 8)) for count in (15, 0, 30, 1, 22)]
    whole = mutual_pairs(query, places)
    assert set(whole.owner.tolist()) == {0, 2, 3, 4}
    for block in (1, 600, 1500):
        monkeypatch.setattr(mutual_nearest, "_BLOCK", block)
        for ours, expected in zip(mutual_pairs(query, places), whole, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_of_descriptors_that_are_all_alike_two_match() -> None:
    """A white wall: each is matched once at most."""
    pairs = mutual_pairs(np.ones((6, 3)), [np.ones((4, 3)), np.ones((9, 3))])
    assert pairs.query.tolist() == [0, 0] and pairs.place.tolist() == [0, 0] and pairs.owner.tolist() == [0, 1]


def test_nothing_matches_nothing() -> None:
    some, none = np.ones((3, 4)), np.zeros((0, 4))
    for pairs in (mutual_pairs(none, [some]), mutual_pairs(some, [none]), mutual_pairs(some, [])):
        assert [len(array) for array in pairs] == [0, 0, 0, 0] and pairs.query.dtype == np.int64


def test_what_a_gpu_does_finds_the_same_pairs() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
    rng = np.random.default_rng(0)
    query = rng.normal(size=(200, 16)).astype(np.float16)
    places = [rng.normal(size=(count, 16)).astype(np.float16) for count in (150, 0, 300)]
    expected = mutual_pairs(query, places)
    found = [next(mutual_nearest._match_by_torch(query, places, 0, "cpu"))]
    found += [mutual_pairs(query, places, "cuda")] if torch.cuda.is_available() else []
    for pairs in found:
        for name in ("query", "place", "owner"):
            np.testing.assert_array_equal(getattr(pairs, name), getattr(expected, name))
        np.testing.assert_allclose(pairs.products, expected.products, rtol=1e-4, atol=1e-4)
