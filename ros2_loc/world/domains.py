"""Domains in which the same town looks unlike itself: by day and by night, in fog and rain, in other seasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from ros2_loc.errors import ConfigError
from ros2_loc.world.light import Light


def dusk() -> Light:
    """A quarter of an hour after sunset: a bright band in the west, everything else blue."""
    return Light(
        np.deg2rad(178), 0.06, (0.03, 0.02, 0.015), (0.13, 0.15, 0.20), (0.05, 0.09, 0.20), (0.42, 0.26, 0.18),
        clouds=0.35, weather=5, haze_m=700.0, exposure=1.25, vignetting=0.22, noise=4.0, cloud_light=0.22,
    )  # fmt: skip


def night() -> Light:
    """A clear night."""
    return Light(
        np.deg2rad(240), np.deg2rad(35), (0.006, 0.007, 0.009), (0.011, 0.011, 0.014), (0.003, 0.004, 0.008), (0.020, 0.016, 0.013),
        clouds=0.25, weather=6, haze_m=600.0, exposure=3.0, vignetting=0.28, noise=8.0, cloud_light=0.012,
    )  # fmt: skip


def fog() -> Light:
    """Dense fog: 5 % of a thing's contrast is left at 120 m (the meteorological visibility, three times haze_m)."""
    return Light(
        np.deg2rad(180), np.deg2rad(40), (0.02, 0.02, 0.02), (0.66, 0.68, 0.70), (0.62, 0.64, 0.66), (0.70, 0.72, 0.73),
        clouds=-0.6, weather=7, haze_m=40.0, exposure=0.95, noise=2.5,
    )  # fmt: skip


DOMAINS: Mapping[str, Callable[[], Light]] = MappingProxyType(
    {"day": Light.afternoon, "morning": Light.morning, "overcast": Light.overcast, "dusk": dusk, "night": night, "fog": fog}
)


def domain_light(name: str) -> Light:
    """The light of a domain.

    Raises:
        ConfigError: no such domain; the line names those that there are.
    """
    if name not in DOMAINS:
        raise ConfigError(f"there is no domain {name!r}; there are: {', '.join(DOMAINS)}")
    return DOMAINS[name]()
