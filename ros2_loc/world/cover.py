"""What season and weather do to surfaces: snow, wetness, turned and fallen leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError
from ros2_loc.world.canvas import noise
from ros2_loc.world.layout import KERB_M
from ros2_loc.world.mesh import LEAF, PLANT, Mesh

Array32 = NDArray[np.float32]

_SNOW = np.array([0.80, 0.84, 0.90], np.float32)
_BARK = np.array([0.075, 0.058, 0.045], np.float32)
_WITHERED = np.array([0.20, 0.165, 0.085], np.float32)
_TURNED = np.array([(0.17, 0.17, 0.03), (0.42, 0.27, 0.03), (0.44, 0.15, 0.025), (0.22, 0.055, 0.02)], np.float32)
_PATTERN_PX, _PX_PER_M = 1024, 8
_TWIGS = 0.9  # from this share of fallen leaves on one sees the twigs
_TWIG = (1.6, 0.025)  # length, and half of the width where it is thickest, of a twig in the place of a leaf 1 m long
_LOW_M = 0.4  # what lies lower is ground


@dataclass(frozen=True, slots=True)
class Cover:
    """How far it has changed; 0 is a dry summer day, 1 all of it.

    Attributes:
        snow: on all that faces up; carriageways are half cleared.
        wet: grounds are darker and mirror what stands on them.
        turned: leaves and lawns in the colours of autumn, leaves on the ground.
        bare: share of the leaves that have fallen; of 1 only twigs are left.
    """

    snow: float = 0.0
    wet: float = 0.0
    turned: float = 0.0
    bare: float = 0.0

    def __post_init__(self) -> None:
        shares = self.snow, self.wet, self.turned, self.bare
        if min(shares) < 0 or max(shares) > 1:
            raise ConfigError(f"{self}: its shares are 0 to 1")

    def albedo(self, albedo: Array32, points: Array32, normals: Array32, kind: NDArray[np.uint8], distance_m: Array32) -> Array32:
        """(N, 3) linear albedo of surfaces at these points with these unit normals (N, 3) and kinds (N,) of `Mesh`, under the cover."""
        if self.turned or self.bare:
            albedo = self._plants(albedo, points, normals, kind, distance_m)
        if self.wet:
            albedo = self._wetted(albedo, points, normals)
        return self._snowed(albedo, points, normals) if self.snow else albedo

    def puddle(self, points: Array32) -> Array32:
        """(N,) how smooth the water on level ground is, 0 to 1."""
        still = np.clip((_pattern(1, points, 0.35) - np.float32(0.55)) * 3, 0, 1)
        return np.float32(self.wet) * (np.float32(0.30) + np.float32(0.70) * still)

    def ripple(self, points: Array32) -> Array32:
        """(N, 3) by how much a mirrored ray is turned aside by the ground's roughness; drawn out toward the viewer, as on wet asphalt."""
        rough = np.stack([_pattern(k, points, 6.0) for k in (0, 1)] + [_pattern(0, points, 4.3)], axis=1)
        calm = np.clip(self.puddle(points) / max(self.wet, 1e-6) - 0.3, 0, 1)[:, None]
        return rough * np.array([0.025, 0.025, 0.10], np.float32) * (1 - np.float32(0.85) * calm)

    def _plants(self, albedo: Array32, points: Array32, normals: Array32, kind: NDArray[np.uint8], distance_m: Array32) -> Array32:
        out = albedo.copy()
        shade = albedo.mean(axis=1, keepdims=True) / np.float32(0.13)
        hue = np.clip(1.5 + 1.35 * _pattern(2, points, 0.12), 0, 2.999)
        first = hue.astype(np.int32)
        share = (hue - first)[:, None]
        leaf_rgb = _TURNED[first] * (1 - share) + _TURNED[first + 1] * share
        plant = kind >= PLANT
        out[plant] = _mixed(albedo[plant], (leaf_rgb * shade)[plant], max(self.turned, 0.8 * self.bare))
        if self.bare >= _TWIGS:
            out[kind == LEAF] = _BARK * (0.5 + 0.5 * shade[kind == LEAF])
        ground = (normals[:, 2] > 0.9) & (points[:, 2] < _LOW_M) & ~plant
        r, g, b = albedo.T
        green = np.clip((2 * g - r - b) / np.maximum(r + g + b, 1e-3) * 4 - 0.4, 0, 1) * ground
        out = _mixed(out, _WITHERED * shade, (green * np.float32(0.75 * max(self.turned, self.bare)))[:, None])
        near = np.clip(1.4 - distance_m / 22, 0.3, 1)
        fallen = np.clip((_pattern(4, points, 2.5) + 0.7 * _pattern(3, points, 0.25) - 1.3) * 5, 0, 1) * ground * near
        return _mixed(out, leaf_rgb, (fallen * np.float32(0.8 * self.turned))[:, None])

    def _wetted(self, albedo: Array32, points: Array32, normals: Array32) -> Array32:
        ground = (normals[:, 2] > 0.7) & (points[:, 2] < _LOW_M)
        dark = np.where(ground, np.float32(0.55), np.float32(0.2)) * np.float32(self.wet)
        return albedo * (1 - dark[:, None])

    def _snowed(self, albedo: Array32, points: Array32, normals: Array32) -> Array32:
        up = np.clip((normals[:, 2] - np.float32(0.35)) / np.float32(0.4), 0, 1)
        rough = _pattern(0, points, 0.5)
        depth = np.where(points[:, 2] < KERB_M / 2, np.float32(0.05) + 0.35 * rough + 0.45 * _pattern(3, points, 0.3), 1.15 + 0.35 * rough)
        amount = up * np.clip(depth, 0, 1) * np.float32(self.snow)
        white = _SNOW * (np.float32(0.95) + np.float32(0.05) * rough[:, None])
        return _mixed(albedo, white, amount[:, None])


