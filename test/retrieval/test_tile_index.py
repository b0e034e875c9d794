"""Tiles by descriptor alone: exact while they are few, nearly so when they are compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ros2_loc.errors import DataError
from ros2_loc.retrieval.tile_index import TileIndex


def features(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    made = rng.normal(size=(count, 4, 8, 8)).astype(np.float32)
    return (made / np.linalg.norm(made.reshape(count, -1), axis=1)[:, None, None, None]).astype(np.float16)


def test_few_are_searched_exactly(tmp_path: Path) -> None:
    made = features(300)
    TileIndex.build(made).save(tmp_path / "index.faiss")
    index = TileIndex.load(tmp_path / "index.faiss")
    assert len(index) == 300
    query = made[17] + 0.5 * made[40]
    scores = made.reshape(300, -1).astype(np.float32) @ query.astype(np.float32).ravel()
    found = index.search(query, 5)
    assert [c.source for c in found] == np.argsort(-scores)[:5].tolist()
    assert found[0].score == pytest.approx(scores.max(), abs=1e-2)


def test_only_those_that_may_be_are_found() -> None:
    made = features(100)
    among = np.array([3, 50, 99])
    assert {c.source for c in TileIndex.build(made).search(made[17], 10, among)} == set(among.tolist())


def test_many_are_compressed_and_found_all_the_same() -> None:
    made = features(1200)
    index = TileIndex.build(made, max_exact=1000)
    right = sum(index.search(made[i], 1)[0].source == i for i in range(0, 1200, 30))
    assert right >= 36  # of 40
    assert index.search(made[3], 5, np.array([8, 9]))[0].source in (8, 9)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"index.faiss.*again"):
        TileIndex.load(tmp_path / "index.faiss")
