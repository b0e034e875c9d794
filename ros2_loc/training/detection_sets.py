"""What a detector is trained and validated with: folders of labelled images, taken together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.detection_datasets import open_detection_dataset
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage


@dataclass(frozen=True, slots=True, eq=False)
class DetectionData:
    """Images to train on and to validate with; raises ConfigError where their labels differ."""

    train: DetectionDataset
    validation: DetectionDataset

    def __post_init__(self) -> None:
        if self.train.labels != self.validation.labels:
            raise ConfigError(
                f"{self.validation.root}: has the labels {', '.join(self.validation.labels)}, and {self.train.root}, which is trained on, "
                f"{', '.join(self.train.labels)}: give sets of the same labels in the same order"
            )

    def with_labels(self, labels: Sequence[str]) -> DetectionData:
        """The same under another list of labels; what it lacks is ignored. Raises ConfigError where none is common."""
        return DetectionData(self.train.renamed(labels), self.validation.renamed(labels))


def opened(folders: Sequence[Path], kind: str = "auto") -> DetectionDataset:
    """The folders as one set; names of images begin with that of their folder where there are several.

    Raises:
        ConfigError: the labels of the folders differ.
        DataError: as `open_detection_dataset`.
    """
    return joined([open_detection_dataset(folder, kind) for folder in folders])


def joined(sets: Sequence[DetectionDataset]) -> DetectionDataset:
    """Sets of the same labels as one. Raises ConfigError where the labels differ."""
    first = sets[0]
    if len(sets) == 1:
        return first
    images: list[LabelledImage] = []
    for number, each in enumerate(sets):
        if each.labels != first.labels:
            both = f"{', '.join(each.labels)}; {first.root}: {', '.join(first.labels)}"
            raise ConfigError(f"{each.root}: other labels than the first folder: {both}: give sets of the same labels in the same order")
        images += [replace(image, name=f"{number}_{each.name}/{image.name}", id=len(images) + k) for k, image in enumerate(each.images)]
    return DetectionDataset(first.name, first.labels, tuple(images), first.root, first.category_ids, first.kind)


def held_out(dataset: DetectionDataset, share: float, seed: int = 0) -> DetectionData:
    """A set in two parts, drawn at random. Raises DataError where it has too few images for both."""
    count = round(share * len(dataset))
    if not 0 < count < len(dataset):
        raise DataError(
            f"{dataset.root}: of {len(dataset)} images none is left to validate with, or to train on (held_out {share:g}): "
            "give more, or --validate-on another folder"
        )
    order = np.random.default_rng([seed, 101]).permutation(len(dataset))
    validation, train = (tuple(dataset.images[k] for k in sorted(part)) for part in (order[:count], order[count:]))
    return DetectionData(replace(dataset, images=train), replace(dataset, images=validation))
