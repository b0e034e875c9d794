"""Pictures of the town: what a camera sees, with exact depth, and what a satellite sees.

Rays go through the centre of every pixel, so that its depth is exact; where something ends, two more smooth its outline.
No GPU, no display.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import ConfigError
from ros2_loc.world.cast import cast_of, in_sight, scene_of, shown
from ros2_loc.world.lamplight import Beam
from ros2_loc.world.light import Light
from ros2_loc.world.movers import PlacedMover, parked_cars
from ros2_loc.world.objects import SeenObject, seen_objects
from ros2_loc.world.raycast import Rays, Seen, Stage, look, stage_for
from ros2_loc.world.town import Town

Array32 = NDArray[np.float32]

_OUTLINE_SUBPIXELS = ((-0.33, -0.33), (0.33, 0.33))  # beside the centre
_SATELLITE_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))
_SATELLITE_HEIGHT_M = 200.0
_LATTICE_M = 512.0  # more than twice as far as movers are shown


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a camera saw.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32, the z coordinate in the optical frame (not the distance) of what the centre of each pixel shows;
            inf where there is sky or the camera has no ray.
        objects: (H, W) int32, number of the mover or parked car that the centre of each pixel shows, 0 elsewhere.
        seen: those objects that show enough pixels.
    """

    rgb: NDArray[np.uint8]
    depth_m: Array32
    objects: NDArray[np.int32]
    seen: tuple[SeenObject, ...]


class Satellite(NamedTuple):
    """A picture from above.

    rgb is (H, W, 3) uint8, north up; bounds_m is (east, north) of its lower left, then of its upper right corner.
    """

    rgb: NDArray[np.uint8]
    bounds_m: tuple[float, float, float, float]


def render(
    town: Town,
    camera: Camera,
    map_from_camera: Pose,
    light: Light,
    rng: np.random.Generator | None = None,
    movers: Sequence[PlacedMover] = (),
) -> View:
    """What `camera` (any model) sees from a pose of its optical frame.

    Args:
        rng: draws the sensor's noise, none without it.
        movers: what is on its way there, with numbers above those of the parked cars. With any of them parked cars are shown in the same
            detail; without, the picture is that of the town alone.
    """
    grid = _camera_grid(camera)
    directions = _rotate(map_from_camera, grid.directions)
    origins = np.broadcast_to(map_from_camera.translation.astype(np.float32), directions.shape)
    rays = Rays(origins, directions, grid.angle_rad, 0.0, Beam.below(map_from_camera))
    parked = parked_cars(town)
    stage = stage_for(town, light)
    if movers:
        _check_numbers(movers, len(parked))
        near = in_sight((*parked, *movers), map_from_camera, directions[grid.valid])
        stage = replace(stage_for(town, light, False), cast=cast_of(near, light, map_from_camera))
    seen = _smooth_outlines(stage, rays, grid, map_from_camera)
    rgb = light.develop(light.through_lens(seen.radiance, grid.shape, rng), grid.falloff, rng)
    depth = np.where(grid.valid, seen.distance_m * grid.directions[:, 2], np.inf)
    rgb[~grid.valid] = 0
    numbers = stage.numbers()
    objects = np.where(grid.valid & (seen.surface >= 0), numbers[seen.surface], 0).astype(np.int32).reshape(grid.shape)
    found = seen_objects(objects, (*parked, *movers), lambda some: _whole_px(stage, rays, grid.valid, map_from_camera, some))
    return View(rgb.reshape(*grid.shape, 3), depth.reshape(grid.shape).astype(np.float32), objects, found)


def _check_numbers(movers: Sequence[PlacedMover], parked: int) -> None:
    numbers = [mover.id for mover in movers]
    if len(set(numbers)) < len(numbers) or min(numbers) <= parked:
        raise ConfigError(f"movers need numbers of their own above {parked}, which are those of the parked cars")


def _whole_px(stage: Stage, rays: Rays, valid: NDArray[np.bool_], map_from_camera: Pose, movers: Sequence[PlacedMover]) -> dict[int, int]:
    """How many pixels would show each of them if it were alone: all are hit in one scene, in cells of a lattice far apart."""
    counts = {}
    triangles, origins, directions, sizes = [], [], [], []
    eye = map_from_camera.translation.astype(np.float32)
    for k, mover in enumerate(movers):
        cell = _LATTICE_M * (np.array(np.unravel_index(k, (16, 16, 16)), np.float32) - 8)
        shape = (_parked_triangles(stage, mover.id) if stage.cast is None else shown(mover, map_from_camera).triangles_m) - eye
        chosen = np.flatnonzero(valid & _toward(shape, rays.directions))
        triangles.append(shape + cell)
        origins.append(np.broadcast_to(cell, (len(chosen), 3)))
        directions.append(rays.directions[chosen])
        sizes.append(len(chosen))
    if triangles:
        scene = scene_of(np.concatenate(triangles))
        reach = np.full(sum(sizes), _LATTICE_M / 2, np.float32)
        hit = scene.run(np.ascontiguousarray(np.concatenate(origins)), np.concatenate(directions), dists=reach, query="INTERSECT") >= 0
        for mover, part in zip(movers, np.split(hit, np.cumsum(sizes)[:-1]), strict=True):
            counts[mover.id] = int(part.sum())
    return counts


