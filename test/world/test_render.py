"""Pictures: exact depth, any camera model, the same every time, another in another light."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import ConfigError
from ros2_loc.world.layout import KERB_M
from ros2_loc.world.light import Light
from ros2_loc.world.render import View, render
from ros2_loc.world.scenery import scenery
from ros2_loc.world.town import Town


def _points_in_map(camera: Camera, view: View, map_from_camera: Pose, pixels: np.ndarray) -> np.ndarray:
    """What the pixels (N, 2) int column, row show, (N, 3) m in the map; NaN where that is sky."""
    rays = np.column_stack([camera.unproject(pixels + 0.5), np.ones(len(pixels))])
    depth = view.depth_m[pixels[:, 1], pixels[:, 0], None]
    return map_from_camera.apply(rays * np.where(np.isfinite(depth), depth, np.nan))


def _all_pixels(camera: Camera, step: int = 3) -> np.ndarray:
    x, y = np.meshgrid(np.arange(2, camera.width - 2, step), np.arange(2, camera.height - 2, step))
    return np.column_stack([x.ravel(), y.ravel()])


def _on_carriageway(town: Town, points: np.ndarray) -> np.ndarray:
    """Which points (N, 3) m lie within 3.8 m of a street's centre line, above or below."""
    near = np.zeros(len(points), bool)
    for a, b in town.plan.streets:
        along = (b - a) / np.linalg.norm(b - a)
        offset = points[:, :2] - a
        near |= (abs(offset @ [-along[1], along[0]]) < 3.8) & (offset @ along > 0) & (offset @ along < np.linalg.norm(b - a))
    return near


def test_depth_is_that_of_the_surfaces(town: Town, camera: Camera, map_from_camera: Pose) -> None:
    view = render(town, camera, map_from_camera, Light.overcast())
    pixels = _all_pixels(camera)
    points = _points_in_map(camera, view, map_from_camera, pixels)
    points = points[np.isfinite(points).all(axis=1)]
    low = points[:, 2] < 0.5
    carriageway = low & _on_carriageway(town, points)
    assert carriageway.sum() > 800
    assert abs(points[carriageway, 2]).max() < 1e-5
    sidewalk = low & (points[:, 2] > KERB_M - 1e-5)
    assert (abs(points[sidewalk, 2] - KERB_M) < 1e-5).mean() > 0.7  # the rest: feet of walls, posts and hedges
    fronts = 0
    for house in town.houses:
        local = points[:, :2] - house.lot.front
        across, deep = local @ house.lot.along, local @ house.lot.inward
        on_front = (
            (abs(deep) < 0.02) & (abs(across) < house.lot.width_m / 2 - 0.1) & (points[:, 2] > 0.3) & (points[:, 2] < house.eaves_m - 0.6)
        )
        fronts += on_front.sum()
        assert abs(deep[on_front]).max(initial=0.0) < 1e-3
    assert fronts > 300


def test_one_view_predicts_another(town: Town, camera: Camera, map_from_camera: Pose) -> None:
    other_pose = map_from_camera @ Pose.exp([0.4, -0.1, 1.0, 0.01, 0.03, -0.01])
    here = render(town, camera, map_from_camera, Light.overcast())
    there = render(town, camera, other_pose, Light.overcast())
    pixels = _all_pixels(camera)
    points = _points_in_map(camera, here, map_from_camera, pixels)
    seen = np.isfinite(points).all(axis=1)
    in_other = other_pose.inverse().apply(points[seen])
    projected = camera.project(in_other)
    inside = camera.contains(projected) & (in_other[:, 2] > 0)
    column, row = np.floor(projected[inside]).astype(int).T
    depth = there.depth_m[row, column]
    agrees = abs(depth - in_other[inside, 2]) < 0.03 * in_other[inside, 2]
    assert agrees.mean() > 0.85  # the rest is hidden there, or on an outline
    source = pixels[seen][inside][agrees]
    colors = here.rgb[source[:, 1], source[:, 0]].astype(float) - there.rgb[row, column][agrees]
    assert np.median(abs(colors)) < 4
    shuffled = here.rgb[source[:, 1], source[:, 0]].astype(float) - np.roll(there.rgb[row, column][agrees], 500, axis=0)
    assert np.abs(colors).mean() < 0.35 * np.abs(shuffled).mean()


