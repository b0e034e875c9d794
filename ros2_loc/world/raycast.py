"""Rays into the scenery: what they hit, how it is lit, what of its picture they see.

Embree (through the package embreex) finds the hits. Every ray samples the atlas with the footprint of its pixel: a mip level, and several
taps along the footprint where the surface is slanted. Shadows are a second ray, towards the sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import MissingDependencyError
from ros2_loc.world.light import Light, linear_table
from ros2_loc.world.scenery import Scenery, scenery
from ros2_loc.world.town import Town

Array32 = NDArray[np.float32]

_TAPS = 3
_SHADOW_OFFSET_M = 0.01


class Rays(NamedTuple):
    """origins (N, 3), directions (N, 3) unit, map frame; a pixel's footprint at distance t is width_m + angle_rad (N,) * t."""

    origins: Array32
    directions: Array32
    angle_rad: Array32
    width_m: float

    def at(self, chosen: NDArray[Any]) -> Rays:
        """Some of them."""
        return Rays(self.origins[chosen], self.directions[chosen], self.angle_rad[chosen], self.width_m)


class Seen(NamedTuple):
    """radiance (N, 3) linear, distance_m (N,), surface (N,) with -1 for the sky, sunlit (N,) 0 or 1."""

    radiance: Array32
    distance_m: Array32
    surface: NDArray[np.int32]
    sunlit: Array32


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Scenery in a light. Tables are (2 S, ...): the surfaces seen from the side of their normal, then from behind."""

    scenery: Scenery
    light: Light
    embree: Any
    normals: Array32
    faces_sun: NDArray[np.bool_]
    of_sky: Array32
    of_sun: Array32


def look(stage: Stage, rays: Rays) -> Seen:
    """What each ray sees."""
    hits = stage.embree.run(np.ascontiguousarray(rays.origins), np.ascontiguousarray(rays.directions), query="INTERSECT", output=True)
    is_hit = hits["primID"] >= 0
    hit, sky = np.flatnonzero(is_hit), np.flatnonzero(~is_hit)
    surface = np.full(len(is_hit), -1, np.int32)
    surface[hit] = stage.scenery.mesh.surface[hits["primID"][hit]]
    distance = np.where(is_hit, hits["tfar"], np.float32(np.inf))
    radiance = np.empty((len(surface), 3), np.float32)
    radiance[sky] = stage.light.sky(rays.directions[sky])
    sunlit = np.zeros(len(surface), np.float32)
    radiance[hit], sunlit[hit] = _surface_radiance(stage, rays.at(hit), surface[hit], distance[hit])
    return Seen(radiance, distance, surface, sunlit)


def _surface_radiance(stage: Stage, rays: Rays, surface: NDArray[np.int32], distance: Array32) -> tuple[Array32, Array32]:
    points = rays.origins + rays.directions * distance[:, None]
    facing = -np.einsum("nk,nk->n", stage.scenery.mesh.normals[surface], rays.directions)
    side = surface + (facing < 0) * np.int32(len(stage.normals) // 2)
    grey = _texture(stage, rays, surface, points, distance, np.abs(facing), side)
    sunlit = _sunlight(stage, points, side)
    albedo = np.take(linear_table(), grey.astype(np.uint8))
    radiance = albedo * (stage.of_sky[side] + stage.of_sun[side] * sunlit[:, None])
    return stage.light.haze(radiance, distance), sunlit


def _texture(
    stage: Stage, rays: Rays, surface: NDArray[np.int32], points: Array32, distance: Array32, cosine: Array32, side: NDArray[np.int32]
) -> Array32:
    """(N, 3) grey levels: one tap where the surface faces the camera, several along the footprint where it is slanted."""
    mesh, atlas = stage.scenery.mesh, stage.scenery.atlas
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


def _sunlight(stage: Stage, points: Array32, side: NDArray[np.int32]) -> Array32:
    """(N,) 1 where the sun reaches the point."""
    lit = np.zeros(len(points), np.float32)
    if max(stage.light.sun_rgb) < 0.05:
        return lit
    faces = np.flatnonzero(stage.faces_sun[side])
    if len(faces):
        origins = points[faces] + stage.normals[side[faces]] * np.float32(_SHADOW_OFFSET_M)
        directions = np.tile(stage.light.toward_sun, (len(faces), 1))
        lit[faces] = stage.embree.run(origins, directions, query="OCCLUDED") < 0
    return lit


@lru_cache(maxsize=4)
def stage_for(town: Town, light: Light) -> Stage:
    """The stage of a town in a light; the last few are kept."""
    stuff = scenery(town)
    mesh = stuff.mesh
    normals = np.concatenate([mesh.normals, -mesh.normals])
    shading = np.concatenate([mesh.shading, mesh.shading])
    shading = shading * np.where(np.einsum("nk,nk->n", shading, normals) < -0.3, -1, 1).astype(np.float32)[:, None]
    of_sky, of_sun = light.on(shading)
    return Stage(stuff, light, _embree(stuff), normals, normals @ light.toward_sun > 0, of_sky, of_sun)


@lru_cache(maxsize=2)
def _embree(stuff: Scenery) -> Any:
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise MissingDependencyError("pictures of the town are cast by Embree: pip install embreex (x86-64, or arm64 macOS)") from error
    scene = EmbreeScene()
    TriangleMesh(scene, stuff.mesh.triangles_m)
    return scene
