"""Movers in a picture: what rays hit of them, how they are lit, what shade they throw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose
from ros2_loc.errors import MissingDependencyError
from ros2_loc.world.lamplight import Beam
from ros2_loc.world.light import Light
from ros2_loc.world.materials import GLOSS, HEAD, TAIL, palette
from ros2_loc.world.movers import PlacedMover
from ros2_loc.world.solids import Solid

Array32 = NDArray[np.float32]

_HEAD_RGB, _TAIL_RGB = np.array([5.0, 4.8, 4.2], np.float32), np.array([1.1, 0.05, 0.03], np.float32)
_SHADE_M = 0.55  # reach of the dimness around what stands on the ground
_BEAM_M = 30.0
_NEAR_M, _FAR_M = 25.0, 160.0
_FINE_M, _SHADED_M = 30.0, 70.0  # nearer than this spokes and gaps are seen, and the dimness around what stands on the ground
_BEAM_STRENGTH = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """The movers of one picture.

    Attributes:
        embree: the scene of their triangles.
        normals: (T, 3, 3) at the triangles' corners, map frame; albedo (T, 3), gloss (T,), glow (T, 3) of each.
        number: (T,) the mover's id; weathered (T,): whether snow may lie there.
        footprints: (M, 8) middle, forward direction, half length, half width, height above, reach of the contact shadow.
        beams: of headlights that are on.
    """

    embree: Any
    normals: Array32
    albedo: Array32
    gloss: Array32
    glow: Array32
    number: NDArray[np.int32]
    weathered: NDArray[np.bool_]
    footprints: Array32
    beams: tuple[Beam, ...]

    def openness(self, points: Array32, normals: Array32) -> Array32:
        """(N,) share of the sky that movers leave to level ground at these points (N, 3)."""
        out = np.ones(len(points), np.float32)
        ground = np.flatnonzero((normals[:, 2] > 0.9) & (points[:, 2] < 0.4))
        low = points[ground, :2]
        for x, y, fx, fy, half_length, half_width, clearance, reach in self.footprints:
            near = np.flatnonzero((np.abs(low[:, 0] - x) < half_length + 1.5) & (np.abs(low[:, 1] - y) < half_length + 1.5))
            if not len(near):
                continue
            dx, dy = low[near, 0] - x, low[near, 1] - y
            ahead = np.maximum(np.abs(dx * fx + dy * fy) - half_length, -clearance)
            aside = np.maximum(np.abs(dy * fx - dx * fy) - half_width, -clearance)
            outside = np.hypot(np.maximum(ahead, 0), np.maximum(aside, 0)) + np.minimum(np.maximum(ahead, aside), 0)
            out[ground[near]] *= 1 - np.float32(0.88) / (1 + np.exp(np.clip(outside / (reach * 0.3), -20, 20)))
        return out

    def headlight(self, points: Array32, normals: Array32, strength: float) -> Array32:
        """(N, 3) what white surfaces reflect of the movers' headlights."""
        out = np.zeros((len(points), 3), np.float32)
        for beam in self.beams:
            near = np.flatnonzero(((points[:, :2] - beam.at_m[:2]) ** 2).sum(axis=1) < _BEAM_M**2)
            if len(near):
                out[near] += np.float32(strength * _BEAM_STRENGTH) * beam.light(points[near], normals[near])
        return out

    def normal_at(self, triangle: NDArray[np.int32], u: Array32, v: Array32, directions: Array32) -> Array32:
        """(N, 3) smooth unit normals on the viewer's side."""
        corner = self.normals[triangle]
        normal = corner[:, 0] * (1 - u - v)[:, None] + corner[:, 1] * u[:, None] + corner[:, 2] * v[:, None]
        facing = np.einsum("nk,nk->n", normal, directions)
        normal = np.where(facing[:, None] > 0, -normal, normal)
        return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6), np.float32)


