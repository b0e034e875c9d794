"""HRNetV2's shapes, settings and loading; agreement with the published code is held by test/golden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.folding import folded
from ros2_loc.models.hrnet import HRNet, config_of, load_published, renamed

TINY = HRNet.Config.tiny()


@pytest.fixture(scope="module")
def network() -> HRNet:
    """With a head, and batch norms that have seen something."""
    torch.manual_seed(0)
    network = HRNet(replace(TINY, num_classes=5)).train()
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 96))
    return network.eval()


@torch.inference_mode()
def test_branches_halve_and_features_join_them_at_a_quarter(network: HRNet) -> None:
    images = torch.randn(2, 3, 64, 96)
    stages = network.stages(images)
    assert {name: len(branches) for name, branches in stages.items()} == {"layer1": 1, "stage2": 2, "stage3": 3, "stage4": 4}
    assert [tuple(branch.shape[1:]) for branch in stages["stage4"]] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]
    features = network.features(images)
    assert features.shape == (2, 120, 16, 24)
    torch.testing.assert_close(features[:, :8], stages["stage4"][0])
    assert network.logits(features).shape == (2, 5, 16, 24)


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (5, 100)])
@torch.inference_mode()
def test_any_size_will_do(network: HRNet, size: tuple[int, int]) -> None:
    assert network.features(torch.randn(1, 3, *size)).shape == (1, 120, -(-size[0] // 4), -(-size[1] // 4))


@torch.inference_mode()
def test_the_way_of_enlarging_matters(network: HRNet) -> None:
    other = HRNet(replace(network.config, align_corners=True)).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 64, 96)
    a, b = network.stages(images), other.stages(images)
    torch.testing.assert_close(a["layer1"][0], b["layer1"][0])
    assert (a["stage4"][0] - b["stage4"][0]).abs().max() > 1e-3


@torch.inference_mode()
def test_folding_changes_no_number(network: HRNet) -> None:
    images = torch.randn(1, 3, 40, 56)
    short = folded(network)
    assert not [module for module in short.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(short.features(images), network.features(images), atol=1e-4, rtol=1e-3)


def published(network: HRNet) -> dict[str, torch.Tensor]:
    """As the training wrapper of its authors saves it."""
    return {**{f"model.{key}": value for key, value in network.state_dict().items()}, "loss.criterion.weight": torch.ones(5)}


@pytest.mark.parametrize("with_head", [True, False])
def test_a_checkpoint_of_the_authors(network: HRNet, with_head: bool, tmp_path: Path) -> None:
    torch.save({"state_dict": published(network), "epoch": 484}, tmp_path / "cityscapes.pth")
    again = load_published(tmp_path / "cityscapes.pth", with_head)
    assert again.config == replace(network.config, num_classes=5 if with_head else 0) and not again.training
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again.features(images), network.features(images))
    if not with_head:
        with pytest.raises(ConfigError, match="num_classes"):
            again.logits(again.features(images))


def test_weights_for_imagenet_bring_no_head() -> None:
    bare = HRNet(TINY)
    state = {**bare.state_dict(), "incre_modules.0.0.conv1.weight": torch.zeros(1), "classifier.bias": torch.zeros(1000)}
    assert set(renamed(state)) == set(bare.state_dict()) and config_of(renamed(state)) == TINY


def test_weights_that_do_not_fit_are_refused(network: HRNet, tmp_path: Path) -> None:
    state = published(network)
    del state["model.stage3.0.fuse_layers.2.0.1.0.weight"]
    torch.save(state, tmp_path / "lacking.pth")
    with pytest.raises(DataError, match=r"lacking.pth: stage3.0.fuse_layers.2.0.1.0.weight missing"):
        load_published(tmp_path / "lacking.pth")
    with pytest.raises(DataError, match="no weights of HRNet"):
        config_of({"ops.0.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match="4 channels"):
        HRNet.Config(channels=(48, 96, 192))  # type: ignore[arg-type]


def test_w48_has_the_published_size() -> None:
    with torch.device("meta"):
        network = HRNet(HRNet.Config(num_classes=19))
    assert sum(weight.numel() for weight in network.parameters()) == 65_859_379
    assert len(network.state_dict()) == 1839 and sum(network.config.channels) == 720
