"""Pictures of the town: what a camera sees, with exact depth, and what a satellite sees.

Rays are cast by Embree (through the package embreex); every ray samples the atlas with the footprint of its pixel (mip levels, several taps
along the footprint where the surface is slanted); pixels on the outline of things are cast four times. No GPU, no display.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import ConfigError
from ros2_loc.world.light import Light, linear_table
from ros2_loc.world.town import Town

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

_TAPS = 3
_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))
_SATELLITE_HEIGHT_M = 200.0
_SHADOW_OFFSET_M = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera saw.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32, the z coordinate in the optical frame (not the distance) of what the centre of each pixel shows;
            inf where there is sky or the camera has no ray.
    """

    rgb: NDArray[np.uint8]
    depth_m: Array32


class Satellite(NamedTuple):
    """A picture from above: rgb (H, W, 3) uint8, north up; bounds_m (east, north, east, north) of its lower left and upper right corners."""

    rgb: NDArray[np.uint8]
    bounds_m: tuple[float, float, float, float]


class _Rays(NamedTuple):
    """origins (N, 3), directions (N, 3) unit, map frame; a pixel's footprint at distance t is width_m + angle_rad (N,) * t."""

    origins: Array32
    directions: Array32
    angle_rad: Array32
    width_m: float

    def at(self, chosen: NDArray[Any]) -> _Rays:
        return _Rays(self.origins[chosen], self.directions[chosen], self.angle_rad[chosen], self.width_m)


class _Seen(NamedTuple):
    """radiance (N, 3) linear, distance_m (N,), surface (N,) with -1 for the sky, sunlit (N,) 0 or 1."""

    radiance: Array32
    distance_m: Array32
    surface: NDArray[np.int32]
    sunlit: Array32


def render(town: Town, camera: Camera, map_from_camera: Pose, light: Light, rng: np.random.Generator | None = None) -> View:
    """What `camera` (any model) sees from a pose of its optical frame; `rng` draws the sensor's noise, none without it."""
    grid = _camera_grid(camera)
    rotation = map_from_camera.rotation.astype(np.float32)
    directions = grid.directions @ rotation.T
    origins = np.broadcast_to(map_from_camera.translation.astype(np.float32), directions.shape)
    shape = (camera.height, camera.width)
    steps = (grid.right @ rotation.T, grid.down @ rotation.T)
    seen = _smooth_outlines(_stage(town, light), _Rays(origins, directions, grid.angle_rad, 0.0), steps, shape)
    rgb = light.develop(seen.radiance, grid.falloff, rng)
    depth = np.where(grid.valid, seen.distance_m * grid.directions[:, 2], np.inf)
    rgb[~grid.valid] = 0
    return View(rgb.reshape(*shape, 3), depth.reshape(shape).astype(np.float32))


def render_satellite(
    town: Town, metres_per_px: float, bounds_m: tuple[float, float, float, float] | None = None, light: Light | None = None
) -> Satellite:
    """The town from straight above, orthographic, north up.

    Args:
        metres_per_px: ground size of a pixel.
        bounds_m: (east, north) of the south-west and of the north-east corner; the whole town by default. The upper right corner gives
            way to a whole number of pixels.
        light: a clear afternoon by default.

    Raises:
        ConfigError: bounds without area or a resolution that is not positive.
    """
    east, north, east1, north1 = bounds_m or town.bounds_m
    if not (metres_per_px > 0 and east1 - east >= metres_per_px and north1 - north >= metres_per_px):
        raise ConfigError(f"a satellite view needs metres_per_px > 0 and bounds of at least a pixel, got {metres_per_px} and {bounds_m}")
    stage = _stage(town, replace(light or Light.afternoon(), haze_m=1e6))
    width, height = round((east1 - east) / metres_per_px), round((north1 - north) / metres_per_px)
    rows = [_satellite_rows(stage, metres_per_px, (east, north), (width, height), r) for r in range(0, height, 256)]
    return Satellite(np.concatenate(rows), (east, north, east + width * metres_per_px, north + height * metres_per_px))


