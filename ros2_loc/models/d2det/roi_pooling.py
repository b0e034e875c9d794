"""Features of boxes: RoIAlign for the regression, discriminative RoI pooling for the classification.

Cao et al., "D2Det: Towards High Quality Object Detection and Instance Segmentation", CVPR 2020, section 3.2. The weighting is that of Gao,
Wang, Wu, "LIP: Local Importance-based Pooling", ICCV 2019, with the authors' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from ros2_loc.models.d2det.backbone import STRIDES_PX, level_of

# cells of a pooled box in each direction (k), and of what offsets are predicted from (k/2)
CELLS, LIGHT_CELLS = 7, 3
LEVELS = 4
# offsets are shares of the box, this many of what is predicted
OFFSET_SHARE = 0.1
# weights of samples lie between 1 and exp(12)
_GATE = 12.0


class AdaptiveWeights(nn.Module):
    """Averages windows of samples with weights that it predicts from them (equation 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, samples: Tensor) -> Tensor:
        """(N, C, 2k, 2k) -> (N, C, k, k)."""
        weights = (_GATE * self.norm(self.conv(samples)).float().sigmoid()).exp()  # beyond what 16-bit floats hold
        total = functional.avg_pool2d(samples * weights, 3, stride=2, padding=1)
        return (total / functional.avg_pool2d(weights, 3, stride=2, padding=1)).to(samples.dtype)


