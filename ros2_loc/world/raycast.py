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

from ros2_loc.world.cast import Cast, scene_of
from ros2_loc.world.cover import Cover, thinned
from ros2_loc.world.lamplight import Beam, LampHeads, Lamplight
from ros2_loc.world.light import Light, linear_table
from ros2_loc.world.scenery import Scenery, scenery
from ros2_loc.world.town import Town

Array32 = NDArray[np.float32]

_TAPS = 3
_SHADOW_OFFSET_M = 0.01
_FAINT = 0.002  # light of a lamp that is not looked for
_GROUND_M = 0.4  # what is level and lower can be a wet ground


class Rays(NamedTuple):
    """origins (N, 3), directions (N, 3) unit, map frame; a pixel's footprint at distance t is width_m + angle_rad (N,) * t.

    `beam` are the headlights of the car that carries the camera, for lights that have them.
    """

    origins: Array32
    directions: Array32
    angle_rad: Array32
    width_m: float
    beam: Beam | None = None

    def at(self, chosen: NDArray[Any]) -> Rays:
        """Some of them."""
        return self._replace(origins=self.origins[chosen], directions=self.directions[chosen], angle_rad=self.angle_rad[chosen])


class Seen(NamedTuple):
    """radiance (N, 3) linear, distance_m (N,), surface (N,) with -1 for the sky, sunlit (N,) 0 or 1.

    Triangles of movers are numbered as surfaces after those of the scenery.
    """

    radiance: Array32
    distance_m: Array32
    surface: NDArray[np.int32]
    sunlit: Array32


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Scenery in a light. Tables are (2 S, ...): the surfaces seen from the side of their normal, then from behind.

    `shading` (2 S, 3) are the normals that the light sees; `heads` the street lamps, where they are lit; `cast` what moves there.
    """

    scenery: Scenery
    light: Light
    embree: Any
    normals: Array32
    faces_sun: NDArray[np.bool_]
    of_sky: Array32
    of_sun: Array32
    shading: Array32
    heads: LampHeads | None
    cast: Cast | None = None

    def hides(self, starts: Array32, directions: Array32, reach_m: Array32 | None = None) -> NDArray[np.bool_]:
        """(N,) whether something stands in the way from these points in these unit directions, within reach_m (N,) of them."""
        hidden = np.asarray(self.embree.run(starts, directions, dists=reach_m, query="OCCLUDED") >= 0)
        if self.cast is not None and len(rest := np.flatnonzero(~hidden)):
            dists = None if reach_m is None else reach_m[rest]
            hidden[rest] = self.cast.embree.run(starts[rest], directions[rest], dists=dists, query="OCCLUDED") >= 0
        return hidden

    def numbers(self) -> NDArray[np.int32]:
        """(S,) number of the object that each surface belongs to, 0 of none; triangles of movers follow those of the scenery."""
        cars = self.scenery.mesh.car
        return cars if self.cast is None else np.concatenate([cars, self.cast.number])


def look(stage: Stage, rays: Rays, mirrored: bool = False) -> Seen:
    """What each ray sees; in what is `mirrored` by a wet ground nothing is mirrored once more."""
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
    if stage.cast is not None:
        show_cast(stage, stage.cast, rays, Seen(radiance, distance, surface, sunlit))
    cover = stage.light.cover
    if cover is not None and cover.wet and not mirrored:
        _mirror(stage, cover, rays, surface, distance, radiance)
    return Seen(radiance, distance, surface, sunlit)


def _surface_radiance(stage: Stage, rays: Rays, surface: NDArray[np.int32], distance: Array32) -> tuple[Array32, Array32]:
    points = rays.origins + rays.directions * distance[:, None]
    facing = -np.einsum("nk,nk->n", stage.scenery.mesh.normals[surface], rays.directions)
    side = surface + (facing < 0) * np.int32(len(stage.normals) // 2)
    grey = _texture(stage, rays, surface, points, distance, np.abs(facing), side)
    sunlit = _sunlight(stage, points, side)
    albedo = painted = np.take(linear_table(), grey.astype(np.uint8))
    light, kind = stage.light, stage.scenery.mesh.kind[surface]
    if light.cover is not None:
        albedo = light.cover.albedo(painted, points, stage.shading[side], kind, distance)
    of_sky = stage.of_sky[side]
    if stage.cast is not None:
        of_sky = of_sky * stage.cast.openness(points, stage.normals[surface])[:, None]
    radiance = albedo * (of_sky + stage.of_sun[side] * sunlit[:, None])
    if light.lamps is not None:
        radiance += albedo * lamplight(stage, light.lamps, rays.beam, points, stage.normals[side], stage.shading[side])
        radiance += light.lamps.panes(_panes(stage, surface, points), surface, painted)
        if stage.heads is not None:
            radiance += stage.heads.shining(points)
    return light.haze(radiance, distance), sunlit


def lamplight(stage: Stage, lamps: Lamplight, beam: Beam | None, points: Array32, facets: Array32, normals: Array32) -> Array32:
    """(N, 3) what white surfaces reflect of street lamps, which throw shadows, and of headlights, whose shadows nobody sees.

    Shadows are looked for from just above their facets (N, 3 unit normals); the light sees `normals` (N, 3).
    """
    out = np.zeros((len(points), 3), np.float32)
    if stage.heads is not None:
        point, lamp = stage.heads.near(points)
        toward = stage.heads.at_m[lamp] - points[point]
        distance = np.maximum(np.linalg.norm(toward, axis=1), 1e-3)
        toward /= distance[:, None]
        given = stage.heads.light(toward, distance, normals[point], lamp)
        chosen = np.flatnonzero(given.max(axis=1) > _FAINT)
        if len(chosen):
            point, toward, distance, given = point[chosen], toward[chosen], distance[chosen], given[chosen]
            starts = points[point] + facets[point] * np.float32(_SHADOW_OFFSET_M)
            hidden = stage.hides(starts, toward, distance - np.float32(0.03))
            np.add.at(out, point[~hidden], given[~hidden])
    if beam is not None and lamps.headlights:
        out += np.float32(lamps.headlights) * beam.light(points, normals)
    if stage.cast is not None:
        out += stage.cast.headlight(points, normals, lamps.headlights)
    return out


def _panes(stage: Stage, surface: NDArray[np.int32], points: Array32) -> NDArray[np.uint8]:
    """(N,) numbers of the windows at these points."""
    texels = stage.scenery.mesh.texels[surface]
    return stage.scenery.atlas.pane(np.einsum("nij,nj->ni", texels[:, :, :3], points) + texels[:, :, 3])


def show_cast(stage: Stage, cast: Cast, rays: Rays, seen: Seen) -> None:
    """Puts movers before what rays have seen, where they are nearer."""
    origins, directions = np.ascontiguousarray(rays.origins), np.ascontiguousarray(rays.directions)
    reach = np.where(np.isfinite(seen.distance_m), seen.distance_m, np.float32(1e30)).astype(np.float32)
    hit = np.flatnonzero(cast.embree.run(origins, directions, dists=reach, query="INTERSECT") >= 0)
    if not len(hit):
        return
    hits = cast.embree.run(origins[hit], directions[hit], dists=reach[hit], query="INTERSECT", output=True)
    triangle, distance = hits["primID"], hits["tfar"]
    seen.surface[hit] = triangle + len(stage.scenery.mesh.normals)
    seen.distance_m[hit] = distance
    normals = cast.normal_at(triangle, hits["u"], hits["v"], rays.directions[hit])
    seen.radiance[hit], seen.sunlit[hit] = _mover_radiance(stage, cast, rays.at(hit), triangle, distance, normals)


def _mover_radiance(
    stage: Stage, cast: Cast, rays: Rays, triangle: NDArray[np.int32], distance: Array32, normals: Array32
) -> tuple[Array32, Array32]:
    light = stage.light
    points = rays.origins + rays.directions * distance[:, None]
    of_sky, of_sun = light.on(normals)
    sunlit = np.zeros(len(points), np.float32)
    lit = np.flatnonzero(of_sun.max(axis=1) > _FAINT) if max(light.sun_rgb) >= 0.05 else np.zeros(0, int)
    if len(lit):
        starts = points[lit] + (normals[lit] - rays.directions[lit]) * np.float32(2 * _SHADOW_OFFSET_M)
        sunlit[lit] = ~stage.hides(starts, np.tile(light.toward_sun, (len(lit), 1)))
    albedo = cast.albedo[triangle]
    if light.cover is not None and light.cover.snow:
        snowed = light.cover.albedo(albedo, points, normals, np.zeros(len(points), np.uint8), distance)
        albedo = np.where(cast.weathered[triangle][:, None], snowed, albedo)
    near_ground = np.clip(0.45 + points[:, 2:] * np.float32(0.8) + np.float32(0.5) * normals[:, 2:], 0.25, 1)
    radiance = albedo * (of_sky * near_ground + of_sun * sunlit[:, None])
    if light.lamps is not None:
        radiance += albedo * lamplight(stage, light.lamps, rays.beam, points, normals, normals)
    radiance += cast.gloss[triangle][:, None] * _glint(light, rays.directions, normals, sunlit) + cast.glow[triangle]
    return light.haze(radiance, distance), sunlit


def _glint(light: Light, directions: Array32, normals: Array32, sunlit: Array32) -> Array32:
    """(N, 3) what a varnish mirrors: sky above, houses around, the sun (Fresnel's equations by Schlick's approximation)."""
    cosine = -np.einsum("nk,nk->n", directions, normals)
    mirrored = directions + 2 * cosine[:, None] * normals
    share = np.float32(0.045) + np.float32(0.955) * np.clip(1 - cosine, 0, 1) ** 5
    houses = np.array(light.sky_rgb, np.float32) * np.float32(0.28)
    above = np.clip((mirrored[:, 2:] - np.float32(0.12)) * 5, 0, 1)
    around = houses + (light.sky(mirrored) - houses) * above
    toward = np.clip(np.einsum("nk,k->n", mirrored, light.toward_sun), 0, 1)
    around += (sunlit * toward**400 * np.float32(40))[:, None] * np.array(light.sun_rgb, np.float32)
    return np.asarray(np.minimum(share, 0.6)[:, None] * around, np.float32)


def _mirror(stage: Stage, cover: Cover, rays: Rays, surface: NDArray[np.int32], distance: Array32, radiance: Array32) -> None:
    """Adds to the radiance of wet grounds what they mirror (Fresnel's equations for water by Schlick's approximation)."""
    ground = np.flatnonzero((surface >= 0) & (surface < len(stage.scenery.mesh.normals)) & (rays.directions[:, 2] < 0))
    points = rays.origins[ground] + rays.directions[ground] * distance[ground, None]
    level = (np.abs(stage.normals[surface[ground], 2]) > 0.95) & (points[:, 2] < _GROUND_M)
    ground, points = ground[level], points[level]
    if not len(ground):
        return
    down = rays.directions[ground]
    ripple = cover.ripple(points)
    up = down * np.array([1, 1, -1], np.float32) + ripple
    up[:, 2] = np.maximum(up[:, 2], 0.003)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    offset = points + np.array([0, 0, _SHADOW_OFFSET_M], np.float32)
    seen = look(stage, rays.at(ground)._replace(origins=offset, directions=up), mirrored=True)
    share = (0.02 + 0.98 * (1 + down[:, 2]) ** 5) * cover.puddle(points)
    clear = np.exp(-distance[ground] / np.float32(stage.light.haze_m))
    radiance[ground] += (share * clear)[:, None] * (np.minimum(seen.radiance, 3.0) - radiance[ground])


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
        lit[faces] = ~stage.hides(origins, directions)
    return lit


@lru_cache(maxsize=4)
def stage_for(town: Town, light: Light, parked: bool = True) -> Stage:
    """The stage of a town in a light, with or without its parked cars; the last few are kept."""
    stuff = scenery(town)
    mesh = stuff.mesh
    normals = np.concatenate([mesh.normals, -mesh.normals])
    shading = np.concatenate([mesh.shading, mesh.shading])
    shading = shading * np.where(np.einsum("nk,nk->n", shading, normals) < -0.3, -1, 1).astype(np.float32)[:, None]
    of_sky, of_sun = light.on(shading)
    bare = light.cover.bare if light.cover else 0.0
    heads = LampHeads.of(town, light.lamps) if light.lamps else None
    return Stage(stuff, light, _embree(stuff, bare, parked), normals, normals @ light.toward_sun > 0, of_sky, of_sun, shading, heads)


@lru_cache(maxsize=4)
def _embree(stuff: Scenery, bare: float, parked: bool) -> Any:
    triangles = stuff.mesh.triangles_m if bare == 0 else thinned(stuff.mesh, bare)
    if not parked:
        triangles = np.where((stuff.mesh.car[stuff.mesh.surface] > 0)[:, None, None], triangles[:, :1], triangles)
    return scene_of(triangles)
