"""HRNetV2: features that are deep and fine at once, for their meaning rather than their texture.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020, as published for segmentation of street
scenes. timm's HRNet can't take its place: where branches meet, timm enlarges by repeating pixels, the published segmentation code
bilinearly, so the same weights mean different features. The residual blocks are torchvision's; all keys are the authors'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

# parts of published checkpoints that make no features: a wrapper's loss, the head of ImageNet's classes
_DROPPED = ("loss.", "incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
_HEAD = "last_layer."


class HRNet(nn.Module):
    """Four branches at 1/4, 1/8, 1/16 and 1/32 of the image's size that exchange what they know."""

    @dataclass(frozen=True)
    class Config:
        """The defaults are W48 of Cityscapes; `HRNet.Config.tiny()` is for tests and small devices.

        Attributes:
            channels: of the branches, finest first.
            modules: how often the branches meet in stages 2, 3 and 4.
            blocks: residual blocks of a branch between meetings.
            stem_channels: of the two first convolutions.
            bottleneck_channels: a quarter of those of stage 1, which has `stem_blocks` blocks.
            stem_blocks: blocks of stage 1.
            num_classes: of the segmentation; 0 without that head.
            align_corners: how branches are enlarged; the authors' Cityscapes weights are for False.
        """

        channels: tuple[int, int, int, int] = (48, 96, 192, 384)
        modules: tuple[int, int, int] = (1, 4, 3)
        blocks: int = 4
        stem_channels: int = 64
        bottleneck_channels: int = 64
        stem_blocks: int = 4
        num_classes: int = 0
        align_corners: bool = False

        def __post_init__(self) -> None:
            object.__setattr__(self, "channels", tuple(self.channels))
            object.__setattr__(self, "modules", tuple(self.modules))
            numbers = (*self.channels, *self.modules, self.blocks, self.stem_channels, self.bottleneck_channels, self.stem_blocks)
            if len(self.channels) != 4 or len(self.modules) != 3 or min(numbers) < 1 or self.num_classes < 0:
                raise ConfigError(f"hrnet: 4 channels, 3 modules, all positive, got {self.channels}, {self.modules}")

        @staticmethod
        def tiny() -> HRNet.Config:
            """120 channels of features from 0.3 million weights."""
            return HRNet.Config((8, 16, 32, 64), (1, 1, 1), blocks=1, stem_channels=16, bottleneck_channels=8, stem_blocks=1)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        stem, channels, align = config.stem_channels, config.channels, config.align_corners
        self.conv1, self.bn1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
        self.conv2, self.bn2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
        wide = config.bottleneck_channels * Bottleneck.expansion
        self.layer1 = _stage1(stem, config.bottleneck_channels, config.stem_blocks)
        self.transition1 = nn.ModuleList([_conv_bn(wide, channels[0], relu=True), nn.Sequential(_down(wide, channels[1]))])
        self.transition2 = nn.ModuleList([*_unchanged(2), nn.Sequential(_down(channels[1], channels[2]))])
        self.transition3 = nn.ModuleList([*_unchanged(3), nn.Sequential(_down(channels[2], channels[3]))])
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(Exchange(channels[:stage], config.blocks, align) for _ in range(count)))
            for stage, count in enumerate(config.modules, start=2)
        )
        self.last_layer = _head(sum(channels), config.num_classes) if config.num_classes else None

    def stages(self, images: Tensor) -> dict[str, list[Tensor]]:
        """(B, 3, H, W) RGB less ImageNet's mean, by its deviation -> branches of layer1, stage2, stage3 and stage4, finest first."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer1(functional.relu(self.bn2(self.conv2(x))))
        stage2 = self.stage2([change(x) for change in self.transition1])
        stage3 = self.stage3([change(y) for change, y in zip(self.transition2, [*stage2, stage2[-1]], strict=True)])
        stage4 = self.stage4([change(y) for change, y in zip(self.transition3, [*stage3, stage3[-1]], strict=True)])
        return {"layer1": [x], "stage2": stage2, "stage3": stage3, "stage4": stage4}

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as for `stages` -> (B, sum of channels, H/4, W/4), sides rounded up."""
        return self.joined(self.stages(images)["stage4"])

    def joined(self, branches: Sequence[Tensor]) -> Tensor:
        """Branches of stage 4 -> all of them, enlarged to the size of the finest."""
        size = branches[0].shape[-2:]
        return torch.cat([branches[0], *(_enlarged(branch, size, self.config.align_corners) for branch in branches[1:])], dim=1)

    def logits(self, features: Tensor) -> Tensor:
        """What `features` gave -> (B, num_classes, H/4, W/4). Raises ConfigError where the network has no such head."""
        if self.last_layer is None:
            raise ConfigError("hrnet: num_classes is 0, so there is no segmentation")
        return self.last_layer(features)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """`features`."""
        return self.features(images)


