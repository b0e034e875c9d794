"""R2D2: dense descriptors, where they are reliable, and where keypoints repeat.

Revaud et al., "R2D2: Repeatable and Reliable Detector and Descriptor", NeurIPS 2019: L2-Net at full resolution (dilation in place of
strides), its 8x8 convolution replaced by three of 2x2, and two heads on the squared features. Where the authors' published code differs
from their paper (the repeatability's activation), it is followed, since their weights were trained with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.folding import folded
from ros2_loc.models.weights import load_strictly, tensors_of, told_of

DIMENSION = 128


class DenseFeatures(NamedTuple):
    """What the heads say of each pixel.

    Attributes:
        descriptors: (B, D, H, W) of unit length.
        reliability: (B, 1, H, W) in 0..1, whether a match of this descriptor would be right.
        repeatability: (B, 1, H, W) in 0..1, whether another view has a keypoint here as well.
    """

    descriptors: Tensor
    reliability: Tensor
    repeatability: Tensor


class Heads(nn.Module):
    """Reliability and repeatability by 1x1 convolutions of the squared features (section 3.1), descriptors by their length."""

    def __init__(self, channels: int = DIMENSION) -> None:
        super().__init__()
        self.reliability = nn.Conv2d(channels, 2, 1)
        self.repeatability = nn.Conv2d(channels, 1, 1)

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) not normalized -> reliability and repeatability (B, 1, H, W), in 32-bit floats at least."""
        if torch.is_autocast_enabled(features.device.type):
            # 16 bits overflow by squares, and make plateaus of peaks
            with torch.autocast(features.device.type, enabled=False):
                return self._maps(features.float())
        return self._maps(features)

    def _maps(self, features: Tensor) -> tuple[Tensor, Tensor]:
        # both in one pass: squares of the whole image are many
        weights = torch.cat([self.reliability.weight, self.repeatability.weight])
        biases = torch.cat([self.reliability.bias, self.repeatability.bias])  # type: ignore[list-item]
        unreliable, reliable, repeatable = functional.conv2d(features.square(), weights, biases).split(1, dim=1)
        positive = functional.softplus(repeatable)
        return torch.sigmoid(reliable - unreliable), positive / (1.0 + positive)

    def forward(self, features: Tensor) -> DenseFeatures:
        """(B, C, H, W) not normalized."""
        return DenseFeatures(functional.normalize(features, dim=1), *self.maps(features))


class R2D2(nn.Module):
    """The whole network."""

    @dataclass(frozen=True)
    class Config:
        """Variant of L2-Net.

        Attributes:
            variant: quad at full resolution; fast at half of it, enlarged at its end, for images of even width and height.
            mchan: 8 * mchan channels in the first layers; 4, or 6 of the "big" weights.
        """

        variant: Literal["quad", "fast"] = "quad"
        mchan: int = 4

        def __post_init__(self) -> None:
            if self.mchan < 1 or self.variant not in ("quad", "fast"):
                raise ConfigError(f"r2d2: variant is quad or fast and mchan positive, got {self.variant!r}, {self.mchan}")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.layers = _l2_net(8 * config.mchan, config.variant == "fast")
        self.heads = Heads()

    def trunk(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) as of `imagenet.normalized` -> (B, 128, H, W), neither squared nor normalized."""
        return self.layers(images)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> DenseFeatures:
        """(B, 3, H, W) as of `imagenet.normalized`."""
        return self.heads(self.trunk(images))  # type: ignore[no-any-return]


class ForKeypoints(nn.Module):
    """What detection needs of R2D2 or ContextR2D2, in fewer passes: batch norms folded, descriptors not of unit length, since only few of
    them will be looked at.

    Args:
        network: is copied.
        half: the trunk works with 16-bit floats.
    """

    def __init__(self, network: nn.Module, half: bool = False) -> None:
        super().__init__()
        self.network: Any = folded(network).requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._half = half
        self._multiple = 2 if any(isinstance(module, nn.MaxPool2d) for module in self.network.modules()) else 1

    def forward(self, images: Tensor) -> DenseFeatures:
        """(B, 3, H, W) as of `imagenet.normalized`."""
        height, width = images.shape[-2:]
        if self._multiple > 1:
            images = functional.pad(images, (0, -width % self._multiple, 0, -height % self._multiple), mode="replicate")
        with autocast(images.device.type, self._half):
            features = self.network.trunk(images.contiguous(memory_format=torch.channels_last))[..., :height, :width]
        return DenseFeatures(features, *self.network.heads.maps(features.float()))


def autocast(device_type: str, half: bool) -> AbstractContextManager[None]:
    """Convolutions with float16 on a GPU, with bfloat16 on a CPU; nothing where `half` is False."""
    if not half:
        return nullcontext()
    return torch.autocast(device_type, torch.float16 if device_type == "cuda" else torch.bfloat16)  # type: ignore[return-value]


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `R2D2`; their numbers of layers are kept.

    Raises:
        DataError: a name that is not theirs.
    """
    names = {"ops": "layers", "clf": "heads.reliability", "sal": "heads.repeatability"}
    result = {}
    for key, value in state.items():
        first, _, rest = key.removeprefix("module.").partition(".")
        if first not in names:
            raise DataError(f"{key}: is no weight of R2D2's authors: give a checkpoint of theirs or a .safetensors of this project")
        result[f"{names[first]}.{rest}"] = value
    return result


def config_of(state: Mapping[str, Tensor]) -> R2D2.Config:
    """The variant of renamed weights. Raises DataError where there is no first layer."""
    if "layers.0.weight" not in state:
        raise DataError("no layers.0.weight: these are no weights of R2D2")
    # the fast variant has its pooling as layer 9
    return R2D2.Config("quad" if "layers.9.weight" in state else "fast", state["layers.0.weight"].shape[0] // 8)


def load_published(path: str | Path) -> R2D2:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not R2D2's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        network = R2D2(config_of(state))
        load_strictly(network, state, str(path))
    return network.eval()


def _l2_net(channels: int, is_fast: bool) -> nn.Sequential:
    """Layers with the authors' numbers: 3x3 convolutions, then three 2x2 with nothing but normalization between them."""
    c1, c2, c4 = channels, 2 * channels, 4 * channels
    dilations = (1, 1, 1, 1, 1, 2, 2, 4, 8) if is_fast else (1, 1, 1, 2, 2, 4, 4, 8, 16)
    layers: list[nn.Module] = []
    inputs = 3
    for index, (outputs, dilation) in enumerate(zip((c1, c1, c2, c2, c4, c4, c4, c4, DIMENSION), dilations, strict=True)):
        size = 3 if index < 6 else 2
        layers.append(nn.Conv2d(inputs, outputs, size, padding=(size - 1) * dilation // 2, dilation=dilation))
        layers += [nn.BatchNorm2d(outputs, affine=False)] if index < 8 else []
        layers += [nn.ReLU(inplace=True)] if index < 6 else []
        layers += [nn.MaxPool2d(2)] if index == 2 and is_fast else []
        inputs = outputs
    layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)] if is_fast else []
    return nn.Sequential(*layers)
