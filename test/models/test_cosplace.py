"""CosPlace: its backbones, the authors' checkpoints, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import cosplace
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.weights import load_model, save_model


def authors_state(name: str, dimension: int) -> dict[str, Tensor]:
    """A state_dict as their code makes it: children of torchvision's network without pooling and classifier."""
    network = getattr(models, name)()
    layers = list(network.features.children())[:-2] if name == "vgg16" else list(network.children())[:-2]
    state = {f"backbone.{key}": value for key, value in nn.Sequential(*layers).state_dict().items()}
    channels = {"resnet18": 512, "vgg16": 512, "resnet50": 2048, "efficientnet_b1": 1280}[name]
    head = {"aggregation.1.p": torch.full((1,), 2.5), "aggregation.3.weight": torch.randn(dimension, channels)}
    return state | head | {"aggregation.3.bias": torch.randn(dimension)}


@pytest.mark.parametrize(
    ("name", "dimension"), [("resnet18", 32), pytest.param("vgg16", 64, marks=pytest.mark.slow), ("efficientnet_b1", 48)]
)
def test_checkpoints_of_the_authors_are_recognized(name: str, dimension: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = authors_state(name, dimension)
    torch.save(state, tmp_path / "best.pth")
    network = cosplace.load_published(tmp_path / "best.pth")
    assert network.config == CosPlace.Config(name, dimension) and not network.training
    assert network.pool.p.item() == 2.5 and torch.equal(network.fc.bias, state["aggregation.3.bias"])
    assert sum(value.numel() for value in network.state_dict().values()) == sum(value.numel() for value in state.values())


def test_backbones_that_differ_in_sizes_alone_are_told_apart() -> None:
    for name in ("efficientnet_b1", "efficientnet_b2", "resnet34", "resnet50", "resnet101"):
        with torch.device("meta"):
            network = CosPlace(CosPlace.Config(name, 8))
        assert cosplace.config_of(network.state_dict()).backbone == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aggregation.3.weight": None}, "no aggregation.3.weight"),
        ({"backbone.4.0.conv1.weight": None}, "its backbone is none of resnet18, "),
        ({"backbone.4.0.conv1.weight": torch.zeros(3, 3)}, "its backbone is none of resnet18, "),
        ({"aggregation.1.p": None}, "pool.p missing"),
        ({"aggregation.3.bias": torch.zeros(7)}, r"fc.bias \(7,\) for \(32,\) of another shape"),
        ({"aggregation.3.bias": torch.full((32,), torch.nan)}, "fc.bias not finite"),
        ({"classifier.weight": torch.zeros(2, 2)}, "classifier.weight: is no weight of CosPlace's"),
    ],
)
def test_other_weights_are_refused(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    state = {key: value for key, value in (authors_state("resnet18", 32) | change).items() if value is not None}
    torch.save(state, tmp_path / "best.pth")
    with pytest.raises(DataError, match=rf"best.pth: .*{message}"):
        cosplace.load_published(tmp_path / "best.pth")


@pytest.mark.parametrize(
    ("backbone", "truncate", "cells"),
    [
        ("resnet18", 0, (3, 4)),
        ("resnet18", 1, (6, 8)),
        ("resnet18", 2, (12, 16)),
        ("resnet50", 2, (12, 16)),
        ("mobilenet_v3_small", 0, (3, 4)),
    ],
)
def test_truncated_networks_see_finer(backbone: str, truncate: int, cells: tuple[int, int]) -> None:
    network = CosPlace(CosPlace.Config(backbone, 16, truncate)).eval()
    images = torch.rand(2, 3, 96, 128)
    with torch.inference_mode():
        assert network.features(images).shape[2:] == cells
        described = network(images)
    assert described.shape == (2, 16)
    torch.testing.assert_close(described.norm(dim=1), torch.ones(2))


def test_small_ones_are_below_5_mb(tmp_path: Path) -> None:
    for config in (CosPlace.Config("resnet18", 256, truncate=2), CosPlace.Config("mobilenet_v3_small", 512)):
        save_model(tmp_path / "small.safetensors", CosPlace(config), {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
        assert (tmp_path / "small.safetensors").stat().st_size < 5e6
        assert load_model(tmp_path / "small.safetensors").config == config


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "vgg16", "efficientnet_b0", "mobilenet_v3_small"])
def test_images_of_the_smallest_size_pass(backbone: str) -> None:
    with torch.device("meta"):
        network = CosPlace(CosPlace.Config(backbone, 8)).eval()
        assert network(torch.zeros(1, 3, cosplace.MIN_EDGE_PX, cosplace.MIN_EDGE_PX)).shape == (1, 8)


def test_brightness_of_a_cell_does_not_count_but_its_kind() -> None:
    """Channels are normalized before pooling: a cell twice as strong is the same cell."""
    network = CosPlace(CosPlace.Config("resnet18", 8, truncate=3))
    features = torch.rand(1, 64, 3, 4)
    stronger = features * torch.rand(1, 1, 3, 4).add(0.5)
    torch.testing.assert_close(network.pooled(features), network.pooled(stronger))


@pytest.mark.parametrize("values", [{"backbone": "resnet42"}, {"dimension": 0}, {"truncate": 4}, {"backbone": "vgg16", "truncate": 1}])
def test_settings_that_can_not_be_are_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="cosplace: "):
        CosPlace.Config(**values)
