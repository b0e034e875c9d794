"""What CenterNet is trained for: heat maps of corners and centres, offsets within their cells, tags that pair corners.

Duan et al., ICCV 2019, equation 2 with its weights; focal, pull, push and offset losses as of CornerNet (Law, Deng, ECCV 2018, equations 1
to 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.errors import ConfigError
from ros2_loc.models.centernet.network import STRIDE_PX, CenterNet, Heads, normalized

KINDS = ("tl", "br", "ct")
# of a deviation, in radii: CornerNet's sigma is a third of the radius
_SIGMAS = 3.0
_LEAST = 1e-4


class CenterNetTargets(NamedTuple):
    """What the maps of B images should be, at most M objects each; kinds of keypoints as of KINDS.

    Attributes:
        heat: (B, 3, labels, h, w) float32, 1 at keypoints, falling off around them.
        cells: (B, 3, M) int64, of the keypoints, row by row.
        offsets: (B, 3, M, 2) float32, x and y within the cells.
        present: (B, M) bool, False for filling.
    """

    heat: Tensor
    cells: Tensor
    offsets: Tensor
    present: Tensor


def targets_of(
    boxes: Sequence[NDArray],
    labels: Sequence[NDArray],
    size: tuple[int, int],
    num_labels: int,
    min_overlap: float = 0.3,
    max_objects: int = 128,
) -> CenterNetTargets:
    """The targets of a batch.

    Args:
        boxes: (N, 4) of each image, px of the network's input; what lies outside is cut off, and a box outside or without area left out.
        labels: (N,) indices of each image's boxes.
        size: (width, height) px of the input.
        num_labels: channels of the heat maps.
        min_overlap: heat reaches so far from a corner that two corners within have a box of at least this IoU with the true one.
        max_objects: of one image; the largest are kept.
    """
    width, height = (-(-side // STRIDE_PX) for side in size)
    heat = np.zeros((len(boxes), len(KINDS), num_labels, height, width), np.float32)
    cells = np.zeros((len(boxes), len(KINDS), max_objects), np.int64)
    offsets = np.zeros((len(boxes), len(KINDS), max_objects, 2), np.float32)
    present = np.zeros((len(boxes), max_objects), np.bool_)
    for image, (own, kinds) in enumerate(zip(boxes, labels, strict=True)):
        own, kinds = _inside(np.asarray(own, np.float64).reshape(-1, 4), np.asarray(kinds, np.int64), size, max_objects)
        scaled = own * np.tile([width / size[0], height / size[1]], 2)
        points = np.stack([scaled[:, :2], scaled[:, 2:], (scaled[:, :2] + scaled[:, 2:]) / 2.0])
        places = np.clip(np.floor(points).astype(np.int64), 0, [width - 1, height - 1])
        cells[image, :, : len(own)] = places[..., 1] * width + places[..., 0]
        offsets[image, :, : len(own)] = points - places
        present[image, : len(own)] = True
        radii = corner_radius(np.ceil(scaled[:, 2:] - scaled[:, :2]), min_overlap)
        for index, label in enumerate(kinds):
            for kind in range(len(KINDS)):
                _splat(heat[image, kind, label], places[kind, index], int(radii[index]))
    return CenterNetTargets(*(torch.from_numpy(array) for array in (heat, cells, offsets, present)))


def corner_radius(sizes: NDArray, min_overlap: float) -> NDArray[np.float64]:
    """How far both corners of boxes (N, 2) may move so that the IoU with the box stays at `min_overlap` or above; (N,), same units.

    The least of three: both corners move inwards, both outwards, or both in one direction (CornerNet, section 3.2). The first code of
    CornerNet, which CenterNet's took over, divides the roots by 2 instead of 2a, and has larger radii.
    """
    total, area = sizes.sum(axis=1), sizes.prod(axis=1)
    # (a, b, c) of a r^2 + b r + c = 0, and the sign before the root
    shifted = (1.0, -total, area * (1.0 - min_overlap) / (1.0 + min_overlap), -1.0)
    inwards = (4.0, -2.0 * total, (1.0 - min_overlap) * area, -1.0)
    outwards = (4.0 * min_overlap, 2.0 * min_overlap * total, (min_overlap - 1.0) * area, 1.0)
    cases = (shifted, inwards, outwards)
    return np.min([(-b + sign * np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0))) / (2.0 * a) for a, b, c, sign in cases], axis=0)


def centernet_loss(
    heads: Sequence[Heads], targets: CenterNetTargets, pull: float = 0.1, push: float = 0.1, offset: float = 1.0
) -> dict[str, Tensor]:
    """Named losses, the mean over stacks; "loss" is equation 2, the others are shown before they are weighed."""
    stacks = [_losses(one, targets) for one in heads]
    parts = {name: torch.stack([one[name] for one in stacks]).mean() for name in stacks[0]}
    total = parts["corners"] + parts["centres"] + pull * parts["pull"] + push * parts["push"] + offset * parts["offset"]
    return {"loss": total, **parts}


class CenterNetObjective(nn.Module):
    """The network and its losses. A batch: `image` (B, H, W, 3) uint8 RGB, and the fields of `CenterNetTargets` by their names."""

    @dataclass(frozen=True)
    class Config:
        """Weights of the losses; the paper's by default."""

        pull: float = 0.1
        push: float = 0.1
        offset: float = 1.0

        def __post_init__(self) -> None:
            if min(self.pull, self.push, self.offset) < 0:
                raise ConfigError(f"{self}: weights of losses are not negative")

    def __init__(self, config: Config, network: CenterNet) -> None:
        super().__init__()
        self.config, self.network = config, network

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `centernet_loss`."""
        heads = self.network(normalized(batch["image"].permute(0, 3, 1, 2).float() / 255.0))
        targets = CenterNetTargets(*(batch[name] for name in CenterNetTargets._fields))
        with torch.autocast(batch["image"].device.type, enabled=False):  # logarithms near 0, sums over thousands of cells
            whole = [Heads(*(one.float() for one in stack)) for stack in heads]
            return centernet_loss(whole, targets, self.config.pull, self.config.push, self.config.offset)


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """CornerNet's equation 1 of maps of any shape: cells near a keypoint are no keypoints, but count less; by the number of keypoints."""
    is_point = heat.eq(1.0)
    # logsigmoid is exact where a sigmoid would be rounded to 0 or 1
    share = logits.sigmoid()
    found = functional.logsigmoid(logits) * (1.0 - share) ** 2
    missed = functional.logsigmoid(-logits) * share**2 * (1.0 - heat) ** 4
    return -torch.where(is_point, found, missed).sum() / is_point.sum().clamp(min=1)


