"""The plan of a district: a crooked grid with missing streets, streets of different kinds, blocks that hold different things."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ros2_loc.errors import ConfigError
from ros2_loc.world.layout import Block, Frontage, Variety, inset, left_of, rounded
from ros2_loc.world.streets import Marks, Street, StreetNetwork, Surface

Array = NDArray[np.float64]
Cell = tuple[int, int]
Edge = tuple[int, int]

_EDGE_M = 9.0  # of ground that is left around the outermost crossings
_LAYOUTS = 24
_LARGEST_BLOCK = 4  # cells that may merge

# share, width, sidewalk, surface, marks, parking along its kerbs, distance of trees
_KINDS: tuple[tuple[float, float, float, Surface, Marks, bool, float], ...] = (
    (0.12, 14.0, 4.0, "dark", "double", True, 9.0),
    (0.18, 11.0, 2.8, "asphalt", "dashes", True, 0.0),
    (0.15, 10.0, 3.4, "light", "none", True, 11.0),
    (0.20, 8.0, 2.2, "asphalt", "dashes", False, 0.0),
    (0.12, 7.5, 2.0, "dark", "edges", False, 14.0),
    (0.13, 6.5, 1.6, "cobble", "none", False, 0.0),
    (0.10, 7.0, 1.8, "concrete", "none", False, 0.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class DistrictBlock:
    """A cell of the grid between streets, or between streets and other cells of the same merged block.

    Attributes:
        block: kerb, sidewalk, frontages (only along streets).
        corners: (4, 2) m, inner edges of the sidewalks, counter-clockwise.
        group: number of the merged block.
    """

    block: Block
    corners: Array
    group: int


def lay_district(variety: Variety, rng: np.random.Generator) -> tuple[StreetNetwork, tuple[DistrictBlock, ...]]:
    """Its streets and blocks.

    Raises:
        ConfigError: an extent in which no block finds room.
    """
    half = variety.extent_m / 2
    layouts = [_lay_grid(variety, rng) for _ in range(_LAYOUTS)]
    nodes, cells = max(layouts, key=lambda grid: _area(*grid) + 3 * _area(grid[0], _within(grid[0], grid[1], half)))
    core = _within(nodes, cells, half)
    if not core:
        raise ConfigError(f"an extent of {variety.extent_m} m has no room for a block between streets {variety.spacing_m} m apart")
    edges, groups = _merge(cells, set(core), nodes.shape[1], variety.removed, rng)
    streets = _build_streets(edges, nodes.shape[:2], rng)
    network = StreetNetwork(nodes.reshape(-1, 2), streets)
    by_ends = {_edge(s.start, s.end): s for s in streets}
    blocks = tuple(_block(network, by_ends, _ring(cell, nodes.shape[1]), groups[cell]) for cell in cells)
    return network, blocks


def _lay_grid(variety: Variety, rng: np.random.Generator) -> tuple[Array, list[Cell]]:
    """Nodes (nx, ny, 2), and the cells that lie inside of the square and hang together."""
    half = variety.half_m
    x, y = (_line(1.3 * half, variety.spacing_m, rng) for _ in range(2))
    nodes = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    nodes += rng.uniform(-variety.jitter_m, variety.jitter_m, nodes.shape)
    bend = np.zeros_like(nodes)
    for _ in range(3):
        wave = rng.normal(size=2)
        wave *= 2 * np.pi / (rng.uniform(260, 560) * np.linalg.norm(wave))
        bend += np.sin(nodes @ wave + rng.uniform(0, 2 * np.pi))[..., None] * rng.uniform(-1, 1, 2)
    nodes += bend * variety.bend_m
    angle = rng.uniform(-variety.turn_rad, variety.turn_rad)
    nodes = nodes @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inside = (abs(nodes) < half - _EDGE_M).all(axis=-1)
    good = [c for c in product(range(len(x) - 1), range(len(y) - 1)) if _is_sound(nodes, inside, c)]
    return nodes, _largest_part(good)


def _line(half: float, spacing_m: tuple[float, float], rng: np.random.Generator) -> Array:
    steps = rng.uniform(*spacing_m, int(2 * half / spacing_m[0]) + 2)
    at = np.cumsum(steps) - half - rng.uniform(0, spacing_m[1])
    return np.asarray(at[at < half], np.float64)


def _is_sound(nodes: Array, inside: NDArray[np.bool_], cell: Cell) -> bool:
    """Whether the cell lies inside and has edges of at least 26 m at angles of 50 degrees or more."""
    i, j = cell
    if not inside[i : i + 2, j : j + 2].all():
        return False
    ring = nodes[[i, i + 1, i + 1, i], [j, j, j + 1, j + 1]]
    sides = np.roll(ring, -1, axis=0) - ring
    length = np.linalg.norm(sides, axis=1)
    ahead = np.roll(sides, -1, axis=0)
    sine = (sides[:, 0] * ahead[:, 1] - sides[:, 1] * ahead[:, 0]) / (length * np.roll(length, -1))
    return bool(length.min() > 26 and sine.min() > 0.77)


def _largest_part(cells: list[Cell]) -> list[Cell]:
    """The most cells that hang together by their sides."""
    number = {cell: k for k, cell in enumerate(cells)}
    pairs = [(k, number[n]) for (i, j), k in number.items() for n in ((i + 1, j), (i, j + 1)) if n in number]
    part = _parts(len(cells), pairs)
    largest = np.bincount(part).argmax() if len(part) else 0
    return [cell for cell, p in zip(cells, part, strict=True) if p == largest]


def _parts(count: int, pairs: list[tuple[int, int]]) -> NDArray[np.int32]:
    a, b = np.array(pairs, int).reshape(-1, 2).T
    return np.asarray(connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)[1])


def _within(nodes: Array, cells: list[Cell], half_m: float) -> list[Cell]:
    """The cells that lie in the square where drives take place."""
    inside = (abs(nodes) < half_m).all(axis=-1)
    return [(i, j) for i, j in cells if inside[i : i + 2, j : j + 2].all()]


def _area(nodes: Array, cells: list[Cell]) -> float:
    total = 0.0
    for i, j in cells:
        p, q = nodes[i + 1, j + 1] - nodes[i, j], nodes[i, j + 1] - nodes[i + 1, j]
        total += abs(p[0] * q[1] - p[1] * q[0]) / 2
    return total


def _ring(cell: Cell, ny: int) -> list[int]:
    """Numbers of the cell's nodes, counter-clockwise."""
    i, j = cell
    return [i * ny + j, (i + 1) * ny + j, (i + 1) * ny + j + 1, i * ny + j + 1]