def thinned(mesh: Mesh, bare: float) -> Array32:
    """(T, 3, 3) the mesh's triangles in their order, a share of the leaves shrunk to nothing; with nearly all of them gone, to twigs."""
    triangles = mesh.triangles_m.copy()
    leaves = np.flatnonzero(mesh.kind[mesh.surface] == LEAF)
    fallen = leaves[np.random.default_rng(62).random(len(leaves)) < bare]
    tip = triangles[fallen, 0]
    if bare < _TWIGS:
        triangles[fallen] = tip[:, None]
        return triangles
    inward = -mesh.shading[mesh.surface[fallen]]  # of leaves it points out of the crown
    across = np.cross(inward, triangles[fallen, 1] - tip)
    side = np.linalg.norm(triangles[fallen, 1] - tip, axis=1, keepdims=True)
    across *= np.float32(_TWIG[1]) * side / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    root = tip + inward * np.float32(_TWIG[0]) * side
    triangles[fallen] = np.stack([tip, root - across, root + across], axis=1)
    return triangles


def _mixed(one: Array32, other: Array32, share: Array32 | float) -> Array32:
    return np.asarray(one + (other - one) * share, np.float32)


def _pattern(number: int, points: Array32, scale: float) -> Array32:
    """(N,) noise of about unit variance at map points (N, 3), the same for a point in every picture."""
    at = points[:, :2] * np.float32(_PX_PER_M * scale)
    low = np.floor(at).astype(np.int32)
    (u, v), (column, row) = (at - low).T, low.T % _PATTERN_PX
    tile = _tile(number)
    upper = tile[row, column] * (1 - u) + tile[row, column + 1] * u
    lower = tile[row + 1, column] * (1 - u) + tile[row + 1, column + 1] * u
    return np.asarray(upper * (1 - v) + lower * v, np.float32)


@lru_cache(maxsize=8)
def _tile(number: int) -> Array32:
    """One row and column larger than the pattern, which repeats."""
    rng = np.random.default_rng([number, 61])
    cells = {2: (40, 16, 6), 3: (40, 16, 6), 4: (2, 3)}.get(number, (2, 5, 14))
    rough = noise((2 * _PATTERN_PX,) * 2, cells, rng)
    fade = np.linspace(0, 1, _PATTERN_PX, dtype=np.float32)
    for _ in range(2):  # the end runs over into the beginning, with the variance kept
        one, other = rough[:_PATTERN_PX], rough[_PATTERN_PX : 2 * _PATTERN_PX]
        rough = ((one * fade[:, None] + other * (1 - fade[:, None])) / np.sqrt(fade**2 + (1 - fade) ** 2)[:, None]).T
    return np.pad(rough, ((0, 1), (0, 1)), mode="wrap")