def _satellite_rows(stage: _Stage, metres_per_px: float, corner: tuple[float, float], size: tuple[int, int], first: int) -> NDArray[np.uint8]:
    width, height = size
    rows = np.arange(first, min(first + 256, height))
    east = corner[0] + (np.arange(width) + 0.5) * metres_per_px
    north = corner[1] + (height - rows - 0.5) * metres_per_px
    x, y = (a.ravel() for a in np.meshgrid(east, north))
    total = np.zeros((x.size, 3), np.float32)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), (x.size, 3))
    for dx, dy in _SUBPIXELS:
        above = np.column_stack([x + dx * metres_per_px, y - dy * metres_per_px, np.full(x.size, _SATELLITE_HEIGHT_M)])
        total += _look(stage, _Rays(above.astype(np.float32), down, np.zeros(x.size, np.float32), metres_per_px / 2)).radiance
    still = np.random.default_rng([stage.town.seed, first])
    return stage.light.develop(total / len(_SUBPIXELS), np.zeros(x.size, np.float32), still).reshape(len(rows), width, 3)


def _smooth_outlines(stage: _Stage, rays: _Rays, steps: tuple[Array32, Array32], shape: tuple[int, int]) -> _Seen:
    """The centre ray of every pixel, and the mean of four where a neighbour shows another surface or the edge of a shadow."""
    seen = _look(stage, rays)
    label = (seen.surface * 2 + (seen.sunlit > 0.5)).reshape(shape)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    edge = np.zeros(shape, bool)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    chosen = np.flatnonzero(edge)
    offsets = np.array(_SUBPIXELS, np.float32)
    directions = rays.directions[chosen] + offsets[:, :1, None] * steps[0][chosen] + offsets[:, 1:, None] * steps[1][chosen]
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    again = rays.at(np.tile(chosen, len(offsets)))._replace(directions=directions.reshape(-1, 3))
    seen.radiance[chosen] = _look(stage, again).radiance.reshape(len(offsets), -1, 3).mean(axis=0)
    return seen


def _look(stage: _Stage, rays: _Rays) -> _Seen:
    hits = stage.scene.run(np.ascontiguousarray(rays.origins), np.ascontiguousarray(rays.directions), query="INTERSECT", output=True)
    is_hit = hits["primID"] >= 0
    hit, sky = np.flatnonzero(is_hit), np.flatnonzero(~is_hit)
    surface = np.full(len(is_hit), -1, np.int32)
    surface[hit] = stage.town.mesh.surface[hits["primID"][hit]]
    distance = np.where(is_hit, hits["tfar"], np.float32(np.inf))
    radiance = np.empty((len(surface), 3), np.float32)
    radiance[sky] = stage.light.sky(rays.directions[sky])
    sunlit = np.zeros(len(surface), np.float32)
    radiance[hit], sunlit[hit] = _surface_radiance(stage, rays.at(hit), surface[hit], distance[hit])
    return _Seen(radiance, distance, surface, sunlit)


