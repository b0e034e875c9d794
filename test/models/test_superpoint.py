"""SuperPoint: places of pixels in cells, suppression, selection, descriptors between cells, and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import DataError
from ros2_loc.models.superpoint import SuperPoint, descriptors_at, heatmap, load_published, strongest, suppressed


def test_a_cells_pixels_are_counted_row_by_row() -> None:
    logits = torch.full((1, 65, 2, 3), -50.0)
    logits[0, 19, 1, 2] = 50.0  # 19 = 2 * 8 + 3
    logits[0, 64, 0, 0] = 50.0
    heat = heatmap(logits)
    assert heat.shape == (1, 16, 24)
    assert heat[0, 8 + 2, 16 + 3] == pytest.approx(1.0) and heat[0, :8, :8].max() < 1e-6


def test_moved_by_a_cell_the_maps_move_by_one() -> None:
    torch.manual_seed(0)
    network = SuperPoint(SuperPoint.Config()).eval()
    image = torch.rand(1, 1, 96, 96)
    with torch.inference_mode():
        whole, moved = network(image), network(image[:, :, 8:, :])
    for a, b in zip(whole, moved, strict=True):
        # the border is felt 5 cells away
        torch.testing.assert_close(a[:, :, 7:-6, 6:-6], b[:, :, 6:-6, 6:-6], atol=1e-5, rtol=1e-4)


def test_what_the_first_round_hides_the_next_finds() -> None:
    heat = torch.tensor([[[3.0, 2.0, 1.0, 0.5]]])
    assert suppressed(heat, 1).tolist() == [[[3.0, 0.0, 1.0, 0.0]]]


@given(st.integers(0, 200), st.integers(1, 4))
def test_survivors_keep_their_distance_and_no_more_can_be_added(seed: int, radius: int) -> None:
    heat = torch.rand(1, 24, 31, generator=torch.Generator().manual_seed(seed))
    kept = suppressed(heat, radius)[0]
    at = kept.nonzero()
    assert (kept[kept > 0] == heat[0][kept > 0]).all() and kept.max() == heat.max()
    apart = (at[:, None] - at[None]).abs().amax(dim=2) + 100 * torch.eye(len(at), dtype=torch.long)
    assert apart.min() > radius
    torch.testing.assert_close(suppressed(heat.flip(2), radius)[0].flip(1), kept)


def test_the_best_come_first_and_none_at_the_border() -> None:
    heat = torch.zeros(20, 30)
    for value, (row, column) in ((0.9, (3, 10)), (0.8, (4, 4)), (0.5, (15, 25)), (0.7, (10, 26)), (0.3, (9, 9)), (0.1, (8, 8))):
        heat[row, column] = value
    pixels, scores = strongest(heat, 0.1, 4)
    assert pixels.tolist() == [[4, 4], [9, 9], [25, 15]]  # row by row; above the threshold
    pixels, scores = strongest(heat, 0.1, 4, 2)
    assert pixels.tolist() == [[4, 4], [25, 15]] and scores.tolist() == pytest.approx([0.8, 0.5])


def test_descriptors_turn_with_the_map() -> None:
    torch.manual_seed(0)
    maps, pixels = torch.randn(8, 5, 7), torch.tensor([[4, 4], [20, 13], [50, 30], [4, 35]])
    turned = torch.tensor([7 * 8 - 1, 5 * 8 - 1]) - pixels
    torch.testing.assert_close(descriptors_at(maps, pixels), descriptors_at(maps.flip(1, 2), turned))
    off = (descriptors_at(maps, pixels, as_authors=True) - descriptors_at(maps.flip(1, 2), turned, as_authors=True)).norm(dim=1)
    assert off.max() > 0.1


def test_descriptors_between_two_cells_are_of_both() -> None:
    maps = torch.zeros(2, 4, 4)
    maps[0, :, :2], maps[1, :, 2:] = 3.0, 5.0  # the length doesn't count
    found = descriptors_at(maps, torch.tensor([[11, 11], [20, 11], [15, 11], [16, 11]]))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(found[:2], torch.eye(2))
    torch.testing.assert_close(found[2], found[3].flip(0))
    assert found[2, 0] > found[2, 1] > 0.5


def test_a_published_file_is_loaded_whole_or_not_at_all(tmp_path: Path, random_weights: Callable[[str], Path]) -> None:
    torch.manual_seed(1)
    network = SuperPoint(SuperPoint.Config())
    state = network.state_dict()
    torch.save(state, tmp_path / "superpoint_v1.pth")
    image = torch.rand(1, 1, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(load_published(tmp_path / "superpoint_v1.pth")(image).logits, network.eval()(image).logits)
    torch.save({key: value for key, value in state.items() if key != "conv3a.bias"}, tmp_path / "cut.pth")
    with pytest.raises(DataError, match="conv3a.bias missing"):
        load_published(tmp_path / "cut.pth")
    with pytest.raises(DataError, match="superpoint_v1.pth"):
        load_published(random_weights("d2net"))