def test_the_same_again(town: Town, camera: Camera, map_from_camera: Pose) -> None:
    one, same = (render(town, camera, map_from_camera, Light.afternoon(), np.random.default_rng(4)) for _ in range(2))
    other = render(town, camera, map_from_camera, Light.afternoon(), np.random.default_rng(5))
    np.testing.assert_array_equal(one.rgb, same.rgb)
    np.testing.assert_array_equal(one.depth_m, same.depth_m)
    np.testing.assert_array_equal(one.depth_m, other.depth_m)
    noise = one.rgb.astype(float) - other.rgb
    assert 0.9 * Light.afternoon().noise < noise[50:150].std() / np.sqrt(2) < 1.2 * Light.afternoon().noise


def test_light_changes_the_picture_and_not_the_geometry(town: Town, camera: Camera, map_from_camera: Pose) -> None:
    sunny, hazy = (render(town, camera, map_from_camera, light) for light in (Light.afternoon(), Light.morning()))
    np.testing.assert_array_equal(sunny.depth_m, hazy.depth_m)
    ratio = (sunny.rgb.astype(float) + 1) / (hazy.rgb.astype(float) + 1)
    assert np.percentile(ratio, 95) / np.percentile(ratio, 5) > 1.4  # not one factor: the shadows lie elsewhere
    near, far = sunny.depth_m < 12, (sunny.depth_m > 60) & np.isfinite(sunny.depth_m)
    contrast = [[view.rgb[mask].std() for mask in (near, far)] for view in (sunny, hazy)]
    assert contrast[1][1] / contrast[1][0] < contrast[0][1] / contrast[0][0]  # haze takes contrast from what is far


def test_the_picture_has_sky_above_and_street_below(town: Town, camera: Camera, map_from_camera: Pose) -> None:
    view = render(town, camera, map_from_camera, Light.afternoon())
    sky = ~np.isfinite(view.depth_m)
    assert 0.05 < sky.mean() < 0.6 and not sky[-40:].any()
    red, _, blue = view.rgb[sky].mean(axis=0)
    assert blue > red + 10
    assert 40 < view.rgb.mean() < 190 and (view.rgb == 255).mean() < 0.02


@pytest.mark.parametrize(
    "camera",
    [
        Camera("OPENCV", 160, 100, (90.0, 90.0, 81.0, 49.0, -0.15, 0.03, 0.001, -0.001)),
        Camera("OPENCV_FISHEYE", 160, 120, (60.0, 60.0, 80.0, 60.0, 0.01, -0.002, 0.0, 0.0)),
    ],
)
def test_cameras_with_distortion(town: Town, camera: Camera, map_from_camera: Pose) -> None:
    view = render(town, camera, map_from_camera, Light.overcast())
    pixels = _all_pixels(camera)
    in_circle = np.linalg.norm(pixels - camera.principal_point_px, axis=1) < 75  # a fisheye's model ends somewhere beyond
    pixels = pixels[in_circle & np.isfinite(view.depth_m[pixels[:, 1], pixels[:, 0]])]
    points = _points_in_map(camera, view, map_from_camera, pixels)
    ground = _on_carriageway(town, points) & (points[:, 2] < 0.5)
    assert ground.sum() > 100
    assert abs(points[ground, 2]).max() < 1e-3
    back = camera.project(map_from_camera.inverse().apply(points[ground]))
    np.testing.assert_allclose(back, pixels[ground] + 0.5, atol=0.02)


def test_scenery_is_painted_once_and_bit_by_bit_the_same(town: Town) -> None:
    assert scenery(town) is scenery(Town.generate(town.seed, town.plan.size))
    mesh = scenery(town).mesh
    assert np.isfinite(mesh.triangles_m).all() and np.isfinite(mesh.texels).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(mesh.shading, axis=1), 1, atol=1e-5)
    h, w = scenery(town).atlas.levels[0].shape[:2]
    corners = np.einsum("nij,nkj->nki", mesh.texels[mesh.surface][:, :, :3], mesh.triangles_m) + mesh.texels[mesh.surface][:, None, :, 3]
    assert (corners > -2).all() and (corners < [w + 2, h + 2]).all()  # no surface looks beside the atlas


@pytest.mark.parametrize("values", [{"sun_elevation_rad": -0.1}, {"haze_m": 0.0}, {"exposure": 0.0}, {"noise": -1.0}])
def test_a_light_that_can_not_be_is_refused(values: dict) -> None:
    fields = {"sun_azimuth_rad": 0.0, "sun_elevation_rad": 0.5, "sun_rgb": (1, 1, 1), "sky_rgb": (1, 1, 1)}
    with pytest.raises(ConfigError, match="above the horizon"):
        Light(**{**fields, "zenith_rgb": (0, 0, 1), "horizon_rgb": (1, 1, 1), **values})
