"""CosPlace, and EigenPlaces, which is the same network trained otherwise: a backbone, GeM pooling, a linear layer.

Berton, Masone, Caputo, "Rethinking Visual Geo-localization for Large-Scale Applications", CVPR 2022, section 4.1; Berton, Trivigno, Caputo,
Masone, "EigenPlaces: Training Viewpoint Robust Models for Visual Place Recognition", ICCV 2023. The published networks normalize the
channels of each cell before the pooling, which the papers don't say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import efficientnet, mobilenetv3, resnet, vgg

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.pycls_resnet import GeM
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

# the backbones see nothing in images that are smaller than one of their cells
MIN_EDGE_PX = 32
_RESNETS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnet152": resnet.resnet152,
}
# EfficientNet and MobileNet without their classifier; of MobileNetV3, a network that a robot's CPU can afford, nothing was published
_FEATURES: dict[str, Callable[[], nn.Module]] = {
    **{f"efficientnet_b{size}": getattr(efficientnet, f"efficientnet_b{size}") for size in range(8)},
    "mobilenet_v3_small": mobilenetv3.mobilenet_v3_small,
}
BACKBONES = (*_RESNETS, "vgg16", *_FEATURES)


class CosPlace(nn.Module):
    """Backbone, generalized mean of its normalized cells, linear layer."""

    @dataclass(frozen=True)
    class Config:
        """Sizes.

        Attributes:
            backbone: resnet18, 34, 50, 101 or 152, vgg16, efficientnet_b0 to b7, mobilenet_v3_small.
            dimension: of the descriptor.
            truncate: so many of a ResNet's four stages are left out at its end, for a network that is small and sees fine: 1 makes 11 MB
                and cells of 16 px of ResNet-18, 2 makes 3 MB and cells of 8 px.
        """

        backbone: str = "resnet18"
        dimension: int = 512
        truncate: int = 0

        def __post_init__(self) -> None:
            if self.backbone not in BACKBONES:
                raise ConfigError(f"cosplace: there is no backbone {self.backbone!r}; there are: {', '.join(BACKBONES)}")
            if self.dimension < 1 or self.truncate not in ((0, 1, 2, 3) if self.backbone in _RESNETS else (0,)):
                raise ConfigError(
                    f"cosplace: dimension is positive and truncate 0 to 3, for ResNets alone, got {self.dimension}, {self.truncate} "
                    f"of {self.backbone}"
                )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone, channels = _backbone(config)
        self.pool = GeM()
        self.fc = nn.Linear(channels, config.dimension)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `imagenet.normalized`, at least MIN_EDGE_PX wide and high -> (B, C, h, w)."""
        return self.backbone(images)  # type: ignore[no-any-return]

    def pooled(self, features: Tensor) -> Tensor:
        """Of `features` -> (B, C)."""
        return self.pool(functional.normalize(features, dim=1))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `imagenet.normalized` -> descriptors (B, dimension) of unit length."""
        return functional.normalize(self.fc(self.pooled(self.features(images))), dim=1)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `CosPlace`.

    Raises:
        DataError: a name that is not theirs.
    """
    names = _OF_EFFICIENTNET if "backbone.0.0.0.weight" in state else _NAMES
    result = {}
    for key, value in state.items():
        name = next((re.sub(old, new, key) for old, new in names if re.match(old, key)), None)
        if name is None:
            raise DataError(f"{key}: is no weight of CosPlace's or EigenPlaces' authors; give a checkpoint of theirs")
        result[name] = value
    return result


def config_of(state: Mapping[str, Tensor]) -> CosPlace.Config:
    """Backbone and dimension of renamed weights.

    Raises:
        DataError: a backbone of other layers.
    """
    if "fc.weight" not in state:
        raise DataError("has no aggregation.3.weight: these are no weights of CosPlace or EigenPlaces")
    dimension = len(state["fc.weight"])
    held = _shapes(state)
    for backbone in BACKBONES:
        if held == _shapes_of(backbone):
            return CosPlace.Config(backbone, dimension)
    raise DataError(f"its backbone is none of {', '.join(BACKBONES[:6])}, ...: these are no weights of CosPlace or EigenPlaces")


def load_published(path: str | Path) -> CosPlace:
    """A checkpoint of the authors of CosPlace or EigenPlaces, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not weights of these networks.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        network = CosPlace(config_of(state))
        load_strictly(network, state, str(path))
    return network.eval()


_HEAD = ((r"aggregation\.1\.p$", "pool.p"), (r"aggregation\.3\.(weight|bias)$", r"fc.\1"))
_NAMES = ((r"backbone\.(\d+\.)", r"backbone.\1"), *_HEAD)
# whose blocks are one level deeper there
_OF_EFFICIENTNET = ((r"backbone\.0\.(\d+\.\d+\.)", r"backbone.\1"), *_HEAD)


@cache
def _shapes_of(backbone: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # shapes without numbers
        return _shapes(CosPlace(CosPlace.Config(backbone, 1)).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items() if key.startswith("backbone.")}


def _backbone(config: CosPlace.Config) -> tuple[nn.Sequential, int]:
    """The layers, and the channels that come out."""
    if config.backbone in _RESNETS:
        layers = list(_RESNETS[config.backbone]().children())[: 8 - config.truncate]
        last: Any = list(layers[-1].children())[-1]
        return nn.Sequential(*layers), (last.conv3 if hasattr(last, "conv3") else last.conv2).out_channels
    if config.backbone == "vgg16":  # neither its last ReLU nor its last pooling
        return nn.Sequential(*list(vgg.vgg16().features.children())[:-2]), 512
    layers = list(_FEATURES[config.backbone]().features.children())  # type: ignore[union-attr,operator,arg-type]
    return nn.Sequential(*layers), layers[-1][0].out_channels  # type: ignore[index]
