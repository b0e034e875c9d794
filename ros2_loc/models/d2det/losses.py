"""What D2Det's heads are trained by: the weights are those of the published configurations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ros2_loc.models.d2det.dense_regression import Regression, Targets

CLASS_WEIGHT, DISTANCE_WEIGHT, OVERLAP_WEIGHT, MASK_WEIGHT, MASK_IOU_WEIGHT = 2.0, 2.0, 1.0, 1.0, 0.5
_LEAST_IOU = 1e-6


def regression_losses(said: Regression, targets: Targets, boxes: Tensor) -> dict[str, Tensor]:
    """Of boxes (N, 4) px with an object: how far sides are (of the cells on it), and which cells are on it.

    Distances are judged by the overlap of the box that they make, -log(IoU).
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    wanted = targets.distances / torch.stack([width, width, height, height], dim=1)[..., None, None]
    on_object = targets.overlap[:, 0] > 0
    found, wanted = (one.movedim(1, -1)[on_object].float() for one in (said.distances, wanted))
    distance = -iou_of_distances(found, wanted.clamp(min=0.0)).clamp(min=_LEAST_IOU).log().sum() / max(len(found), 1)
    overlap = functional.binary_cross_entropy_with_logits(said.overlap.float(), targets.overlap)
    return {"loss_distance": DISTANCE_WEIGHT * distance, "loss_overlap": OVERLAP_WEIGHT * overlap}


def iou_of_distances(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes about one point, (N, 4) distances to the left, right, top and bottom -> (N,)."""
    least = torch.minimum(first, second)
    both = (least[:, 0] + least[:, 1]) * (least[:, 2] + least[:, 3])
    areas = [(one[:, 0] + one[:, 1]) * (one[:, 2] + one[:, 3]) for one in (first, second)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-9)


def mask_losses(logits: Tensor, iou: Tensor, truth: Tensor, seen_share: Tensor) -> dict[str, Tensor]:
    """Of masks of the true classes.

    Args:
        logits: (N, 28, 28).
        iou: (N,) predicted overlap with the truth.
        truth: (N, 28, 28), 0 or 1.
        seen_share: (N,) how much of the object lies in the box.
    """
    mask = functional.binary_cross_entropy_with_logits(logits.float(), truth)
    found = (logits.detach() > 0).to(truth.dtype)
    both, area, whole = (found * truth).sum(dim=(1, 2)), found.sum(dim=(1, 2)), truth.sum(dim=(1, 2)) / seen_share.clamp(min=1e-3)
    wanted = both / (area + whole - both).clamp(min=1e-6)
    seen = whole > 0
    error = functional.mse_loss(iou.float()[seen], wanted[seen], reduction="sum") / seen.sum().clamp(min=1)
    return {"loss_mask": MASK_WEIGHT * mask, "loss_mask_iou": MASK_IOU_WEIGHT * error}