def _edge(a: int, b: int) -> Edge:
    return (a, b) if a < b else (b, a)


def _merge(
    cells: list[Cell], core: set[Cell], ny: int, share: float, rng: np.random.Generator
) -> tuple[set[Edge], dict[Cell, int]]:
    """The edges that stay streets, and the merged block of each cell. No dead ends arise, and all streets hang together; the way around a
    block of the core stays in the core."""
    sides: dict[Edge, list[Cell]] = {}
    for cell in cells:
        ring = _ring(cell, ny)
        for k in range(4):
            sides.setdefault(_edge(ring[k], ring[(k + 1) % 4]), []).append(cell)
    edges, groups = set(sides), {cell: k for k, cell in enumerate(cells)}
    inner = [edge for edge, owners in sorted(sides.items()) if len(owners) == 2 and len(core.intersection(owners)) != 1]
    for k in rng.permutation(len(inner))[: round(share * len(inner) * 1.4)]:
        one, other = (groups[cell] for cell in sides[inner[k]])
        merged = [cell for cell, g in groups.items() if g in (one, other)]
        if one != other and len(merged) <= _LARGEST_BLOCK and _stays_connected(edges - {inner[k]}, inner[k]):
            edges.remove(inner[k])
            groups.update(dict.fromkeys(merged, one))
    return edges, groups


def _stays_connected(edges: set[Edge], removed: Edge) -> bool:
    ends = [node for edge in edges for node in edge]
    if min(ends.count(node) for node in removed) < 2:
        return False
    names = {node: k for k, node in enumerate(dict.fromkeys(ends))}
    return bool(_parts(len(names), [(names[a], names[b]) for a, b in edges]).max() == 0)


def _build_streets(edges: set[Edge], shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Street, ...]:
    """Each line of the grid has its kind; here and there a segment was repaved, or has other trees or other parking."""
    ny = shape[1]
    kinds = rng.choice(len(_KINDS), shape[0] + ny, p=[kind[0] for kind in _KINDS])
    streets = []
    for a, b in sorted(edges):
        line = a % ny if b - a == ny else ny + a // ny
        _, width, sidewalk, surface, marks, parking, trees = _KINDS[kinds[line]]
        sides = (parking and rng.random() < 0.75, parking and rng.random() < 0.75)
        street = Street(a, b, width, sidewalk, surface, marks, sides, trees)
        if rng.random() < 0.25:
            street = replace(street, surface=rng.choice(np.array(["dark", "asphalt", "light", "concrete"])).item())
        if rng.random() < 0.3:
            street = replace(street, trees_m=0.0 if trees else float(rng.uniform(7, 16)))
        if rng.random() < 0.2:
            street = replace(street, marks=rng.choice(np.array(["none", "dashes", "edges"])).item())
        streets.append(street)
    return tuple(streets)


def _block(network: StreetNetwork, by_ends: dict[Edge, Street], ring: list[int], group: int) -> DistrictBlock:
    corners = network.nodes[ring]
    sides = [by_ends.get(_edge(ring[k], ring[(k + 1) % 4])) for k in range(4)]
    walk = inset(corners, [s.width_m / 2 + s.sidewalk_m if s else 0.0 for s in sides])
    frontages = [Frontage(walk[k], walk[(k + 1) % 4], left_of(corners[(k + 1) % 4] - corners[k]), True) for k in range(4) if sides[k]]
    kerb = _outline(network, ring, sides, 0.0, 4.0)
    return DistrictBlock(Block(kerb, _outline(network, ring, sides, 1.0, 1.5), tuple(frontages)), walk, group)


def _outline(network: StreetNetwork, ring: list[int], sides: list[Street | None], walks: float, radius_m: float) -> Array:
    """The cell less half of its streets and `walks` times their sidewalks; corners between streets are rounded.

    Where a street bends around the cell and both of the cell's edges there are no streets, the corner is cut off.
    """
    corners = network.nodes[ring]
    inner = inset(corners, [s.width_m / 2 + walks * s.sidewalk_m if s else 0.0 for s in sides])
    points: list[Array] = []
    is_round: list[bool] = []
    for k, corner in enumerate(corners):
        passing = network.at(ring[k])
        if passing and sides[k] is None and sides[k - 1] is None:
            cut = max(s.width_m / 2 + walks * s.sidewalk_m for s in passing)
            ways = (corners[k - 1] - corner, corners[(k + 1) % 4] - corner)
            points += [corner + way / np.linalg.norm(way) * cut for way in ways]
            is_round += [False, False]
        else:
            points.append(inner[k])
            is_round.append(sides[k] is not None and sides[k - 1] is not None)
    return rounded(np.array(points), is_round, radius_m)
