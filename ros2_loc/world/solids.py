"""Shapes of what moves, built from few parts: lofts, tubes, boxes, discs. x forward, y left, z up, metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

_CREASE_COS = np.cos(np.deg2rad(42.0))


class Solid(NamedTuple):
    """Triangles (T, 3, 3), unit normals at their corners (T, 3, 3) for shading, and the number of each one's material (T,)."""

    triangles_m: Array32
    normals: Array32
    material: NDArray[np.uint8]

    @property
    def size_m(self) -> Array:
        """(3,) length, width, height of the smallest box about the origin's axes that is level, stands on z = 0 and holds it."""
        corners = self.triangles_m.reshape(-1, 3)
        reach = np.abs(corners).max(axis=0)
        return np.array([2 * reach[0], 2 * reach[1], corners[:, 2].max()], np.float64)


def moved(point_m: Array, x: float, y: float, z: float) -> Array:
    """A point (3,) moved by so much along the axes."""
    return point_m + np.array([x, y, z])


class SolidBuilder:
    """Collects triangles; `build` smooths their normals where they meet at blunt angles.

    Not `fine`: round things have half as many sides.
    """

    def __init__(self, fine: bool = True) -> None:
        self.fine = fine
        self._triangles: list[Array] = []
        self._material: list[NDArray[np.uint8]] = []

    def triangles(self, triangles_m: ArrayLike, material: int) -> None:
        """Adds triangles (T, 3, 3)."""
        some = np.asarray(triangles_m, np.float64).reshape(-1, 3, 3)
        self._triangles.append(some)
        self._material.append(np.full(len(some), material, np.uint8))

    def polygon(self, corners_m: ArrayLike, material: int, *, mirrored: bool = False) -> None:
        """A convex polygon (K, 3); `mirrored`: and its image on the other side, y negated."""
        p = np.asarray(corners_m, np.float64)
        fan = np.array([[p[0], p[k], p[k + 1]] for k in range(1, len(p) - 1)])
        self.triangles(fan, material)
        if mirrored:
            self.triangles(fan * [1, -1, 1], material)

    def loft(self, rings_m: ArrayLike, materials: Sequence[int] | int, *, closed: bool = True, caps: bool = True) -> None:
        """A skin over rings (K, P, 3).

        Args:
            materials: of the strips between points p and p + 1, or of all.
            closed: whether the last point of a ring joins the first.
            caps: whether the first and the last ring are filled, with the first strip's material.
        """
        rings = np.asarray(rings_m, np.float64)
        points = rings.shape[1]
        names = [materials] * points if isinstance(materials, int) else materials
        for p in range(points if closed else points - 1):
            a, b, c, d = rings[:-1, p], rings[1:, p], rings[1:, (p + 1) % points], rings[:-1, (p + 1) % points]
            self.triangles(np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]), names[p])
        if caps:
            for ring in (rings[0], rings[-1]):
                middle = ring.mean(axis=0)
                self.triangles([[middle, ring[k], ring[(k + 1) % points]] for k in range(points)], names[0])

    def tube(self, points_m: ArrayLike, radii_m: ArrayLike, material: int, *, sides: int = 8, flat: float = 1.0) -> None:
        """A round limb along points (K, 3) with a radius at each (K,); `flat` squeezes it along x."""
        points, radii = np.asarray(points_m, np.float64), np.broadcast_to(np.asarray(radii_m, np.float64), len(points_m))
        along = np.gradient(points, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        helper = np.where(np.abs(along[:, :1]) > 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
        side = np.cross(along, helper)
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        other = np.cross(side, along)
        sides = sides if self.fine else max(4, sides // 2)
        angles = np.arange(sides) * 2 * np.pi / sides
        ring = np.cos(angles)[:, None, None] * side + np.sin(angles)[:, None, None] * other * flat
        self.loft(points[:, None] + radii[:, None, None] * ring.transpose(1, 0, 2), material, caps=self.fine)

    def ball(self, centre_m: ArrayLike, radii_m: tuple[float, float, float], material: int, *, sides: int = 10, rows: int = 6) -> None:
        """An ellipsoid."""
        sides, rows = (sides, rows) if self.fine else (max(5, sides // 2), 4)
        polar = np.linspace(0.12, np.pi - 0.12, rows)
        angles = np.arange(sides) * 2 * np.pi / sides
        ring = np.stack(np.broadcast_arrays(
            np.sin(polar)[:, None] * np.cos(angles), np.sin(polar)[:, None] * np.sin(angles), np.cos(polar)[:, None]
        ), axis=-1)  # fmt: skip
        self.loft(np.asarray(centre_m) + ring * radii_m, material)

    def box(self, low_m: ArrayLike, high_m: ArrayLike, material: int, *, mirrored: bool = False) -> None:
        """A box between two corners."""
        (x0, y0, z0), (x1, y1, z1) = np.asarray(low_m, np.float64), np.asarray(high_m, np.float64)
        rings = np.array([[[x, y0, z0], [x, y1, z0], [x, y1, z1], [x, y0, z1]] for x in (x0, x1)])
        self.loft(rings, material)
        if mirrored:
            self.loft(rings * [1, -1, 1], material)

    def disc(self, centre_m: ArrayLike, radius_m: float, material: int, *, hole: float = 0.0, sides: int = 18) -> None:
        """A disc upright along x, facing y; with a hole of this share of its radius."""
        sides = sides if self.fine else max(6, sides // 2)
        angles = np.linspace(0, 2 * np.pi, sides + 1)
        rim = np.column_stack([np.cos(angles), np.zeros(sides + 1), np.sin(angles)]) * radius_m
        centre = np.asarray(centre_m, np.float64)
        self.loft(np.stack([centre + rim, centre + rim * hole]), material, closed=False, caps=False)

    def build(self) -> Solid:
        """All of it."""
        triangles = np.concatenate(self._triangles)
        face = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        area = np.linalg.norm(face, axis=1)
        kept = area > 1e-8
        triangles, material = triangles[kept], np.concatenate(self._material)[kept]
        normals = _smoothed(triangles, face[kept] / area[kept, None], area[kept])
        return Solid(triangles.astype(np.float32), normals.astype(np.float32), material)


def _smoothed(triangles: Array, face: Array, area: Array) -> Array:
    """(T, 3, 3) normals at the corners: means over the triangles that meet there at less than the crease's angle, either way around."""
    _, vertex = np.unique(np.round(triangles.reshape(-1, 3) * 2e3).astype(np.int64), axis=0, return_inverse=True)
    order = np.argsort(vertex.ravel(), kind="stable")
    counts = np.bincount(vertex.ravel())
    first = np.repeat(np.cumsum(counts) - counts, counts)  # of the corners at the same vertex, by the corners' order
    meeting = np.repeat(counts, counts)
    one = np.repeat(np.arange(len(order)), meeting)
    other = first[one] + np.arange(len(one)) - np.repeat(np.cumsum(meeting) - meeting, meeting)
    one, other = order[one], order[other] // 3
    cosine = np.einsum("nk,nk->n", face[one // 3], face[other])
    weight = np.where(np.abs(cosine) > _CREASE_COS, np.sign(cosine), 0.0) * area[other]
    mean = np.stack([np.bincount(one, weight * face[other, k], len(order)) for k in range(3)], axis=1)
    return np.asarray((mean / np.linalg.norm(mean, axis=1, keepdims=True)).reshape(-1, 3, 3), np.float64)
