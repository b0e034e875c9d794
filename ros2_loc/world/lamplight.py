"""Light that people make: street lamps, windows, the headlights of one's own car."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ros2_loc.core.pose import Pose
from ros2_loc.errors import ConfigError
from ros2_loc.world.facades import SHOP
from ros2_loc.world.town import Town

Array32 = NDArray[np.float32]

_SODIUM, _WHITE = (1.0, 0.60, 0.24), (0.95, 0.92, 0.80)
_ROOMS = np.array([(1.0, 0.66, 0.32), (1.0, 0.74, 0.42), (1.0, 0.84, 0.60), (0.72, 0.82, 1.0)], np.float32)
_NEAREST = 5
_REACH_M = 32.0  # horizontal distance at which a lamp is forgotten
_HEAD_M = 5.05  # height of a lamp, just below its housing
_ARM_M = 1.1
_HEADLIGHT_DROP_M, _HEADLIGHT_AHEAD_M = 0.9, 0.6  # from the camera behind the windscreen
_CUT_OFF_RAD = -0.008  # elevation above which dipped headlights are dark


@dataclass(frozen=True, slots=True)
class Lamplight:
    """How bright it is. 1 is a white wall in full sunlight as this light's camera is exposed.

    Attributes:
        street: what a white ground 5 m below a street lamp reflects.
        sodium: share of the lamps that are yellow.
        lit: share of the windows behind which there is light.
        window: brightness of such a window.
        headlights: what a white wall 10 m in front of the own car reflects in the middle of the beam.
    """

    street: float = 0.45
    sodium: float = 0.75
    lit: float = 0.3
    window: float = 0.7
    headlights: float = 1.6

    def __post_init__(self) -> None:
        shares = self.sodium, self.lit
        if min(self.street, self.window, self.headlights, *shares) < 0 or max(shares) > 1:
            raise ConfigError(f"{self}: brightness is not negative, shares are 0 to 1")

    def panes(self, numbers: NDArray[np.uint8], surface: NDArray[np.int32], albedo: Array32) -> Array32:
        """(N, 3) radiance of windows: numbers (N,) of the panes (0: none), the walls' surfaces (N,), and their albedo (N, 3)."""
        drawn = _drawn(numbers.astype(np.uint32) * np.uint32(7919) + surface.astype(np.uint32))
        share = np.where(numbers == SHOP, max(2 * self.lit, 0.5) * (self.lit > 0), self.lit)
        is_lit = (numbers > 0) & (drawn < share)
        room = _ROOMS[(_drawn(numbers.astype(np.uint32) + np.uint32(31) * surface.astype(np.uint32)) * 3.99).astype(np.int32)]
        bright = np.float32(self.window) * (np.float32(0.35) + np.float32(0.9) * albedo.mean(axis=1)) * (0.5 + drawn / max(self.lit, 1e-6))
        return np.where(is_lit, np.minimum(bright, 1.6), 0).astype(np.float32)[:, None] * room


class LampHeads(NamedTuple):
    """Where the town's lamps are: (L, 3) m, their colours (L, 3), and their places on the plan as a tree."""

    at_m: Array32
    rgb: Array32
    tree: cKDTree

    @staticmethod
    def of(town: Town, light: Lamplight) -> LampHeads | None:
        """The lamps of a town; None where it has none."""
        lamps = town.furniture.lamps
        if not lamps or light.street == 0:
            return None
        at = np.array([np.append(np.asarray(place)[:2] + _ARM_M * np.asarray(way)[:2], _HEAD_M) for place, way in lamps])
        rgb = np.where(_drawn(np.arange(len(at), dtype=np.uint32))[:, None] < light.sodium, _SODIUM, _WHITE)
        return LampHeads(at.astype(np.float32), (rgb * light.street * _HEAD_M**2).astype(np.float32), cKDTree(at[:, :2]))

    def near(self, points: Array32) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (point, lamp) that are within reach: (M,) each."""
        distance, lamp = self.tree.query(points[:, :2], k=min(_NEAREST, len(self.at_m)), distance_upper_bound=_REACH_M)
        distance, lamp = (np.reshape(a, (len(points), -1)) for a in (distance, lamp))
        point, column = np.nonzero(np.isfinite(distance))
        return point, lamp[point, column]

    def light(self, toward: Array32, distance_m: Array32, normals: Array32, lamp: NDArray[np.int64]) -> Array32:
        """(M, 3) what white surfaces of these normals (M, 3) reflect; unit directions (M, 3) and distances (M,) to their lamps."""
        incidence = np.maximum(np.einsum("nk,nk->n", normals, toward), 0)
        lobe = np.clip((toward[:, 2] - np.float32(0.04)) * 4, 0, 1)  # housings throw no light upward or level
        return (incidence * lobe / np.maximum(distance_m, 0.5) ** 2)[:, None] * self.rgb[lamp]

    def shining(self, points: Array32) -> Array32:
        """(N, 3) radiance of the lamps themselves, at points of their housings."""
        distance, lamp = self.tree.query(points[:, :2], distance_upper_bound=0.4)
        is_head = np.isfinite(distance) & (np.abs(points[:, 2] - _HEAD_M - 0.12) < 0.2)
        out = np.zeros((len(points), 3), np.float32)
        colour = self.rgb[lamp[is_head]]
        out[is_head] = 5.0 * colour / colour.max(axis=1, keepdims=True)
        return out


class Beam(NamedTuple):
    """The own headlights: place and direction (3,) each, map frame."""

    at_m: Array32
    forward: Array32

    @staticmethod
    def below(map_from_camera: Pose) -> Beam:
        """Of the car behind whose windscreen the camera looks ahead."""
        forward = map_from_camera.rotation[:, 2] * [1, 1, 0]
        forward /= max(float(np.linalg.norm(forward)), 1e-6)
        at = map_from_camera.translation + _HEADLIGHT_AHEAD_M * forward - [0, 0, _HEADLIGHT_DROP_M]
        return Beam(at.astype(np.float32), forward.astype(np.float32))

    def light(self, points: Array32, normals: Array32) -> Array32:
        """(N, 3) what white surfaces reflect, for headlights of 1: dipped, with a sharp upper edge."""
        ray = points - self.at_m
        distance = np.maximum(np.linalg.norm(ray, axis=1), 0.8)
        ahead = ray @ self.forward
        aside = np.arctan2(ray[:, 0] * self.forward[1] - ray[:, 1] * self.forward[0], ahead)
        above = np.arctan2(ray[:, 2], np.maximum(ahead, 1e-3))
        edge = above - _CUT_OFF_RAD
        level = np.where(edge < 0, np.exp(np.clip(edge, -2, 0) / 0.11), 0.035 + 0.25 * np.exp(-np.maximum(edge, 0) / 0.01))
        shape = np.exp(-((aside / 0.42) ** 2)) * level * (ahead > 0)
        incidence = np.maximum(-np.einsum("nk,nk->n", normals, ray) / distance, 0)
        strength = (100.0 * shape * incidence / distance**2).astype(np.float32)
        return strength[:, None] * np.array([1.0, 0.93, 0.80], np.float32)


def _drawn(numbers: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Uniform numbers 0 to 1, each always the same for its integer (a mixer of 32 bits, Wellons' lowbias32)."""
    x = numbers.astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x ^ (x >> np.uint32(16))) / 2.0**32
