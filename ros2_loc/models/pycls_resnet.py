"""ResNet-50 and -101 as of pycls with a head of GeM pooling and a linear layer: the trunk of DELG and of CVNet.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride in the 3x3 convolutions, as torchvision has it, whose
blocks are used. GeM: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import imagenet
from ros2_loc.models.weights import new_name

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_LAST_BLOCK_OF_S3 = {blocks[2]: depth for depth, blocks in _BLOCKS.items()}


class PyclsResNet(nn.Module):
    """Stages s1 to s4 of strides 4, 8, 16, 32 and the head, each to be had by itself."""

    @dataclass(frozen=True)
    class Config:
        """`depth` 50 or 101; `dimension` of the head's descriptor."""

        depth: int = 50
        dimension: int = 512

        def __post_init__(self) -> None:
            if self.depth not in _BLOCKS:
                raise ConfigError(f"resnet: depth is 50 or 101, got {self.depth}")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        resnet = ResNet(Bottleneck, list(_BLOCKS[config.depth]))
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.s1, self.s2, self.s3, self.s4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        self.pool = GeM()
        self.fc = nn.Linear(2048, config.dimension)

    def s3_sums(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `normalized` -> output of s3 before its last ReLU (B, 1024, H / 16, W / 16), sizes rounded up."""
        x = self.s2(self.s1(self.stem(images)))
        *first, last = self.s3
        for block in first:
            x = block(x)
        return _before_relu(cast(Bottleneck, last), x)

    def descriptor(self, s3: Tensor) -> Tensor:
        """Output of s3 after its ReLU -> (B, dimension), not normalized."""
        return self.fc(self.pool(self.s4(s3)))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `normalized` -> (B, dimension), not normalized."""
        return self.descriptor(functional.relu(self.s3_sums(images)))


class GeM(nn.Module):
    """Generalized mean over the image plane, with a learned power."""

    def __init__(self, power: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([power]))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return features.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)


def normalized(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in 0..1 -> as the network wants it: BGR less the mean, by the standard deviation."""
    return imagenet.normalized(images).flip(1)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """pycls' state_dict (stem, s1 .. s4, head) with the names of `PyclsResNet`.

    Raises:
        DataError: a name that is not of such a network.
    """
    result = {}
    for key, value in state.items():
        name = new_name(_NAMES, key, "is no weight of a ResNet of pycls")
        result[re.sub(r"^(s\d\.)(\d+)", lambda found: f"{found[1]}{int(found[2]) - 1}", name)] = value
    return result


def config_of(state: Mapping[str, Tensor]) -> PyclsResNet.Config:
    """Depth and dimension of renamed weights.

    Raises:
        DataError: neither 50 nor 101 layers.
    """
    blocks = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("s3.")), default=-1)
    if blocks not in _LAST_BLOCK_OF_S3 or "fc.weight" not in state:
        raise DataError(f"s3 has {blocks} blocks: these are no weights of ResNet-50 or -101 with its head")
    return PyclsResNet.Config(_LAST_BLOCK_OF_S3[blocks], state["fc.weight"].shape[0])


# blocks are counted from 1 there
_NAMES = (
    (r"stem\.conv\.", "stem.0."),
    (r"stem\.bn\.", "stem.1."),
    (r"(s\d)\.b(\d+)\.proj\.", r"\1.\2.downsample.0."),
    (r"(s\d)\.b(\d+)\.bn\.", r"\1.\2.downsample.1."),
    (r"(s\d)\.b(\d+)\.f\.a\.", r"\1.\2.conv1."),
    (r"(s\d)\.b(\d+)\.f\.a_bn\.", r"\1.\2.bn1."),
    (r"(s\d)\.b(\d+)\.f\.b\.", r"\1.\2.conv2."),
    (r"(s\d)\.b(\d+)\.f\.b_bn\.", r"\1.\2.bn2."),
    (r"(s\d)\.b(\d+)\.f\.c\.", r"\1.\2.conv3."),
    (r"(s\d)\.b(\d+)\.f\.c_bn\.", r"\1.\2.bn3."),
    (r"head\.pool\.p$", "pool.p"),
    (r"head\.fc\.", "fc."),
)


def _before_relu(block: Bottleneck, x: Tensor) -> Tensor:
    y = block.relu(block.bn1(block.conv1(x)))
    y = block.relu(block.bn2(block.conv2(y)))
    return block.bn3(block.conv3(y)) + (x if block.downsample is None else block.downsample(x))  # type: ignore[no-any-return]
