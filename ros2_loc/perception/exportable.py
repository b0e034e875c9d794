"""Which networks `ros2-loc export` writes: how they load, what sizes they take, what comes out.

Each is the network of the extractor (its dense part), encoder or detector of that name, exactly as that calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ros2_loc.errors import DataError
from ros2_loc.models import aliked, centernet, context_r2d2, cosplace, d2net, imagenet, r2d2, superpoint, xfeat
from ros2_loc.models.d2det.network import MULTIPLE as D2DET_MULTIPLE
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.d2det.official import load_published as load_published_d2det
from ros2_loc.perception.detectors import d2det_parts
from ros2_loc.perception.networks import open_network
from ros2_loc.perception.parts import ExportPart


@dataclass(frozen=True, slots=True)
class Exportable:
    """One line of the table.

    Attributes:
        load: from a weight file to the network, in evaluation mode.
        normalized: (B, 3, H, W) RGB in 0..1 -> what the network takes.
        outputs: names, in the order of the network's tuple.
        multiple: of width and height of the images, px; or from the network to it.
        parts: from a network that is no single graph to its parts; and from it and images to what they see.
    """

    load: Callable[[Path], nn.Module]
    normalized: Callable[[Tensor], Tensor]
    outputs: tuple[str, ...]
    multiple: int | Callable[[nn.Module], int]
    parts: tuple[Callable[[Any], tuple[ExportPart, ...]], Callable[[Any, Tensor], dict[str, tuple[Tensor, ...]]]] | None = None

    def multiple_of(self, network: nn.Module) -> int:
        """For this network of `load`."""
        return self.multiple if isinstance(self.multiple, int) else self.multiple(network)


def _r2d2(path: Path) -> nn.Module:
    return r2d2.ForKeypoints(open_network(path, r2d2.R2D2, r2d2.load_published))


def _context_r2d2(path: Path) -> nn.Module:
    return r2d2.ForKeypoints(open_network(path, context_r2d2.ContextR2D2, _unpublished))


def _unpublished(path: Path) -> context_r2d2.ContextR2D2:
    raise DataError(f"{path}: context_r2d2 has no published weights: give a .safetensors that `ros2-loc train context-r2d2` wrote")


def _gray(images: Tensor) -> Tensor:
    """Weighed as OpenCV does."""
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def _as_they_are(images: Tensor) -> Tensor:
    return images


def _multiple_of_r2d2(network: nn.Module) -> int:
    return 2 if network.network.config.variant == "fast" else 1  # type: ignore[union-attr]


def _centernet(path: Path) -> nn.Module:
    return centernet.LastHeads(open_network(path, centernet.CenterNet, centernet.load_published))


def _multiple_of_centernet(network: nn.Module) -> int:
    return network.network.multiple  # type: ignore[union-attr,return-value]


_MAPS_OF_R2D2 = ("features", "reliability", "repeatability")

TABLE = {
    "r2d2": Exportable(_r2d2, imagenet.normalized, _MAPS_OF_R2D2, _multiple_of_r2d2),
    "context_r2d2": Exportable(_context_r2d2, imagenet.normalized, _MAPS_OF_R2D2, 32),
    "superpoint": Exportable(
        lambda path: open_network(path, superpoint.SuperPoint, superpoint.load_published), _gray, ("logits", "descriptors"), 8
    ),
    "d2net": Exportable(lambda path: open_network(path, d2net.D2Net, d2net.load_published), d2net.normalized, ("features",), 8),
    "aliked": Exportable(aliked.load_published, _as_they_are, ("features", "scores"), aliked.MULTIPLE),
    "cosplace": Exportable(
        lambda path: open_network(path, cosplace.CosPlace, cosplace.load_published), imagenet.normalized, ("descriptor",), 1
    ),
    "centernet": Exportable(_centernet, centernet.normalized, centernet.Heads._fields, _multiple_of_centernet),
    "d2det": Exportable(
        lambda path: open_network(path, D2Det, load_published_d2det),
        imagenet.normalized,
        (),
        D2DET_MULTIPLE,
        (d2det_parts.parts_of, d2det_parts.inputs_of),
    ),
    "xfeat": Exportable(xfeat.load_published, _as_they_are, ("descriptors", "logits", "reliability"), xfeat.MULTIPLE),
}
