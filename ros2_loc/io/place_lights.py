"""Recorded images in another light: stated, seeded transforms, for queries of a domain that nobody has recorded."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ros2_loc.io.images import RGB


@dataclass(frozen=True, slots=True)
class PlaceLight:
    """What happens to an image with values in [0, 1], in this order.

    Attributes:
        gamma: v ** gamma: above 1 shadows get darker.
        exposure: factor; what exceeds 1 is cut off.
        haze: share of white laid over it, more above than below.
        blur_px: standard deviation, as of a hand that shakes.
        noise: standard deviation at full brightness of shot noise, which goes with the root of the brightness, and a fifth of it
            everywhere (read-out).
    """

    gamma: float = 1.0
    exposure: float = 1.0
    haze: float = 0.0
    blur_px: float = 0.0
    noise: float = 0.0


# "shifted" alone moves; the others are moved as well
LIGHTS: dict[str, PlaceLight] = {
    "shifted": PlaceLight(),
    "dark": PlaceLight(gamma=1.6, exposure=0.22, noise=0.05),
    "bright": PlaceLight(gamma=0.7, exposure=2.2),
    "hazy": PlaceLight(exposure=0.8, haze=0.75, noise=0.01),
    "night": PlaceLight(gamma=2.2, exposure=0.18, blur_px=1.0, noise=0.08),
}


def in_other_light(image: RGB, light: PlaceLight, seed: int) -> RGB:
    """(H, W, 3) uint8 RGB of the same size; the same image, light and seed give the same pixels."""
    if light == PlaceLight():
        return image
    value = np.minimum((image.astype(np.float32) / 255.0) ** light.gamma * light.exposure, 1.0)
    if light.haze:
        share = light.haze * np.linspace(1.0, 0.6, len(image), dtype=np.float32)[:, None, None]
        value = value * (1.0 - share) + 0.85 * share
    if light.blur_px:
        value = cv2.GaussianBlur(value, (0, 0), light.blur_px)
    if light.noise:
        draw = np.random.default_rng(seed).standard_normal(value.shape, dtype=np.float32)
        value = value + draw * light.noise * (np.sqrt(np.maximum(value, 0.0)) + 0.2)
    return np.clip(np.rint(value * 255.0), 0, 255).astype(np.uint8)
