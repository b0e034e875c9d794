"""R2D2's network, its loading, and the way from its maps to keypoints; agreement with the published code is held by test/golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.folding import folded
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.r2d2 import R2D2, DenseFeatures, ForKeypoints, Heads, config_of, load_published, renamed
from ros2_loc.models.r2d2_detection import Pyramid, local_maxima, official_keypoints, peaks, sampled
from ros2_loc.models.weights import load_model, save_model

SMALL = (R2D2.Config(mchan=1), R2D2.Config("fast", mchan=1))


def random(config: R2D2.Config, seed: int = 0) -> R2D2:
    """Batch norms with statistics of their own, so that leaving one out shows."""
    torch.manual_seed(seed)
    network = R2D2(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
    return network


def authors_state(network: R2D2, prefix: str = "module.") -> dict[str, Tensor]:
    """The network's weights under the names of their checkpoints."""
    names = {"layers.": "ops.", "heads.reliability.": "clf.", "heads.repeatability.": "sal."}
    result = {}
    for key, value in network.state_dict().items():
        ours, theirs = next(pair for pair in names.items() if key.startswith(pair[0]))
        result[prefix + key.replace(ours, theirs)] = value
    return result


@pytest.mark.parametrize("config", SMALL)
@torch.inference_mode()
def test_every_pixel_has_a_unit_descriptor_and_two_shares(config: R2D2.Config) -> None:
    dense = random(config)(torch.randn(2, 3, 24, 38))
    assert dense.descriptors.shape == (2, 128, 24, 38) and dense.reliability.shape == dense.repeatability.shape == (2, 1, 24, 38)
    torch.testing.assert_close(dense.descriptors.norm(dim=1), torch.ones(2, 24, 38))
    for shares in (dense.reliability, dense.repeatability):
        assert (shares >= 0).all() and (shares <= 1).all() and shares.std() > 0


@torch.inference_mode()
def test_quad_keeps_odd_sizes_and_fast_drops_the_odd_pixel() -> None:
    images = torch.randn(1, 3, 23, 37)
    assert random(SMALL[0])(images).reliability.shape[-2:] == (23, 37)
    assert random(SMALL[1])(images).reliability.shape[-2:] == (22, 36)


@torch.inference_mode()
def test_quad_sees_each_pixel_alike() -> None:
    """Dilation instead of strides: an image moved by one pixel has the same features one pixel further."""
    network, image = random(SMALL[0]), torch.randn(1, 3, 120, 120)
    moved = torch.roll(image, (1, 3), dims=(2, 3))
    a, b = network.trunk(image), network.trunk(moved)
    inside = slice(50, 70)
    torch.testing.assert_close(b[..., 51:71, 53:73], a[..., inside, inside], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_heads_are_those_of_the_published_weights() -> None:
    heads, features = Heads(4), torch.randn(1, 4, 5, 6)
    dense = heads(features)
    squares = features.square()[0].permute(1, 2, 0)
    two = squares @ heads.reliability.weight[:, :, 0, 0].T + heads.reliability.bias
    one = squares @ heads.repeatability.weight[0, :, 0, 0] + heads.repeatability.bias
    torch.testing.assert_close(dense.reliability[0, 0], torch.sigmoid(two[..., 1] - two[..., 0]))
    torch.testing.assert_close(dense.repeatability[0, 0], torch.log1p(one.exp()) / (1 + torch.log1p(one.exp())))


@torch.inference_mode()
def test_maps_are_whole_floats_where_the_rest_is_not() -> None:
    network = random(SMALL[0])
    with torch.autocast("cpu", torch.bfloat16):
        dense = network(torch.randn(1, 3, 20, 20))
    assert dense.reliability.dtype == dense.repeatability.dtype == torch.float32


@pytest.mark.parametrize("config", [*SMALL, R2D2.Config(mchan=6)])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_checkpoint_of_the_authors(config: R2D2.Config, prefix: str, tmp_path: Path) -> None:
    network = random(config)
    torch.save({"net": "Quad_L2Net_ConfCFS()", "state_dict": authors_state(network, prefix), "git": "abc"}, tmp_path / "r2d2.pt")
    again = load_published(tmp_path / "r2d2.pt")
    assert again.config == config == config_of(network.state_dict()) and not again.training
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value)


def test_checkpoints_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    state = authors_state(random(SMALL[0]))
    with pytest.raises(DataError, match="encoder.weight"):
        renamed({**state, "module.encoder.weight": torch.zeros(1)})
    del state["module.ops.3.bias"]
    torch.save({"state_dict": state}, tmp_path / "lacking.pt")
    with pytest.raises(DataError, match=r"lacking.pt: layers.3.bias missing") as error:
        load_published(tmp_path / "lacking.pt")
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="variant"):
        R2D2.Config("slow")  # type: ignore[arg-type]