class Exchange(nn.Module):
    """Residual blocks in each branch, then each branch takes the sum of all, brought to its own size."""

    def __init__(self, channels: Sequence[int], blocks: int, align_corners: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(count, count) for _ in range(blocks))) for count in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(channels, target, source) for source in range(len(channels))) for target in range(len(channels))
        )
        self._align_corners = align_corners

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Branches, finest first -> the same sizes."""
        deep = [layers(branch) for layers, branch in zip(self.branches, branches, strict=True)]
        return [functional.relu(self._gathered(deep, target)) for target in range(len(deep))]

    def _gathered(self, branches: list[Tensor], target: int) -> Tensor:
        total: Tensor | None = None
        changes: Any = self.fuse_layers[target]
        for source, change in enumerate(changes):
            term = change(branches[source])
            if source > target:
                term = _enlarged(term, branches[target].shape[-2:], self._align_corners)
            total = term if total is None else total + term
        assert total is not None
        return total


def renamed(state: Mapping[str, Tensor], with_head: bool = True) -> dict[str, Tensor]:
    """A published state_dict (of Cityscapes, wrapped in `model.`, or of ImageNet) with the names of `HRNet`.

    Args:
        state: as it was published.
        with_head: keep the segmentation head, if there is one.
    """
    plain = {key.removeprefix("module.").removeprefix("model."): value for key, value in state.items()}
    dropped = _DROPPED if with_head else (*_DROPPED, _HEAD)
    return {key: value for key, value in plain.items() if not key.startswith(dropped)}


def config_of(state: Mapping[str, Tensor], align_corners: bool = False) -> HRNet.Config:
    """The sizes of renamed weights. Raises DataError for weights of something else."""
    try:
        return HRNet.Config(
            channels=tuple(state[f"stage4.0.branches.{branch}.0.conv1.weight"].shape[0] for branch in range(4)),  # type: ignore[arg-type]
            modules=tuple(_count(state, f"stage{stage}.") for stage in (2, 3, 4)),  # type: ignore[arg-type]
            blocks=_count(state, "stage4.0.branches.0."),
            stem_channels=state["conv1.weight"].shape[0],
            bottleneck_channels=state["layer1.0.conv1.weight"].shape[0],
            stem_blocks=_count(state, "layer1."),
            num_classes=len(state["last_layer.3.weight"]) if "last_layer.3.weight" in state else 0,
            align_corners=align_corners,
        )
    except KeyError as error:
        raise DataError(f"no {error.args[0]}: these are no weights of HRNet") from error


def load_published(path: str | Path, with_head: bool = True, align_corners: bool = False) -> HRNet:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not HRNet's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path), with_head)
        network = HRNet(config_of(state, align_corners))
        load_strictly(network, state, str(path))
    return network.eval()


def _stage1(inputs: int, channels: int, blocks: int) -> nn.Sequential:
    outputs = channels * Bottleneck.expansion
    first = Bottleneck(inputs, channels, downsample=_conv_bn(inputs, outputs, size=1))
    return nn.Sequential(first, *(Bottleneck(outputs, channels) for _ in range(blocks - 1)))


def _exchange(channels: Sequence[int], target: int, source: int) -> nn.Module:
    if source == target:
        return nn.Identity()
    if source > target:
        return _conv_bn(channels[source], channels[target], size=1)
    between = [_down(channels[source], channels[source]) for _ in range(target - source - 1)]
    return nn.Sequential(*between, _down(channels[source], channels[target], relu=False))


def _head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, classes, 1))


def _down(inputs: int, outputs: int, relu: bool = True) -> nn.Sequential:
    return _conv_bn(inputs, outputs, stride=2, relu=relu)


def _conv_bn(inputs: int, outputs: int, size: int = 3, stride: int = 1, relu: bool = False) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def _enlarged(branch: Tensor, size: torch.Size, align_corners: bool) -> Tensor:
    return functional.interpolate(branch, size, mode="bilinear", align_corners=align_corners)


def _unchanged(count: int) -> list[nn.Module]:
    return [nn.Identity() for _ in range(count)]


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)})
