"""Videos against tiles in memory: storage, batches, edges, bad input. (Against the plain loop: test/models/cvlnet/test_matching.py.)"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.types import OverheadDescriptor
from ros2_loc.errors import DataError
from ros2_loc.retrieval import tile_matching
from ros2_loc.retrieval.tile_matching import match_tiles


def tiles(count: int, seed: int, s: int = 8, c: int = 4) -> NDArray[np.float32]:
    features = np.random.default_rng(seed).normal(size=(count, c, s, s)).astype(np.float32)
    return features / np.sqrt(np.square(features).sum(axis=(1, 2, 3), keepdims=True))


def video(features: NDArray[np.float32], visible: NDArray[np.bool_] | None = None) -> OverheadDescriptor:
    visible = np.ones(features.shape[1:], bool) if visible is None else visible
    masked = features * visible
    return OverheadDescriptor(masked / max(float(np.linalg.norm(masked)), 1e-6), visible, "test")


@given(st.integers(0, 999), st.integers(1, 5), st.sampled_from([1, 3, 7]))
def test_tiles_and_videos_are_independent_of_each_other(seed: int, count: int, k: int) -> None:
    features = tiles(count, seed)
    uncertainty = np.random.default_rng(seed).uniform(0.1, 1.0, (count, k, k)).astype(np.float32)
    videos = [video(tiles(1, seed + i)[0], np.random.default_rng(seed + i).random((8, 8)) < 0.5) for i in range(3)]
    scores = match_tiles(videos, features, uncertainty)
    assert scores.shape == (3, count, k, k) and scores.dtype == np.float32
    for i, one in enumerate(videos):
        np.testing.assert_allclose(match_tiles(one, features, uncertainty)[0], scores[i], atol=1e-6)
    np.testing.assert_allclose(match_tiles(videos, features[::-1], uncertainty[::-1]), scores[:, ::-1], atol=1e-6)


def test_many_tiles_go_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    features = tiles(23, 1)
    whole = match_tiles(video(features[4]), features, None, num_shifts=3)
    monkeypatch.setattr(tile_matching, "_TILES_AT_ONCE", 5)
    np.testing.assert_allclose(match_tiles(video(features[4]), features, None, num_shifts=3), whole, atol=1e-6)
    assert whole[0, :, 1, 1].argmax() == 4 and whole[0, 4, 1, 1] == pytest.approx(1.0, abs=1e-4)


def test_half_precision_in_storage_costs_little() -> None:
    features = tiles(40, 2, s=32)
    uncertainty = np.random.default_rng(0).uniform(0.1, 1.0, (40, 7, 7)).astype(np.float32)
    one = video(tiles(1, 3, s=32)[0], np.random.default_rng(1).random((32, 32)) < 0.2)
    exact = match_tiles(one, features, uncertainty)
    np.testing.assert_allclose(match_tiles(one, features.astype(np.float16), uncertainty), exact, atol=5e-4)


def test_the_shift_of_the_best_score_is_the_way_from_the_tile_s_centre() -> None:
    grid = OverheadGrid(8, 3.2, 2)
    world = np.random.default_rng(5).normal(size=(4, 20, 20)).astype(np.float32)
    tile = world[:, 6:14, 6:14] / np.linalg.norm(world[:, 6:14, 6:14])
    one = video(world[:, 4:12, 7:15])  # two cells north, one east
    scores = match_tiles(one, tile[None], None, num_shifts=grid.num_shifts)[0, 0]
    np.testing.assert_allclose(grid.shift_offsets_m()[np.unravel_index(scores.argmax(), scores.shape)], [3.2, 6.4])


def test_uncertainty_divides() -> None:
    features, one = tiles(2, 0), video(tiles(1, 9)[0])
    half = np.full((2, 3, 3), 0.5, np.float32)
    np.testing.assert_allclose(match_tiles(one, features, half), 2 * match_tiles(one, features, None, num_shifts=3), rtol=1e-6)


def test_a_video_that_saw_nothing_scores_zero_everywhere() -> None:
    nothing = video(tiles(1, 0)[0], np.zeros((8, 8), bool))
    assert not match_tiles(nothing, tiles(5, 1), None, num_shifts=3).any()


def test_an_empty_database_gives_no_scores() -> None:
    assert match_tiles(video(tiles(1, 0)[0]), tiles(0, 0), np.ones((0, 7, 7), np.float32)).shape == (1, 0, 7, 7)


def test_descriptors_of_another_size_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="encode the tiles again"):
        match_tiles(video(tiles(1, 0, s=6)[0]), tiles(5, 1), np.ones((5, 3, 3), np.float32))
