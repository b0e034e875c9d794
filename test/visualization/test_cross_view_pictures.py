"""Pictures of retrieval and belief: colours that mean the same in both views, borders that say right or wrong, inputs untouched."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.visualization.cross_view import (
    BeliefPicture,
    OverheadExample,
    RetrievedTile,
    draw_beliefs,
    draw_example,
    draw_retrieval,
    feature_colors,
)

RNG = np.random.default_rng(0)


def test_the_same_feature_has_the_same_colour_in_every_map() -> None:
    first = RNG.normal(size=(4, 8, 8)).astype(np.float32)
    second = np.roll(first, 3, axis=2) * 7.0  # another scale, the same directions
    seen = np.ones((8, 8), bool)
    a, b = feature_colors([first, second], [seen, seen])
    np.testing.assert_allclose(np.roll(a.astype(int), 3, axis=1), b, atol=1)
    assert a.reshape(-1, 3).std(axis=0).min() > 20


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_cells_that_are_not_seen_are_gray(channels: int) -> None:
    mask = np.zeros((6, 6), bool)
    mask[2:4] = True
    maps = [RNG.normal(size=(channels, 6, 6)).astype(np.float32), RNG.normal(size=(channels, 6, 6)).astype(np.float32)]
    first, second = feature_colors(maps, [mask, np.ones_like(mask)])
    assert first.shape == (6, 6, 3) and len(np.unique(first[~mask], axis=0)) == 1
    assert len(np.unique(second.reshape(-1, 3), axis=0)) > 10


def test_nothing_seen_at_all_is_a_gray_picture() -> None:
    nothing = np.zeros((5, 5), bool)
    (picture,) = feature_colors([np.zeros((4, 5, 5), np.float32)], [nothing])
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(("frames", "shifts"), [(1, 0), (6, 3)])
def test_example_is_drawn_whatever_the_network(frames: int, shifts: int) -> None:
    grid, k = OverheadGrid(16, 6.4, shifts), 2 * shifts + 1
    tile = RNG.integers(0, 255, (32, 32, 3)).astype(np.uint8)
    kept = tile.copy()
    visible = np.zeros((16, 16), bool)
    visible[:8] = True
    example = OverheadExample(
        frames=[RNG.integers(0, 255, (16, 64, 3)).astype(np.uint8)] * frames,
        tile=tile,
        grid=grid,
        overhead=RNG.normal(size=(4, 16, 16)).astype(np.float32),
        visible=visible,
        tile_features=RNG.normal(size=(4, 16, 16)).astype(np.float32),
        uncertainty=np.full((k, k), 0.5, np.float32),
        scores=RNG.normal(size=(k, k)).astype(np.float32),
        truth_m=np.array([3.0, -4.0]),
        estimate_m=np.array([2.0, -4.0]),
        yaw_rad=0.4,
    )
    picture = draw_example(example, "words")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.shape[1] > 3 * picture.shape[0] > 600
    assert (tile == kept).all()


def test_right_tiles_have_green_borders_and_wrong_ones_red() -> None:
    query, tile = np.full((16, 64, 3), 128, np.uint8), np.full((32, 32, 3), 128, np.uint8)
    right, wrong = (draw_retrieval([(query, [RetrievedTile(tile, 3.0, found)])]).astype(int) for found in (True, False))
    green = lambda p: int(((p[..., 1] > 150) & (p[..., 0] < 60)).sum())  # noqa: E731
    red = lambda p: int(((p[..., 0] > 200) & (p[..., 1] < 60)).sum())  # noqa: E731
    assert green(right) > 200 > red(right) and red(wrong) > 200 > green(wrong)


def test_beliefs_are_drawn_where_they_are() -> None:
    background, bounds = np.full((50, 50, 3), 255, np.uint8), (0.0, 0.0, 100.0, 100.0)
    probability = np.zeros((10, 10), np.float32)
    probability[0, 0] = 1.0  # the north-west

    def moment(estimate: bool) -> BeliefPicture:
        at, covariance = (np.array([52.0, 48.0]), np.diag([4.0, 9.0])) if estimate else (None, None)
        return BeliefPicture(probability, bounds, np.array([50.0, 50.0]), np.array([[40.0, 50.0], [50.0, 50.0]]), at, covariance, "words")

    picture = draw_beliefs(background, bounds, [moment(False)]).astype(int)
    dark = np.argwhere((picture[..., 2] > picture[..., 1] + 60) & (picture[..., 0] < 80))
    assert len(dark) > 50
    assert dark[:, 0].mean() < 0.3 * picture.shape[0] and dark[:, 1].mean() < 0.3 * picture.shape[1]
    both = draw_beliefs(background, bounds, [moment(False), moment(True), moment(True)], columns=2)
    assert both.shape[0] > 1.8 * picture.shape[0]