class DiscriminativePooling(nn.Module):
    """Pools boxes of one level: offsets from a light feature of them, deformable pooling, adaptive weights."""

    def __init__(self, channels: int, hidden: int, stride: int, samples: int, legacy: bool) -> None:
        """Of features with `channels` and `stride` px.

        Args:
            hidden: numbers in the layers that predict the offsets.
            samples: in each direction of a sub-region.
            legacy: as `deformable_pooled`.
        """
        super().__init__()
        self.stride, self.samples, self.legacy = stride, samples, legacy
        self.offsets = nn.Sequential(
            nn.Linear(channels * LIGHT_CELLS**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 2 * CELLS**2),
        )
        self.weights = AdaptiveWeights(channels)
        nn.init.zeros_(self.offsets[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.offsets[-1].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) and the boxes (N_i, 4) px of each image -> (sum N_i, C, 7, 7)."""
        return self.weights(self.sampled(features, boxes))  # type: ignore[no-any-return]

    def sampled(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The samples (sum N_i, C, 14, 14) before they are weighed."""
        offsets = self.predicted_offsets(self.light(features, boxes)).split([len(one) for one in boxes])
        fine = [one.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) for one in offsets]
        return torch.cat([self._pooled(features[i], one, 2 * CELLS, fine[i]) for i, one in enumerate(boxes)])

    def light(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """What offsets are predicted from, (sum N_i, C, 3, 3)."""
        return torch.cat([self._pooled(features[i], one, LIGHT_CELLS, None) for i, one in enumerate(boxes)])

    def predicted_offsets(self, light: Tensor) -> Tensor:
        """(N, C, 3, 3) -> (N, 2, 7, 7): right and down, `OFFSET_SHARE` of the box for each 1."""
        return self.offsets(light.flatten(1)).view(-1, 2, CELLS, CELLS)  # type: ignore[no-any-return]

    def _pooled(self, features: Tensor, boxes: Tensor, cells: int, offsets: Tensor | None) -> Tensor:
        return deformable_pooled(features, boxes, cells, self.samples, self.stride, offsets, self.legacy)


class BoxFeatures(nn.Module):
    """Discriminative pooling of boxes, each at the level of its size; every level has weights of its own."""

    def __init__(self, channels: int, hidden: int, samples: int, finest_px: float, legacy: bool) -> None:
        super().__init__()
        self.finest_px = finest_px
        self.levels = nn.ModuleList(DiscriminativePooling(channels, hidden, stride, samples, legacy) for stride in STRIDES_PX[:LEVELS])

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Levels (B, C, h, w), finest first, and boxes (N_i, 4) px of each image -> (sum N_i, C, 7, 7)."""
        counts = [len(one) for one in boxes]
        every = torch.cat(list(boxes))
        level = level_of(every, self.finest_px, LEVELS)
        result = every.new_zeros(sum(counts), features[0].shape[1], CELLS, CELLS)
        for i, pooling in enumerate(self.levels):
            chosen = level == i
            if chosen.any():
                parts = [one[here] for one, here in zip(boxes, chosen.split(counts), strict=True)]
                result[chosen] = pooling(features[i], parts).to(result)
        return result


def aligned(features: Sequence[Tensor], boxes: Sequence[Tensor], cells: int, finest_px: float, legacy: bool) -> Tensor:
    """RoIAlign of boxes (N_i, 4) px of each image, each at the level of its size -> (sum N_i, C, cells, cells).

    `legacy` looks where mmdet's first version did, which forgot that a feature's place is the centre of its cell.
    """
    counts = [len(one) for one in boxes]
    every = torch.cat(list(boxes))
    image = torch.cat([one.new_full((len(one), 1), i) for i, one in enumerate(boxes)])
    level = level_of(every, finest_px, LEVELS)
    result = every.new_zeros(sum(counts), features[0].shape[1], cells, cells)
    for i, stride in enumerate(STRIDES_PX[:LEVELS]):
        chosen = level == i
        if chosen.any():
            shift = stride / 2.0 if legacy else 0.0
            rois = torch.cat([image[chosen], every[chosen] + shift], dim=1)
            # places in 16 bits would be whole pixels
            result[chosen] = roi_align(features[i].to(rois), rois, cells, 1.0 / stride, sampling_ratio=2, aligned=True)
    return result


def deformable_pooled(
    features: Tensor, boxes: Tensor, cells: int, samples: int, stride: float, offsets: Tensor | None, legacy: bool
) -> Tensor:
    """Means of bilinear samples in cells that are moved (Dai et al., "Deformable Convolutional Networks", ICCV 2017, section 2.2).

    Args:
        features: (C, H, W) of one image.
        boxes: (N, 4) px.
        cells: K, in each direction.
        samples: in each direction of a cell; those outside the features don't count.
        stride: of the features, px.
        offsets: (N, 2, K, K) right and down, or None for cells that stay.
        legacy: samples lie at their sub-cell's corner and boxes on whole pixels, as in the authors' operation; else at its centre.

    Returns:
        (N, C, K, K), 0 where no sample lies inside.
    """
    if not len(boxes):
        return features.new_zeros(0, len(features), cells, cells)
    features = features.to(boxes)  # places in 16 bits would be whole pixels
    places, inside = _places(features.shape[1:], boxes, cells, samples, stride, offsets, legacy)
    size = places.new_tensor(features.shape[:0:-1])
    grid = ((2.0 * places + 1.0) / size[:, None, None, None] - 1.0).movedim(0, -1)
    total = features.new_zeros(len(features), len(boxes), cells * cells)
    for own, valid in zip(grid.unbind(2), inside.unbind(2), strict=True):  # one after another, for boxes are many and channels too
        taken = functional.grid_sample(features[None], own[None], padding_mode="border", align_corners=False)[0]
        total = total + taken * valid
    return (total / inside.sum(dim=2).clamp(min=1)).transpose(0, 1).unflatten(2, (cells, cells))


def _places(
    size: torch.Size, boxes: Tensor, cells: int, samples: int, stride: float, offsets: Tensor | None, legacy: bool
) -> tuple[Tensor, Tensor]:
    """Column and row of each sample (2, N, K * K, s * s), counted from the first feature; which of them lie inside (N, K * K, s * s)."""
    corners = ((boxes + 0.5).floor() if legacy else boxes) / stride - 0.5
    sides = (corners[:, 2:] - corners[:, :2]).clamp(min=0.1)
    cell, sample = (torch.arange(count, device=boxes.device, dtype=boxes.dtype) for count in (cells, samples))
    steps = (cell[:, None] + (sample + (0.0 if legacy else 0.5)) / samples) / cells
    columns, rows = (one.expand(cells, cells, samples, samples) for one in (steps[None, :, None, :], steps[:, None, :, None]))
    shares = torch.stack([columns, rows]).reshape(2, 1, cells * cells, samples * samples)
    if offsets is not None:
        shares = shares + OFFSET_SHARE * offsets.transpose(0, 1).flatten(2)[..., None]
    places = corners[:, :2].T[..., None, None] + shares * sides.T[..., None, None]
    edges = places.new_tensor(size[::-1])[:, None, None, None] - 0.5
    return places, ((places >= -0.5) & (places <= edges)).all(dim=0)
