"""What is drawn and placed on the ground of a district, and a block's own coordinates. Map frame, metres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.world.house import House
from ros2_loc.world.layout import Lot, overlap

Array = NDArray[np.float64]


class Patch(NamedTuple):
    """A polygon of ground (N, 2), or a line of width_m where that is not 0, and the name of what it is made of."""

    points: Array
    material: str
    width_m: float = 0.0


@dataclass(slots=True, eq=False)
class Land:
    """Collects what the blocks of a district hold.

    Attributes:
        fields: ground on which the streets lie, in the order in which it is painted.
        patches: ground between the sidewalks, in that order.
        houses: with the lots that they stand on.
        trees: (x, y, height, species) each.
        stalls: (x, y, z, yaw) where a car may stand.
        hedges: both ends of each.
        lamps: place and direction of the arm.
    """

    fields: list[Patch] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    houses: list[House] = field(default_factory=list)
    trees: list[Array] = field(default_factory=list)
    stalls: list[Array] = field(default_factory=list)
    hedges: list[tuple[Array, Array]] = field(default_factory=list)
    lamps: list[tuple[Array, Array]] = field(default_factory=list)

    def paint(self, points: ArrayLike, material: str, width_m: float = 0.0) -> None:
        """Adds a patch, or a line of this width."""
        self.patches.append(Patch(np.asarray(points, np.float64), material, width_m))

    def tree(self, at: Array, species: int, rng: np.random.Generator) -> None:
        """Adds a tree of the usual height of its species, with deviation."""
        height = (6.5, 9.5, 8.0, 4.0, 10.5)[species] * rng.uniform(0.75, 1.25)
        self.trees.append(np.array([at[0], at[1], height, species]))

    def stall(self, at: Array, forward: Array, z_m: float, rng: np.random.Generator) -> None:
        """Adds a place for a car, which may face either way."""
        yaw = float(np.arctan2(forward[1], forward[0])) + (np.pi if rng.random() < 0.5 else 0.0)
        self.stalls.append(np.array([at[0], at[1], z_m, yaw]))


class Quad:
    """A four-sided piece of ground: (s, t) are metres along its first side and across it."""

    def __init__(self, corners: Array) -> None:
        self.corners = corners
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        self.length_m, self.depth_m = float(sides[[0, 2]].min()), float(sides[[1, 3]].min())

    def at(self, u: ArrayLike, v: ArrayLike) -> Array:
        """(..., 2) point at shares (u, v) of its sides."""
        a, b = np.asarray(u, np.float64)[..., None], np.asarray(v, np.float64)[..., None]
        p, q, r, s = self.corners
        return np.asarray((1 - a) * (1 - b) * p + a * (1 - b) * q + a * b * r + (1 - a) * b * s, np.float64)

    def metres(self, s: ArrayLike, t: ArrayLike) -> Array:
        """(..., 2) point at metres along and across."""
        return self.at(np.asarray(s) / self.length_m, np.asarray(t) / self.depth_m)

    def ring(self, low: float = 0.0, high: float = 1.0) -> Array:
        """(4, 2) the part between these shares of both sides."""
        return self.at([low, high, high, low], [low, low, high, high])

    def along(self, u: float, v: float) -> Array:
        """(2,) unit direction of the first side's axis there."""
        return unit(self.at(u + 0.01, v) - self.at(u - 0.01, v))

    def across(self, u: float, v: float) -> Array:
        """(2,) unit direction of the other axis there."""
        return unit(self.at(u, v + 0.01) - self.at(u, v - 0.01))

    def holds(self, ring: Array) -> bool:
        """Whether all the points lie inside."""
        edges = np.roll(self.corners, -1, axis=0) - self.corners
        offsets = ring[:, None] - self.corners
        return bool((edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0] > 0).all())


def unit(vector: Array) -> Array:
    """The vector in unit length."""
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def is_free(lot: Lot, others: list[Lot]) -> bool:
    """Whether the lot overlaps none of the others."""
    reach = np.hypot(lot.width_m, lot.depth_m)
    near = [o for o in others if np.linalg.norm(o.front - lot.front) < reach + np.hypot(o.width_m, o.depth_m)]
    return not any(overlap(lot.corners, other.corners) for other in near)


def disc(centre: Array, radius_m: float, count: int = 16) -> Array:
    """(count, 2) a circle as a polygon."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.asarray(centre + radius_m * np.column_stack([np.cos(angles), np.sin(angles)]), np.float64)