def _surface_radiance(stage: _Stage, rays: _Rays, surface: NDArray[np.int32], distance: Array32) -> tuple[Array32, Array32]:
    points = rays.origins + rays.directions * distance[:, None]
    facing = -np.einsum("nk,nk->n", stage.town.mesh.normals[surface], rays.directions)
    side = surface + (facing < 0) * np.int32(len(stage.normals) // 2)
    grey = _texture(stage, rays, surface, points, distance, np.abs(facing), side)
    sunlit = _sunlight(stage, points, side)
    albedo = np.take(linear_table(), grey.astype(np.uint8))
    radiance = albedo * (stage.of_sky[side] + stage.of_sun[side] * sunlit[:, None])
    return stage.light.haze(radiance, distance), sunlit


def _texture(
    stage: _Stage, rays: _Rays, surface: NDArray[np.int32], points: Array32, distance: Array32, cosine: Array32, side: NDArray[np.int32]
) -> Array32:
    """(N, 3) grey levels: one tap where the surface faces the camera, several along the footprint where it is slanted."""
    mesh, atlas = stage.town.mesh, stage.town.atlas
    texels = mesh.texels[surface]
    uv = np.einsum("nij,nj->ni", texels[:, :, :3], points) + texels[:, :, 3]
    width = rays.width_m + rays.angle_rad * distance
    length = width / np.maximum(cosine, np.float32(0.02))
    density = mesh.px_per_m[surface]
    is_slanted = length > np.float32(1.5) * width
    slanted, upright = np.flatnonzero(is_slanted), np.flatnonzero(~is_slanted)
    grey = np.empty((len(surface), 3), np.float32)
    grey[upright] = atlas.sample(uv[None, upright], length[upright] * density[upright])
    along = rays.directions[slanted] + stage.normals[side[slanted]] * cosine[slanted, None]
    along *= (width[slanted] / (cosine[slanted] * np.sqrt(np.maximum(1 - cosine[slanted] ** 2, 1e-6)) + 1e-3))[:, None]
    step = np.einsum("nij,nj->ni", texels[slanted, :, :3], along)
    shifts = ((np.arange(_TAPS, dtype=np.float32) + 0.5) / _TAPS - 0.5)[:, None, None]
    size = np.maximum(width[slanted], length[slanted] / _TAPS) * density[slanted]
    grey[slanted] = atlas.sample(uv[slanted] + shifts * step, size)
    return grey


def _sunlight(stage: _Stage, points: Array32, side: NDArray[np.int32]) -> Array32:
    """(N,) 1 where the sun reaches the point."""
    lit = np.zeros(len(points), np.float32)
    if max(stage.light.sun_rgb) < 0.05:
        return lit
    faces = np.flatnonzero(stage.faces_sun[side])
    if len(faces):
        origins = points[faces] + stage.normals[side[faces]] * np.float32(_SHADOW_OFFSET_M)
        directions = np.tile(stage.light.toward_sun, (len(faces), 1))
        lit[faces] = stage.scene.run(origins, directions, query="OCCLUDED") < 0
    return lit


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A town in a light. Tables are (2 S, ...): the surfaces seen from the side of their normal, then from behind."""

    town: Town
    light: Light
    scene: Any
    normals: Array32
    faces_sun: NDArray[np.bool_]
    of_sky: Array32
    of_sun: Array32


@lru_cache(maxsize=4)
def _stage(town: Town, light: Light) -> _Stage:
    mesh = town.mesh
    normals = np.concatenate([mesh.normals, -mesh.normals])
    shading = np.concatenate([mesh.shading, mesh.shading])
    shading = shading * np.where(np.einsum("nk,nk->n", shading, normals) < -0.3, -1, 1).astype(np.float32)[:, None]
    of_sky, of_sun = light.on(shading)
    return _Stage(town, light, _scene(town), normals, normals @ light.toward_sun > 0, of_sky, of_sun)


@lru_cache(maxsize=2)
def _scene(town: Town) -> Any:
    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, town.mesh.triangles_m)
    return scene


class _CameraGrid(NamedTuple):
    """Per pixel, row by row, optical frame: unit directions, their change per pixel to the right and down, the pixel's angle, the vignette."""

    directions: Array32
    right: Array32
    down: Array32
    angle_rad: Array32
    falloff: Array32
    valid: NDArray[np.bool_]


@lru_cache(maxsize=4)
def _camera_grid(camera: Camera) -> _CameraGrid:
    w, h = camera.width, camera.height
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    rays = camera.rays(np.column_stack([x.ravel(), y.ravel()])).reshape(h, w, 3)
    valid = np.isfinite(rays).all(axis=-1)
    rays[~valid] = (0.0, 0.0, 1.0)
    down, right = np.gradient(rays, axis=(0, 1))
    angle = np.sqrt(np.linalg.norm(right, axis=-1) * np.linalg.norm(down, axis=-1))
    radius = ((x / w - 0.5) ** 2 + (y / h - 0.5) ** 2) * 2
    flat = (rays.reshape(-1, 3), right.reshape(-1, 3), down.reshape(-1, 3), angle.ravel(), radius.ravel())
    return _CameraGrid(*(a.astype(np.float32) for a in flat), valid.ravel())
