"""Batches of CenterNet: images with the maps that the network should make of them."""

from __future__ import annotations

from torch import Tensor

from ros2_loc.training.centernet_objective import targets_of
from ros2_loc.training.detection_batches import DetectionBatches


class CenterNetBatches:
    """Batches of `CenterNetObjective` from those of `DetectionBatches`; the maps are drawn where the batch is made, beside the training."""

    def __init__(self, batches: DetectionBatches, num_labels: int) -> None:
        self._batches, self._num_labels = batches, num_labels

    def batch(self, number: int) -> dict[str, Tensor]:
        """`image` (B, H, W, 3) uint8, and the fields of `CenterNetTargets`."""
        batch = self._batches.batch(number)
        image = batch["image"].permute(0, 2, 3, 1).contiguous()
        chosen = [batch["of_image"] == i for i in range(len(image))]
        boxes, labels = ([batch[name][which].numpy() for which in chosen] for name in ("boxes", "labels"))
        targets = targets_of(boxes, labels, (image.shape[2], image.shape[1]), self._num_labels)
        return {"image": image, **targets._asdict()}
