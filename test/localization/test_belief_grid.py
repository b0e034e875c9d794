"""Motion of a belief: exact in the mean and in the spread, however small the steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.localization.belief_grid import BeliefGrid, spread_kernel


def moments(grid: BeliefGrid, heading: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance (row, column) of one heading's mass, cells."""
    mass = grid.mass[heading].astype(np.float64)
    rows, columns = np.indices(mass.shape)
    at = np.stack([rows + grid.top + grid.offset[heading, 0], columns + grid.left + grid.offset[heading, 1]], axis=-1)
    mean = np.einsum("rc,rci->i", mass, at) / mass.sum()
    return mean, np.einsum("rc,rci,rcj->ij", mass, at - mean, at - mean) / mass.sum()


def a_point(shape: tuple[int, int] = (80, 90), headings: int = 1) -> BeliefGrid:
    grid = BeliefGrid(shape, headings)
    grid.mass[:, 40, 45] = 1.0 / headings
    return grid


@given(st.floats(0, 6), st.floats(0, 6), st.floats(-0.95, 0.95))
def test_a_kernel_spreads_by_its_covariance_or_more(a: float, b: float, correlation: float) -> None:
    across = correlation * np.sqrt(a * b)
    wanted = np.array([[a, across], [across, b]])
    kernel = spread_kernel(wanted).astype(np.float64)
    assert kernel.min() >= 0 and abs(kernel.sum() - 1) < 1e-5
    reach = kernel.shape[0] // 2
    down, right = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1), indexing="ij")
    found = np.array([[(kernel * x * y).sum() for y in (down, right)] for x in (down, right)])
    assert np.linalg.eigvalsh(found - wanted).min() > -1e-4
    if abs(across) <= min(a, b):
        assert np.allclose(found, wanted, atol=1e-4)


def test_a_wide_spread_is_a_gaussian() -> None:
    grid = a_point((200, 200))
    grid.move(np.zeros((1, 2)), np.array([[60.0, 20.0], [20.0, 30.0]]))
    assert grid.total == pytest.approx(1.0, abs=1e-4)
    assert np.allclose(moments(grid, 0)[1], [[60.0, 20.0], [20.0, 30.0]], rtol=0.02)


def test_many_small_steps_do_not_smear() -> None:
    """A grid that interpolated each step of a tenth of a cell would spread by a tenth of a cell^2 each time."""
    grid = a_point()
    for _ in range(200):
        grid.move(np.array([[0.1, -0.07]]), np.zeros((2, 2)))
    mean, covariance = moments(grid, 0)
    assert np.allclose(mean, [60.0, 31.0], atol=1e-6) and np.abs(covariance).max() < 1e-9
    assert grid.total == pytest.approx(1.0)


def test_small_spreads_add_up() -> None:
    grid = a_point()
    for _ in range(50):
        grid.move(np.array([[0.13, 0.05]]), np.diag([0.02, 0.005]))
    assert np.allclose(moments(grid, 0)[1], np.diag([1.0, 0.25]), atol=1e-3)


def test_each_heading_goes_its_own_way_and_the_marginal_is_where_they_are() -> None:
    grid = a_point(headings=3)
    steps = np.array([[0.3, 5.4], [0.0, 5.6], [-2.3, 5.5]])
    grid.move(steps, np.zeros((2, 2)))
    for i in range(3):
        assert np.allclose(moments(grid, i)[0], [40.0, 45.0] + steps[i], atol=1e-6)
    marginal = grid.marginal()
    rows, columns = np.indices(marginal.shape)
    mean = np.array([(marginal * (rows + grid.top)).sum(), (marginal * (columns + grid.left)).sum()])
    assert np.allclose(mean - [40.0, 45.0], steps.mean(axis=0), atol=1e-5)


def test_mass_that_crosses_the_edge_is_gone() -> None:
    grid = BeliefGrid((20, 20), 1)
    grid.mass += 1 / 400
    grid.move(np.array([[5.0, 0.0]]), np.zeros((2, 2)))
    assert grid.total == pytest.approx(0.75, abs=1e-5)
    grid.move(np.array([[-40.0, 0.0]]), np.diag([0.1, 0.1]))
    assert grid.total == 0.0 and min(grid.mass.shape) >= 1


@settings(max_examples=15)
@given(st.lists(st.floats(-0.5, 0.5), min_size=6, max_size=6), st.floats(0.01, 0.5))
def test_exchange_between_headings_moves_no_place(offsets: list[float], share: float) -> None:
    grid = a_point(headings=3)
    grid.offset = np.array(offsets).reshape(3, 2)
    grid.mass[0] *= 2.0
    before = sum(moments(grid, i)[0] * grid.by_heading[i] for i in range(3))
    total = grid.total
    grid.exchange(share)
    assert grid.total == pytest.approx(total, rel=1e-5)
    assert np.allclose(sum(moments(grid, i)[0] * grid.by_heading[i] for i in range(3)), before, atol=1e-4)
    assert grid.by_heading[0] < 2 / 3 and grid.by_heading[2] == pytest.approx(1 / 3, rel=1e-4)


def test_cropping_and_expanding_keep_every_place() -> None:
    grid = a_point(headings=2)
    grid.mass[:, 10, 70] = 0.2
    whole = grid.mass.copy()
    grid.crop(grid.mass.sum(axis=0) > 0)
    assert grid.box == (9, 44, 33, 28)
    grid.expand()
    assert np.array_equal(grid.mass, whole) and grid.box == (0, 0, 80, 90)
