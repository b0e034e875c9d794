"""Domains: night is dark but for its lamps, fog takes contrast, snow lies on what faces up, wet streets mirror, trees are bare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose
from ros2_loc.errors import ConfigError
from ros2_loc.world.cover import Cover, thinned
from ros2_loc.world.domains import DOMAINS, domain_light, fog, night, winter
from ros2_loc.world.facades import SHOP
from ros2_loc.world.lamplight import Beam, LampHeads, Lamplight
from ros2_loc.world.lens import Rain, glare
from ros2_loc.world.light import Light
from ros2_loc.world.mesh import LEAF, THING
from ros2_loc.world.raycast import Rays, look, stage_for
from ros2_loc.world.render import render, render_satellite
from ros2_loc.world.scenery import scenery
from ros2_loc.world.town import Town

UP = np.array([[0.0, 0.0, 1.0]], np.float32)


@pytest.fixture(scope="session")
def small_camera() -> Camera:
    return Camera.pinhole(160, 100, 88.0, 88.0, 80.0, 50.0)


@pytest.mark.parametrize("name", sorted(set(DOMAINS) - {"winter", "autumn"}))
def test_only_leaves_change_the_geometry(name: str, town: Town, small_camera: Camera, map_from_camera: Pose) -> None:
    day, other = (render(town, small_camera, map_from_camera, domain_light(which)) for which in ("day", name))
    np.testing.assert_array_equal(day.depth_m, other.depth_m)
    assert name == "day" or np.abs(day.rgb.astype(float) - other.rgb).mean() > 4
    assert len(np.unique(other.rgb)) > 40


def test_the_night_is_dark_but_for_lamps_and_windows(town: Town, small_camera: Camera, map_from_camera: Pose) -> None:
    day, dark = (render(town, small_camera, map_from_camera, light) for light in (Light.afternoon(), night()))
    unlit = render(town, small_camera, map_from_camera, replace(night(), lamps=Lamplight(street=0, lit=0, headlights=0)))
    sky = ~np.isfinite(day.depth_m)
    assert np.median(dark.rgb[sky]) < 50 < 120 < np.median(day.rgb[sky])
    assert np.median(unlit.rgb) < np.median(dark.rgb) < 0.6 * np.median(day.rgb)
    assert unlit.rgb[~sky].max() < 80 and (dark.rgb[~sky] > 200).any()
    red, _, blue = dark.rgb[~sky].astype(float).mean(axis=0)
    assert red > 1.2 * blue  # most lamps are yellow


def test_street_lamps_follow_the_inverse_square(town: Town) -> None:
    heads = LampHeads.of(town, Lamplight(street=0.5, sodium=0.0))
    assert heads is not None and len(heads.at_m) == len(town.furniture.lamps)
    lamp = np.zeros(1, np.int64)
    below = [heads.light(UP, np.array([d], np.float32), UP, lamp)[0, 0] for d in (2.5, 5.0, 10.0)]
    assert below[0] == pytest.approx(4 * below[1]) and below[1] == pytest.approx(4 * below[2])
    slanted = np.array([[0.6, 0.0, 0.8]], np.float32)
    assert heads.light(slanted, np.array([5.0], np.float32), UP, lamp)[0, 0] == pytest.approx(0.8 * below[1])
    assert not heads.light(-UP, np.array([5.0], np.float32), -UP, lamp).any()  # what lies above a lamp gets none of it
    assert LampHeads.of(town, Lamplight(street=0.0)) is None


@given(st.floats(3.0, 60.0), st.floats(-0.5, 0.5))
def test_headlights_are_dipped_and_fall_off(ahead: float, aside_rad: float) -> None:
    beam = Beam.below(Pose(BODY_FROM_OPTICAL, np.array([0.0, 0.0, 1.55])))

    def on_wall(distance: float, angle: float, height: float) -> float:
        ray = np.array([distance * np.cos(angle), distance * np.sin(angle), 0.0])
        point = beam.at_m + ray + [0, 0, height]
        return float(beam.light(point[None].astype(np.float32), (-ray / distance)[None].astype(np.float32))[0, 0])

    low, high = (on_wall(ahead, aside_rad, h * ahead) for h in (-0.03, 0.05))
    assert low > 5 * high >= 0
    assert low > on_wall(1.5 * ahead, aside_rad, -0.03 * 1.5 * ahead) * 2
    assert on_wall(ahead, 0.0, -0.03 * ahead) >= low == pytest.approx(on_wall(ahead, -aside_rad, -0.03 * ahead), rel=1e-3)
    assert on_wall(-ahead, 0.0, 0.0) == 0


def test_windows_are_lit_by_share_and_always_the_same(rng: np.random.Generator) -> None:
    numbers, walls = rng.integers(1, SHOP, 4000).astype(np.uint8), rng.integers(0, 5000, 4000).astype(np.int32)
    albedo = np.full((4000, 3), 0.5, np.float32)
    lamps = Lamplight(lit=0.3)
    lit = lamps.panes(numbers, walls, albedo)
    assert 0.25 < (lit.max(axis=1) > 0).mean() < 0.35
    np.testing.assert_array_equal(lit, lamps.panes(numbers, walls, albedo))
    assert not lamps.panes(np.zeros(3, np.uint8), walls[:3], albedo[:3]).any()  # a wall is no window
    shops = lamps.panes(np.full(4000, SHOP, np.uint8), walls, albedo)
    assert (shops.max(axis=1) > 0).mean() > 0.5


def test_panes_lie_where_windows_are_painted(town: Town) -> None:
    atlas = scenery(town).atlas
    assert atlas.panes.shape == tuple(side // 2 for side in atlas.levels[0].shape[:2])
    row, column = np.argwhere(atlas.panes > 0)[1000]
    assert atlas.pane(np.array([[2 * column + 0.5, 2 * row + 0.5]], np.float32))[0] == atlas.panes[row, column]
    assert 0.01 < (atlas.panes > 0).mean() < 0.4


def test_fog_follows_koschmieder() -> None:
    light = fog()
    distance = np.array([0.0, 40.0, 120.0], np.float32)
    black, white = (light.haze(np.full((3, 3), value, np.float32), distance)[:, 0] for value in (0.0, 0.6))
    contrast = (white - black) / (white - black)[0]
    np.testing.assert_allclose(contrast, np.exp(-distance / 40.0), rtol=1e-5)
    assert contrast[2] == pytest.approx(0.05, abs=0.001)  # the meteorological visibility


def test_snow_lies_on_what_faces_up(rng: np.random.Generator) -> None:
    points = np.column_stack([rng.uniform(-80, 80, (500, 2)), np.full(500, 3.0)]).astype(np.float32)
    dark, kind, near = np.full((500, 3), 0.05, np.float32), np.full(500, THING, np.uint8), np.full(500, 10.0, np.float32)
    roof, wall = (np.tile(np.array(n, np.float32), (500, 1)) for n in ((0, 0, 1), (1, 0, 0)))
    cover = Cover(snow=1.0)
    assert np.median(cover.albedo(dark, points, roof, kind, near)) > 0.6
    np.testing.assert_array_equal(cover.albedo(dark, points, wall, kind, near), dark)
    street = points * [1, 1, 0]
    assert 0.05 < np.median(cover.albedo(dark, street.astype(np.float32), roof, kind, near)) < 0.5  # half cleared


def test_a_cover_is_the_same_for_a_point_in_every_picture(rng: np.random.Generator) -> None:
    points = rng.uniform(-300, 300, (200, 3)).astype(np.float32) * np.array([1, 1, 0], np.float32)
    cover = Cover(wet=1.0)
    np.testing.assert_array_equal(cover.puddle(points)[::-1], cover.puddle(points[::-1]))
    beside = cover.puddle(points + np.array([1e-3, 0, 0], np.float32))
    assert np.abs(beside - cover.puddle(points)).max() < 0.05  # no steps, also not where the pattern repeats


def test_wet_streets_mirror_more_the_flatter_one_looks(town: Town, map_from_camera: Pose) -> None:
    stage = stage_for(town, replace(Light.overcast(), cover=Cover(wet=1.0)))
    aims = np.linspace([2.0, 1.55], [16.0, 1.55], 400)
    directions = (aims[:, :1] * map_from_camera.rotation[:, 2] - aims[:, 1:] * [0, 0, 1]).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(map_from_camera.translation.astype(np.float32), directions.shape)
    rays = Rays(origins, directions, np.full(400, 0.005, np.float32), 0.0)
    wet, dull = look(stage, rays).radiance, look(stage, rays, mirrored=True).radiance
    gained = (wet - dull).mean(axis=1)
    assert gained[-100:].mean() > 2 * gained[:100].mean() > 0
    dry = look(stage_for(town, Light.overcast()), rays).radiance
    assert dull.mean() < 0.6 * dry.mean()  # water takes away the light that grounds scatter


def test_leaves_fall(town: Town, small_camera: Camera, map_from_camera: Pose) -> None:
    mesh = scenery(town).mesh
    is_leaf = mesh.kind[mesh.surface] == LEAF
    bare = thinned(mesh, 1.0)
    np.testing.assert_array_equal(bare[~is_leaf], mesh.triangles_m[~is_leaf])

    def area(triangles: np.ndarray) -> float:
        edges = triangles[:, 1:] - triangles[:, :1]
        return float(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum())

    assert area(bare[is_leaf]) < 0.8 * area(mesh.triangles_m[is_leaf])
    half = thinned(mesh, 0.5)
    assert 0.4 < area(half[is_leaf]) / area(mesh.triangles_m[is_leaf]) < 0.6
    day, cold = (render(town, small_camera, map_from_camera, light) for light in (Light.afternoon(), winter()))
    assert np.isinf(cold.depth_m).sum() >= np.isinf(day.depth_m).sum()


@given(st.integers(0, 100))
def test_glare_only_adds_light(seed: int) -> None:
    picture = np.random.default_rng(seed).uniform(0, 0.5, (20, 30, 3)).astype(np.float32)
    np.testing.assert_array_equal(glare(picture, 1.0), picture)  # nothing too bright: nothing happens
    picture[10, 15] = 5.0
    assert (glare(picture, 1.0) >= picture).all() and glare(picture, 1.0)[10, 17, 0] > picture[10, 17, 0]


def test_rain_is_drawn_from_its_generator(town: Town, small_camera: Camera, map_from_camera: Pose) -> None:
    light = domain_light("rain")
    one, same, other = (render(town, small_camera, map_from_camera, light, np.random.default_rng(seed)).rgb for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    quiet = [render(town, small_camera, map_from_camera, light).rgb for _ in range(2)]
    np.testing.assert_array_equal(*quiet)


def test_the_night_from_above_has_no_headlights(town: Town) -> None:
    dark = render_satellite(town, 1.0, light=night()).rgb
    assert 0 < np.median(dark) < 80 < dark.max()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cover(snow=1.5), "shares are 0 to 1"),
        (lambda: Lamplight(lit=-0.1), "brightness is not negative"),
        (lambda: Rain(drops=-1), "not negative"),
        (lambda: domain_light("dark"), "there is no domain 'dark'; there are: day, "),
    ],
)
def test_what_can_not_be_is_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=said):
        make()
