"""The view from above and the view from the street show the same town."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.world.drive import Drive
from ros2_loc.world.ground import DASH_GAP_M, DASH_M, dash_starts
from ros2_loc.world.light import Light
from ros2_loc.world.render import Satellite, render, render_satellite
from ros2_loc.world.town import Town


def _pixel(satellite: Satellite, metres_per_px: float, point: np.ndarray) -> tuple[int, int]:
    """(row, column) of a map point."""
    east, _, _, north = satellite.bounds_m
    return int((north - point[1]) / metres_per_px), int((point[0] - east) / metres_per_px)


def _dashes(town: Town) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the centre line's dashes of all streets, and of the gaps between them, (N, 2) m."""
    middles, gaps = [], []
    for a, b in town.plan.streets:
        along = (b - a) / np.linalg.norm(b - a)
        for s in dash_starts(float(np.linalg.norm(b - a)))[:-1]:
            middles.append(a + along * (s + DASH_M / 2))
            gaps.append(a + along * (s + DASH_M + DASH_GAP_M / 2))
    return np.array(middles), np.array(gaps)


@pytest.mark.parametrize("metres_per_px", [0.1, 0.2])
def test_lane_marks_lie_where_the_plan_says(town: Town, metres_per_px: float) -> None:
    satellite = render_satellite(town, metres_per_px, light=Light.overcast())
    size = town.plan.size.extent_m / metres_per_px
    np.testing.assert_allclose(satellite.rgb.shape[1::-1], size, atol=1)
    grey = satellite.rgb.mean(axis=2)
    dash, gap = ([grey[_pixel(satellite, metres_per_px, p)] for p in points] for points in _dashes(town))
    assert len(dash) > 20
    assert np.mean(np.array(dash) > np.array(gap) + 25) > 0.85  # the rest is under trees


def test_lane_marks_on_the_ground_and_from_above_agree(town: Town, camera: Camera, drive: Drive, map_from_camera: Pose) -> None:
    view = render(town, camera, map_from_camera, Light.overcast())
    middles, gaps = (np.column_stack([p, np.zeros(len(p))]) for p in _dashes(town))
    brightness = []
    for points in (middles, gaps):
        in_camera = map_from_camera.inverse().apply(points)
        near = (in_camera[:, 2] > 3) & (in_camera[:, 2] < 15)
        pixels = camera.project(in_camera[near])
        pixels = pixels[camera.contains(pixels)].astype(int)
        assert len(pixels) >= 1
        brightness.append(view.rgb[pixels[:, 1], pixels[:, 0]].mean())
    assert brightness[0] > brightness[1] + 30


def test_a_drone_sees_what_the_satellite_sees(town: Town) -> None:
    metres_per_px, height = 0.2, 150.0
    centre = (town.plan.nodes[1, 1] + town.plan.nodes[2, 1]) / 2
    focal = height / metres_per_px
    camera = Camera.pinhole(160, 120, focal, focal, 80, 60)
    facing_down = so3_exp([0, np.pi / 2, 0]) @ BODY_FROM_OPTICAL  # x right is south, y down is west
    north_up = so3_exp([0, 0, np.pi / 2]) @ facing_down
    drone = render(town, camera, Pose(north_up, np.array([*centre, height])), Light.overcast())
    half = np.array([80, 60]) * metres_per_px
    satellite = render_satellite(town, metres_per_px, (*(centre - half), *(centre + half)), Light.overcast())
    assert satellite.rgb.shape == drone.rgb.shape
    street = drone.depth_m > height - 0.2
    a, b = (image.rgb.mean(axis=2) for image in (drone, satellite))
    best = max(
        ((np.corrcoef(a[5:-5, 5:-5][street[5:-5, 5:-5]], np.roll(b, (dy, dx), (0, 1))[5:-5, 5:-5][street[5:-5, 5:-5]])[0, 1], dy, dx))
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    )
    assert best[1:] == (0, 0) and best[0] > 0.7


def test_metres_per_pixel_must_fit(town: Town) -> None:
    with pytest.raises(ConfigError, match="metres_per_px"):
        render_satellite(town, 0.0)
    with pytest.raises(ConfigError, match="at least a pixel"):
        render_satellite(town, 1.0, (0.0, 0.0, 0.2, 5.0))
