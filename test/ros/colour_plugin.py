"""A detector without a network, for nodes in this process and in others: red is a car, green a person, blue a traffic light."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ros2_loc.core.types import Detection, Frame

COLOURS = {"car": (255, 0, 0), "person": (0, 255, 0), "traffic light": (0, 0, 255)}


class Colours:
    """Finds what is purely of one of the colours; its score is the share of the box that it fills."""

    @dataclass(frozen=True)
    class Config:
        """Attributes:
        weights: not used.
        batch_size: images at once.
        slow_s: how long it takes for each batch.
        masks: whether it says more than boxes.
        """

        weights: str = ""
        batch_size: int = 4
        slow_s: float = 0.0
        masks: bool = True

    name = "colours"
    labels = tuple(COLOURS)

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.config, self.batch_size = config, config.batch_size
        self.batches: list[list[Frame]] = []
        self.gate = threading.Event()
        self.gate.set()

    def detect(self, frame: Frame) -> list[Detection]:
        return self.detect_many([frame])[0]

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        self.batches.append(list(frames))
        self.gate.wait(5.0)
        time.sleep(self.config.slow_s)
        if any(frame.image[0, 0].tolist() == [13, 13, 13] for frame in frames):
            raise ZeroDivisionError("unlucky")
        return [self._found(frame) for frame in frames]

    def _found(self, frame: Frame) -> list[Detection]:
        found = []
        for label, colour in COLOURS.items():
            seen = (np.abs(frame.image.astype(int) - colour).max(axis=2) < 60).astype(np.uint8)
            count, of, stats, _ = cv2.connectedComponentsWithStats(seen)
            for k in range(1, count):
                x, y, w, h, area = (int(v) for v in stats[k])
                if area >= 9:
                    mask = of == k if self.config.masks else None
                    found.append(Detection(np.array([x, y, x + w, y + h], dtype=np.float32), label, area / (w * h), mask))
        return sorted(found, key=lambda one: -one.score)
