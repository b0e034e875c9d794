"""Light and weather: sun, sky, haze, exposure, sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError
from ros2_loc.world.canvas import noise
from ros2_loc.world.cover import Cover
from ros2_loc.world.lamplight import Lamplight
from ros2_loc.world.lens import Rain, glare

Array32 = NDArray[np.float32]
Triple = tuple[float, float, float]

_GAMMA = 2.2


@dataclass(frozen=True, slots=True)
class Light:
    """The light in which a drive takes place. Colours are linear, 1 is a white wall in full light.

    Attributes:
        sun_azimuth_rad: from east, counter-clockwise; sun_elevation_rad above the horizon.
        sun_rgb, sky_rgb: direct and diffuse light.
        zenith_rgb, horizon_rgb: the sky itself.
        clouds: share of the sky that they cover, 0 to 1, below 0 not even wisps; weather: seed of their shapes.
        haze_m: distance at which the air hides 63 % of a thing.
        exposure: factor on everything.
        vignetting: loss of light in the picture's corners.
        noise: standard deviation of the sensor's noise, grey levels.
        cloud_light: brightness of the clouds, 1 by day.
        lamps: light that people make; cover: what lies on the ground; rain: what falls. None of it by default.
    """

    sun_azimuth_rad: float
    sun_elevation_rad: float
    sun_rgb: Triple
    sky_rgb: Triple
    zenith_rgb: Triple
    horizon_rgb: Triple
    clouds: float = 0.3
    weather: int = 0
    haze_m: float = 900.0
    exposure: float = 1.0
    vignetting: float = 0.18
    noise: float = 2.0
    cloud_light: float = 1.0
    lamps: Lamplight | None = None
    cover: Cover | None = None
    rain: Rain | None = None

    def __post_init__(self) -> None:
        if not 0.05 <= self.sun_elevation_rad <= np.pi / 2 or self.haze_m <= 0 or self.exposure <= 0 or self.noise < 0:
            raise ConfigError(f"{self}: a light needs the sun 0.05 rad to pi/2 above the horizon, positive haze_m and exposure, noise >= 0")

    @staticmethod
    def afternoon() -> Light:
        """A clear, warm afternoon with the sun in the south-west."""
        return Light(
            np.deg2rad(228), np.deg2rad(48), (1.02, 0.93, 0.76), (0.46, 0.50, 0.58), (0.16, 0.34, 0.72), (0.66, 0.76, 0.88), weather=1
        )

    @staticmethod
    def morning() -> Light:
        """A hazy, cooler morning with a pale sun in the east, thin clouds, and a noisier camera."""
        return Light(
            np.deg2rad(20), np.deg2rad(33), (0.50, 0.46, 0.42), (0.52, 0.55, 0.60), (0.34, 0.45, 0.62), (0.72, 0.76, 0.80),
            clouds=0.65, weather=2, haze_m=420.0, exposure=0.92, vignetting=0.22, noise=3.0,
        )  # fmt: skip

    @staticmethod
    def overcast() -> Light:
        """A grey day without shadows."""
        return Light(
            np.deg2rad(180), np.deg2rad(50), (0.02, 0.02, 0.02), (0.70, 0.72, 0.74), (0.55, 0.58, 0.62), (0.74, 0.76, 0.78),
            clouds=0.95, weather=3, haze_m=350.0, exposure=0.95, noise=2.5,
        )  # fmt: skip

    @staticmethod
    def drawn(seed: int) -> Light:
        """Any weather from clear to overcast at any time of the day: for training."""
        rng = np.random.default_rng([seed, 33])
        clear, warm = float(rng.uniform(0, 1)), float(rng.uniform(-0.08, 0.12))
        sun, sky = 1.05 * clear + 0.02, 0.72 - 0.24 * clear
        zenith = np.array([0.55, 0.58, 0.62]) + clear * np.array([-0.38, -0.22, 0.12])
        r, g, b = zenith.tolist()
        return Light(
            float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.35, 1.1)), (sun * (1 + warm), sun * 0.94, sun * (0.88 - warm)),
            (sky * 0.97, sky, sky * 1.06), (r, g, b), (0.72, 0.77, 0.82), clouds=1 - 0.85 * clear, weather=seed % 16,
            haze_m=float(rng.uniform(300, 1000)), exposure=float(rng.uniform(0.85, 1.1)), noise=float(rng.uniform(1.5, 3.5)),
        )  # fmt: skip

    @property
    def toward_sun(self) -> Array32:
        """(3,) unit vector, map axes."""
        a, e = self.sun_azimuth_rad, self.sun_elevation_rad
        return np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)], np.float32)

    def on(self, normals: Array32) -> tuple[Array32, Array32]:
        """Unit normals (N, 3) -> what a white surface there reflects of the sky and, where it is not in shadow, of the sun: (N, 3) each."""
        sky = np.float32(0.72) + np.float32(0.28) * normals[:, 2:]
        direct = np.maximum(normals @ self.toward_sun, 0)
        return sky * np.array(self.sky_rgb, np.float32), direct[:, None] * np.array(self.sun_rgb, np.float32)

    def haze(self, radiance: Array32, distance_m: Array32) -> Array32:
        """Radiance (N, 3) seen through distance_m (N,) of air."""
        clear = np.exp(-distance_m / np.float32(self.haze_m))[:, None]
        return radiance * clear + (1 - clear) * np.array(self.horizon_rgb, np.float32) * np.float32(0.9)

    def sky(self, directions: Array32) -> Array32:
        """Linear radiance (N, 3) of the sky in these unit directions (N, 3)."""
        height = np.clip(directions[:, 2:], 0, 1) ** np.float32(0.55)
        color = np.array(self.horizon_rgb, np.float32) * (1 - height) + np.array(self.zenith_rgb, np.float32) * height
        scale = np.float32(220.0) / (np.maximum(directions[:, 2], 0) + np.float32(0.18))
        column, row = (directions[:, :2] * scale[:, None]).astype(np.int32).T % 1024
        cover = _cloud_map(self.weather)[row, column]
        threshold = np.float32(1.4 - 2.8 * self.clouds)
        cloud = np.clip((cover - threshold) * np.float32(0.8), 0, 1)[:, None] * np.clip(directions[:, 2:] * 6, 0, 1)
        glow = (
            np.clip(np.einsum("nk,k->n", directions, self.toward_sun), 0, 1)[:, None] ** 24
            * np.array(self.sun_rgb, np.float32)
            * np.float32(0.5)
        )
        return (
            color * (1 - cloud)
            + cloud
            * (np.float32(0.62) + np.float32(0.12) * cover[:, None])
            * np.array([1.1, 1.12, 1.16], np.float32)
            * np.float32(self.cloud_light)
            + glow
        )

    def through_lens(self, radiance: Array32, shape: tuple[int, int], rng: np.random.Generator | None) -> Array32:
        """Radiance (H W, 3) of a picture of shape (H, W) behind rain and windscreen; the same drops for each call without rng."""
        if self.lamps is None and self.rain is None:
            return radiance
        picture = radiance.reshape(*shape, 3)
        if self.lamps is not None:
            picture = glare(picture, self.exposure)
        if self.rain is not None:
            picture = self.rain.fall(picture, rng or np.random.default_rng(0))
        return picture.reshape(-1, 3)

    def develop(self, radiance: Array32, falloff: Array32, rng: np.random.Generator | None) -> NDArray[np.uint8]:
        """Linear radiance (N, 3) -> sRGB-like uint8: vignetting by falloff (N,), exposure, tone curve, noise (none without rng)."""
        gain = np.float32(self.exposure) * (1 - np.float32(self.vignetting) * falloff[:, None])
        grey = np.take(_tone_curve(), np.minimum(radiance * gain * np.float32(1024), 4095).astype(np.int32))
        if rng is not None and self.noise > 0:
            grey = grey + rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(self.noise)
        return np.clip(grey + np.float32(0.5), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def linear_table() -> Array32:
    """(256,) linear value of an sRGB-like grey level."""
    return (np.arange(256, dtype=np.float32) / 255) ** np.float32(_GAMMA)


@lru_cache(maxsize=1)
def _tone_curve() -> Array32:
    """(4096,) grey level of linear radiance 0 to 4: straight in the shadows, a soft shoulder in the lights."""
    x = np.arange(4096, dtype=np.float32) / 1024
    bent = np.where(x < 0.6, x, 0.6 + 0.4 * (1 - np.exp(-(x - 0.6) / 0.4)))
    return (255 * bent ** np.float32(1 / _GAMMA)).astype(np.float32)


@lru_cache(maxsize=4)
def _cloud_map(weather: int) -> Array32:
    """(1024, 1024) clouds of about unit variance, seamless."""
    rng = np.random.default_rng([weather, 7])
    rough = noise((1024, 1024), (256, 128, 64, 32), rng)
    ramp = np.abs(np.linspace(-1, 1, 1024, dtype=np.float32))
    for axis in (0, 1):
        fade = ramp[:, None] if axis == 0 else ramp[None]
        rough = rough * (1 - fade**4) + np.roll(rough, 512, axis) * fade**4
    return np.asarray(cv2.GaussianBlur(rough, (0, 0), 3.0), np.float32)
