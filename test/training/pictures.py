"""Images with something to see in them, drawn by number."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def picture(seed: int, width: int = 160, height: int = 128) -> NDArray[np.uint8]:
    """Polygons and discs of all sizes on a shaded ground."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 190, width)[None, :, None] + np.linspace(-40, 40, height)[:, None, None]
    image = np.clip(ramp + rng.uniform(-30, 30, 3), 0, 255).astype(np.uint8)
    for _ in range(60):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        centre, size = rng.uniform(0, [width, height]), rng.uniform(3, 22)
        if rng.random() < 0.3:
            cv2.circle(image, tuple(int(v) for v in centre), int(size / 2) + 1, colour, -1, cv2.LINE_AA)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
            corners = centre + size * np.column_stack([np.cos(angles), np.sin(angles)])
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    return image


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """Waves so long that interpolation between pixels is exact to a grey level."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    waves = [np.sin(2 * np.pi * x / 61), np.sin(2 * np.pi * y / 47), np.sin(2 * np.pi * (x + y) / 83)]
    return np.stack([128 + 100 * wave for wave in waves], axis=2).round().astype(np.uint8)