def tag_losses(tl: Tensor, br: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """CornerNet's equations 4 and 5 of tags (B, M) at corners, summed over images as the authors' code does: (pull, push)."""
    count = present.sum(dim=1, keepdim=True).to(tl)
    mean = (tl + br) / 2.0
    pull = (((tl - mean) ** 2 + (br - mean) ** 2) * present / count.clamp(min=1)).sum()
    pairs = present[:, :, None] & present[:, None] & ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    near = functional.relu(1.0 - (mean[:, :, None] - mean[:, None]).abs())
    push = (near * pairs / (count * (count - 1)).clamp(min=1)[..., None]).sum()
    return pull, push


def _losses(heads: Heads, targets: CenterNetTargets) -> dict[str, Tensor]:
    tl_tag, br_tag = (_at(tag, targets.cells[:, kind])[..., 0] for kind, tag in enumerate((heads.tl_tag, heads.br_tag)))
    pull, push = tag_losses(tl_tag, br_tag, targets.present)
    maps = (heads.tl_offset, heads.br_offset, heads.ct_offset)
    offsets = torch.stack([_at(one, targets.cells[:, kind]) for kind, one in enumerate(maps)], dim=1)
    difference = functional.smooth_l1_loss(offsets, targets.offsets, reduction="none") * targets.present[:, None, :, None]
    return {
        "corners": focal_loss(heads.tl_heat, targets.heat[:, 0]) + focal_loss(heads.br_heat, targets.heat[:, 1]),
        "centres": focal_loss(heads.ct_heat, targets.heat[:, 2]),
        "pull": pull,
        "push": push,
        "offset": difference.sum() / targets.present.sum().clamp(min=1),
    }


def _at(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, C, h, w) at (B, M) cells -> (B, M, C)."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def _inside(boxes: NDArray, labels: NDArray, size: tuple[int, int], limit: int) -> tuple[NDArray, NDArray]:
    boxes = np.clip(boxes, 0.0, np.tile(np.asarray(size, np.float64), 2))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept = np.argsort(-areas, kind="stable")[: min(limit, int((areas > 0).sum()))]
    return boxes[kept], labels[kept]


def _splat(heat: NDArray[np.float32], place: NDArray[np.int64], radius: int) -> None:
    """Raise (h, w) to a Gaussian around a cell, 1 in its middle."""
    radius = max(radius, 0)
    x, y = (int(value) for value in place)
    steps = np.arange(-radius, radius + 1)
    falling = np.exp(-(steps**2) / (2.0 * ((2 * radius + 1) / (2.0 * _SIGMAS)) ** 2))
    left, top = max(x - radius, 0), max(y - radius, 0)
    window = heat[top : y + radius + 1, left : x + radius + 1]
    gauss = np.outer(falling, falling)[top - y + radius :, left - x + radius :][: window.shape[0], : window.shape[1]]
    np.maximum(window, gauss, out=window, casting="same_kind")
