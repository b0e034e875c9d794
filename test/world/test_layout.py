"""The plan: streets stay free, lots don't overlap, the same seed gives the same town."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError
from ros2_loc.world.layout import STREET_WIDTH_M, Lot, TownSize, make_plan
from ros2_loc.world.town import Town


def _inside(ring: np.ndarray, points: np.ndarray, margin_m: float = 0.0) -> np.ndarray:
    """Which points lie in a convex counter-clockwise ring, by at least margin_m."""
    edges = np.roll(ring, -1, axis=0) - ring
    offsets = points[:, None] - ring[None]
    cross = edges[None, :, 0] * offsets[..., 1] - edges[None, :, 1] * offsets[..., 0]
    return (cross > margin_m * np.linalg.norm(edges, axis=1)).all(axis=1)


def _grid(lot: Lot) -> np.ndarray:
    across, deep = (a.ravel() for a in np.meshgrid(np.linspace(-0.49, 0.49, 5), np.linspace(0.01, 0.99, 5)))
    return lot.front + across[:, None] * lot.along * lot.width_m + deep[:, None] * lot.inward * lot.depth_m


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), columns=st.integers(1, 2), rows=st.integers(1, 2))
def test_streets_are_free_and_lots_apart(seed: int, columns: int, rows: int) -> None:
    plan = make_plan(TownSize(columns=columns, rows=rows), np.random.default_rng(seed))
    assert len(plan.blocks) == (columns + 2) * (rows + 2)
    for a, b in plan.streets:
        along = (b - a) / np.linalg.norm(b - a)
        left = np.array([-along[1], along[0]]) * (STREET_WIDTH_M / 2 - 0.05)
        lane = np.linspace(a + along, b - along, 8)
        for block in plan.blocks:
            assert not _inside(block.kerb, np.vstack([lane, lane + left, lane - left])).any()
    for k, lot in enumerate(plan.lots):
        others = [other for other in plan.lots[:k] if np.linalg.norm(other.front - lot.front) < 30]
        assert not any(_inside(other.corners, _grid(lot), 0.02).any() for other in others)
        assert sum(_inside(block.kerb, _grid(lot)[12:13]).any() for block in plan.blocks) == 1


def test_every_inner_street_has_houses(town: Town) -> None:
    assert len(town.houses) > 15
    for frontage in (f for block in town.plan.blocks for f in block.frontages if f.core):
        middle = (frontage.start + frontage.end) / 2
        assert min(np.linalg.norm(lot.front - middle) for lot in town.plan.lots) < 15.0


def test_same_seed_same_town_other_seed_another() -> None:
    one, same, other = (Town.generate(seed, TownSize.small()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.plan.nodes, same.plan.nodes)
    assert [h.color for h in one.houses] == [h.color for h in same.houses]
    np.testing.assert_array_equal(one.furniture.trees, same.furniture.trees)
    assert [h.color for h in one.houses] != [h.color for h in other.houses]


def test_houses_differ(town: Town) -> None:
    looks = {(h.wall, h.roof, h.color, h.bays, h.floors, h.accent) for h in town.houses}
    assert len(looks) == len(town.houses)
    shops = [h.shop for h in town.houses if h.shop]
    assert len(set(shops)) == len(shops) > 2


def test_trees_stand_outside_of_houses_and_carriageways(town: Town) -> None:
    trees = np.array(town.furniture.trees)
    assert len(trees) > 10
    for house in town.houses:
        assert not _inside(house.lot.corners, trees[:, :2]).any()
    assert all(any(_inside(block.kerb, tree[None, :2]).all() for block in town.plan.blocks) for tree in trees)


@pytest.mark.parametrize("values", [{"columns": 0}, {"block_m": (20.0, 50.0)}, {"margin_m": 5.0}])
def test_a_size_that_is_no_town_is_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="at least one block"):
        TownSize(**values)
