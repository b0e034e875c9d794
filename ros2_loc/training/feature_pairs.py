"""Pairs of image crops with dense correspondences, as batches of `FeatureObjective`: the same number gives the same batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import RGB
from ros2_loc.training.feature_colours import Colours, recoloured

Points = NDArray[np.float32]
Loader = Callable[[], RGB]

_WINDOWS = 6  # that are tried in a pair
_PAIRS = 12  # that are tried for a sample
_CELL_PX = 16


@dataclass(frozen=True, slots=True, eq=False)
class DensePair:
    """Two images of one scene, and where in the second lies what the first shows.

    Attributes:
        image: (H, W, 3) uint8 RGB; image2: (H2, W2, 3) of any size.
        points2_px: (H, W, 2) float32 px in the second image, centre of its first pixel at (0.5, 0.5), for the centre of each pixel.
        valid: (H, W) bool, where that is known, lies in the second image, and is seen there.
    """

    image: RGB
    image2: RGB
    points2_px: Points
    valid: NDArray[np.bool_]


class PairSource(Protocol):
    """Where pairs come from; random choices are drawn from `rng` alone."""

    def __len__(self) -> int: ...

    def pair(self, index: int, rng: np.random.Generator) -> DensePair: ...


@dataclass(frozen=True, slots=True, eq=False)
class PairData:
    """Pairs to train with, and images of other places or moments to validate with."""

    pairs: PairSource
    held_out: Sequence[Loader]


class FeaturePairs:
    """Batches of `image`, `image2` (B, S, S, 3) uint8, `points2_px` (B, S, S, 2) float32, `valid` (B, S, S) bool."""

    @dataclass(frozen=True)
    class Config:
        """How crops are cut.

        Attributes:
            batch_size: pairs of a batch, of one process.
            crop_px: S.
            rescale: the second crop shows the scene up to so many times larger or smaller than the first.
            min_overlap: share of the first crop, in cells of 16 px, where there are correspondences, be they sparse; where no crop has so
                much, the best of those tried is taken.
            colours: change of the second crop.
        """

        batch_size: int = 4
        crop_px: int = 192
        rescale: float = 1.5
        min_overlap: float = 0.3
        colours: Colours = field(default_factory=Colours)
        seed: int = 0

        def __post_init__(self) -> None:
            if self.batch_size < 1 or self.crop_px < 32 or self.crop_px % 8 or self.rescale < 1 or not 0 < self.min_overlap <= 1:
                raise ConfigError(
                    f"samples: needs batch_size from 1, crop_px a multiple of 8 from 32, rescale from 1, min_overlap in (0, 1], got {self}"
                )

    def __init__(self, config: Config, source: PairSource) -> None:
        """Nothing is read yet; raises DataError for a source without pairs."""
        if not len(source):
            raise DataError("there is no pair of images to train on")
        self.config, self._source = config, source

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number`, on the CPU. Raises DataError when the images have nothing in common."""
        samples = [self._sample(np.random.default_rng([self.config.seed, 61, number, k])) for k in range(self.config.batch_size)]
        names = ("image", "image2", "points2_px", "valid")
        return {name: torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])) for name in names}

    def _sample(self, rng: np.random.Generator) -> DensePair:
        best: DensePair | None = None
        for _ in range(_PAIRS):
            pair = self._source.pair(int(rng.integers(len(self._source))), rng)
            crop = crop_pair(pair, self.config.crop_px, self.config.rescale, rng)
            if crop is not None and (best is None or overlap(crop.valid) > overlap(best.valid)):
                best = crop
            if best is not None and overlap(best.valid) >= self.config.min_overlap:
                break
        if best is None:
            raise DataError(f"none of {_PAIRS} pairs has anything in common; check poses and flow, or give images that overlap more")
        return DensePair(best.image, recoloured(best.image2, self.config.colours, rng), best.points2_px, best.valid)


def overlap(valid: NDArray[np.bool_]) -> float:
    """Share of the cells of 16 px that hold a correspondence."""
    height, width = (v // _CELL_PX for v in valid.shape)
    cells = valid[: height * _CELL_PX, : width * _CELL_PX].reshape(height, _CELL_PX, width, _CELL_PX)
    return float(cells.any(axis=(1, 3)).mean())


def crop_pair(pair: DensePair, size_px: int, rescale: float, rng: np.random.Generator) -> DensePair | None:
    """A square window of the first image, and of the second the window around its correspondences, brought to the same size.

    Args:
        size_px: of both crops; the first is not resampled.
        rescale: see `FeaturePairs.Config`.

    Returns:
        The best of several windows; None where no correspondence is left.

    Raises:
        DataError: an image smaller than the crop.
    """
    height, width = pair.valid.shape
    smallest = min(height, width, *pair.image2.shape[:2])
    if smallest < size_px:
        raise DataError(f"an image of {smallest} px is smaller than the crops: give larger ones, or set samples.crop_px below it")
    known = np.flatnonzero(pair.valid)
    if not len(known):
        return None
    zoom, found = float(rescale ** rng.uniform(-1, 1)), []  # one for all: the best would always be the one that shows most
    for at in rng.choice(known, _WINDOWS):
        row, column = int(at) // width - size_px // 2, int(at) % width - size_px // 2
        row, column = min(max(row, 0), height - size_px), min(max(column, 0), width - size_px)
        found.append(_cropped(pair, row, column, size_px, zoom))
    return max((crop for crop in found if crop.valid.any()), key=lambda crop: int(crop.valid.sum()), default=None)


def _cropped(pair: DensePair, row: int, column: int, size: int, zoom: float) -> DensePair:
    window = slice(row, row + size), slice(column, column + size)
    valid, points = pair.valid[window], pair.points2_px[window]
    (y0, x0), size2 = _second_window(points[valid], np.argwhere(valid), pair.image2.shape[:2], size, zoom)
    image2 = pair.image2[y0 : y0 + size2, x0 : x0 + size2]
    shrinks = size2 > size
    image2 = cv2.resize(image2, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    moved = ((points - np.array([x0, y0], np.float32)) * np.float32(size / size2)).astype(np.float32)
    inside = valid & (moved >= 0).all(axis=2) & (moved < size).all(axis=2)
    return DensePair(pair.image[window], np.asarray(image2, np.uint8), np.where(inside[..., None], moved, 0.0).astype(np.float32), inside)


def _second_window(
    points: Points, pixels: NDArray[np.intp], shape: tuple[int, ...], size: int, zoom: float
) -> tuple[tuple[int, int], int]:
    """((first row, first column), side) of the window around the points, whose scale is that of the pixels they belong to, times zoom."""
    ratio = 1.0
    if len(points) >= 8 and (spread := float(pixels.std(axis=0).sum())) > 0:
        ratio = float(np.clip(points.std(axis=0).sum() / spread, 0.25, 4.0))
    side = int(np.clip(round(size * ratio / zoom), size // 4, min(shape)))
    x, y = np.median(points, axis=0) if len(points) else (shape[1] / 2, shape[0] / 2)
    return (int(np.clip(round(y - side / 2), 0, shape[0] - side)), int(np.clip(round(x - side / 2), 0, shape[1] - side))), side
