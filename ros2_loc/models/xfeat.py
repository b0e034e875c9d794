"""XFeat: Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024; the sparse network of section 3.

The layers are kornia's. The authors publish a checkpoint; their ONNX file holds the same weights with the normalization folded into the
convolutions, and both load here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from kornia.feature.xfeat import XFeatModel
from torch import Tensor, nn

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
        self.network = XFeatModel()
        del self.network.fine_matcher

    def forward(self, images: Tensor) -> XFeatMaps:
        """(B, 3, H, W) RGB in 0..1, H and W multiples of 32."""
        return XFeatMaps(*self.network(images))


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> this network's; those of the semi-dense refinement are left out by name."""
    return {f"network.{key.removeprefix('net.')}": value for key, value in state.items() if _SEMI_DENSE not in key}


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
    layers = network.network.get_submodule(part).named_modules(prefix=f"network.{part}")
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
