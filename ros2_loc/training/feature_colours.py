"""Another camera, another light: colours, noise, blur and compression of a copy of an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ros2_loc.errors import ConfigError
from ros2_loc.io.images import RGB, decode_image, encode_image


@dataclass(frozen=True)
class Colours:
    """Largest changes; 0 leaves one out.

    Attributes:
        brightness: added, as a share of white.
        contrast, saturation: factor from 1 - x to 1 + x.
        gamma: exponent from 1 / (1 + x) to 1 + x.
        noise: standard deviation, grey levels.
        blur_px: standard deviation, in half of the images.
        jpeg: lowest quality, in half of the images; 0: none is compressed.
    """

    brightness: float = 0.15
    contrast: float = 0.3
    saturation: float = 0.3
    gamma: float = 0.4
    noise: float = 8.0
    blur_px: float = 1.0
    jpeg: int = 40

    def __post_init__(self) -> None:
        amounts = (self.brightness, self.contrast, self.saturation, self.gamma, self.noise, self.blur_px)
        if min(amounts) < 0 or max(self.contrast, self.saturation) >= 1 or not 0 <= self.jpeg <= 100:
            raise ConfigError(f"{self}: amounts must not be negative, contrast and saturation below 1, jpeg from 0 to 100")


def recoloured(image: RGB, colours: Colours, rng: np.random.Generator) -> RGB:
    """(H, W, 3) uint8 changed at random, up to the given amounts; nothing moves."""
    blur, quality = float(rng.uniform(0, colours.blur_px)), int(rng.integers(min(colours.jpeg, 95), 96))
    with_blur, with_jpeg = rng.random(2) < 0.5
    values = image.astype(np.float32) / 255.0
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
    values = grey[..., None] + (values - grey[..., None]) * np.float32(1.0 + rng.uniform(-1, 1) * colours.saturation)
    values = (values - values.mean()) * np.float32(1.0 + rng.uniform(-1, 1) * colours.contrast) + values.mean()
    values = np.clip(values + np.float32(rng.uniform(-1, 1) * colours.brightness), 0.0, 1.0)
    values **= np.float32((1.0 + colours.gamma) ** rng.uniform(-1, 1))
    if with_blur and blur > 0.2:
        values = cv2.GaussianBlur(values, (0, 0), blur)
    if colours.noise:
        values = values + rng.standard_normal(values.shape, dtype=np.float32) * np.float32(rng.uniform(0, colours.noise) / 255.0)
    changed = np.asarray(np.clip(values * 255.0 + 0.5, 0, 255), np.uint8)
    return decode_image(encode_image(changed, ".jpg", quality), "a compressed copy") if with_jpeg and colours.jpeg else changed