def _parked_triangles(stage: Stage, number: int) -> Array32:
    mesh = stage.scenery.mesh
    return mesh.triangles_m[mesh.car[mesh.surface] == number]


def _toward(triangles: Array32, directions: Array32) -> NDArray[np.bool_]:
    """(N,) whether a ray from the origin may hit one of the triangles."""
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    middle, reach = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    distance = float(np.linalg.norm(middle))
    if distance <= reach:
        return np.ones(len(directions), bool)
    cosine = np.sqrt(1 - (reach / distance) ** 2) - 1e-4
    return np.asarray(np.einsum("nk,k->n", directions, middle / np.float32(distance)) >= cosine)


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
    stage = stage_for(town, replace(light or Light.afternoon(), haze_m=1e6))
    width, height = round((east1 - east) / metres_per_px), round((north1 - north) / metres_per_px)
    rows = [_satellite_rows(stage, metres_per_px, (east, north), (width, height), r) for r in range(0, height, 256)]
    return Satellite(np.concatenate(rows), (east, north, east + width * metres_per_px, north + height * metres_per_px))


def _satellite_rows(
    stage: Stage, metres_per_px: float, corner: tuple[float, float], size: tuple[int, int], first: int
) -> NDArray[np.uint8]:
    width, height = size
    rows = np.arange(first, min(first + 256, height))
    east = corner[0] + (np.arange(width) + 0.5) * metres_per_px
    north = corner[1] + (height - rows - 0.5) * metres_per_px
    x, y = (a.ravel() for a in np.meshgrid(east, north))
    total = np.zeros((x.size, 3), np.float32)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), (x.size, 3))
    for dx, dy in _SATELLITE_SUBPIXELS:
        above = np.column_stack([x + dx * metres_per_px, y - dy * metres_per_px, np.full(x.size, _SATELLITE_HEIGHT_M)])
        total += look(stage, Rays(above.astype(np.float32), down, np.zeros(x.size, np.float32), metres_per_px / 2)).radiance
    return stage.light.develop(total / len(_SATELLITE_SUBPIXELS), np.zeros(x.size, np.float32), None).reshape(len(rows), width, 3)


def _smooth_outlines(stage: Stage, rays: Rays, grid: _CameraGrid, map_from_camera: Pose) -> Seen:
    """The centre ray of every pixel, and the mean of three where a neighbour shows another surface or the edge of a shadow."""
    seen = look(stage, rays)
    label = (seen.surface * 2 + (seen.sunlit > 0.5)).reshape(grid.shape)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    edge = np.zeros(grid.shape, bool)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    chosen = np.flatnonzero(edge)
    offsets = np.array(_OUTLINE_SUBPIXELS, np.float32)
    beside = grid.directions[chosen] + offsets[:, :1, None] * grid.right[chosen] + offsets[:, 1:, None] * grid.down[chosen]
    beside /= np.linalg.norm(beside, axis=2, keepdims=True)
    again = rays.at(np.tile(chosen, len(offsets)))._replace(directions=_rotate(map_from_camera, beside.reshape(-1, 3)))
    seen.radiance[chosen] += look(stage, again).radiance.reshape(len(offsets), -1, 3).sum(axis=0)
    seen.radiance[chosen] /= 1 + len(offsets)
    return seen


def _rotate(b_from_a: Pose, vectors: Array32) -> Array32:
    """Without BLAS, whose threads wait for one another on a busy machine and gain nothing here."""
    return np.einsum("nk,jk->nj", vectors, b_from_a.rotation.astype(np.float32))


class _CameraGrid(NamedTuple):
    """Per pixel, row by row, optical frame: unit directions, their change per pixel to the right and down, the pixel's angle, the vignette,
    and whether the camera has a ray there at all; shape is (height, width)."""

    directions: Array32
    right: Array32
    down: Array32
    angle_rad: Array32
    falloff: Array32
    valid: NDArray[np.bool_]
    shape: tuple[int, int]


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
    directions, right, down = (a.reshape(-1, 3).astype(np.float32) for a in (rays, right, down))
    return _CameraGrid(directions, right, down, angle.ravel().astype(np.float32), radius.ravel().astype(np.float32), valid.ravel(), (h, w))
