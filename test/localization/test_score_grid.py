"""Scores of tiles and shifts become scores of positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.localization.score_grid import ScoreGrid, between_headings, reach_of

GRID = OverheadGrid(cells=16, metres_per_cell=3.2, shift_cells=3)


def lattice(columns: int = 8, rows: int = 6, spacing_m: float = 10.0) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * spacing_m


def whole(cells: ScoreGrid, scores: np.ndarray) -> np.ndarray:
    """Scores of all cells where all tiles have some."""
    return cells.scores_of(cells.arranged(scores.astype(np.float32), np.arange(cells.num_tiles)), cells.cells_in((0, 0, *cells.shape)))


@settings(max_examples=15)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.7, 3.0), st.floats(4.0, 15.0))
def test_a_plane_of_scores_stays_that_plane(a: float, b: float, cell_m: float, spacing_m: float) -> None:
    """Where the score is linear in the position, each tile says the same of it, and so must the cells: signs of both axes included."""
    centres = lattice(5, 4, spacing_m)
    cells = ScoreGrid(centres, GRID, cell_m, 5.0)
    places = centres[:, None, None] + GRID.shift_offsets_m()
    found = whole(cells, (places @ [a, b])[None])[0]
    east = cells.west_m + (np.arange(cells.shape[1]) + 0.5) * cell_m
    north = cells.north_m - (np.arange(cells.shape[0]) + 0.5) * cell_m
    expected = a * east + b * north[:, None]
    assert cells.covered.any() and np.abs(found - expected)[cells.covered].max() < 1e-2
    assert not found[~cells.covered].any()


def test_covered_is_what_lies_within_the_shifts() -> None:
    centres = lattice(3, 1)
    cells = ScoreGrid(centres, GRID, 1.0, 8.0)
    rows, columns = np.indices(cells.shape)
    east, north = cells.west_m + columns + 0.5, cells.north_m - rows - 0.5
    within = (east >= -reach_of(GRID)) & (east <= 20 + reach_of(GRID)) & (np.abs(north) <= reach_of(GRID))
    assert np.array_equal(cells.covered, within)
    row, column = cells.cell_of(east, north)
    assert np.allclose(row, rows) and np.allclose(column, columns)


def test_a_box_is_a_part_of_the_whole_and_needs_only_its_tiles() -> None:
    rng = np.random.default_rng(1)
    centres = lattice()
    cells = ScoreGrid(centres, GRID, 2.0, 10.0)
    scores = rng.standard_normal((3, len(centres), 7, 7)).astype(np.float32)
    box = (12, 20, 7, 5)
    ids = cells.tiles_of(cells.cells_in(box).ravel())
    assert 2 <= len(ids) < len(centres) / 2
    part = cells.scores_of(cells.arranged(scores[:, ids], ids), cells.cells_in(box))
    assert np.allclose(part, whole(cells, scores)[:, 12:19, 20:25], atol=1e-6)


def test_an_encoder_without_shifts_speaks_for_its_own_cell_only() -> None:
    grid = OverheadGrid(cells=16, metres_per_cell=4.0, shift_cells=0)
    cells = ScoreGrid(lattice(4, 4, 4.0), grid, 1.0, 2.0)
    scores = np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)
    found = whole(cells, scores)[0]
    row, column = (round(float(x)) for x in cells.cell_of(4.4, 8.4))
    assert found[row, column] == pytest.approx(9.0, abs=0.6) and cells.covered.sum() == 16 * 16


def test_between_headings_scores_are_interpolated() -> None:
    scores = np.array([1.0, 3.0, 2.0], dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), dtype=np.float32)
    wanted = np.radians([-10, -5, 0, 2.5, 5, 10])
    found = between_headings(scores, np.radians([-5, 0, 5]), wanted)
    assert np.allclose(found[:, 0, 0], [1, 1, 3, 2.5, 2, 2])
    assert np.allclose(between_headings(scores[:1], np.zeros(1), wanted), 1.0)
