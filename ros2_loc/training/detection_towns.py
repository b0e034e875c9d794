"""Synthetic images with exact boxes and masks of what moves or is parked, rendered once, of towns to learn from and of others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ros2_loc.errors import ConfigError
from ros2_loc.io.detection_datasets import open_detection_dataset
from ros2_loc.io.labelled_images import DetectionDataset
from ros2_loc.training.detection_sets import DetectionData
from ros2_loc.world.object_views import ObjectSet, write_object_set

Progress = Callable[[int, int], None]


class ObjectTowns:
    """Towns of consecutive seeds."""

    @dataclass(frozen=True)
    class Config:
        """What is rendered: about a second and a half of a core for each image of 512 x 320, towns and traffic with it.

        Attributes:
            first_seed, towns, images: of the towns to learn from: the first, how many, images of all.
            first_validation_seed, validation_towns, validation_images: likewise.
            size_px: width and height of the images.
            domains: see `world.object_views`; one that comes twice has twice as many images.
        """

        first_seed: int = 100
        towns: int = 30
        images: int = 1500
        first_validation_seed: int = 300
        validation_towns: int = 5
        validation_images: int = 120
        size_px: tuple[int, int] = (512, 320)
        domains: tuple[str, ...] = ("drawn", "drawn", "drawn", "day", "day", "dusk", "night")

        def __post_init__(self) -> None:
            object.__setattr__(self, "size_px", tuple(self.size_px))
            object.__setattr__(self, "domains", tuple(self.domains))
            if min(self.towns, self.images, self.validation_towns, self.validation_images) < 1 or len(self.size_px) != 2:
                raise ConfigError(f"{self}: counts must be at least 1, size_px be (width, height)")
            if set(_seeds(self.training_set)) & set(_seeds(self.validation_set)):
                raise ConfigError(f"{self}: towns to validate with are among those to learn from: choose another first_validation_seed")

        @property
        def training_set(self) -> ObjectSet:
            """The images to learn from. Raises ConfigError for sizes and domains that can't be rendered."""
            return ObjectSet(self.first_seed, self.towns, self.images, self.size_px, self.domains)

        @property
        def validation_set(self) -> ObjectSet:
            """The images to validate with."""
            return ObjectSet(self.first_validation_seed, self.validation_towns, self.validation_images, self.size_px, self.domains)

    def __init__(self, config: Config, cache: Path) -> None:
        """Nothing is rendered yet; `cache` is a folder in which sets of several recipes may lie."""
        self.config, self._cache = config, cache

    def data(self, progress: Progress | None = None) -> DetectionData:
        """What the cache lacks is rendered now. `progress` gets (images done, images in all)."""
        both = self.config.training_set, self.config.validation_set
        total = sum(how.count for how in both)
        return DetectionData(*(self._set(how, before, total, progress) for how, before in zip(both, (0, both[0].count), strict=True)))

    def _set(self, how: ObjectSet, before: int, total: int, progress: Progress | None) -> DetectionDataset:
        what = json.dumps(asdict(how), sort_keys=True)
        folder = self._cache / f"objects_{how.seed}_{hashlib.sha256(what.encode()).hexdigest()[:10]}"
        write_object_set(folder, how, progress=lambda done, _: progress(before + done, total) if progress is not None else None)
        return open_detection_dataset(folder, "coco")


def _seeds(how: ObjectSet) -> range:
    return range(how.seed, how.seed + how.towns)
