"""Matches in one spot do not support a pose, however many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.localization.support import SPOT, beyond_chance, support_of

SIZE = (640, 400)


def chance(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform([0, 0], SIZE, (count, 2))


def test_a_poster_that_is_there_twice_is_one_spot() -> None:
    rng = np.random.default_rng(1)
    poster = np.array([165.0, 185.0]) + rng.uniform(-20, 20, (31, 2))
    support = support_of(np.concatenate([poster, chance(12, 2)]), [chance(12, seed) for seed in (3, 4, 5, 6)], SIZE)
    assert support.found == 43 and support.by_chance == 12.0
    assert support.found_beside <= 12 and support.found_beside - support.by_chance_beside < 4.0


def test_a_true_pose_is_supported_all_over() -> None:
    support = support_of(chance(60, 1), [chance(12, seed) for seed in (3, 4, 5, 6)], SIZE)
    assert support.found_beside - support.by_chance_beside > 30.0


def test_chance_that_varies_is_no_support() -> None:
    assert beyond_chance(28, 7.0, 8.0) and not beyond_chance(14, 7.0, 8.0)
    assert not beyond_chance(25, 17.0, 8.0), "two sigmas of 17"
    assert not beyond_chance(0, 0.0, 8.0)


@given(st.integers(0, 40), st.integers(0, 30), st.integers(0, 1000))
def test_nothing_is_counted_twice(count: int, random: int, seed: int) -> None:
    found, other = chance(count, seed), chance(random, seed + 1)
    support = support_of(found, [other, other[: random // 2]], SIZE)
    assert support.found == count and support.by_chance == pytest.approx((random + random // 2) / 2)
    assert 0 <= support.found_beside <= max(0, count - 1) and 0.0 <= support.by_chance_beside <= support.by_chance
    half = np.array(SIZE) * SPOT / 2
    crowd = max((int((np.abs(found - point) <= half + 1e-9).all(axis=1).sum()) for point in found), default=0)
    assert support.found - support.found_beside == pytest.approx(crowd, abs=0)
