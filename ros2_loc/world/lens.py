"""What happens in front of the sensor: glare around lights, falling rain, drops on the windscreen."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError

Array32 = NDArray[np.float32]

_GLARE = ((0.004, 0.35), (0.016, 0.10), (0.06, 0.035))  # spread as a share of the width, and how much of the light it takes along
_FULL = 0.85  # radiance times exposure above which light spreads visibly


@dataclass(frozen=True, slots=True)
class Rain:
    """Rain before the camera.

    Attributes:
        streaks: falling drops within 10,000 px.
        drops: of them on the windscreen within 10,000 px.
        slant_rad: of the streaks against the upright, their mean.
    """

    streaks: float = 12.0
    drops: float = 1.6
    slant_rad: float = 0.12

    def __post_init__(self) -> None:
        if min(self.streaks, self.drops) < 0:
            raise ConfigError(f"{self}: streaks and drops are not negative")

    def fall(self, radiance: Array32, rng: np.random.Generator) -> Array32:
        """(H, W, 3) linear radiance with streaks and with drops on the windscreen."""
        return self._windscreen(self._streaked(radiance, rng), rng)

    def _streaked(self, radiance: Array32, rng: np.random.Generator) -> Array32:
        """Each streak shows what is above it: sky and lamps."""
        height, width = radiance.shape[:2]
        mask = np.zeros((height, width), np.float32)
        for _ in range(round(self.streaks * height * width / 1e4)):
            near = rng.uniform(0.15, 1.0) ** 3
            length, slant = height * (0.02 + 0.14 * near), self.slant_rad + rng.normal(0, 0.03)
            x, y = rng.uniform(-0.05, 1.05) * width, rng.uniform(-0.1, 1.0) * height
            end = round(x + np.sin(slant) * length), round(y + length)
            cv2.line(mask, (round(x), round(y)), end, float(0.25 + 0.5 * rng.random()), 1 + round(near * width / 500), cv2.LINE_AA)
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(width / 900, 0.5)), np.float32)[..., None] * np.float32(0.45)
        above = cv2.blur(radiance, (max(width // 16, 1), max(height // 3, 1)), anchor=(-1, max(height // 3, 1) - 1))
        return np.asarray(radiance * (1 - mask) + mask * 1.15 * above, np.float32)

    def _windscreen(self, radiance: Array32, rng: np.random.Generator) -> Array32:
        """Drops are small lenses out of focus: each shows a wide view upside down, and dark rims."""
        height, width = radiance.shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        from_x, from_y, cover = x.copy(), y.copy(), np.zeros((height, width), np.float32)
        for _ in range(round(self.drops * height * width / 1e4)):
            centre, radius = rng.uniform(0, 1, 2) * (width, height), width * (0.004 + 0.016 * rng.random() ** 2.5)
            stretch = rng.uniform(1.0, 1.5)
            rows, columns = (
                slice(max(int(c - 2 * radius), 0), max(int(c + 2 * radius) + 2, 0)) for c in (centre[1], centre[0])
            )
            dx, dy = x[rows, columns] - centre[0], (y[rows, columns] - centre[1]) / stretch
            inside = np.clip((1.15 - np.hypot(dx, dy) / radius) * 4, 0, 1)
            is_drop = inside > 0
            from_x[rows, columns][is_drop] = (centre[0] - 7 * dx)[is_drop]
            from_y[rows, columns][is_drop] = (centre[1] - 0.05 * height - 6 * dy)[is_drop]
            cover[rows, columns] = np.maximum(cover[rows, columns], inside * 0.85)
        soft = np.asarray(cv2.GaussianBlur(radiance, (0, 0), width / 160), np.float32)
        seen = cv2.remap(soft, np.clip(from_x, 0, width - 1), np.clip(from_y, 0, height - 1), cv2.INTER_LINEAR)
        cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), max(width / 500, 0.5)), np.float32)[..., None]
        return np.asarray(radiance * (1 - cover) + seen * cover * np.float32(0.95), np.float32)


def glare(radiance: Array32, exposure: float) -> Array32:
    """(H, W, 3) linear radiance with halos around what is too bright for the sensor: scatter in lens and windscreen."""
    bright = np.clip(radiance - np.float32(_FULL / exposure), 0, 6)
    if not bright.any():
        return radiance
    width = radiance.shape[1]
    halos = [share * cv2.GaussianBlur(bright, (0, 0), max(spread * width, 0.6)) for spread, share in _GLARE]
    return np.asarray(radiance + sum(halos), np.float32)
