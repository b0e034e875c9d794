"""NetVLAD and its patches: sums over squares, whitening, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import random_networks
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import patch_netvlad
from ros2_loc.models.patch_netvlad import NetVlad, PatchNetVlad, VladPool, box_means, integral_image, load_published, truncated


@pytest.fixture(scope="module")
def network() -> NetVlad:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return random_networks.netvlad().eval()


@given(rows=st.integers(1, 7), columns=st.integers(1, 7), size=st.integers(1, 7), seed=st.integers(0, 99))
def test_means_by_the_integral_image_are_those_of_each_square(rows: int, columns: int, size: int, seed: int) -> None:
    size = min(size, rows, columns)
    cells = torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(seed))
    means = box_means(integral_image(cells), size)
    assert means.shape == (2, 3, rows - size + 1, columns - size + 1)
    for row in range(means.shape[2]):
        for column in range(means.shape[3]):
            square = cells[:, :, row : row + size, column : column + size]
            torch.testing.assert_close(means[:, :, row, column], square.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_pool_sums_what_each_cell_adds(with_bias: bool) -> None:
    torch.manual_seed(0)
    pool, features = VladPool(5, 16, with_bias), torch.randn(2, 16, 4, 6)
    with torch.no_grad():
        sums = pool.residuals(features).sum(dim=(3, 4))
        naive = torch.stack([(row / row.norm(dim=1, keepdim=True)).flatten() for row in sums])
        torch.testing.assert_close(pool(features), naive / naive.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_a_patch_is_described_as_netvlad_describes_its_cells(network: NetVlad) -> None:
    features = torch.randn(1, 64, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        small, large = PatchNetVlad(network, (2, 5)).patch_vlads(features)
        assert small.shape == (1, 4 * 5, 4 * 64) and large.shape == (1, 1 * 2, 4 * 64)
        # row 1, column 2 of the squares of two cells
        torch.testing.assert_close(small[:, 1 * 5 + 2], network.pool(features[:, :, 1:3, 2:4]), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(large[:, 1], network.pool(features[:, :, :, 1:]), atol=1e-5, rtol=1e-4)


def test_patches_and_images_are_whitened_alike(network: NetVlad) -> None:
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        vectors, patches = PatchNetVlad(network, (2, 3))(images)
        assert vectors.shape == (2, 32) and [tuple(of_size.shape) for of_size in patches] == [(2, 15, 32), (2, 8, 32)]
        torch.testing.assert_close(vectors, network.descriptor(images))
        for of_size, alone in zip(patches, PatchNetVlad(network, (2, 3)).patches(images), strict=True):
            torch.testing.assert_close(of_size, alone)
            torch.testing.assert_close(of_size.norm(dim=2), torch.ones(of_size.shape[:2]))


def test_leading_components_are_a_smaller_whitening(network: NetVlad) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, leading = network.descriptor(images), truncated(network, 8, "x").descriptor(images)
    torch.testing.assert_close(leading, whole[:, :8] / whole[:, :8].norm())
    assert truncated(network, 32, "x") is network
    with pytest.raises(ConfigError, match="whitens to 32 numbers, not 33"):
        truncated(network, 33, "x")


def test_a_blank_image_is_described_by_numbers(network: NetVlad) -> None:
    with torch.inference_mode():
        vectors, patches = PatchNetVlad(network, (2,))(torch.zeros(1, 3, 32, 32))
    assert vectors.isfinite().all() and patches[0].isfinite().all()
    with pytest.raises(DataError, match="no patch of 3"):
        PatchNetVlad(network, (3,)).patch_vlads(torch.zeros(1, 64, 2, 9))


def authors_state(config: NetVlad.Config, within: str = "") -> dict[str, Tensor]:
    """With the authors' names and shapes, made of ours."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = NetVlad(config).state_dict()
    names = {"layers.": f"encoder.{within}", "pool.assignment.": f"pool.{within}conv.", "pool.": f"pool.{within}", "whitening.": "WPCA.0."}
    result = {}
    for key, value in state.items():
        ours = next(ours for ours in names if key.startswith(ours))
        result[names[ours] + key.removeprefix(ours)] = value[..., None, None] if key == "whitening.weight" else value
    return result


@pytest.mark.parametrize(
    ("config", "within"),
    [
        (NetVlad.Config(4, 16, width=4), ""),
        (NetVlad.Config(4, 16, with_bias=True, width=4), ""),
        (NetVlad.Config(6, 0, width=4), "module."),
    ],
)
def test_a_published_file_tells_its_sizes_and_is_loaded_whole_or_not_at_all(config: NetVlad.Config, within: str, tmp_path: Path) -> None:
    state = authors_state(config, within)
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "places.pth.tar")
    loaded = load_published(tmp_path / "places.pth.tar")
    assert loaded.config == config and not loaded.training
    np.testing.assert_array_equal(loaded.layers[28].weight.detach(), state[f"encoder.{within}28.weight"])
    torch.save({"state_dict": {key: value for key, value in state.items() if not key.endswith("21.bias")}}, tmp_path / "cut.pth.tar")
    with pytest.raises(DataError, match=r"layers.21.bias missing"):
        load_published(tmp_path / "cut.pth.tar")


def test_sizes_that_can_t_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="33"):
        NetVlad.Config(num_clusters=1, num_pcs=33, width=4)
    with pytest.raises(ConfigError, match="side of 1 cell"):
        PatchNetVlad(NetVlad(NetVlad.Config(2, 2, width=1)), (0, 2))
    with pytest.raises(DataError, match="backbone.0.weight"):
        patch_netvlad.renamed({"backbone.0.weight": torch.zeros(1)})
