"""Vehicles that tests paint into images, and a detector that finds them without fail: they alone have no green."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import Detection, Frame

LABELS = ("car", "tree")


def paint(image: NDArray[np.uint8], box: tuple[int, int, int, int], seed: int = 0, label: str = "car") -> NDArray[np.uint8]:
    """A copy with a rectangle x0, y0, x1, y1 px full of corners: red ones are cars, blue ones trees."""
    x0, y0, x1, y1 = box
    rng = np.random.default_rng(seed)
    blocks = cv2.resize(rng.integers(60, 256, (20, 20), dtype=np.uint8), (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)
    painted = image.copy()
    painted[y0:y1, x0:x1] = 0
    painted[y0:y1, x0:x1, 0 if label == "car" else 2] = blocks
    return painted


class PaintedMovers:
    """Finds what `paint` painted; `detected` counts the images that it was asked for."""

    @dataclass(frozen=True)
    class Config:
        """Whether it gives masks beside boxes; with which score."""

        masks: bool = False
        score: float = 0.9

    name = "painted"
    labels = LABELS
    batch_size = 3
    detected = 0

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config

    def detect(self, frame: Frame) -> list[Detection]:
        return self.detect_many([frame])[0]

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        PaintedMovers.detected += len(frames)
        return [self._found(frame.image) for frame in frames]

    def _found(self, image: NDArray[np.uint8]) -> list[Detection]:
        return [d for channel, label in ((0, "car"), (2, "tree")) for d in self._of_colour(image, channel, label)]

    def _of_colour(self, image: NDArray[np.uint8], channel: int, label: str) -> list[Detection]:
        painted = (image[..., channel] >= 60) & (image[..., 1] == 0) & (image[..., 2 - channel] == 0)
        count, numbers, rows, _ = cv2.connectedComponentsWithStats(painted.astype(np.uint8))
        found = []
        for k in range(1, count):
            x, y, width, height, area = (int(v) for v in rows[k])
            if area > 200:
                mask = numbers == k if self._config.masks else None
                found.append(Detection(np.array([x, y, x + width, y + height], np.float32), label, self._config.score, mask))
        return found
