"""CenterNet's network: hourglasses, pooling towards corners and centres, and eight maps of where objects have them.

Duan et al., "CenterNet: Keypoint Triplets for Object Detection", ICCV 2019, sections 3.2 to 3.4; hourglass and heads as in Law, Deng,
"CornerNet: Detecting Objects as Paired Keypoints", ECCV 2018. Hourglass-52 is one stack, Hourglass-104 two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError
from ros2_loc.models.centernet.blocks import ConvBlock, Hourglass, Residual
from ros2_loc.models.centernet.pooling import CentrePooling, CornerPooling

STRIDE_PX = 4
# of BGR in 0..1, as the authors' weights want it
MEAN = (0.40789654, 0.44719302, 0.47026115)
STD = (0.28863828, 0.27408164, 0.27809835)
# a sigmoid of it is 0.1: at the start nearly no cell is taken for a keypoint
_HEAT_BIAS = -2.19


class Heads(NamedTuple):
    """What one stack says, for cells of 4 x 4 px; heat maps before the sigmoid.

    Attributes:
        tl_heat: (B, labels, h, w), of top left corners; then of bottom right ones and centres.
        tl_tag: (B, 1, h, w), numbers that are alike at both corners of an object.
        tl_offset: (B, 2, h, w), x and y within the cell, in cells.
    """

    tl_heat: Tensor
    br_heat: Tensor
    ct_heat: Tensor
    tl_tag: Tensor
    br_tag: Tensor
    tl_offset: Tensor
    br_offset: Tensor
    ct_offset: Tensor


class CenterNet(nn.Module):
    """A stem of stride 4, and stacks that each have their own maps; in evaluation mode only those of the last are made."""

    @dataclass(frozen=True)
    class Config:
        """Sizes; the defaults are those of Hourglass-104, with one stack of Hourglass-52.

        Attributes:
            labels: what it finds, in the order of its channels.
            dims: channels of each level of the hourglass, from stride 4 on, each level at twice the stride of the one before.
            modules: residuals of each level.
            stacks: hourglasses one after another.
            stem: channels at stride 2.
            pool_width: channels while pooling.
            head_width: channels before the last layer of each map.
        """

        labels: tuple[str, ...] = ("object",)
        dims: tuple[int, ...] = (256, 256, 384, 384, 384, 512)
        modules: tuple[int, ...] = (2, 2, 2, 2, 2, 4)
        stacks: int = 2
        stem: int = 128
        pool_width: int = 128
        head_width: int = 256

        def __post_init__(self) -> None:
            for name in ("labels", "dims", "modules"):
                object.__setattr__(self, name, tuple(getattr(self, name)))
            if not self.labels or len(set(self.labels)) != len(self.labels):
                raise ConfigError(f"centernet: labels are one or more, each once, got {list(self.labels)}")
            sizes = (*self.dims, *self.modules, self.stacks, self.stem, self.pool_width, self.head_width)
            if len(self.dims) < 2 or len(self.dims) != len(self.modules) or min(sizes) < 1:
                told = f"{list(self.dims)}, {list(self.modules)}, {self.stacks}"
                raise ConfigError(f"centernet: dims and modules are as many, two or more, and all sizes positive, got {told}")

        @classmethod
        def small(cls, labels: tuple[str, ...]) -> CenterNet.Config:
            """One that a CPU can train and run: 1.2 million weights, 5 MB."""
            return cls(labels, dims=(32, 48, 72, 100), modules=(1, 1, 1, 2), stacks=1, stem=16, pool_width=16, head_width=24)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.dims[0]
        self.stem = nn.Sequential(ConvBlock(3, config.stem, 7, 2), Residual(config.stem, width, 2))
        self.stacks = nn.ModuleList(Stack(config) for _ in range(config.stacks))
        self.between = nn.ModuleList(Between(width) for _ in range(config.stacks - 1))

    @property
    def multiple(self) -> int:
        """Of the sides of images, px; sides one less will do as well."""
        return int(STRIDE_PX * 2 ** (len(self.config.dims) - 1))

    def forward(self, images: Tensor) -> list[Heads]:
        """(B, 3, H, W) as of `normalized`, sides as `multiple` says -> the maps of each stack, in evaluation mode of the last alone."""
        features, found = self.stem(images), []
        for number, stack in enumerate(self.stacks):
            seen = stack.features(features)  # type: ignore[operator]
            if self.training or number == len(self.between):
                found.append(stack.heads(seen))  # type: ignore[operator]
            if number < len(self.between):
                features = self.between[number](features, seen)
        return found


class LastHeads(nn.Module):
    """A network whose outputs are the maps of its last stack: for exports."""

    def __init__(self, network: CenterNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Heads:
        """(B, 3, H, W) as of `normalized` -> the maps."""
        return self.network(images)[-1]  # type: ignore[no-any-return]


class Stack(nn.Module):
    """An hourglass with the maps that follow it."""

    def __init__(self, config: CenterNet.Config) -> None:
        super().__init__()
        width, labels = config.dims[0], len(config.labels)
        self.hourglass = Hourglass(config.dims, config.modules)
        self.neck = ConvBlock(width, width)
        self.tl_pool = CornerPooling(width, config.pool_width, ("top", "left"))
        self.br_pool = CornerPooling(width, config.pool_width, ("bottom", "right"))
        self.ct_pool = CentrePooling(width, config.pool_width)
        self.tl_heat, self.br_heat, self.ct_heat = (_head(width, config.head_width, labels, _HEAT_BIAS) for _ in range(3))
        self.tl_tag, self.br_tag = (_head(width, config.head_width, 1) for _ in range(2))
        self.tl_offset, self.br_offset, self.ct_offset = (_head(width, config.head_width, 2) for _ in range(3))

    def features(self, images: Tensor) -> Tensor:
        """(B, C, h, w) -> what is pooled and goes on to the next stack."""
        return self.neck(self.hourglass(images))  # type: ignore[no-any-return]

    def pooled(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of `features` -> those of top left corners, bottom right corners and centres."""
        return self.tl_pool(features), self.br_pool(features), self.ct_pool(features)

    def heads(self, features: Tensor) -> Heads:
        """Of `features` -> the maps."""
        tl, br, ct = self.pooled(features)
        heats = self.tl_heat(tl), self.br_heat(br), self.ct_heat(ct)
        return Heads(*heats, self.tl_tag(tl), self.br_tag(br), self.tl_offset(tl), self.br_offset(br), self.ct_offset(ct))


class Between(nn.Module):
    """What the next stack gets: what the last one got and what it made of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = (nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)) for _ in range(2))
        self.residual = Residual(width, width)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two of (B, width, h, w) -> the same shape."""
        return self.residual(functional.relu(self.before(before) + self.after(after)))  # type: ignore[no-any-return]


def normalized(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..1 -> BGR less the mean, by the standard deviation."""
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype)[:, None, None] for values in (MEAN, STD))
    return (images.flip(1) - mean) / std


def _head(channels: int, width: int, outputs: int, bias: float | None = None) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 1)
    if bias is not None:
        nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), last)
