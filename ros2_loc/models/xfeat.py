"""XFeat: Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024; the sparse network of section 3.

Layers have the authors' names, so that their checkpoint loads as it is. The published ONNX file holds the same weights with the
normalization folded into the convolutions, and loads too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import DataError
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weights import load_strictly, tensors_of

MULTIPLE = 32
# the convolutions in the order in which the network runs through them
_ORDER = ("block1", "skip1", "block2", "block3", "block4", "block5", "block_fusion", "heatmap_head", "keypoint_head")
_SEMI_DENSE = "fine_matcher."


class XFeatMaps(NamedTuple):
    """What the network says of each cell of 8 x 8 pixels: descriptors (B, 64, H/8, W/8), logits (B, 65, H/8, W/8) of the pixel that is a
    keypoint, row by row, and of none, reliability (B, 1, H/8, W/8) in (0, 1).
    """

    descriptors: Tensor
    logits: Tensor
    reliability: Tensor


class XFeat(nn.Module):
    """The network without the refinement of semi-dense matches."""

    @dataclass(frozen=True)
    class Config:
        """There is one variant."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.InstanceNorm2d(1)
        self.skip1 = nn.Sequential(nn.AvgPool2d(4, stride=4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(_Layer(1, 4), _Layer(4, 8, stride=2), _Layer(8, 8), _Layer(8, 24, stride=2))
        self.block2 = nn.Sequential(_Layer(24, 24), _Layer(24, 24))
        self.block3 = nn.Sequential(_Layer(24, 64, stride=2), _Layer(64, 64), _Layer(64, 64, 1))
        self.block4 = nn.Sequential(_Layer(64, 64, stride=2), _Layer(64, 64), _Layer(64, 64))
        self.block5 = nn.Sequential(_Layer(64, 128, stride=2), _Layer(128, 128), _Layer(128, 128), _Layer(128, 64, 1))
        self.block_fusion = nn.Sequential(_Layer(64, 64), _Layer(64, 64), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(_Layer(64, 64, 1), _Layer(64, 64, 1), nn.Conv2d(64, 1, 1), nn.Sigmoid())
        self.keypoint_head = nn.Sequential(_Layer(64, 64, 1), _Layer(64, 64, 1), _Layer(64, 64, 1), nn.Conv2d(64, 65, 1))

    def forward(self, images: Tensor) -> XFeatMaps:
        """(B, 3, H, W) RGB in 0..1, H and W multiples of 32."""
        gray = self.norm(images.mean(dim=1, keepdim=True))
        x3 = self.block3(self.block2(self.block1(gray) + self.skip1(gray)))
        x4 = self.block4(x3)
        x5 = self.block5(x4)
        descriptors = self.block_fusion(x3 + _enlarged(x4, 2) + _enlarged(x5, 4))
        return XFeatMaps(descriptors, self.keypoint_head(functional.pixel_unshuffle(gray, 8)), self.heatmap_head(descriptors))


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> this network's; those of the semi-dense refinement are left out by name."""
    return {key.removeprefix("net."): value for key, value in state.items() if _SEMI_DENSE not in key}


def load_published(name_or_path: str | Path) -> XFeat:
    """The authors' network of a .pt or .onnx file, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; weights of another network.
    """
    path = locate(name_or_path)
    network = XFeat(XFeat.Config())
    state = _unfolded(network, path) if path.suffix == ".onnx" else renamed(tensors_of(path))
    load_strictly(network, state, str(path))
    return network.eval()


def _unfolded(network: XFeat, path: Path) -> dict[str, Tensor]:
    """Folded weights as convolutions whose normalization only adds the bias."""
    convolutions = _convolutions_of(path)
    names = [name for part in _ORDER for name, layer in _layers(network, part)]
    if len(convolutions) != len(names):
        raise DataError(f"{path}: has {len(convolutions)} convolutions, XFeat has {len(names)}: give the authors' xfeat.onnx")
    state = dict(network.state_dict())
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        state[f"{name}.weight"] = weight
        if f"{name}.bias" in state:
            state[f"{name}.bias"] = bias
            continue
        norm = f"{name.rpartition('.')[0]}.1"
        state[f"{norm}.running_mean"] = -bias
        state[f"{norm}.running_var"] = torch.full_like(bias, 1.0 - nn.BatchNorm2d(1).eps)
    return state


def _layers(network: XFeat, part: str) -> list[tuple[str, nn.Module]]:
    layers = network.get_submodule(part).named_modules(prefix=part)
    return [(name, layer) for name, layer in layers if isinstance(layer, nn.Conv2d)]


def _convolutions_of(path: Path) -> list[tuple[Tensor, Tensor]]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
    except (DecodeError, OSError) as error:
        raise DataError(f"{path}: can't be read as ONNX; copy the file again") from error
    arrays = {one.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(one))) for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv" and len(node.input) == 3]
    return [(arrays[node.input[1]], arrays[node.input[2]]) for node in nodes if node.input[1] in arrays]


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class _Layer(nn.Module):
    """Convolution, normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
        self.layer = nn.Sequential(convolution, nn.BatchNorm2d(outputs, affine=False), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]
