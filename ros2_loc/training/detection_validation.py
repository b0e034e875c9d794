"""How well objects are found in images that were not trained on: average precision, by the very detector that will use the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ros2_loc.config import build
from ros2_loc.core.interfaces import Detector
from ros2_loc.errors import ConfigError
from ros2_loc.evaluation.detection_metrics import coco_scores
from ros2_loc.io.coco_results import FoundObjects
from ros2_loc.io.labelled_images import DetectionDataset
from ros2_loc.registry import resolve


class DetectionValidation:
    """`ap` (over IoU 0.5 to 0.95), `ap_50`, `ap_75`, `ap_<label>` of each label, and `mask_ap` where set and network have masks."""

    @dataclass(frozen=True)
    class Config:
        """Size of the measurement.

        Attributes:
            images: so many at most, evenly chosen.
            detector: settings of the detector but for its weights.
        """

        images: int = 500
        detector: dict[str, Any] = field(default_factory=dict)

        def __post_init__(self) -> None:
            if self.images < 1:
                raise ConfigError(f"{self}: needs one image at least")

    def __init__(self, config: Config, name: str, dataset: DetectionDataset, device: str = "cpu") -> None:
        """Nothing is read yet; `name` is that of the detector in the registry."""
        self.config, self._name, self._device = config, name, device
        self._dataset = dataset.limited(config.images)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Metrics of a network in evaluation mode."""
        plugin: Any = resolve("detector", self._name)
        settings = build(plugin.Config, self.config.detector, "validation.detector")
        detector = plugin.of_network(network, settings, self._device)
        return measured(self._dataset, found_in(self._dataset, detector))


def found_in(dataset: DetectionDataset, detector: Detector) -> list[FoundObjects]:
    """What a detector finds in each image."""
    index, found = {label: k for k, label in enumerate(dataset.labels)}, []
    for start in range(0, len(dataset), detector.batch_size):
        stop = min(start + detector.batch_size, len(dataset))
        for each in detector.detect_many([dataset.frame(i) for i in range(start, stop)]):
            found.append(FoundObjects.of_detections(each, index))
    return found


def measured(dataset: DetectionDataset, found: Sequence[FoundObjects]) -> dict[str, float]:
    """COCO's average precisions; see `DetectionValidation`. What the set has no objects of is not among them."""
    boxes = coco_scores(dataset, found)
    scores = {"ap": boxes.ap, **{f"ap_{100 * float(iou):.0f}": value for iou, value in boxes.ap_at.items()}}
    scores |= {f"ap_{label}": value for label, value in boxes.by_label.items()}
    if dataset.has_masks and any(mask is not None for each in found for mask in each.masks):
        scores["mask_ap"] = coco_scores(dataset, found, "segm").ap
    return {name: value for name, value in scores.items() if value is not None}
