"""Batches of images with boxes and masks: the same number gives the same batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ros2_loc.errors import ConfigError
from ros2_loc.io.labelled_images import DetectionDataset
from ros2_loc.training.detection_colours import ColourJitter, jittered
from ros2_loc.training.detection_samples import Sample, Window, load_sample, mirrored, windowed


class DetectionBatches:
    """Batches of images that were cropped or scaled, mirrored in half of the cases, and recoloured.

    A batch is `image` (B, 3, H, W) uint8, `size_px` (B, 2) int64, height and width of each image within (upper left; black is the rest),
    and the objects of all images one after another: `boxes` (N, 4) float32 x0, y0, x1, y1 px, `labels` (N,) int64 from 0,
    `of_image` (N,) int64, the image of each, and `masks` (N, H, W) bool where they are asked for.
    """

    @dataclass(frozen=True)
    class Config:
        """What a batch is.

        Attributes:
            batch_size: images of one process.
            window: crop: a window at random, as CornerNet and CenterNet do; whole: the whole image.
            size_px: (height, width): of crops; of whole images the largest, which they are brought to with their aspect, the longer side
                to the longer one.
            scales: drawn from: sides of the crop in the image as multiples of `size_px`; factors on the size of whole images.
            border_px: the middle of a crop lies so far within the image (nearer to the edge in small ones).
            focus: share of the crops that are laid around an object, of a label drawn evenly from those of the image.
            min_side_px: objects with a smaller side are left out.
            multiple_px: sides of whole images become a multiple of it, by black at the right and below.
            mirror: whether half of the images are mirrored.
        """

        batch_size: int = 8
        window: Literal["crop", "whole"] = "crop"
        size_px: tuple[int, int] = (511, 511)
        scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
        border_px: int = 128
        focus: float = 0.0
        min_side_px: float = 1.0
        multiple_px: int = 32
        mirror: bool = True
        colours: ColourJitter = field(default_factory=ColourJitter)
        seed: int = 0

        def __post_init__(self) -> None:
            object.__setattr__(self, "size_px", tuple(self.size_px))
            object.__setattr__(self, "scales", tuple(self.scales))
            if self.batch_size < 1 or len(self.size_px) != 2 or min(self.size_px) < 32 or self.multiple_px < 1:
                raise ConfigError(f"{self}: needs batch_size and multiple_px from 1, size_px (height, width) from 32")
            if not self.scales or min(self.scales) <= 0 or self.border_px < 0 or not 0 <= self.focus <= 1 or self.min_side_px < 0:
                raise ConfigError(f"{self}: scales are positive, border_px and min_side_px not negative, focus is a share")

    def __init__(self, config: Config, dataset: DetectionDataset, *, with_masks: bool) -> None:
        """Nothing is read yet; `with_masks`: whether the network learns masks."""
        self.config, self._dataset, self._with_masks = config, dataset, with_masks

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number`, on the CPU. Raises DataError where an image can't be read."""
        rng, size = np.random.default_rng([self.config.seed, 89, number]), self.config.batch_size
        return collated([self._changed(self._which(number * size + k), rng) for k in range(size)], self.config)

    def _which(self, turn: int) -> int:
        """Every image once, then again in another order."""
        epoch, place = divmod(turn, len(self._dataset.images))
        return int(np.random.default_rng([self.config.seed, 97, epoch]).permutation(len(self._dataset.images))[place])

    def _changed(self, number: int, rng: np.random.Generator) -> Sample:
        config, sample = self.config, load_sample(self._dataset, number, self._with_masks)
        scale, turned = float(rng.choice(config.scales)), bool(rng.random() < 0.5)
        if config.window == "crop":
            sample = windowed(sample, crop_window(sample, config, scale, rng), config.size_px, config.min_side_px)
        else:
            height, width = sample.image.shape[:2]
            size_px = fitted((height, width), config.size_px, scale)
            sample = windowed(sample, Window(0, 0, width, height), size_px, config.min_side_px)
        if config.mirror and turned:
            sample = mirrored(sample)
        return sample._replace(image=jittered(sample.image, config.colours, rng))


def crop_window(sample: Sample, config: DetectionBatches.Config, scale: float, rng: np.random.Generator) -> Window:
    """A window of `scale` times the size, its middle drawn as CornerNet draws it, or around an object."""
    height, width = (max(int(side * scale), 1) for side in config.size_px)
    middle = [_middle(length, config.border_px, rng) for length in (sample.image.shape[1], sample.image.shape[0])]
    focussed, which = bool(rng.random() < config.focus), float(rng.random())
    aside = rng.uniform(-0.3, 0.3, 2) * (width, height)
    if focussed and len(sample.boxes):
        label = rng.choice(np.unique(sample.labels))
        of_label = np.flatnonzero(sample.labels == label)
        box = sample.boxes[of_label[int(which * len(of_label))]]
        around = (box[:2] + box[2:]) / 2.0 + aside
        middle = [int(v) for v in np.clip(around, 0, (sample.image.shape[1], sample.image.shape[0]))]
    return Window(middle[0] - width // 2, middle[1] - height // 2, width, height)


def fitted(shape: tuple[int, int], size_px: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """(height, width) of an image brought with its aspect to a size, longer side to longer side, times `scale`."""
    factor = scale * min(max(size_px) / max(shape), min(size_px) / min(shape))
    return max(round(shape[0] * factor), 1), max(round(shape[1] * factor), 1)


def collated(samples: list[Sample], config: DetectionBatches.Config) -> dict[str, Tensor]:
    """Samples as one batch, each at the upper left of what fits all."""
    sizes = np.array([sample.image.shape[:2] for sample in samples], np.int64)
    step = 1 if config.window == "crop" else config.multiple_px
    height, width = (int(v) for v in -(-sizes.max(axis=0) // step) * step)
    images = np.zeros((len(samples), 3, height, width), np.uint8)
    for row, sample in enumerate(samples):
        images[row, :, : sizes[row, 0], : sizes[row, 1]] = sample.image.transpose(2, 0, 1)
    counts = [len(sample.boxes) for sample in samples]
    batch = {
        "image": images,
        "size_px": sizes,
        "boxes": np.concatenate([sample.boxes for sample in samples]),
        "labels": np.concatenate([sample.labels for sample in samples]),
        "of_image": np.repeat(np.arange(len(samples)), counts),
    }
    masks = [sample.masks for sample in samples if sample.masks is not None]
    if masks:
        batch["masks"] = np.concatenate([np.pad(m, ((0, 0), (0, height - m.shape[1]), (0, width - m.shape[2]))) for m in masks])
    return {name: torch.from_numpy(value) for name, value in batch.items()}


def _middle(length: int, border: int, rng: np.random.Generator) -> int:
    part = 1
    while length - border // part <= border // part:
        part *= 2
    return int(rng.integers(border // part, length - border // part))
