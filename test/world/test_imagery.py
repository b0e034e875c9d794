"""Aerial imagery of the town lies where the ground is, and looks like another day."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ros2_loc.errors import ConfigError
from ros2_loc.mapping.mosaic import Mosaic
from ros2_loc.world.imagery import Imagery, town_mosaic
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Recording
from ros2_loc.world.town import Town


def _colors(mosaic: Mosaic, points_m: np.ndarray) -> np.ndarray:
    """(N, 3) of the map's points (N, 2)."""
    pixels = (points_m - [mosaic.west_m, mosaic.north_m]) * [1, -1] / mosaic.metres_per_px
    column, row = np.floor(pixels).astype(int).T
    return mosaic.rgb[row, column].astype(float)


@pytest.fixture(scope="module")
def plain(district: Town) -> Mosaic:
    return town_mosaic(district, 0.4, Light.overcast(), imagery=Imagery.plain())


def test_the_ground_in_front_of_the_camera_is_where_the_mosaic_shows_it(ride: Recording, plain: Mosaic) -> None:
    """Pixels are put on the map by their depth; what they show there is what the mosaic shows, and not what lies a few metres away."""
    ride = replace(ride, light=replace(Light.overcast(), noise=0.0))
    x, y = np.meshgrid(np.arange(ride.camera.width) + 0.5, np.arange(ride.camera.height) + 0.5)
    rays = np.dstack([ride.camera.unproject(np.column_stack([x.ravel(), y.ravel()])).reshape(*x.shape, 2), np.ones(x.shape)])
    seen, places = [], []
    for i in range(2, 22, 4):
        view = ride.view(i)
        pose = ride.drive.at(int(ride.stamps_ns[i])) @ ride.base_from_camera
        near = view.depth_m < 15
        points = pose.apply(rays[near] * view.depth_m[near][:, None])
        ground = (abs(points[:, 2]) < 0.13) & (abs(points[:, :2]).max(axis=1) < 95)
        seen.append(view.rgb[near][ground].astype(float))
        places.append(points[ground, :2])
    colors, points = np.vstack(seen), np.vstack(places)

    def agreement(shift: tuple[float, float]) -> float:
        return float(np.corrcoef(colors.ravel(), _colors(plain, points + shift).ravel())[0, 1])

    assert len(points) > 5000
    right = agreement((0.0, 0.0))
    assert right > 0.8
    assert all(agreement(shift) < right - 0.1 for shift in ((3.0, 0.0), (-3.0, 0.0), (0.0, 3.0), (0.0, -3.0)))


def test_a_mosaic_covers_the_bounds_and_its_neighbourhood(district: Town, plain: Mosaic) -> None:
    assert plain.bounds_m == pytest.approx(district.bounds_m) and plain.valid.all()
    part = town_mosaic(district, 0.5, Light.overcast(), (-120.0, -20.0, -80.0, 20.0), Imagery.plain())
    assert part.rgb.shape == (80, 80, 3) and (part.west_m, part.north_m) == (-120.0, 20.0)
    assert part.rgb[:, :20].std() > 4  # ground goes on beyond the bounds


def test_imagery_is_of_another_day(district: Town, plain: Mosaic) -> None:
    part = (-40.0, -40.0, 40.0, 40.0)
    one, same = (town_mosaic(district, 0.5, bounds_m=part, imagery=Imagery(day=2)) for _ in range(2))
    np.testing.assert_array_equal(one.rgb, same.rgb)
    other = town_mosaic(district, 0.5, bounds_m=part, imagery=replace(Imagery.drawn(5), day=2))
    assert abs(one.rgb.astype(float) - other.rgb).mean() > 5
    moved = town_mosaic(district, 0.4, Light.overcast(), imagery=replace(Imagery.plain(), day=2))
    change = abs(moved.rgb.astype(float) - plain.rgb).max(axis=2) > 25
    assert 0.003 < change.mean() < 0.15  # cars and leaves
    assert district.land
    stalls = np.array([s[:2] for s in district.land.stalls])
    stalls = stalls[abs(stalls).max(axis=1) < 99]
    differ = abs(_colors(moved, stalls) - _colors(plain, stalls)).max(axis=1) > 25
    assert differ.mean() > 0.25


def test_haze_and_saturation_take_what_they_say(rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Imagery.plain().taken(rgb, 0.5), rgb)
    grey = replace(Imagery.plain(), saturation=0.0).taken(rgb, 0.5)
    assert np.ptp(grey, axis=2).max() == 0
    hazy = replace(Imagery.plain(), haze=0.4).taken(rgb, 0.5)
    assert hazy.std() == pytest.approx(0.6 * rgb.std(), rel=0.02) and hazy.mean() > rgb.mean()
    blurred = replace(Imagery.plain(), blur_m=1.0).taken(rgb, 0.5)
    assert blurred.std() < 0.4 * rgb.std()


@pytest.mark.parametrize("values", [{"tint": (0.0, 1.0, 1.0)}, {"haze": 1.0}, {"blur_m": -0.1}, {"jpeg_quality": 101}])
def test_imagery_that_can_not_be_is_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="imagery needs"):
        Imagery(**values)


def test_drawn_lights_differ_and_are_sound() -> None:
    lights = [Light.drawn(seed) for seed in range(40)]
    assert len(set(lights)) == 40 and lights[3] == Light.drawn(3)
    assert min(max(light.sun_rgb) for light in lights) < 0.2 < 0.9 < max(max(light.sun_rgb) for light in lights)
