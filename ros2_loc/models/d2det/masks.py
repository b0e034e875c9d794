"""Instance masks of 28 x 28 and their scores, from the features of the dense local regression (D2Det, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ros2_loc.models.d2det.roi_pooling import CELLS

MASK_CELLS = 4 * CELLS
# what a mask's predicted overlap with the truth adds to the score of its class
IOU_SHARE = 0.3


class MaskHead(nn.Module):
    """Two deconvolutions for masks, two layers for their scores; one of each class, the background is class 0."""

    def __init__(self, inputs: int, width: int, hidden: int, groups: int, num_classes: int) -> None:
        """`inputs`: channels of the regression's features; `hidden`: numbers in the layers of the score."""
        super().__init__()
        self.deconv1 = nn.ConvTranspose2d(inputs, width, 2, stride=2)
        self.norm1 = nn.GroupNorm(groups, width)
        self.deconv2 = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.masks = nn.Conv2d(width, num_classes, 3, padding=1)
        self.scores = nn.Sequential(
            nn.Linear((inputs + 1) * CELLS**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D, 7, 7) and labels (N,) from 1 -> the logits (N, 28, 28) of the labels' masks, and their overlaps with the truth (N,)."""
        logits = self.logits(features)
        row = torch.arange(len(labels), device=labels.device)
        chosen = logits[row, labels]
        return chosen, self.overlaps(features, chosen)[row, labels]

    def logits(self, features: Tensor) -> Tensor:
        """(N, D, 7, 7) -> (N, classes, 28, 28)."""
        fine = functional.relu(self.norm1(self.deconv1(features)))
        return self.masks(functional.relu(self.deconv2(fine)))  # type: ignore[no-any-return]

    def overlaps(self, features: Tensor, logits: Tensor) -> Tensor:
        """What share of mask and truth together both have (IoU), of each class (N, classes), as predicted of (N, 28, 28) logits."""
        coarse = functional.max_pool2d(logits.sigmoid()[:, None], MASK_CELLS // CELLS, padding=1)
        return self.scores(torch.cat([features, coarse], dim=1).flatten(1))  # type: ignore[no-any-return]


def in_image(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of boxes as masks of the image, bilinear between the centres of their cells.

    Args:
        masks: (N, M, M) in 0..1.
        boxes: (N, 4) px.
        size: (height, width) of the image.

    Returns:
        (N, height, width), 0 outside the boxes.
    """
    result = masks.new_zeros(len(masks), *size)
    for mask, box, whole in zip(masks, boxes.tolist(), result, strict=True):
        x0, y0 = (max(0, int(edge)) for edge in box[:2])
        x1, y1 = min(size[1], int(box[2]) + 1), min(size[0], int(box[3]) + 1)
        if x1 <= x0 or y1 <= y0 or box[2] <= box[0] or box[3] <= box[1]:
            continue
        across = _centres(x0, x1, box[0], box[2], masks)
        down = _centres(y0, y1, box[1], box[3], masks)
        grid = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1)[None]
        whole[y0:y1, x0:x1] = functional.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
    return result


def _centres(first: int, last: int, begin: float, end: float, like: Tensor) -> Tensor:
    """Of pixels, as -1..1 of the box's side."""
    pixel = torch.arange(first, last, device=like.device, dtype=like.dtype) + 0.5
    return (2.0 * (pixel - begin) / (end - begin) - 1.0).to(like.dtype)
