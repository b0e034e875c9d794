"""The town as aerial imagery shows it: from another day, through air and optics of its own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.world.light import Light
from ros2_loc.world.render import render_satellite
from ros2_loc.world.town import Town

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Imagery:
    """How a picture from above was taken.

    Attributes:
        day: on which cars stood elsewhere and leaves had another tint than on day 0, in a district.
        tint: factor on red, green, blue; saturation: 1 keeps the colours, 0 is grey.
        haze: share of light that comes from the air.
        blur_m: standard deviation of the optics' blur on the ground.
        noise: standard deviation of the sensor's noise, grey levels.
        jpeg_quality: 1 to 100; 0 leaves compression out.
        seed: of the noise.
    """

    day: int = 1
    tint: tuple[float, float, float] = (1.03, 1.0, 0.93)
    saturation: float = 0.8
    haze: float = 0.07
    blur_m: float = 0.3
    noise: float = 2.5
    jpeg_quality: int = 85
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.tint) <= 0 or not 0 <= self.haze < 1 or min(self.saturation, self.blur_m, self.noise) < 0 or self.jpeg_quality > 100:
            raise ConfigError(f"{self}: imagery needs positive tints, haze below 1, nothing negative and jpeg_quality up to 100")

    @staticmethod
    def plain() -> Imagery:
        """On day 0 and exactly as it is: for measurements."""
        return Imagery(0, (1.0, 1.0, 1.0), 1.0, 0.0, 0.0, 0.0, 0)

    @staticmethod
    def drawn(seed: int) -> Imagery:
        """Of random day, tint, haze and sharpness: for training."""
        rng = np.random.default_rng([seed, 31])
        r, g, b = rng.uniform(0.88, 1.1, 3).tolist()
        return Imagery(
            day=1 + seed % 8, tint=(r, g, b), saturation=float(rng.uniform(0.55, 1.05)), haze=float(rng.uniform(0, 0.18)),
            blur_m=float(rng.uniform(0.1, 0.6)), noise=float(rng.uniform(1, 5)), jpeg_quality=int(rng.integers(60, 95)), seed=seed,
        )  # fmt: skip

    def taken(self, rgb: NDArray[np.uint8], metres_per_px: float) -> NDArray[np.uint8]:
        """The picture (H, W, 3) as this imagery shows it."""
        image = rgb.astype(np.float32) * np.array(self.tint, np.float32)
        grey = image.mean(axis=2, keepdims=True)
        image = (grey + (image - grey) * np.float32(self.saturation)) * np.float32(1 - self.haze) + np.float32(215 * self.haze)
        if self.blur_m > 0.2 * metres_per_px:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur_m / metres_per_px), np.float32)
        if self.noise > 0:
            rng = np.random.default_rng([self.seed, 32])
            image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(self.noise)
        out = np.clip(image + 0.5, 0, 255).astype(np.uint8)
        return _compressed(out, self.jpeg_quality) if self.jpeg_quality else out


def noon() -> Light:
    """A summer day near noon, as aerial surveys prefer: short shadows to the north-west."""
    return Light(np.deg2rad(305), np.deg2rad(60), (0.95, 0.90, 0.82), (0.44, 0.47, 0.52), (0.2, 0.4, 0.75), (0.7, 0.78, 0.86), weather=4)


def town_mosaic(
    town: Town,
    metres_per_px: float,
    light: Light | None = None,
    bounds_m: Bounds | None = None,
    imagery: Imagery | None = None,
) -> Mosaic:
    """The town from straight above as a `Mosaic` in the map frame (ENU at `town.origin`); all of it is valid.

    Args:
        metres_per_px: ground size of a pixel.
        light: `noon` by default, which is none of the drives' lights.
        bounds_m: (east, north) of the south-west and of the north-east corner; the whole town by default. Beyond the town lie meadows.
        imagery: how it was taken; by default on another day than the drives.

    Raises:
        ConfigError: bounds without area or a resolution that is not positive.
    """
    how = imagery or Imagery()
    satellite = render_satellite(town.on_day(how.day), metres_per_px, bounds_m, light or noon())
    rgb = how.taken(satellite.rgb, metres_per_px)
    west, _, _, north = satellite.bounds_m
    return Mosaic(rgb, np.ones(rgb.shape[:2], bool), west, north, metres_per_px)


def _compressed(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])
