"""Similarity over shifts: the true place of a planted video, the plain loop, the numpy twin, and the uncertainty."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.types import OverheadDescriptor
from ros2_loc.models.cvlnet.matching import UncertaintyNet, similarity, unit_length
from ros2_loc.retrieval.tile_matching import match_tiles


def described(b: int, m: int, c: int, s: int, k: int, share: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random videos with some cells invisible, random tiles and uncertainties."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(b, s, s, generator=generator) < share
    query = unit_length(torch.randn(b, c, s, s, generator=generator) * visible[:, None])
    tiles = unit_length(torch.randn(m, c, s, s, generator=generator))
    return query, visible, tiles, 0.1 + 0.9 * torch.rand(m, k, k, generator=generator)


def loop(query: np.ndarray, visible: np.ndarray, tile: np.ndarray, i: int, j: int, shift_cells: int) -> float:
    """Equation 4 at one shift, cell by cell, over the visible cells that lie in the tile."""
    s = query.shape[-1]
    product = query_energy = tile_energy = 0.0
    for row in range(s):
        for column in range(s):
            r, c = row + i - shift_cells, column + j - shift_cells
            if visible[row, column] and 0 <= r < s and 0 <= c < s:
                product += float(query[:, row, column] @ tile[:, r, c])
                query_energy += float(query[:, row, column] @ query[:, row, column])
                tile_energy += float(tile[:, r, c] @ tile[:, r, c])
    return product / np.sqrt((tile_energy + 1e-6) * (query_energy + 1e-6))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(3, 8), st.integers(0, 2), st.floats(0, 1), st.integers(0, 999))
def test_torch_numpy_and_the_plain_loop_agree(b: int, m: int, c: int, s: int, r: int, share: float, seed: int) -> None:
    query, visible, tiles, uncertainty = described(b, m, c, s, 2 * r + 1, share, seed)
    by_torch = similarity(query, visible, tiles, uncertainty, r).numpy()
    videos = [OverheadDescriptor(q.numpy(), v.numpy(), "test") for q, v in zip(query, visible, strict=True)]
    by_numpy = match_tiles(videos, tiles.numpy(), uncertainty.numpy())
    assert by_torch.shape == (m, b, 2 * r + 1, 2 * r + 1)
    np.testing.assert_allclose(by_numpy.swapaxes(0, 1), by_torch, atol=2e-5)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        x, y, i, j = rng.integers(b), rng.integers(m), *rng.integers(2 * r + 1, size=2)
        expected = loop(query[x].numpy(), visible[x].numpy(), tiles[y].numpy(), i, j, r) / uncertainty[y, i, j].item()
        np.testing.assert_allclose(by_torch[y, x, i, j], expected, atol=1e-4)


@given(st.integers(0, 999), st.floats(0.02, 1.0))
def test_without_uncertainty_it_is_a_cosine(seed: int, share: float) -> None:
    query, visible, tiles, _ = described(3, 3, 4, 12, 5, share, seed)
    cosine = similarity(query, visible, tiles, None, 2)
    assert cosine.abs().max() <= 1 + 1e-5
    itself = similarity(tiles, torch.ones(3, 12, 12, dtype=torch.bool), tiles, None, 2)
    torch.testing.assert_close(itself.diagonal()[2, 2], torch.ones(3), atol=1e-4, rtol=0)


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 999))
def test_a_planted_video_is_found_where_it_was_planted(cells_north: int, cells_east: int, seed: int) -> None:
    """A tile and a video cut from one large map, the video's base north and east of the tile's centre, a wedge of it visible."""
    grid = OverheadGrid(16, 3.2, 3)
    world = torch.randn(4, 40, 40, generator=torch.Generator().manual_seed(seed))
    tile = unit_length(world[None, :, 12:28, 12:28])
    around = world[None, :, 12 - cells_north : 28 - cells_north, 12 + cells_east : 28 + cells_east]
    east, north = np.moveaxis(grid.cell_centres_m(), -1, 0)
    visible = torch.from_numpy((east > 0) & (np.abs(north) < east))[None]
    query = unit_length(around * visible[:, None])
    scores = similarity(query, visible, tile, None, grid.shift_cells)[0, 0].numpy()
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    np.testing.assert_allclose(grid.shift_offsets_m()[i, j], [3.2 * cells_east, 3.2 * cells_north])
    assert scores[i, j] > 0.999


def test_a_video_that_saw_nothing_is_like_no_tile_and_harms_no_gradient() -> None:
    query, _, tiles, uncertainty = described(2, 2, 4, 8, 3, 0.5, 0)
    query = (0 * query).requires_grad_()
    scores = similarity(unit_length(query), torch.zeros(2, 8, 8, dtype=torch.bool), tiles, uncertainty, 1)
    assert (scores == 0).all()
    scores.sum().backward()
    assert query.grad is not None and torch.isfinite(query.grad).all()


def test_uncertainty_is_of_places_not_of_positions_in_the_tile() -> None:
    """The map moved by a cell moves the answer by a cell."""
    for cells in (20, 21):
        torch.manual_seed(0)
        net = UncertaintyNet(6, cells, 3).eval()
        world = torch.randn(1, 6, cells + 2, cells + 2)
        with torch.no_grad():
            here, there = net(world[..., 1:-1, 1:-1]), net(world[..., :-2, 2:])  # the second tile lies one cell north and one east
        assert here.shape == (1, 7, 7) and (here > 0).all() and (here <= 1).all()
        torch.testing.assert_close(there[0, 1:, :-1], here[0, :-1, 1:])
        assert here.std() > 1e-4


def test_uncertainty_is_of_the_middle_of_the_tile() -> None:
    """A change at the camera's place for the shift [i, j] changes that answer the most."""
    torch.manual_seed(0)
    net = UncertaintyNet(2, 16, 2).eval()
    for cell, (i, j) in {(7, 7): (2, 2), (5, 9): (0, 4)}.items():
        features = torch.zeros(1, 2, 16, 16, requires_grad=True)
        net(features)[0, i, j].backward()
        assert features.grad is not None
        rows, columns = features.grad.abs().sum(dim=1)[0].nonzero().T
        # symmetric around the corner between cells (r, c) and (r + 1, c + 1)
        np.testing.assert_allclose([rows.float().mean().item(), columns.float().mean().item()], np.array(cell) + 0.5, atol=0.5)
