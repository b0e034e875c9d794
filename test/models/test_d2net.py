"""D2-Net: detection by its definition, refinement, the middle of what a cell sees, levels, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_networks
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ros2_loc.errors import DataError
from ros2_loc.models.d2net import (
    D2Net,
    Peaks,
    cells_to_pixels,
    descriptors_at,
    detect_and_describe,
    detected,
    load_published,
    normalized,
    refined,
)


@pytest.fixture(scope="module")
def network() -> D2Net:
    """Turned images have turned features."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return random_networks.d2net().eval()


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return normalized(torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)))


def by_definition(features: Tensor, edge_threshold: float) -> set[tuple[int, int, int]]:
    f = np.pad(features.numpy().astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    found = set()
    for c, i, j in np.ndindex(*features.shape):
        around = f[c, i : i + 3, j : j + 3]
        dii, djj = around[0, 1] + around[2, 1] - 2 * around[1, 1], around[1, 0] + around[1, 2] - 2 * around[1, 1]
        dij = (around[0, 0] + around[2, 2] - around[0, 2] - around[2, 0]) / 4
        det, trace = dii * djj - dij**2, dii + djj
        strongest = around[1, 1] == around.max() and around[1, 1] == f[:, i + 1, j + 1].max()
        if strongest and det > 0 and trace**2 / det <= (edge_threshold + 1) ** 2 / edge_threshold:
            found.add((c, i, j))
    return found


@given(st.integers(0, 1000), st.sampled_from([1.5, 5.0, 20.0]))
def test_detection_is_the_definition(seed: int, edge_threshold: float) -> None:
    features = torch.relu(torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(seed)))
    peaks = detected(features, edge_threshold)
    places = list(zip(*(index.tolist() for index in peaks), strict=True))
    assert set(places) == by_definition(features, edge_threshold) and places == sorted(places)


@given(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45), st.floats(-0.5, 0.5))
def test_the_top_of_a_paraboloid_is_found(di: float, dj: float, mixed: float) -> None:
    row, column = torch.meshgrid(torch.arange(7.0), torch.arange(9.0), indexing="ij")
    i, j = row - 3 - di, column - 5 - dj
    features = (50.0 - i**2 - j**2 - mixed * i * j)[None]
    cells, good = refined(features, Peaks(torch.tensor([0]), torch.tensor([3]), torch.tensor([5])))
    assert good.all()
    torch.testing.assert_close(cells, torch.tensor([[3 + di, 5 + dj]]), atol=1e-4, rtol=0)


def test_steps_over_half_a_cell_are_refused() -> None:
    row, column = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    slope = (50.0 - (row - 3.7) ** 2 - (column - 2.0) ** 2)[None]
    assert not refined(slope, Peaks(torch.tensor([0]), torch.tensor([3]), torch.tensor([2])))[1].any()


def test_descriptors_between_cells_are_bilinear() -> None:
    features = torch.rand(6, 5, 4)
    i, j = 2.25, 1.5
    expected = sum(
        (1 - abs(i - a)) * (1 - abs(j - b)) * features[:, a, b] for a, b in ((2, 1), (2, 2), (3, 1), (3, 2))
    )
    found = descriptors_at(features, torch.tensor([[i, j], [4.0, 3.0]]))
    torch.testing.assert_close(found[0], expected / expected.norm())  # type: ignore[operator,union-attr]
    torch.testing.assert_close(found[1], features[:, 4, 3] / features[:, 4, 3].norm())


def test_a_turned_image_has_its_cells_turned(network: D2Net) -> None:
    """So that with cell c at pixel 4 c + b: 4 (n - 1 - c) + b = 4 (n + 1) - 1 - (4 c + b), that is b = 3.5."""
    image = picture(64, 80)
    with torch.inference_mode():
        features, turned = network(image), network(image.flip(2, 3))
    assert features.shape[2:] == (15, 19)
    torch.testing.assert_close(turned.flip(2, 3), features, atol=1e-2, rtol=1e-3)
    rows = torch.arange(15.0)
    torch.testing.assert_close(63.0 - cells_to_pixels(rows), cells_to_pixels(14.0 - rows))
    assert (cells_to_pixels(rows) - cells_to_pixels(rows, as_authors=True) == 2.0).all()


@pytest.mark.parametrize(("scales", "share"), [((1.0,), 0.97), ((0.5, 1.0, 2.0), 0.8)])
def test_a_turned_image_has_its_keypoints_turned(network: D2Net, scales: tuple[float, ...], share: float) -> None:
    """But for cells whose nearest in a coarser level is one of two at the same distance."""
    image = picture(96, 128)
    with torch.inference_mode():
        one, other = (detect_and_describe(network, x, scales)[0] for x in (image, image.flip(2, 3)))
    back = torch.tensor([127.0, 95.0]) - other.pixels
    distance, nearest = torch.cdist(one.pixels, back).min(dim=1)
    assert len(one.scores) > 30 and (distance < 0.05).float().mean() > share
    same = distance < 0.05
    torch.testing.assert_close(other.scales[nearest[same]], one.scales[same])
    assert ((other.descriptors[nearest[same]] * one.descriptors[same]).sum(1) > 0.99).float().mean() > 0.95


def test_authors_positions_are_two_pixels_off(network: D2Net) -> None:
    with torch.inference_mode():
        exact, authors = (detect_and_describe(network, picture(64, 64), as_authors=asked)[0].pixels for asked in (False, True))
    torch.testing.assert_close(exact - authors, torch.full_like(exact, 2.0))


def test_a_cell_with_a_keypoint_of_a_coarser_level_gets_no_other(network: D2Net) -> None:
    with torch.inference_mode():
        image = picture(96, 96)
        levels, alone = detect_and_describe(network, image, (0.5, 1.0))[0], detect_and_describe(network, image, (0.5,))[0]
    coarse = levels.pixels[levels.scales == 2.0]
    torch.testing.assert_close(coarse, alone.pixels)
    fine = levels.pixels[levels.scales == 1.0]
    assert len(fine) > 0 and torch.cdist(fine, coarse).min() > 1.0


def test_several_images_are_each_alone(network: D2Net) -> None:
    images = torch.cat([picture(64, 64, seed) for seed in range(3)])
    with torch.inference_mode():
        together = detect_and_describe(network, images, (0.5, 1.0))
        for one, image in zip(together, images, strict=True):
            alone = detect_and_describe(network, image[None], (0.5, 1.0))[0]
            torch.testing.assert_close(one.pixels, alone.pixels, atol=1e-2, rtol=0)


def test_a_published_file_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in D2Net(D2Net.Config()).state_dict().items()}
    prefix = "dense_feature_extraction.model."
    state = {key.replace("layers.", prefix): torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    assert f"{prefix}21.weight" in state
    torch.save({"model": state, "epoch": 3}, tmp_path / "d2_tf.pth")
    assert load_published(tmp_path / "d2_tf.pth").dimension == 512
    torch.save({"model": {key: value for key, value in state.items() if "21" not in key}}, tmp_path / "cut.pth")
    with pytest.raises(DataError, match="layers.21.weight"):
        load_published(tmp_path / "cut.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="d2_tf.pth"):
        load_published(tmp_path / "other.pth")
