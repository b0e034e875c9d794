"""The few colours of all pictures, legible on white, on photographs and for most colour-blind eyes."""

from __future__ import annotations

import colorsys
from functools import lru_cache

Color = tuple[int, int, int]

BLUE: Color = (37, 99, 235)
GREEN: Color = (22, 163, 74)
AMBER: Color = (217, 119, 6)
RED: Color = (220, 38, 38)
VIOLET: Color = (147, 51, 234)
GRAY: Color = (107, 114, 128)
LIGHT_GRAY: Color = (203, 213, 225)
INK: Color = (30, 41, 59)

# by the values of localization.fusion.FusionState
STATE_COLORS: dict[str, Color] = {"initializing": GRAY, "tracking": GREEN, "lost": RED, "relocalizing": AMBER}


def good_to_bad(badness: float) -> Color:
    """Green at 0, yellow at a half, red at 1 and above; in 32 steps."""
    return _scale()[round(31 * min(max(badness, 0.0), 1.0))]


@lru_cache(maxsize=1)
def _scale() -> tuple[Color, ...]:
    rgb = [colorsys.hsv_to_rgb(0.36 * (1.0 - i / 31), 0.95, 0.95) for i in range(32)]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rgb)


def hex_color(color: Color) -> str:
    """As matplotlib and CSS write it."""
    return "#{:02x}{:02x}{:02x}".format(*color)
