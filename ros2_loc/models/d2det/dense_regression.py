"""Dense local regression: every cell of a box says how far the object's sides are, and whether it lies on the object.

Cao et al., "D2Det", CVPR 2020, sections 3.1 and 3.3. Boxes are (x0, y0, x1, y1) px; distances come in the order left, right, top, bottom,
as shares of the box's width and height.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.models.d2det.roi_pooling import CELLS

# against boxes of no cells; theirs is in the published weights' answers too
_NO_CELLS = 1e-5


class Regression(NamedTuple):
    """What the head says of boxes.

    Attributes:
        distances: (N, 4, 7, 7), not negative.
        overlap: (N, 1, 7, 7) logits of lying on the object.
        features: (N, D, 7, 7), for masks.
    """

    distances: Tensor
    overlap: Tensor
    features: Tensor


class DenseRegression(nn.Module):
    """Convolutions, the first of stride 2, and two predictions for each cell."""

    def __init__(self, channels: int, width: int, num_convs: int, groups: int) -> None:
        """From `channels` by `num_convs` convolutions of `width` channels, normalized in `groups`."""
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(num_convs):
            inputs, stride = (channels, 2) if i == 0 else (width, 1)
            conv = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers += [conv, nn.GroupNorm(groups, width), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*layers)
        self.distances = nn.Conv2d(width, 4, 3, padding=1)
        self.overlap = nn.Conv2d(width, 1, 3, padding=1)
        for last in (self.distances, self.overlap):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.distances.bias, 0.5)  # type: ignore[arg-type]  # a ReLU follows: none shall begin dead

    def forward(self, pooled: Tensor) -> Regression:
        """(N, C, 14, 14) -> see `Regression`."""
        features = self.convs(pooled)
        return Regression(functional.relu(self.distances(features)), self.overlap(features), features)


class Targets(NamedTuple):
    """What cells should say.

    Attributes:
        distances: (N, 4, 7, 7) px, negative where a cell lies beyond that side.
        overlap: (N, 1, 7, 7), 1 on the object.
    """

    distances: Tensor
    overlap: Tensor


def centres_of(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (N, 1, 7) and rows (N, 7, 1) px of the cells' centres."""
    share = (torch.arange(CELLS, device=boxes.device, dtype=boxes.dtype) + 0.5) / CELLS
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, 0, None, None] + share * sides[:, 0, None, None], boxes[:, 1, None, None] + share[:, None] * sides[:, 1, None, None]


def targets_of(boxes: Tensor, truth: Tensor) -> Targets:
    """For boxes (N, 4) whose objects are `truth` (N, 4): equations 2 and 3.

    Cells nearer to a side than a sixth of the box are background to the published networks.
    """
    columns, rows = centres_of(boxes)
    x0, y0, x1, y1 = (truth[:, i, None, None] for i in range(4))
    distances = torch.stack(torch.broadcast_tensors(columns - x0, x1 - columns, rows - y0, y1 - rows), dim=1)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T / (CELLS - 1)
    least = torch.stack([width, width, height, height], dim=1)[..., None, None]
    return Targets(distances, (distances >= least).all(dim=1, keepdim=True).to(distances.dtype))


def boxes_of(boxes: Tensor, regression: Regression) -> Tensor:
    """The mean of what the cells on the object say, (N, 4) px; (0, 0, 0, 0) where no cell is."""
    columns, rows = centres_of(boxes)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T[..., None, None]
    left, right, top, bottom = regression.distances.unbind(1)
    said = torch.stack([columns - left * width, rows - top * height, columns + right * width, rows + bottom * height], dim=1)
    kept = (regression.overlap > 0).to(said.dtype)
    return (said * kept).sum(dim=(2, 3)) / (kept.sum(dim=(2, 3)) + _NO_CELLS)
