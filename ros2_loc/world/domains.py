"""Domains in which the same town looks unlike itself: by day and by night, in fog and rain, in other seasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from ros2_loc.errors import ConfigError
from ros2_loc.world.cover import Cover
from ros2_loc.world.lamplight import Lamplight
from ros2_loc.world.lens import Rain
from ros2_loc.world.light import Light


def dusk() -> Light:
    """A quarter of an hour after sunset: a bright band in the west, the rest blue, the lamps just lit."""
    return Light(
        np.deg2rad(178), 0.06, (0.03, 0.02, 0.015), (0.15, 0.17, 0.22), (0.05, 0.09, 0.20), (0.42, 0.26, 0.18),
        clouds=0.35, weather=5, haze_m=700.0, exposure=1.15, vignetting=0.22, noise=4.0, cloud_light=0.22,
        lamps=Lamplight(street=0.16, lit=0.25, window=0.45, headlights=0.35),
    )  # fmt: skip


def night() -> Light:
    """A clear night: street lamps, windows and the own headlights are all the light there is, and the sensor's gain is high."""
    return Light(
        np.deg2rad(240), np.deg2rad(35), (0.003, 0.003, 0.004), (0.007, 0.007, 0.009), (0.002, 0.003, 0.006), (0.016, 0.012, 0.009),
        clouds=0.25, weather=6, haze_m=600.0, exposure=1.7, vignetting=0.28, noise=7.0, cloud_light=0.008, lamps=Lamplight(),
    )  # fmt: skip


def night_rain() -> Light:
    """The same in rain: wet streets mirror the lamps."""
    wet = Cover(wet=1.0)
    return replace(night(), clouds=0.95, cloud_light=0.014, haze_m=220.0, noise=8.0, cover=wet, rain=Rain(drops=2.2))


def fog() -> Light:
    """Dense fog: 5 % of a thing's contrast is left at 120 m (the meteorological visibility, three times haze_m: Koschmieder 1924)."""
    return Light(
        np.deg2rad(180), np.deg2rad(40), (0.02, 0.02, 0.02), (0.66, 0.68, 0.70), (0.62, 0.64, 0.66), (0.70, 0.72, 0.73),
        clouds=-0.6, weather=7, haze_m=40.0, exposure=0.95, noise=2.5, cover=Cover(wet=0.25),
    )  # fmt: skip


def rain() -> Light:
    """A grey day on which it pours: wet streets, streaks in the air, drops on the windscreen."""
    return Light(
        np.deg2rad(180), np.deg2rad(50), (0.02, 0.02, 0.02), (0.44, 0.46, 0.49), (0.36, 0.38, 0.41), (0.50, 0.52, 0.54),
        clouds=0.95, weather=8, haze_m=170.0, exposure=1.15, vignetting=0.22, noise=3.5, cloud_light=0.62,
        cover=Cover(wet=1.0), rain=Rain(),
    )  # fmt: skip


def winter() -> Light:
    """After snowfall, under a low pale sun: white roofs and gardens, slush on the carriageways, bare trees."""
    return Light(
        np.deg2rad(215), np.deg2rad(16), (0.52, 0.46, 0.38), (0.46, 0.50, 0.57), (0.36, 0.47, 0.64), (0.74, 0.77, 0.80),
        clouds=0.5, weather=9, haze_m=450.0, exposure=0.85, noise=2.5, cover=Cover(snow=1.0, bare=1.0),
    )  # fmt: skip


def autumn() -> Light:
    """A golden afternoon in October: turned leaves, a good part of them on the ground, a lower sun."""
    return Light(
        np.deg2rad(220), np.deg2rad(26), (1.00, 0.84, 0.60), (0.40, 0.43, 0.49), (0.22, 0.38, 0.68), (0.72, 0.75, 0.78),
        clouds=0.4, weather=10, haze_m=600.0, cover=Cover(turned=1.0, bare=0.35),
    )  # fmt: skip


DOMAINS: Mapping[str, Callable[[], Light]] = MappingProxyType(
    {
        "day": Light.afternoon, "morning": Light.morning, "overcast": Light.overcast, "dusk": dusk, "night": night,
        "night_rain": night_rain, "fog": fog, "rain": rain, "winter": winter, "autumn": autumn,
    }
)  # fmt: skip


def domain_light(name: str) -> Light:
    """The light of a domain.

    Raises:
        ConfigError: no such domain; the line names those that there are.
    """
    if name not in DOMAINS:
        raise ConfigError(f"there is no domain {name!r}; there are: {', '.join(DOMAINS)}")
    return DOMAINS[name]()
