"""The plan of the town: streets on a crooked grid, blocks between them, and what stands where. Map frame, metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError
from ros2_loc.world.streets import StreetNetwork

Array = NDArray[np.float64]

STREET_WIDTH_M = 8.0
SIDEWALK_M = 2.2
KERB_M = 0.12
_CORNER_M = 4.0


@dataclass(frozen=True, slots=True)
class Variety:
    """What makes a district of many unlike places out of the crooked grid.

    Attributes:
        extent_m: side of the square in which drives take place; apron_m: how far the district goes on around it.
        spacing_m: least and greatest distance of the streets.
        jitter_m: how far a crossing lies off its line; bend_m: how far the lines themselves swing.
        turn_rad: greatest angle of the whole against north.
        removed: share of the street segments that are left out, so that blocks merge.
        quarters: number of styles of houses.
        patterns: painted houses of each style; all houses share them.
    """

    extent_m: float = 840.0
    apron_m: float = 55.0
    spacing_m: tuple[float, float] = (38.0, 92.0)
    jitter_m: float = 5.0
    bend_m: float = 14.0
    turn_rad: float = 0.35
    removed: float = 0.24
    quarters: int = 7
    patterns: int = 6

    @property
    def half_m(self) -> float:
        """Half of the side of all its ground, apron included."""
        return self.extent_m / 2 + self.apron_m

    def __post_init__(self) -> None:
        low, high = self.spacing_m
        if self.extent_m < 160 or self.apron_m < 0 or not 30 <= low <= high <= self.extent_m / 2:
            raise ConfigError(f"{self}: a district needs 160 m of extent, no negative apron, streets 30 m to half of the extent apart")
        if min(self.jitter_m, self.bend_m, self.turn_rad, self.removed) < 0 or self.removed > 0.5 or min(self.quarters, self.patterns) < 1:
            raise ConfigError(f"{self}: nothing of a district is negative, half of its streets stay, and it has a quarter and a pattern")


@dataclass(frozen=True, slots=True)
class TownSize:
    """How large the town is and how finely it is painted.

    Attributes:
        columns, rows: blocks between the streets; a ring of blocks lies outside of them.
        block_m: distance of the streets (east, north).
        margin_m: depth of the outer blocks.
        facade_px_per_m, ground_px_per_m: resolution of the pictures.
        variety: of a district; columns, rows, block_m and margin_m count for nothing then.
    """

    columns: int = 2
    rows: int = 2
    block_m: tuple[float, float] = (54.0, 46.0)
    margin_m: float = 36.0
    facade_px_per_m: float = 40.0
    ground_px_per_m: float = 25.0
    variety: Variety | None = None

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 1 or min(self.block_m) < 36 or self.margin_m < 24:
            raise ConfigError(f"{self}: a town needs at least one block, 36 m between streets and 24 m of margin")

    @staticmethod
    def small() -> TownSize:
        """One block and its four streets, coarsely painted: for tests."""
        return TownSize(columns=1, rows=1, margin_m=28.0, facade_px_per_m=24.0, ground_px_per_m=14.0)

    @staticmethod
    def district(extent_m: float = 840.0, **variety: Any) -> TownSize:
        """A square district, coarsely painted: many unlike places for localization from above. `variety`: other fields of Variety."""
        return TownSize(facade_px_per_m=10.0, ground_px_per_m=5.0, variety=Variety(extent_m, **variety))

    @property
    def extent_m(self) -> Array:
        """(2,) full width (east) and height (north) of the town."""
        if self.variety:
            return np.full(2, self.variety.extent_m)
        blocks = np.array([self.columns, self.rows]) * np.array(self.block_m)
        return np.asarray(blocks + 2 * self.margin_m, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Frontage:
    """One side of a street: where lots lie. `start` to `end` along the kerb, `inward` (2,) unit normal into the block."""

    start: Array
    end: Array
    inward: Array
    core: bool


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The raised ground between streets: `kerb` (K, 2) counter-clockwise, convex, rounded corners; its frontages."""

    kerb: Array
    sidewalk: Array
    frontages: tuple[Frontage, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Lot:
    """A rectangle for a house: middle of its front (2,), direction along the front with the street behind one's back on the right hand side
    of it, i.e. `inward` is left of `along`; width and depth."""

    front: Array
    along: Array
    width_m: float
    depth_m: float
    core: bool

    @property
    def inward(self) -> Array:
        """(2,) unit vector from the street into the lot."""
        return np.array([-self.along[1], self.along[0]])

    @property
    def corners(self) -> Array:
        """(4, 2) counter-clockwise, front left first as seen from inside."""
        half, deep = self.along * self.width_m / 2, self.inward * self.depth_m
        return np.array([self.front - half, self.front + half, self.front + half + deep, self.front - half + deep])


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Street crossings `nodes` (columns + 3, rows + 3, 2) m, the outer ones at the town's edge; blocks and lots.

    A district's streets are in `network`, whose nodes are these.
    """

    size: TownSize
    nodes: Array
    blocks: tuple[Block, ...]
    lots: tuple[Lot, ...]
    network: StreetNetwork | None = None

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """East, north of the south-west corner; east, north of the north-east corner; a district's apron lies outside."""
        if self.network:
            half = self.size.extent_m / 2
            return -float(half[0]), -float(half[1]), float(half[0]), float(half[1])
        nodes = self.nodes.reshape(-1, 2)
        (e0, n0), (e1, n1) = nodes.min(axis=0), nodes.max(axis=0)
        return float(e0), float(n0), float(e1), float(n1)

    @property
    def streets(self) -> list[tuple[Array, Array]]:
        """Centre lines between neighbouring nodes."""
        if self.network:
            return [self.network.ends(street) for street in self.network.streets]
        nx, ny = self.nodes.shape[:2]
        east = [(self.nodes[i, j], self.nodes[i + 1, j]) for j in range(1, ny - 1) for i in range(nx - 1)]
        north = [(self.nodes[i, j], self.nodes[i, j + 1]) for i in range(1, nx - 1) for j in range(ny - 1)]
        return east + north


def make_plan(size: TownSize, rng: np.random.Generator) -> Plan:
    """Streets, blocks and lots of a new town."""
    nodes = _nodes(size, rng)
    nx, ny = nodes.shape[:2]
    blocks = tuple(_block(nodes, i, j) for i in range(nx - 1) for j in range(ny - 1))
    lots: list[Lot] = []
    for block in blocks:
        lots += _lots(block, rng)
    return Plan(size, nodes, blocks, tuple(lots))


def _nodes(size: TownSize, rng: np.random.Generator) -> Array:
    def line(count: int, spacing: float) -> Array:
        inner = (np.arange(count + 1) - count / 2) * spacing
        return np.concatenate([[inner[0] - size.margin_m], inner, [inner[-1] + size.margin_m]])

    x, y = line(size.columns, size.block_m[0]), line(size.rows, size.block_m[1])
    nodes = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    nodes[1:-1, 1:-1] += rng.uniform(-3.5, 3.5, nodes[1:-1, 1:-1].shape)
    nodes[[0, -1], :, 1] = nodes[[1, -2], :, 1]
    nodes[:, [0, -1], 0] = nodes[:, [1, -2], 0]
    nodes[[0, -1], 0, 1], nodes[[0, -1], -1, 1] = y[0], y[-1]
    nodes[0, [0, -1], 0], nodes[-1, [0, -1], 0] = x[0], x[-1]
    return nodes


def _block(nodes: Array, i: int, j: int) -> Block:
    nx, ny = nodes.shape[:2]
    corners = np.array([nodes[i, j], nodes[i + 1, j], nodes[i + 1, j + 1], nodes[i, j + 1]])
    street = [j > 0, i < nx - 2, j < ny - 2, i > 0]
    core = [0 < i < nx - 2, 0 < j < ny - 2, 0 < i < nx - 2, 0 < j < ny - 2]
    kerb_corners = inset(corners, [STREET_WIDTH_M / 2 * s for s in street])
    walk_corners = inset(corners, [(STREET_WIDTH_M / 2 + SIDEWALK_M) * s for s in street])
    round_at = [street[k] and street[k - 1] for k in range(4)]
    frontages = [
        Frontage(walk_corners[k], walk_corners[(k + 1) % 4], left_of(corners[(k + 1) % 4] - corners[k]), core[k])
        for k in range(4)
        if street[k]
    ]
    return Block(rounded(kerb_corners, round_at, _CORNER_M), rounded(walk_corners, round_at, 1.5), tuple(frontages))


def left_of(direction: Array) -> Array:
    """(2,) unit normal to the left of a direction."""
    return np.array([-direction[1], direction[0]]) / np.linalg.norm(direction)


def inset(corners: Array, distances_m: list[float]) -> Array:
    """Moves edge k (corner k to k+1) inward by distances_m[k]; counter-clockwise polygon."""
    out = np.empty_like(corners)
    n = len(corners)
    for k in range(n):
        before, here, after = corners[k - 1], corners[k], corners[(k + 1) % n]
        normals = np.stack([left_of(here - before), left_of(after - here)])
        out[k] = here + np.linalg.solve(normals, np.array([distances_m[k - 1], distances_m[k]]))
    return out


def rounded(corners: Array, round_at: list[bool], radius_m: float) -> Array:
    """The ring with an arc of this radius at the chosen corners."""
    ring: list[Array] = []
    for k, corner in enumerate(corners):
        if not round_at[k]:
            ring.append(corner)
            continue
        back, ahead = corners[k - 1] - corner, corners[(k + 1) % len(corners)] - corner
        a, b = (corner + d / np.linalg.norm(d) * radius_m for d in (back, ahead))
        s = np.linspace(0, 1, 7)[:, None]
        ring += list((1 - s) ** 2 * a + 2 * s * (1 - s) * corner + s**2 * b)
    return np.array(ring)


def _lots(block: Block, rng: np.random.Generator) -> list[Lot]:
    lots: list[Lot] = []
    for frontage in block.frontages:
        span = frontage.end - frontage.start
        length, along = float(np.linalg.norm(span)), span / np.linalg.norm(span)
        at = rng.uniform(0.3, 1.5)
        while at < length - 7.5:
            width = min(float(rng.uniform(8.0, 12.5)), length - at - 0.2)
            setback = float(rng.choice([0.2, 0.4, 1.2, 2.0]))
            front = frontage.start + along * (at + width / 2) + frontage.inward * setback
            lot = Lot(front, along, width, float(rng.uniform(7.5, 10.0)), frontage.core)
            if not any(overlap(lot.corners, other.corners) for other in lots):
                lots.append(lot)
                at += width + float(rng.choice([0.0, 0.0, 1.2, 3.6], p=[0.25, 0.25, 0.2, 0.3]))
            else:
                at += 2.0
    return lots


def overlap(a: Array, b: Array) -> bool:
    """Whether two convex rings overlap by more than a hair (separating axes)."""
    for ring in (a, b):
        for k in range(len(ring)):
            axis = left_of(ring[(k + 1) % len(ring)] - ring[k])
            pa, pb = a @ axis, b @ axis
            if pa.max() < pb.min() + 0.01 or pb.max() < pa.min() + 0.01:
                return False
    return True
