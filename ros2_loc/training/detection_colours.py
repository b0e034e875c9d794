"""Colours of training images as CornerNet changes them, whose augmentation CenterNet takes over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError
from ros2_loc.io.images import RGB

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# How colours of ImageNet vary: axes in columns, R, G, B in rows; white is 1. The numbers of CornerNet's code.
_COLOUR_AXES = np.array(
    [[-0.56089297, 0.71832671, 0.41158938], [-0.5832747, 0.00994535, -0.81221408], [-0.58752847, -0.69563484, 0.41340352]], np.float32
)
_COLOUR_SPREAD = np.array([0.2141788, 0.01817699, 0.00341571], np.float32)


@dataclass(frozen=True)
class ColourJitter:
    """Largest changes; 0 leaves one out.

    Attributes:
        brightness, contrast, saturation: factor from 1 - x to 1 + x, in an order drawn each time.
        lighting: standard deviation of the steps along the axes on which colours of ImageNet vary.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    lighting: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.brightness, self.contrast, self.saturation)
        if min(*shares, self.lighting) < 0 or max(shares) >= 1:
            raise ConfigError(f"{self}: amounts are not negative, brightness, contrast and saturation below 1")


def jittered(image: RGB, jitter: ColourJitter, rng: np.random.Generator) -> RGB:
    """(H, W, 3) uint8 in other colours, drawn from `rng`; nothing moves."""
    factors = 1.0 + rng.uniform(-1, 1, 3) * (jitter.brightness, jitter.contrast, jitter.saturation)
    order, steps = rng.permutation(3), rng.standard_normal(3)
    if not any((jitter.brightness, jitter.contrast, jitter.saturation, jitter.lighting)):
        return image
    values = image.astype(np.float32) * np.float32(1 / 255)
    grey = values @ _GREY
    mean = float(grey.mean())
    for k in order:
        values = _blended(values, (np.float32(0.0), np.float32(mean), grey[..., None])[k], np.float32(factors[k]))
    values += _COLOUR_AXES @ (_COLOUR_SPREAD * (jitter.lighting * steps).astype(np.float32))
    return np.asarray(np.clip(values * 255.0 + 0.5, 0, 255), np.uint8)


def _blended(values: NDArray[np.float32], towards: NDArray[np.float32] | np.float32, factor: np.float32) -> NDArray[np.float32]:
    """`values` for 1, `towards` for 0, farther from it above 1."""
    return np.asarray(values * factor + towards * (1 - factor), np.float32)
