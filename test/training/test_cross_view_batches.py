"""Batches: the right tile shows what the video sees, at the place that the batch says, however the scene is turned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.training.cross_view_batches import CrossViewBatches, FrameChoice, Places
from ros2_loc.training.cross_view_objective import CrossViewObjective, jittered
from ros2_loc.training.drives import CachedDrive

GRID = OverheadGrid(32, 2.0, 3)
TILE_PX = 64
EXACT = CrossViewBatches.Config(
    batch_size=6, heading_noise_deg=0.0, scale_noise=0.0, tilt_noise_deg=0.0, height_noise_m=0.0, max_offset_m=6.0, group_size=3
)


def _agreement(batch: dict[str, torch.Tensor], i: int, j: int) -> float:
    """Correlation of the colours that video i sees on the ground with those of tile j, moved by the true shift of the diagonal."""
    row, column = batch["cells"][i].numpy()
    centres = np.arange(GRID.cells, dtype=np.float32) + 0.5
    at = np.meshgrid(centres + column - GRID.shift_cells, centres + row - GRID.shift_cells)
    tile_maps = np.stack(at, axis=-1).astype(np.float32) * TILE_PX / GRID.cells - 0.5
    tile = cv2.remap(batch["tiles"][j].numpy(), tile_maps, None, cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    inside = ((tile_maps > 0) & (tile_maps < TILE_PX - 1)).all(axis=-1) & (np.abs(tile_maps - TILE_PX / 2) < 14 / 64 * TILE_PX).all(axis=-1)
    seen, shown = [], []
    for k in range(batch["images"].shape[1]):
        visible = batch["visible"][i, k].numpy() & inside
        colours = cv2.remap(batch["images"][i, k].numpy(), batch["sampling_px"][i, k].numpy() - 0.5, None, cv2.INTER_LINEAR)
        seen.append(colours[visible])
        shown.append(tile[visible])
    return float(np.corrcoef(np.concatenate(seen).ravel(), np.concatenate(shown).ravel())[0, 1])


@pytest.mark.parametrize(("rotate", "mirror"), [(False, False), (True, False), (True, True)])
def test_the_right_tile_shows_what_the_video_sees(flat_drives: Callable[..., list[CachedDrive]], rotate: bool, mirror: bool) -> None:
    batches = CrossViewBatches(replace(EXACT, rotate=rotate, mirror=mirror), GRID, TILE_PX, flat_drives(3, tilt_rad=0.02))
    right, wrong = [], []
    for number in range(4):
        batch = batches.batch(number)
        right += [_agreement(batch, i, i) for i in range(6)]
        wrong += [_agreement(batch, i, (i + 3) % 6) for i in range(6) if batch["negative"][(i + 3) % 6, i]]
    assert min(right) > 0.8, right
    assert np.mean(np.abs(wrong)) < 0.35


def test_noise_moves_what_is_seen_but_not_the_answer(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    drives = flat_drives(3)
    exact = CrossViewBatches(EXACT, GRID, TILE_PX, drives).batch(2)
    noisy = CrossViewBatches(replace(EXACT, heading_noise_deg=15.0), GRID, TILE_PX, drives).batch(2)
    assert torch.equal(exact["cells"], noisy["cells"]) and torch.equal(exact["tiles"], noisy["tiles"])
    assert not torch.equal(exact["sampling_px"], noisy["sampling_px"])
    assert np.mean([_agreement(noisy, i, i) for i in range(6)]) < np.mean([_agreement(exact, i, i) for i in range(6)])


def test_a_batch_is_a_function_of_its_number(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    drives = flat_drives(2)
    one, other = (CrossViewBatches(EXACT, GRID, TILE_PX, drives) for _ in range(2))
    one.batch(5)
    first, again, next_one = one.batch(7), other.batch(7), one.batch(8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["tiles"], next_one["tiles"])


def test_true_shifts_fill_the_range_and_stay_in_it(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    batches = CrossViewBatches(EXACT, GRID, TILE_PX, flat_drives(2))
    cells = torch.cat([batches.batch(n)["cells"] for n in range(10)]).numpy()
    assert cells.min() >= 0 and cells.max() <= 6
    assert cells.min() < 0.5 and cells.max() > 5.5


def test_a_tile_that_covers_the_query_is_never_called_wrong(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    """Crowded on purpose: 12 queries on one drive of 118 m, with no distance kept."""
    config = replace(EXACT, batch_size=12, group_size=12, min_separation_m=0.0, rotate=False, mirror=False)
    batches = CrossViewBatches(config, GRID, TILE_PX, flat_drives(1))
    near = 0
    for number in range(5):
        batch = batches.batch(number)
        assert not batch["negative"].diagonal().any()
        rng = np.random.default_rng([config.seed, 31, number])
        chosen = batches._places.choose(12, 12, config.group_radius_m, 0.0, rng)
        positions = batches._places.positions_m[chosen]
        own = batch["cells"].numpy()
        centres = positions - np.column_stack([own[:, 1] - 3, 3 - own[:, 0]]) * GRID.metres_per_cell
        reach = 3.5 * GRID.metres_per_cell
        covers = (np.abs(centres[:, None] - positions[None]) <= reach).all(axis=2)
        assert not (batch["negative"].numpy() & covers).any()
        near += int(covers.sum()) - 12
    assert near > 10


def test_extra_tiles_are_near_and_nobodys(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    batches = CrossViewBatches(replace(EXACT, extra_tiles=5), GRID, TILE_PX, flat_drives(2))
    for number in range(4):
        batch = batches.batch(number)
        assert batch["tiles"].shape[0] == batch["tile_jitter"].shape[0] == 11 and batch["negative"].shape == (11, 6)
        assert float(batch["negative"][6:].float().mean()) > 0.8
        agreement = [_agreement(batch, i, j) for i in range(6) for j in range(6, 11) if batch["negative"][j, i]]
        assert np.nanmean(np.abs(agreement)) < 0.4  # black tiles, outside of the imagery, have none


def test_neighbours_are_near_but_apart(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    places = Places(flat_drives(4))
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = places.choose(6, 3, 60.0, 8.0, rng)
        for group in (chosen[:3], chosen[3:]):
            assert len(set(places.world[group])) == 1
            distance = np.linalg.norm(places.positions_m[group][:, None] - places.positions_m[group][None], axis=2)
            assert distance[~np.eye(3, dtype=bool)].min() > 8.0 and distance.max() < 2 * 60.0 * np.sqrt(2)


def test_a_place_too_small_for_the_batch_still_fills_it(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    assert len(Places(flat_drives(1)).choose(30, 6, 60.0, 15.0, np.random.default_rng(0))) == 30


def test_frames_are_chosen_backwards_by_distance() -> None:
    travelled = np.array([0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 4.0, 6.0, 8.0])
    choice = FrameChoice(frames=4, spacing_m=(2.0, 2.0))
    assert choice.choose(travelled, 8, 2.0) == [8, 7, 6, 5]
    assert choice.choose(travelled, 6, 2.0) == [6, 5, 0]
    assert choice.choose(travelled, 5, 2.0) == [5, 0], "a vehicle that stands adds no frames of the same place"
    assert choice.choose(travelled, 0, 2.0) == [0]
    assert FrameChoice(frames=3, stride=3).choose(travelled, 8, 2.0) == [8, 5, 2]
    assert FrameChoice(frames=3, stride=3).choose(travelled, 4, 2.0) == [4, 1]


def test_missing_frames_are_invisible(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    batches = CrossViewBatches(replace(EXACT, drop_frame=0.6), GRID, TILE_PX, flat_drives(2))
    visible = torch.cat([batches.batch(n)["visible"] for n in range(4)]).flatten(2).any(dim=2)
    assert bool(visible[:, 0].all()), "the query itself is always there"
    assert 0.05 < float(visible[:, 1:].float().mean()) < 0.7


def test_the_colours_of_a_jitter_of_zero_are_the_same() -> None:
    images = torch.rand(2, 3, 3, 8, 8)
    assert torch.allclose(jittered(images, torch.zeros(2, 6)), images, atol=1e-6)
    amounts = torch.zeros(2, 6)
    amounts[1, 0] = 0.2
    changed = jittered(images, amounts)
    assert torch.allclose(changed[0], images[0], atol=1e-6) and float((changed[1] - images[1]).mean()) > 0.1


def test_what_can_not_work_is_refused(flat_drives: Callable[..., list[CachedDrive]]) -> None:
    with pytest.raises(DataError, match="no drive"):
        CrossViewBatches(EXACT, GRID, TILE_PX, [])
    with pytest.raises(DataError, match="no list gives tiles"):
        CrossViewBatches(replace(EXACT, listed_tiles=True), GRID, TILE_PX, flat_drives(1))
    for wrong in ({"batch_size": 1}, {"group_size": 9}, {"drop_frame": 1.0}):
        with pytest.raises(ConfigError):
            replace(EXACT, **wrong)
    with pytest.raises(ConfigError):
        FrameChoice(spacing_m=(3.0, 2.0))
    with pytest.raises(ConfigError):
        CrossViewObjective.Config(triplet=0.0)
