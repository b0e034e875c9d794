"""RANSAC of all candidates at once: known transforms, OpenCV's counts, and what is no geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros2_loc.retrieval.scoring.ransac import fit_many
from ros2_loc.retrieval.scoring.ransac_opencv import fit_each
from ros2_loc.retrieval.scoring.verified import Model

WIDTH, HEIGHT = 1240, 376
MODELS: tuple[Model, ...] = ("homography", "affine")


def transformed(transform: NDArray, points: NDArray) -> NDArray:
    moved = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return moved[:, :2] / moved[:, 2:]


def random_transform(rng: np.random.Generator, model: Model) -> NDArray:
    """Turned up to 30 degrees, larger or smaller by up to a half, sheared a little, moved; seen askew where it is a homography."""
    angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.6, 1.5)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    result = np.eye(3)
    result[:2, :2] = turn @ np.array([[1.0, rng.uniform(-0.2, 0.2)], [0.0, 1.0]])
    result[:2, 2] = rng.uniform(-200, 200, 2)
    if model == "homography":
        result[2, :2] = rng.uniform(-2e-4, 2e-4, 2)
    return result


def pairs(rng: np.random.Generator, model: Model, inliers: int, outliers: int, noise_px: float = 0.5) -> tuple[NDArray, NDArray, NDArray]:
    """Query and place points, inliers first, and query_from_place."""
    transform = random_transform(rng, model)
    place = rng.uniform(0, [WIDTH, HEIGHT], (inliers + outliers, 2))
    query = rng.uniform(0, [WIDTH, HEIGHT], (inliers + outliers, 2))
    query[:inliers] = transformed(transform, place[:inliers]) + noise_px * rng.normal(size=(inliers, 2))
    return query, place, transform


def alone(query: NDArray, place: NDArray, **settings: Any) -> Any:
    return fit_many(query, place, np.zeros(len(query), dtype=int), 1, **settings)


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 10**6), share=st.floats(0.35, 1.0), count=st.integers(40, 150))
def test_known_transforms_come_back_from_among_outliers(model: Model, seed: int, share: float, count: int) -> None:
    inliers = max(16, round(share * count))
    query, place, _ = pairs(np.random.default_rng(seed), model, inliers, count - inliers)
    found = alone(query, place, model=model, threshold_px=4.0)
    assert found.inlier_mask[:inliers].mean() > 0.95 and found.inliers_per_place[0] == found.inlier_mask.sum()
    offset = np.linalg.norm(transformed(found.transforms[0], place[:inliers]) - query[:inliers], axis=1)
    assert np.median(offset) < 1.5
    if model == "affine":
        np.testing.assert_allclose(found.transforms[0][2], [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_as_many_inliers_as_opencv_finds(model: Model) -> None:
    """On average of many candidates, most with outliers alone, within 5 %; of those that are right, each within 5 % or one."""
    rng = np.random.default_rng(4)
    right = [round(n) for n in np.geomspace(60, 250, 6)]
    made = [pairs(rng, model, n, 120, noise_px=4.0) for n in right] + [pairs(rng, model, 0, n) for n in range(60, 300, 30)]
    owner = np.repeat(np.arange(len(made)), [len(query) for query, _, _ in made])
    query, place = (np.concatenate([one[k] for one in made]) for k in (0, 1))
    ours = fit_many(query, place, owner, len(made), model, 24.0).inliers_per_place
    theirs = fit_each(query, place, owner, len(made), model, 24.0).inliers_per_place
    assert (np.abs(ours - theirs)[: len(right)] <= np.maximum(1, 0.05 * theirs[: len(right)])).all(), (ours, theirs)
    assert ours[: len(right)].min() > 1.5 * ours[len(right) :].max()
    assert abs(ours.sum() / theirs.sum() - 1.0) < 0.05, (ours, theirs)


@given(seed=st.integers(0, 10**6), model=st.sampled_from(MODELS))
def test_a_place_gets_the_same_whatever_the_others_and_their_order(seed: int, model: Model) -> None:
    rng = np.random.default_rng(seed)
    made = [pairs(rng, model, *rng.integers(0, 30, 2)) for _ in range(5)]
    order = rng.permutation(5)
    owner = np.repeat(np.arange(5), [len(query) for query, _, _ in made])
    query, place = (np.concatenate([one[k] for one in made]) for k in (0, 1))
    together = fit_many(query, place, owner, 5, model, max_draws=300)
    renamed = fit_many(query, place, order[owner], 5, model, max_draws=300)
    np.testing.assert_array_equal(renamed.inliers_per_place[order], together.inliers_per_place)
    np.testing.assert_array_equal(renamed.inlier_mask, together.inlier_mask)
    for number, (q, p, _) in enumerate(made):
        one = alone(q, p, model=model, max_draws=300)
        assert one.inliers_per_place[0] == together.inliers_per_place[number]
        np.testing.assert_allclose(one.transforms[0], together.transforms[number], atol=1e-6)


def test_matches_of_places_may_come_mixed() -> None:
    rng = np.random.default_rng(1)
    made = [pairs(rng, "homography", n, 10) for n in (30, 50)]
    owner = np.repeat([0, 1], [40, 60])
    query, place = (np.concatenate([one[k] for one in made]) for k in (0, 1))
    mixed = rng.permutation(100)
    found = fit_many(query[mixed], place[mixed], owner[mixed], 2, threshold_px=4.0)
    true = np.concatenate([np.arange(40) < 30, np.arange(60) < 50])
    assert (found.inlier_mask == true[mixed]).mean() > 0.97
    assert abs(found.inliers_per_place[0] - 30) <= 1 and abs(found.inliers_per_place[1] - 50) <= 1


@pytest.mark.parametrize("model", MODELS)
def test_too_few_matches_all_count_and_none_is_none(model: Model) -> None:
    """As in the public code: one to three (two) matches count as they are."""
    few = 3 if model == "homography" else 2
    for count in range(few + 1):
        points = np.random.default_rng(count).uniform(0, 100, (count, 2))
        found = fit_many(points, points[::-1], np.full(count, 1), 3, model)
        np.testing.assert_array_equal(found.inliers_per_place, [0, count, 0])
        assert found.inlier_mask.all() and not found.transforms.any()
    assert len(fit_many(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int), 0, model).inliers_per_place) == 0


@pytest.mark.parametrize("model", MODELS)
def test_points_in_a_line_or_in_one_place_fix_nothing(model: Model) -> None:
    line = np.column_stack([np.linspace(0, 500, 40), np.linspace(10, 260, 40)])
    for place in (line, np.full((40, 2), 77.0)):
        found = alone(line, place, model=model)
        assert found.inliers_per_place[0] == 0 and not found.inlier_mask.any() and not found.transforms.any()


@pytest.mark.parametrize("model", MODELS)
def test_mirror_images_do_not_agree(model: Model) -> None:
    place = np.random.default_rng(0).uniform(0, [WIDTH, HEIGHT], (80, 2))
    mirrored = alone(np.array([WIDTH, 0]) + place * [-1, 1], place, model=model, threshold_px=8.0)
    assert alone(place + 5.0, place, model=model, threshold_px=8.0).inliers_per_place[0] == 80
    assert mirrored.inliers_per_place[0] < 30


@given(seed=st.integers(0, 10**6), model=st.sampled_from(MODELS), bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
def test_numbers_come_out_whatever_goes_in(seed: int, model: Model, bad: float) -> None:
    rng = np.random.default_rng(seed)
    query, place, _ = pairs(rng, model, 20, 10)
    place[rng.integers(0, 30, 8)] = rng.integers(0, 4, (8, 2))  # the same point several times
    query[5, 1] = bad
    found = alone(query, place, model=model, max_draws=200)
    assert np.isfinite(found.transforms).all() and 0 <= found.inliers_per_place[0] <= 30
    assert not found.inlier_mask[5]


def test_confidence_ends_the_search_and_more_draws_find_rarer_inliers() -> None:
    query, place, _ = pairs(np.random.default_rng(7), "homography", 24, 136)
    few, many = (alone(query, place, threshold_px=3.0, max_draws=n).inliers_per_place[0] for n in (20, 20000))
    assert few < 15 and many >= 22
    clean = pairs(np.random.default_rng(7), "homography", 150, 10)[:2]
    assert alone(*clean, threshold_px=3.0, max_draws=200).inliers_per_place == alone(*clean, threshold_px=3.0).inliers_per_place
