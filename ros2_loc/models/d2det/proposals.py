"""The first stage: boxes that may hold an object, by torchvision's region proposal network."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from ros2_loc.models.d2det.backbone import STRIDES_PX

RATIOS = (0.5, 1.0, 2.0)


class CentredAnchors(AnchorGenerator):
    """Anchors about the centres of the features' cells, whose strides are those of the pyramid whatever the image's size.

    torchvision's lie about their corners, and strides are what the sizes of image and features say, which is too small where rounded.
    """

    def __init__(self, scale: float, legacy: bool) -> None:
        """Of `scale` strides; `legacy` rounds them to whole pixels as mmdet's first version did."""
        super().__init__(tuple((scale * stride,) for stride in STRIDES_PX), (RATIOS,) * len(STRIDES_PX))
        self.cell_anchors = [_anchors(scale, stride, legacy) for stride in STRIDES_PX]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors (A, 4) px of each image, level by level."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)  # whatever the features have: places in 16 bits would be whole pixels
        strides = [[torch.tensor(stride, device=device)] * 2 for stride in STRIDES_PX]
        every = torch.cat(self.grid_anchors([list(one.shape[-2:]) for one in feature_maps], strides))
        return [every] * len(image_list.image_sizes)


class WideHead(RPNHead):
    """torchvision's, whose numbers have 32 bits: boxes get the precision of what moves them."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and deltas of each level."""
        objectness, deltas = super().forward(x)
        return [one.float() for one in objectness], [one.float() for one in deltas]


def proposal_network(
    channels: int, anchor_scale: float, legacy: bool, sampled: int, before: tuple[int, int], after: tuple[int, int]
) -> RegionProposalNetwork:
    """torchvision's, with the settings of D2Det.

    Args:
        channels: of the pyramid.
        anchor_scale: side of an anchor in strides.
        legacy: anchors as in the published weights.
        sampled: anchors of an image that a step of training looks at.
        before, after: most boxes of a level before the suppression and of an image after it, in training and in evaluation.
    """
    limits = [{"training": pair[0], "testing": pair[1]} for pair in (before, after)]
    return RegionProposalNetwork(
        CentredAnchors(anchor_scale, legacy), WideHead(channels, len(RATIOS)), 0.7, 0.3, sampled, 0.5, limits[0], limits[1], 0.7
    )


def _anchors(scale: float, stride: int, legacy: bool) -> Tensor:
    """(3, 4) about the first cell's centre."""
    ratios = torch.tensor(RATIOS).sqrt()
    sides = scale * stride * torch.stack([1.0 / ratios, ratios], dim=1)
    if not legacy:
        return torch.cat([(stride - sides) / 2.0, (stride + sides) / 2.0], dim=1)
    first, last = (((stride - 1.0 + sign * (sides - 1.0)) / 2.0).round() for sign in (-1.0, 1.0))
    return torch.cat([first, last + 1.0], dim=1)