def cast_of(movers: Sequence[PlacedMover], light: Light, map_from_camera: Pose) -> Cast | None:
    """The movers as a picture needs them; None without any."""
    if not movers:
        return None
    solids = [shown(mover, map_from_camera) for mover in movers]
    counts = [len(solid.material) for solid in solids]
    material = np.concatenate([solid.material for solid in solids])
    dark = light.lamps is not None
    albedo = np.concatenate([palette(m.look)[s.material] for m, s in zip(movers, solids, strict=True)])
    glow = np.zeros_like(albedo)
    for number, rgb in ((HEAD, _HEAD_RGB), (TAIL, _TAIL_RGB)):
        on = np.repeat([mover.moving and (dark or (number == TAIL and mover.braking)) for mover in movers], counts)
        glow[on & (material == number)] = rgb
    return Cast(
        scene_of(np.concatenate([solid.triangles_m for solid in solids])),
        np.concatenate([solid.normals for solid in solids]).astype(np.float32),
        albedo,
        GLOSS[material],
        glow,
        np.repeat(np.array([mover.id for mover in movers], np.int32), counts),
        np.repeat(np.array([not mover.moving for mover in movers]), counts),
        np.array([_footprint(mover) for mover in movers if _away_m(mover, map_from_camera) < _SHADED_M], np.float32).reshape(-1, 8),
        tuple(_beam(mover) for mover in movers if dark and mover.moving and mover.label in ("car", "truck")),
    )


def in_sight(movers: Sequence[PlacedMover], map_from_camera: Pose, directions: Array32) -> list[PlacedMover]:
    """Those that may be seen from there in one of the unit directions (N, 3), or throw a shadow or light there."""
    if not movers:
        return []
    axis = directions.mean(axis=0)
    axis /= max(float(np.linalg.norm(axis)), 1e-6)
    widest = np.arccos(np.clip(float((directions @ axis).min()), -1, 1)) + 0.1
    toward = np.array([mover.map_from_mover.translation for mover in movers]) - map_from_camera.translation
    distance = np.linalg.norm(toward, axis=1)
    angle = np.arccos(np.clip(toward @ axis / np.maximum(distance, 1e-6), -1, 1))
    seen = (distance < _NEAR_M) | ((distance < _FAR_M) & (angle < widest + np.arctan2(5.0, distance)))
    return [mover for mover, is_seen in zip(movers, seen, strict=True) if is_seen]


def shown(mover: PlacedMover, map_from_camera: Pose) -> Solid:
    """A mover in the detail that a camera needs."""
    return mover.solid(fine=_away_m(mover, map_from_camera) < _FINE_M)


def scene_of(triangles_m: Array32) -> Any:
    """An Embree scene of triangles (T, 3, 3).

    Raises:
        MissingDependencyError: there is no Embree.
    """
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise MissingDependencyError("pictures of the town are cast by Embree: pip install embreex (x86-64, or arm64 macOS)") from error
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(triangles_m, np.float32))
    return scene


def _away_m(mover: PlacedMover, map_from_camera: Pose) -> float:
    return float(np.linalg.norm(mover.map_from_mover.translation - map_from_camera.translation))


def _footprint(mover: PlacedMover) -> list[float]:
    x, y, _ = mover.map_from_mover.translation
    fx, fy = mover.map_from_mover.rotation[:2, 0]
    length, width, _ = mover.size_m
    on_wheels = mover.label in ("car", "truck")
    half = (length / 2 - 0.1, width / 2 - 0.05) if on_wheels else (0.14, 0.12)
    return [x, y, fx, fy, *half, 0.4, _SHADE_M if on_wheels else 0.35]


def _beam(mover: PlacedMover) -> Beam:
    rotation = mover.map_from_mover.rotation
    at = mover.map_from_mover.translation + rotation @ [mover.size_m[0] / 2, 0.0, 0.65]
    return Beam(at.astype(np.float32), (rotation[:, 0] * [1, 1, 0]).astype(np.float32))
