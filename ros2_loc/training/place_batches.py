"""Batches of images of places with their classes: the same number gives the same batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ros2_loc.errors import ConfigError
from ros2_loc.io.images import RGB
from ros2_loc.training.place_classes import PlaceClasses
from ros2_loc.training.place_images import PlaceImages


@dataclass(frozen=True)
class PlaceChanges:
    """Each image is changed by itself; 0 leaves a change out. The defaults are those of CosPlace's authors.

    Attributes:
        brightness, contrast, saturation: factor from 1 - x to 1 + x.
        hue: turned by up to so much of the circle.
        crop: a window of 1 - x to all of the area, 3:4 to 4:3 of the aspect, brought to the full size again.
    """

    brightness: float = 0.7
    contrast: float = 0.7
    saturation: float = 0.7
    hue: float = 0.5
    crop: float = 0.5

    def __post_init__(self) -> None:
        shares = (self.brightness, self.contrast, self.saturation, self.crop)
        if min(*shares, self.hue) < 0 or max(shares) >= 1 or self.hue > 0.5:
            raise ConfigError(f"{self}: shares are from 0 to below 1, hue to 0.5")


class PlaceBatches:
    """Batches of `image` (B, 3, H, W) uint8, `label` (B,) int64 within the group, `group` () int64: a group for an epoch, in turns."""

    @dataclass(frozen=True)
    class Config:
        """What a batch is.

        Attributes:
            batch_size: images of a batch, of one process, each of a class of its own where the group has so many.
            image_px: (height, width) that all images are brought to, whatever their aspect.
        """

        batch_size: int = 32
        image_px: tuple[int, int] = (512, 512)
        changes: PlaceChanges = field(default_factory=PlaceChanges)
        seed: int = 0

        def __post_init__(self) -> None:
            object.__setattr__(self, "image_px", tuple(self.image_px))
            if self.batch_size < 2 or len(self.image_px) != 2 or min(self.image_px) < 32:
                raise ConfigError(f"{self}: needs batch_size from 2 and image_px (height, width) from 32")

    def __init__(self, config: Config, classes: PlaceClasses, images: PlaceImages, batches_per_epoch: int) -> None:
        """Nothing is read yet; `batches_per_epoch` counts those of all processes."""
        self.config, self._classes, self._images, self._per_epoch = config, classes, images, batches_per_epoch

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number`, on the CPU. Raises DataError where an image can't be read."""
        rng = np.random.default_rng([self.config.seed, 67, number])
        which = (number // self._per_epoch) % len(self._classes.groups)
        group, size = self._classes.groups[which], self.config.batch_size
        labels = rng.choice(len(group), size, replace=len(group) < size)
        rows = [int(rng.choice(self._classes.images[int(group[label])])) for label in labels]
        images = [changed(resized(self._images.load(row), self.config.image_px), self.config.changes, rng) for row in rows]
        return {"image": torch.stack(images), "label": torch.from_numpy(labels.astype(np.int64)), "group": torch.tensor(which)}


def resized(image: RGB, image_px: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (3, *image_px) uint8."""
    height, width = image_px
    if image.shape[:2] != (height, width):
        shrinks = image.shape[0] > height or image.shape[1] > width
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def changed(image: Tensor, changes: PlaceChanges, rng: np.random.Generator) -> Tensor:
    """(3, H, W) uint8 with other colours and another crop, drawn from `rng`."""
    amounts = rng.uniform(-1, 1, 4) * (changes.brightness, changes.contrast, changes.saturation, changes.hue)
    values = image.float() / 255.0
    for k in rng.permutation(4):
        if amounts[k]:
            values = _CHANGES[k](values, float(amounts[k]))
    top, left, height, width = _window(image.shape[-2:], changes.crop, rng)
    if changes.crop:
        values = transforms.resized_crop(values, top, left, height, width, list(image.shape[-2:]), antialias=True)
    return (values.clamp(0, 1) * 255.0 + 0.5).to(torch.uint8)


_CHANGES = (
    lambda values, amount: transforms.adjust_brightness(values, 1.0 + amount),
    lambda values, amount: transforms.adjust_contrast(values, 1.0 + amount),
    lambda values, amount: transforms.adjust_saturation(values, 1.0 + amount),
    lambda values, amount: transforms.adjust_hue(values, amount),
)


def _window(shape: torch.Size, crop: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width of a window that fits."""
    rows, columns = shape
    area, aspect = rows * columns * rng.uniform(1.0 - crop, 1.0), (columns / rows) * float((4.0 / 3.0) ** rng.uniform(-1, 1))
    height, width = (min(max(round(v), 1), most) for v, most in ((np.sqrt(area / aspect), rows), (np.sqrt(area * aspect), columns)))
    return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1)), height, width