@pytest.mark.parametrize("config", SMALL)
def test_own_files_bring_their_config(config: R2D2.Config, tmp_path: Path) -> None:
    network, images = random(config), torch.randn(1, 3, 16, 20)
    save_model(tmp_path / "own.safetensors", network, {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    again = load_model(tmp_path / "own.safetensors")
    assert isinstance(again, R2D2) and again.config == config
    with torch.inference_mode():
        torch.testing.assert_close(again(images).descriptors, network(images).descriptors)


@pytest.mark.parametrize("config", SMALL)
@torch.inference_mode()
def test_folding_changes_no_number(config: R2D2.Config) -> None:
    network, images = random(config), torch.randn(1, 3, 20, 24)
    before = network.trunk(images)
    short = folded(network)
    assert not [module for module in short.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(short.trunk(images), before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network.trunk(images), before)
    dense, fast = network(images), ForKeypoints(network)(images)
    torch.testing.assert_close(torch.nn.functional.normalize(fast.descriptors, dim=1), dense.descriptors, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(fast.repeatability, dense.repeatability, atol=1e-5, rtol=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2))
def test_local_maxima_are_those_of_the_definition(seed: int, height: int, width: int, border: int) -> None:
    rng = np.random.default_rng(seed)
    repeatability, reliability = rng.integers(0, 6, (2, 2, height, width)) / 5.0  # coarse, for ties
    expected = []
    for image, row, column in np.ndindex(2, height, width):
        around = repeatability[image, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        inside = border <= row < height - border and border <= column < width - border
        value = repeatability[image, row, column]
        if inside and value == around.max() and value >= 0.6 and reliability[image, row, column] >= 0.4:
            expected.append((image, row, column))
    maps = (torch.from_numpy(x)[:, None] for x in (reliability, repeatability))
    found = local_maxima(DenseFeatures(torch.zeros(2, 1, height, width), *maps), 0.4, 0.6, border)
    assert list(zip(*(indices.tolist() for indices in found), strict=True)) == expected


@given(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45), st.floats(0.01, 0.3))
def test_peaks_of_a_paraboloid_are_exact(x: float, y: float, curvature: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    surface = 1.0 - curvature * ((columns - 3 - x) ** 2 + (rows - 2 - y) ** 2)
    at = torch.tensor([0])
    offset = peaks(surface[None, None], at, at + 2, at + 3)
    torch.testing.assert_close(offset, torch.tensor([[x, y]]), atol=2e-3, rtol=0)


def test_peaks_stay_on_plateaus_and_at_the_edge() -> None:
    level = torch.zeros(1, 1, 4, 5)
    level[0, 0, 1, 2:4] = 1.0
    level[0, 0, 3, 0], level[0, 0, 3, 1] = 0.9, 0.8
    zero = torch.tensor([0])
    assert peaks(level, zero, zero + 1, zero + 2).tolist() == [[0.5, 0.0]]  # half-way along the plateau of two
    assert peaks(level, zero, zero + 3, zero).tolist() == [[0.0, 0.0]]
    assert peaks(torch.ones(1, 1, 1, 1), zero, zero, zero).tolist() == [[0.0, 0.0]]


def test_descriptors_between_pixels_are_bilinear() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0) + 0.5, torch.arange(9.0) + 0.5, indexing="ij")
    planes = torch.stack([columns, rows, columns + 10 * rows])
    points = torch.tensor([[0.5, 0.5], [3.1, 2.9], [8.2, 5.5], [7.77, 1.0], [8.9, 0.1]])
    found = sampled(torch.stack([planes, -planes]), torch.tensor([0, 1, 0, 0, 0]), points)
    held = points.clamp(min=0.5).minimum(torch.tensor([8.5, 5.5]))  # beyond the outer centres it is constant
    expected = torch.stack([held[:, 0], held[:, 1], held[:, 0] + 10 * held[:, 1]], dim=1)
    expected[1] *= -1
    torch.testing.assert_close(found, expected)


def test_levels_are_those_of_the_authors() -> None:
    levels = [(scale, tuple(image.shape[-2:])) for scale, image in Pyramid().levels(torch.zeros(1, 3, 576, 768))]
    assert [size for _, size in levels] == [(576, 768), (484, 646), (407, 543), (342, 457), (288, 384), (242, 323), (204, 272)]
    assert [round(32 / scale, 3) for scale, _ in levels][:3] == [32.0, 38.055, 45.255]
    large = [tuple(image.shape[-2:]) for _, image in Pyramid().levels(torch.zeros(1, 3, 100, 2000))]
    assert max(large[0]) == 1000  # the two above 1024 are skipped
    assert len(list(Pyramid(min_scale=1.0, min_edge_px=1).levels(torch.zeros(1, 3, 1, 1)))) == 1
    assert len(list(Pyramid(min_edge_px=1).levels(torch.zeros(1, 3, 3, 300)))) > 3  # ends where a side would vanish


def test_official_keypoints_lie_on_the_pixels_of_their_level() -> None:
    image = normalized(torch.rand(1, 3, 40, 50))
    found = official_keypoints(random(SMALL[0]), image, Pyramid(min_edge_px=30), 0.0, 0.0)
    whole = found.xys[found.xys[:, 2] == 32.0]
    assert len(whole) > 5 and (whole[:, :2] == whole[:, :2].round()).all()
    smaller = found.xys[found.xys[:, 2] > 40]  # scale 2^-0.5: 28 x 35
    torch.testing.assert_close(smaller[:, 0] * 35 / 50, (smaller[:, 0] * 35 / 50).round(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.descriptors.norm(dim=1), torch.ones(len(found.xys)))
