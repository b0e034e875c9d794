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
    for whole, mask, box in zip(result, masks, boxes.tolist(), strict=True):
        rows, columns, values = _piece(mask, box, size)
        whole[rows, columns] = values
    return result


def covered(masks: Tensor, boxes: Tensor, size: tuple[int, int], least: float = 0.5) -> Tensor:
    """Where `in_image` is `least` or more, (N, height, width) bool, in a quarter of the memory."""
    result = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for whole, mask, box in zip(result, masks, boxes.tolist(), strict=True):
        rows, columns, values = _piece(mask, box, size)
        whole[rows, columns] = values >= least
    return result


def _piece(mask: Tensor, box: list[float], size: tuple[int, int]) -> tuple[slice, slice, Tensor]:
    """The rows and columns of the image that a box touches, and its mask there."""
    x0, y0, x1, y1 = box
    columns, rows = (
        slice(max(0, int(first)), max(0, int(first), min(side, int(last) + 1)))
        for first, last, side in ((x0, x1, size[1]), (y0, y1, size[0]))
    )
    if columns.start == columns.stop or rows.start == rows.stop or x1 <= x0 or y1 <= y0:
        return slice(0, 0), slice(0, 0), mask.new_zeros(0, 0)
    down, across = torch.meshgrid(_centres(rows, y0, y1, mask), _centres(columns, x0, x1, mask), indexing="ij")
    grid = torch.stack([across, down], dim=-1)[None]
    # beyond the outer centres a mask goes on as it is there
    inside = (grid.abs() <= 1.0).all(dim=-1)[0]
    values = functional.grid_sample(mask[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return rows, columns, torch.where(inside, values, 0.0)


def _centres(pixels: slice, begin: float, end: float, like: Tensor) -> Tensor:
    """Of pixels, as -1..1 of the box's side."""
    centre = torch.arange(pixels.start, pixels.stop, device=like.device, dtype=like.dtype) + 0.5
    return 2.0 * (centre - begin) / (end - begin) - 1.0
