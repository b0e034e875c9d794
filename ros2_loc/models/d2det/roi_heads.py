"""The second stage: proposals are classified, the best are regressed densely and given masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from ros2_loc.errors import DataError
from ros2_loc.models.d2det import losses
from ros2_loc.models.d2det.dense_regression import DenseRegression, Regression, Targets, boxes_of, targets_of
from ros2_loc.models.d2det.masks import IOU_SHARE, MASK_CELLS, MaskHead
from ros2_loc.models.d2det.roi_pooling import CELLS, BoxFeatures, aligned

if TYPE_CHECKING:
    from ros2_loc.models.d2det.network import D2Det

# cells of RoIAlign before the regression's first convolution, which has stride 2
_ALIGNED_CELLS = 2 * CELLS
# a pixel's index and its right edge: mmdet's first version means the former by x1 and y1
_LAST_PIXEL = (0.0, 0.0, -1.0, -1.0)


class D2DetHeads(RoIHeads):
    """Classification of proposals by discriminative pooling, dense local regression, masks."""

    def __init__(self, config: D2Det.Config) -> None:
        num_classes = len(config.labels) + 1
        layers = nn.Sequential(
            nn.Linear(config.channels * CELLS**2, config.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(inplace=True),
        )
        pooling = BoxFeatures(config.channels, config.light_hidden, config.samples, config.finest_px, config.legacy)
        limits = (config.min_score, config.max_overlap, config.max_detections)
        super().__init__(pooling, layers, nn.Linear(config.hidden, num_classes), 0.5, 0.5, config.sampled_boxes, 0.25, None, *limits)
        self.config = config
        self.regression = DenseRegression(config.channels, config.width, config.num_convs, config.groups)
        self.masks: MaskHead | None = None
        if config.masks:
            self.masks = MaskHead(config.width, config.mask_width, config.light_hidden, config.mask_groups, num_classes)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As torchvision's: detections in evaluation, losses in training; masks are (N, 28, 28) in 0..1 of their boxes.

        Raises:
            DataError: in evaluation, where the network gives numbers that are not finite.
        """
        levels = list(features.values())
        if self.training:
            assert targets is not None
            return [], self._losses(levels, proposals, targets)
        logits = self.class_logits(levels, proposals)
        require_finite(*levels, logits)
        found = self._chosen(logits, proposals, image_shapes)
        return self._regressed(levels, found, image_shapes), {}

    def class_logits(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Of boxes (N_i, 4) px of each image -> (sum N_i, classes), the background first."""
        return self.box_predictor(self.box_head(self.box_roi_pool(levels, boxes).flatten(1)))  # type: ignore[no-any-return]

    def regress(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Regression:
        """What the dense regression says of boxes (N_i, 4) px of each image."""
        return self.regression(aligned(levels, boxes, _ALIGNED_CELLS, self.config.finest_px, self.config.legacy))  # type: ignore[no-any-return]

    def refined(self, boxes: Tensor, regression: Regression) -> Tensor:
        """Boxes (N, 4) px by what the regression says of them; without area where no cell lies on an object."""
        if not self.config.legacy:
            return boxes_of(boxes, regression)
        last = boxes.new_tensor(_LAST_PIXEL)
        found = boxes_of(boxes + last, regression)
        return torch.where((regression.overlap > 0).any(dim=3).any(dim=2), found - last, 0.0)

    def _chosen(self, logits: Tensor, proposals: list[Tensor], image_shapes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Proposals with the labels that they may have, the best of each label's neighbours."""
        chosen = []
        for scores, boxes, shape in zip(logits.softmax(dim=1).split([len(one) for one in proposals]), proposals, image_shapes, strict=True):
            which, label = (scores[:, 1:] > self.score_thresh).nonzero(as_tuple=True)
            label = label + 1
            score, boxes_here = scores[which, label], clip_boxes_to_image(boxes, shape)[which]
            kept = batched_nms(boxes_here, score, label, self.nms_thresh)[: self.detections_per_img]
            chosen.append({"boxes": boxes_here[kept], "labels": label[kept], "scores": score[kept]})
        return chosen

    def _regressed(
        self, levels: list[Tensor], found: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """The chosen with their boxes refined, those without area left out, with masks where there is a head for them."""
        boxes = [one["boxes"] for one in found]
        if sum(map(len, boxes)):
            refined = self.refined(torch.cat(boxes), self.regress(levels, boxes))
            require_finite(refined)
            for one, new, shape in zip(found, refined.split([len(one) for one in boxes]), image_shapes, strict=True):
                one["boxes"] = clip_boxes_to_image(new, shape)
                kept = (one["boxes"][:, 2:] > one["boxes"][:, :2]).all(dim=1)
                one.update({name: value[kept] for name, value in one.items()})
        return self._masked(levels, found) if self.masks is not None else found

    def _masked(self, levels: list[Tensor], found: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """With masks, and scores that tell how good those are: (class + share * IoU) / (1 + share), best first."""
        boxes, labels = [one["boxes"] for one in found], torch.cat([one["labels"] for one in found])
        counts = [len(one) for one in boxes]
        if not sum(counts):
            return [{**one, "masks": levels[0].new_zeros(0, MASK_CELLS, MASK_CELLS)} for one in found]
        assert self.masks is not None
        logits, overlaps = self.masks(self.regress(levels, boxes).features, labels)
        masked = []
        for one, masks, iou in zip(found, logits.sigmoid().split(counts), overlaps.clamp(0.0, 1.0).split(counts), strict=True):
            scores = (one["scores"] + IOU_SHARE * iou) / (1.0 + IOU_SHARE)
            scores, order = scores.sort(descending=True, stable=True)
            masked.append({"boxes": one["boxes"][order], "labels": one["labels"][order], "scores": scores, "masks": masks[order]})
        return masked

    def _losses(self, levels: list[Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        proposals, matched, labels, _ = self.select_training_samples(proposals, targets)
        logits = self.class_logits(levels, proposals)
        result = {"loss_class": losses.CLASS_WEIGHT * functional.cross_entropy(logits.float(), torch.cat(labels))}
        positive = self._positive(labels)
        boxes = [one[kept] for one, kept in zip(proposals, positive, strict=True)]
        objects = [index[kept] for index, kept in zip(matched, positive, strict=True)]
        if sum(map(len, boxes)):
            return result | self._losses_of_objects(levels, boxes, objects, targets)
        names = ("loss_distance", "loss_overlap", *(("loss_mask", "loss_mask_iou") if self.masks is not None else ()))
        return result | dict.fromkeys(names, logits.sum() * 0.0)

    def _losses_of_objects(
        self, levels: list[Tensor], boxes: list[Tensor], objects: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Of boxes (N_i, 4) of each image and which of its objects they show."""
        every = torch.cat(boxes)
        truth = torch.cat([target["boxes"][index] for target, index in zip(targets, objects, strict=True)])
        said = self.regress(levels, boxes)
        # mmdet's first version counts distances from the last pixel, and the widths of boxes as one less
        last = every.new_tensor(_LAST_PIXEL) if self.config.legacy else every.new_zeros(4)
        wanted = targets_of(every + last, truth + last)
        if self.masks is None:
            return losses.regression_losses(said, wanted, every + last)
        masks = torch.cat([_seen(target["masks"], *pair) for target, *pair in zip(targets, boxes, objects, strict=True)])
        wanted = Targets(wanted.distances, (functional.avg_pool2d(masks[:, None], MASK_CELLS // CELLS) >= 0.5).to(masks.dtype))
        labels = torch.cat([target["labels"][index] for target, index in zip(targets, objects, strict=True)])
        share = masks.mean(dim=(1, 2)) * (every[:, 2:] - every[:, :2]).prod(dim=1)
        whole = torch.cat([target["masks"].sum(dim=(1, 2))[index] for target, index in zip(targets, objects, strict=True)])
        logits, overlaps = self.masks(said.features, labels)
        of_masks = losses.mask_losses(logits, overlaps, (masks >= 0.5).to(masks.dtype), share / whole.clamp(min=1))
        return losses.regression_losses(said, wanted, every + last) | of_masks

    def _positive(self, labels: list[Tensor]) -> list[Tensor]:
        """Indices of the boxes with an object in each image, some left out by chance where there are very many."""
        found = torch.cat(labels) > 0
        if (count := int(found.sum())) > self.config.regressed_boxes:
            found[found.nonzero()[:, 0][torch.randperm(count, device=found.device)[self.config.regressed_boxes :]]] = False
        return [one.nonzero()[:, 0] for one in found.split([len(one) for one in labels])]


def require_finite(*tensors: Tensor) -> None:
    """Raise DataError where a tensor holds NaN or infinity: comparisons would make "nothing found" of it."""
    if not all(bool(one.isfinite().all()) for one in tensors):
        raise DataError("d2det: the network gave numbers that are not finite: the weights are damaged, or 16 bits are too few")


def _seen(masks: Tensor, boxes: Tensor, objects: Tensor) -> Tensor:
    """How much of each cell of boxes (N, 4) px lies on their object, of masks (M, H, W): (N, 28, 28) in 0..1."""
    rois = torch.cat([objects[:, None].to(boxes.dtype), boxes], dim=1)
    return roi_align(masks[:, None].to(boxes.dtype), rois, MASK_CELLS, 1.0, aligned=True)[:, 0]  # type: ignore[no-any-return]
