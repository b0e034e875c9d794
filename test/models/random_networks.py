"""Networks without trained weights, for promises that don't depend on training.

Their kernels are symmetric about their centre, so that an image turned by 180 degrees has its keypoints turned, and where positions are
off, that shows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ros2_loc.models.d2net import D2Net
from ros2_loc.models.delg import Delg
from ros2_loc.models.superglue import SuperGlue
from ros2_loc.models.superpoint import SuperPoint
from ros2_loc.models.weights import save_model

Network = TypeVar("Network", bound=nn.Module)


def superpoint() -> SuperPoint:
    """A pixel of a cell and the one opposite look at channels whose kernels are turned."""
    network = SuperPoint(SuperPoint.Config())
    _make_symmetric(network)
    first, second = network.convPa, network.convPb
    nn.init.normal_(first.weight, std=0.1)
    nn.init.normal_(second.weight, std=0.3)
    first.weight[128:] = first.weight[:128].flip(0, 2, 3)
    second.weight[32:64] = second.weight[:32].flip(0, 1)
    second.weight[64] = (second.weight[64] + second.weight[64].flip(0)) / 2.0
    for bias, half in ((first.bias, 128), (second.bias, 32)):
        bias[half : 2 * half] = bias[:half].flip(0)
    return network


def superglue() -> SuperGlue:
    """Four layers of attention, which add little, so that equal descriptors match."""
    network = SuperGlue(SuperGlue.Config(num_layers=4))
    for last in (network.keypoint_encoder[-1], *(layer.mlp[-1] for layer in network.layers)):
        last.weight.mul_(0.05)
        last.bias.mul_(0.05)
    network.final_projection.weight.copy_(16.0 * torch.eye(network.config.dimension))
    return network


def d2net() -> D2Net:
    """With 128 channels; without a mean, kernels leave more peaks."""
    network = D2Net(D2Net.Config(width=16))
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.copy_(_symmetric(layer.weight - layer.weight.mean(dim=(1, 2, 3), keepdim=True)))
    return network


def delg() -> Delg:
    """With the paper's autoencoder."""
    return _make_symmetric(Delg(Delg.Config(local="autoencoder", local_dimension=128)))


# names of plugins
NETWORKS: dict[str, Callable[[], nn.Module]] = {"superpoint": superpoint, "superglue": superglue, "d2net": d2net, "delg": delg}


def write(name: str, folder: Path) -> Path:
    """The random weights of a plugin as a file, the same each time."""
    path = folder / f"{name}.safetensors"
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        save_model(path, NETWORKS[name](), {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    return path


def _make_symmetric(network: Network) -> Network:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(_symmetric(module.weight))
    return network


def _symmetric(kernel: Tensor) -> Tensor:
    return (kernel + kernel.flip(2, 3)) / 2.0
