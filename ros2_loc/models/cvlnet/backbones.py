"""Backbones: images to feature maps. Both branches of CVLNet have one, with weights of their own.

They say where their features lie in the input (centre of the first pixel at 0.5): the first at `stride / 2` where the strided layers are
symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ros2_loc.models import imagenet

BACKBONES = ("small", "vgg16", "resnet50", "swin", "vit")
# vgg16.features[:24] of torchvision: output channels of its convolutions, M a pooling
_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M")


class Backbone(nn.Module):
    """What every backbone has beside its layers.

    Attributes:
        stride: px of its input per feature.
        first_centre_px: where the centre of the first feature lies in the input.
    """

    stride: int
    first_centre_px: float


def make_backbone(name: str, channels_out: int) -> Backbone:
    """The backbone of that name in BACKBONES, with random weights: (B, 3, H, W) in 0..1 -> (B, channels_out, H / stride, W / stride).

    H and W are multiples of the stride. `models.cvlnet.loading.load_trunk` lays published ImageNet weights into all but `small`.

    Raises:
        ValueError: no backbone of that name.
    """
    if name not in BACKBONES:
        raise ValueError(f"there is no backbone {name!r}; there are: {', '.join(BACKBONES)}")
    return Small(channels_out) if name == "small" else Published(_TRUNKS[name](), channels_out)


def vgg16_trunk() -> nn.Sequential:
    """VGG16 through its fourth pooling: stride 16, 512 channels, layers numbered as torchvision's `vgg16.features`."""
    layers: list[nn.Module] = []
    channels = 3
    for width in _VGG16:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class Small(Backbone):
    """Few channels, stride 4, for CPUs. No normalization: what a feature says depends on its surroundings alone, not on the rest of the
    image or of the batch.

    The strided layers have even kernels, so that features lie in the middle of their pixels.
    """

    stride = 4
    first_centre_px = 2.0

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(3, 24, 4, 2), _block(24, 48, 4, 2))
        self.residual = nn.Sequential(_block(48, 48, 3, 1), _block(48, 48, 3, 1))
        self.head = nn.Sequential(_block(48, 48, 3, 1), nn.Conv2d(48, channels_out, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> (B, c, H / 4, W / 4)."""
        x = self.stem(4.0 * (images - 0.45))  # about mean 0 and deviation 1
        return self.head(x + self.residual(x))


def _block(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=(kernel - 1) // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.ReLU(inplace=True))


class Trunk(nn.Module):
    """The part of a published classifier up to stride 16; its parameters have the names that they were published under.

    Attributes:
        channels: of its features.
        first_centre_px: as the backbone's.
        dropped: prefixes of published names that belong to what comes behind.
    """

    def __init__(self, channels: int, first_centre_px: float, dropped: tuple[str, ...]) -> None:
        super().__init__()
        self.channels, self.first_centre_px, self.dropped = channels, first_centre_px, dropped


class Vgg16(Trunk):
    """torchvision's vgg16: the paper's backbone."""

    def __init__(self) -> None:
        super().__init__(512, 8.0, ("classifier.", "features.24.", "features.26.", "features.28."))
        self.features = vgg16_trunk()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512, H / 16, W / 16)."""
        return self.features(images)


class Timm(Trunk):
    """A network of timm up to one of its stages."""

    def __init__(self, network: nn.Module, stage: int, channels: int, first_centre_px: float, dropped: tuple[str, ...]) -> None:
        super().__init__(channels, first_centre_px, dropped)
        network.prune_intermediate_layers([stage], prune_norm=True, prune_head=True)  # type: ignore[operator]
        self.network, self._stage = network, stage

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, H / 16, W / 16)."""
        return self.network.forward_intermediates(images, indices=[self._stage], intermediates_only=True)[0]  # type: ignore[operator]


def _timm(name: str, **options: Any) -> nn.Module:
    from timm import create_model  # takes a second, which the small backbone need not wait for

    return create_model(name, pretrained=False, **options)


def _resnet50() -> Trunk:
    # its strided kernels have odd sizes, so that features lie at the first pixel of each 16
    return Timm(_timm("resnet50"), 3, 1024, 0.5, ("layer4.", "fc."))


def _swin() -> Trunk:
    return Timm(_timm("swin_tiny_patch4_window7_224", strict_img_size=False), 2, 384, 8.0, ("layers.3.", "norm.", "head."))


def _vit() -> Trunk:
    return Timm(_timm("vit_small_patch16_224", dynamic_img_size=True), 11, 384, 8.0, ("norm.", "head."))


_TRUNKS: dict[str, Callable[[], Trunk]] = {"vgg16": Vgg16, "resnet50": _resnet50, "swin": _swin, "vit": _vit}


class Published(Backbone):
    """A published trunk, fed as it was trained (ImageNet's mean and deviation), and two convolutions trunk -> 128 -> channels_out."""

    stride = 16
    _mean: Tensor
    _std: Tensor

    def __init__(self, trunk: Trunk, channels_out: int) -> None:
        super().__init__()
        between = max(128, channels_out)
        self.trunk = trunk
        self.reduce = nn.Sequential(
            nn.Conv2d(trunk.channels, between, 3, padding=1), nn.ReLU(), nn.Conv2d(between, channels_out, 3, padding=1)
        )
        self.first_centre_px = trunk.first_centre_px
        self.register_buffer("_mean", torch.tensor(imagenet.MEAN)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(imagenet.STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..1 -> (B, channels_out, H / 16, W / 16)."""
        return self.reduce(self.trunk((images - self._mean) / self._std))
