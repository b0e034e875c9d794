"""Every backbone of the paper's ablation: its sizes, where its features lie, and all fusions behind it."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from torch import nn

from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.models.cvlnet.backbones import BACKBONES, make_backbone
from ros2_loc.models.cvlnet.fusion import FUSIONS


@cache
def made(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make_backbone(name, 16).eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_feature_for_every_stride_of_pixels(name: str) -> None:
    backbone = made(name)
    with torch.inference_mode():
        for height, width in ((32, 64), (64, 64)):
            features = backbone(torch.rand(2, 3, height, width))
            assert features.shape == (2, 16, height // backbone.stride, width // backbone.stride)
            assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_features_lie_where_first_centre_px_says(name: str) -> None:
    """The pixels that change a feature lie around its centre as evenly as strided kernels allow."""
    backbone, middle = made(name), 6
    size = 2 * middle * backbone.stride
    image = torch.rand(1, 3, size, size, requires_grad=True)
    backbone(image)[0, :, middle, middle].square().sum().backward()
    weight = image.grad.abs().sum(dim=(0, 1, 2))
    centroid = float((weight * (torch.arange(size) + 0.5)).sum() / weight.sum())
    assert centroid == pytest.approx(backbone.first_centre_px + middle * backbone.stride, abs=0.15 * backbone.stride)


def test_an_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(ValueError, match="resnet50"):
        make_backbone("alexnet", 4)


def test_trunks_are_named_as_published() -> None:
    keys = {name: set(made(name).trunk.state_dict()) for name in BACKBONES if name != "small"}  # type: ignore[union-attr]
    assert "features.21.weight" in keys["vgg16"] and "features.24.weight" not in keys["vgg16"]
    assert "network.layer3.5.bn3.running_var" in keys["resnet50"] and not any("layer4" in key for key in keys["resnet50"])
    assert "network.layers.2.blocks.5.mlp.fc2.bias" in keys["swin"] and not any("layers.3" in key for key in keys["swin"])
    assert "network.pos_embed" in keys["vit"] and not any("head" in key for key in keys["vit"])


@pytest.mark.parametrize(("backbone", "fusion"), list(zip(BACKBONES, FUSIONS, strict=False)))
def test_every_backbone_in_the_network(backbone: str, fusion: str) -> None:
    assert_compares(backbone, fusion)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "fusion"), list(itertools.product(BACKBONES, FUSIONS)))
def test_every_backbone_with_every_fusion(backbone: str, fusion: str) -> None:
    assert_compares(backbone, fusion)


def assert_compares(backbone: str, fusion: str) -> None:
    images, tiles = torch.rand(1, 2, 3, 32, 64), torch.rand(2, 3, 64, 64)
    sampling, visible = torch.rand(1, 2, 4, 4, 2) * torch.tensor([64.0, 32.0]), torch.ones(1, 2, 4, 4, dtype=torch.bool)
    network = CVLNet(CVLNet.Config("small", fusion, cells=4, coverage_m=12.8, shift_cells=1, tile_px=64, image_px=(32, 64))).eval()
    network.ground_backbone = network.tile_backbone = made(backbone)  # the large ones are made once only
    with torch.inference_mode():
        similarity = network(images, sampling, visible, tiles)
    assert similarity.shape == (2, 1, 3, 3) and torch.isfinite(similarity).all()
