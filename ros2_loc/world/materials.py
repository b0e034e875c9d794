"""What movers are made of: numbers of materials, their gloss, and the colours of a look."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array32 = NDArray[np.float32]

PAINT, SECOND, GLASS, BLACK, RIM, HEAD, TAIL, PLATE = range(8)
SKIN, HAIR, SHIRT, TROUSERS, SHOES, BAG, FRAME = range(8, 15)
COUNT = 15

GLOSS: Array32 = np.array([1.0, 0.3, 2.2, 0.25, 0.8, 3.5, 1.2, 0.1, 0.1, 0.1, 0, 0, 0.2, 0.05, 0.7], np.float32)
_FIXED = {
    GLASS: (24, 28, 32), BLACK: (26, 26, 28), RIM: (150, 152, 156), HEAD: (136, 142, 150), TAIL: (150, 14, 18), PLATE: (226, 226, 220),
}  # fmt: skip
_PAINTS = np.array(
    [
        (236, 236, 234), (205, 207, 210), (150, 153, 157), (88, 91, 96), (28, 29, 32), (40, 60, 104), (30, 42, 70), (150, 22, 26),
        (186, 40, 36), (64, 84, 66), (196, 178, 146), (92, 60, 46), (70, 120, 160), (224, 190, 40), (210, 96, 30), (120, 128, 110),
    ],
    np.float32,
)  # fmt: skip
_PAINT_SHARE = np.array([17, 13, 12, 11, 16, 6, 5, 6, 4, 2.5, 2, 1.5, 2.5, 1, 1, 1])
_SKINS = np.array([(236, 196, 170), (224, 180, 150), (198, 150, 116), (150, 104, 76), (104, 70, 52), (80, 54, 42)], np.float32)
_HAIRS = np.array([(40, 30, 24), (24, 20, 18), (92, 66, 42), (158, 122, 74), (140, 138, 134), (110, 50, 30)], np.float32)
_DARK = np.array([(36, 42, 62), (30, 30, 34), (66, 66, 70), (92, 86, 76), (54, 60, 50), (120, 110, 92), (50, 70, 110)], np.float32)


@lru_cache(maxsize=4096)
def palette(seed: int) -> Array32:
    """(COUNT, 3) linear albedo of all materials in a look drawn from a number."""
    rng = np.random.default_rng([seed, 71])
    grey = np.zeros((COUNT, 3), np.float32)
    for number, rgb in _FIXED.items():
        grey[number] = rgb
    grey[PAINT] = rng.choice(_PAINTS, p=_PAINT_SHARE / _PAINT_SHARE.sum()) + rng.normal(0, 6)
    grey[SECOND] = rng.choice(np.array([(232, 232, 230), (216, 214, 206), (190, 196, 204), (60, 96, 140), (170, 60, 50), (90, 110, 84)]))
    grey[RIM] += rng.uniform(-60, 30)
    grey[SKIN], grey[HAIR] = rng.choice(_SKINS), rng.choice(_HAIRS)
    grey[SHIRT] = _cloth(rng)
    grey[TROUSERS] = rng.choice(_DARK) + rng.normal(0, 8)
    grey[SHOES] = rng.choice(np.array([(30, 28, 28), (84, 60, 44), (214, 214, 212), (60, 60, 66)]))
    grey[BAG], grey[FRAME] = _cloth(rng), _cloth(rng)
    return np.asarray((np.clip(grey, 8, 250) / 255) ** np.float32(2.2), np.float32)


def _cloth(rng: np.random.Generator) -> Array32:
    """Muted more often than bright."""
    value, chroma, hue = rng.uniform(30, 230), rng.uniform(0, 1) ** 1.6, rng.uniform(0, 2 * np.pi)
    wheel = np.cos(hue + np.array([0.0, 2.1, 4.2]))
    return np.asarray(value * (1 + 0.75 * chroma * wheel), np.float32)
