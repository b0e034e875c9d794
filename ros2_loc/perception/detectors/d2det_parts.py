"""D2Det in parts that can be exported, and their exports in its place.

Exported are the layers: the backbone with its pyramid, the heads of proposals, classes, boxes and masks. What picks boxes (suppression),
takes their features out of the pyramid (RoIAlign, deformable pooling) and lays masks into the image stays PyTorch's: its sizes are those of
what is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torchvision.models.detection.image_list import ImageList

from ros2_loc.models.d2det.dense_regression import Regression
from ros2_loc.models.d2det.masks import MaskHead
from ros2_loc.models.d2det.network import MULTIPLE, D2Det
from ros2_loc.models.d2det.roi_pooling import CELLS, LEVELS, aligned
from ros2_loc.perception.parts import ExportPart, Part

_MAPS = 5
_BOXES = Dim("boxes", min=1, max=1 << 16)
# boxes that parts are tried and calibrated with: proposals, and some by chance, so that each level has one
_PROPOSALS, _BY_CHANCE = 48, 16


def parts_of(network: D2Det) -> tuple[ExportPart, ...]:
    """The parts of a network in evaluation mode, in the order in which they run."""
    heads = network.roi_heads
    images, maps = Dim("images", min=1, max=256), Dim("images", min=1, max=256)
    rows, columns = (MULTIPLE * Dim(name, min=1, max=512) for name in ("rows", "columns"))
    of_maps = tuple({0: maps, 2: Dim(f"rows{i}", min=1, max=4096), 3: Dim(f"columns{i}", min=1, max=4096)} for i in range(_MAPS))
    names = tuple(f"map{i}" for i in range(_MAPS))
    parts = [
        ExportPart("pyramid", _Values(network.backbone), ("images",), names, ({0: images, 2: rows, 3: columns},), whole_images=True),
        ExportPart("proposals", _OfMaps(network.rpn.head), names, _said("objectness") + _said("deltas"), of_maps, whole_images=True),
    ]
    free = ({0: _BOXES},)
    parts += [
        ExportPart(f"pooling{i}", level.weights, ("samples",), ("features",), free, exact=True) for i, level in enumerate(_levels(network))
    ]
    parts.append(ExportPart("classes", nn.Sequential(heads.box_head, heads.box_predictor), ("features",), ("logits",), free))
    parts.append(ExportPart("regression", heads.regression, ("aligned",), Regression._fields, free))
    if heads.masks is not None:
        parts.append(ExportPart("masks", _Logits(heads.masks), ("features",), ("logits",), free))
        parts.append(ExportPart("overlaps", _Overlaps(heads.masks), ("features", "logits"), ("overlaps",), free * 2))
    return tuple(parts)


@torch.inference_mode()
def inputs_of(network: D2Det, images: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """What each part sees of normalized images (B, 3, H, W), sides multiples of 32 px."""
    heads, config = network.roi_heads, network.config
    features = network.backbone(images)
    levels = list(features.values())
    size = (images.shape[2], images.shape[3])
    proposals, _ = network.rpn(ImageList(images, [size] * len(images)), features)
    boxes = [torch.cat([one[:_PROPOSALS], _by_chance(size)]) for one in proposals]
    samples = [(level.sampled(levels[i], boxes),) for i, level in enumerate(_levels(network))]
    seen = aligned(levels, boxes, 2 * CELLS, config.finest_px, config.legacy)
    found = {
        "pyramid": (images,),
        "proposals": tuple(levels),
        **{f"pooling{i}": one for i, one in enumerate(samples)},
        "classes": (heads.box_roi_pool(levels, boxes).flatten(1),),
        "regression": (seen,),
    }
    if heads.masks is not None:
        inner = heads.regression(seen).features
        found |= {"masks": (inner,), "overlaps": (inner, _Logits(heads.masks)(inner)[:, 0])}
    return found


def with_parts(network: D2Det, parts: Mapping[str, Part]) -> D2Det:
    """The network, changed in place, with what was exported instead of its layers."""
    heads = network.roi_heads
    network.backbone = _Pyramid(parts["pyramid"])  # type: ignore[assignment]
    network.rpn.head = _Proposals(parts["proposals"])
    for i, level in enumerate(_levels(network)):
        level.weights = _Single(parts[f"pooling{i}"])  # type: ignore[assignment]
    heads.box_head, heads.box_predictor = _Single(parts["classes"]), nn.Identity()
    heads.regression = _Regression(parts["regression"])  # type: ignore[assignment]
    if heads.masks is not None:
        heads.masks = _Masks(parts["masks"], parts["overlaps"])  # type: ignore[assignment]
    return network


def _levels(network: D2Det) -> Sequence[Any]:
    return list(network.roi_heads.box_roi_pool.levels)[:LEVELS]


def _said(what: str) -> tuple[str, ...]:
    return tuple(f"{what}{i}" for i in range(_MAPS))


def _by_chance(size: tuple[int, int]) -> Tensor:
    """(N, 4) px of boxes from a few pixels to the whole image."""
    rng = np.random.default_rng(0)
    height, width = size
    sides = np.geomspace(6.0, 1.0 * min(size), _BY_CHANCE)[:, None] * rng.uniform(0.7, 1.0, (_BY_CHANCE, 2))
    corners = rng.random((_BY_CHANCE, 2)) * (np.array([width, height]) - sides)
    return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1).astype(np.float32))


class _Values(nn.Module):
    """A module that gives its maps by name, as a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(images).values())


class _OfMaps(nn.Module):
    """torchvision's head of proposals, with its maps one by one."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, map0: Tensor, map1: Tensor, map2: Tensor, map3: Tensor, map4: Tensor) -> tuple[Tensor, ...]:
        objectness, deltas = self.head([map0, map1, map2, map3, map4])
        return (*objectness, *deltas)


class _Logits(nn.Module):
    """Masks of all classes (N, classes, 28, 28)."""

    def __init__(self, head: MaskHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head.logits(features)


class _Overlaps(nn.Module):
    """Of masks, with the truth."""

    def __init__(self, head: MaskHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.head.overlaps(features, logits)


class _Export(nn.Module):
    """Calls a part with tensors of any device."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self._part = part

    def run(self, *tensors: Tensor) -> list[Tensor]:
        found = self._part(*(one.detach().float().cpu().numpy() for one in tensors))
        return [torch.from_numpy(one).to(tensors[0].device) for one in found]


class _Single(_Export):
    def forward(self, features: Tensor) -> Tensor:
        return self.run(features)[0]


class _Pyramid(_Export):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {str(i): one for i, one in enumerate(self.run(images))}


class _Proposals(_Export):
    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        found = self.run(*maps)
        return found[:_MAPS], found[_MAPS:]


class _Regression(_Export):
    def forward(self, pooled: Tensor) -> Regression:
        return Regression(*self.run(pooled))


class _Masks(nn.Module):
    """As `MaskHead`."""

    def __init__(self, masks: Part, overlaps: Part) -> None:
        super().__init__()
        self._masks, self._overlaps = _Single(masks), _Overlap(overlaps)

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        row = torch.arange(len(labels), device=labels.device)
        chosen = self._masks(features)[row, labels]
        return chosen, self._overlaps(features, chosen)[row, labels]


class _Overlap(_Export):
    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.run(features, logits)[0]
