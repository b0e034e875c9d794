"""The index of places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.types import GlobalDescriptor
from ros2_loc.errors import DataError
from ros2_loc.retrieval.index import PlaceIndex


@pytest.fixture
def vectors() -> np.ndarray:
    v = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_finds_the_most_similar_places_in_order(vectors: np.ndarray) -> None:
    found = PlaceIndex.build(vectors).search(GlobalDescriptor(vectors[7], "test"), 5)
    expected = np.argsort(-(vectors @ vectors[7]))[:5]
    assert [c.source for c in found] == expected.tolist()
    assert found[0].score == pytest.approx(1.0, abs=1e-5)


def test_searches_among_some_places_only(vectors: np.ndarray) -> None:
    found = PlaceIndex.build(vectors).search(GlobalDescriptor(vectors[7], "test"), 5, among=np.array([3, 9, 11]))
    assert {c.source for c in found} == {3, 9, 11}


def test_round_trip_and_damage(vectors: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    PlaceIndex.build(vectors).save(path)
    again = PlaceIndex.load(path)
    query = GlobalDescriptor(vectors[3], "test")
    assert len(again) == 50 and again.search(query, 4) == PlaceIndex.build(vectors).search(query, 4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="index.faiss"):
        PlaceIndex.load(path)
