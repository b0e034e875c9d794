"""What the blocks of a district hold: houses in rows or in gardens, halls, parks, squares, parking lots, pitches, open ground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.district import DistrictBlock
from ros2_loc.world.land import Land, Quad, disc, is_free, unit
from ros2_loc.world.layout import KERB_M, Frontage, Lot
from ros2_loc.world.quarters import BAY_M, USES, Quarter, house_on, large_house_on

Array = NDArray[np.float64]
_Filler = Callable[[Land, DistrictBlock, Quad, Quarter, np.random.Generator], None]


def fill_block(land: Land, block: DistrictBlock, use: str, quarter: Quarter, rng: np.random.Generator) -> None:
    """Draws and places what one cell holds; `use` is one of USES."""
    quad = Quad(block.corners)
    if min(quad.length_m, quad.depth_m) < 16 and use not in ("row", "parking"):
        use = "open"
    _FILLERS[use](land, block, quad, quarter, rng)


def draw_use(quarter: Quarter, rng: np.random.Generator) -> str:
    """One of USES, by the quarter's shares."""
    return USES[int(rng.choice(len(USES), p=quarter.uses))]


def _lots_along(
    frontage: Frontage, quad: Quad, lots: list[Lot], setback_m: float, gaps_m: tuple[float, float], rng: np.random.Generator
) -> list[Lot]:
    """New lots behind one street, apart by gaps; `lots` are those that stand already."""
    span = frontage.end - frontage.start
    length, along = float(np.linalg.norm(span)), unit(span)
    found: list[Lot] = []
    at = rng.uniform(0.2, 1.5)
    while at < length - 2 * BAY_M:
        width = float(rng.choice([3, 4, 5], p=[0.4, 0.4, 0.2])) * BAY_M
        front = frontage.start + along * (at + width / 2) + frontage.inward * (setback_m + rng.uniform(0, 0.15) * setback_m)
        lot = Lot(front, along, width, float(rng.choice([3, 4])) * BAY_M, True)
        if quad.holds(lot.corners) and is_free(lot, lots + found):
            found.append(lot)
            at += width + (rng.uniform(*gaps_m) if rng.random() < 0.6 else 0.0 if gaps_m[0] < 2 else gaps_m[0])
        else:
            at += 1.5
    return found


def _row(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, quarter.yard)
    setback = float(rng.choice([0.2, 0.3, 1.5, 2.5]))
    lots: list[Lot] = []
    for frontage in block.block.frontages:
        lots += _lots_along(frontage, quad, lots, setback, (0.0, 4.0), rng)
    for lot in lots:
        _back_garden(land, lot, quad, rng)
        land.houses.append(house_on(lot, quarter, rng))
    if rng.random() < 0.5 and min(quad.length_m, quad.depth_m) > 44:
        _yard(land, quad, lots, rng)
    elif quarter.yard in ("lawn", "grass", "dry"):
        _scatter_trees(land, quad, float(rng.uniform(250, 900)), rng)


def _scatter_trees(land: Land, quad: Quad, each_m2: float, rng: np.random.Generator) -> None:
    """Trees of gardens; those in houses are taken away in the end."""
    for _ in range(round(quad.length_m * quad.depth_m / each_m2)):
        land.tree(quad.at(*rng.uniform(0.08, 0.92, 2)), int(rng.choice([0, 2, 3, 4], p=[0.3, 0.25, 0.3, 0.15])), rng)


def _back_garden(land: Land, lot: Lot, quad: Quad, rng: np.random.Generator) -> None:
    if rng.random() < 0.35:
        return
    depth = rng.uniform(4, 12)
    left, right = -lot.along * lot.width_m / 2, lot.along * lot.width_m / 2
    back = lot.front + lot.inward * lot.depth_m
    ring = np.array([back + left, back + right, back + right + lot.inward * depth, back + left + lot.inward * depth])
    if not quad.holds(ring):
        return
    land.paint(ring, str(rng.choice(["lawn", "grass", "meadow", "terrace", "soil", "gravel"], p=[0.34, 0.22, 0.12, 0.14, 0.08, 0.1])))
    if rng.random() < 0.35:
        land.paint([back + left, back + right, back + right + lot.inward * 3, back + left + lot.inward * 3], "terrace")
    if rng.random() < 0.25:
        land.hedges.append((ring[2], ring[3]))
    if rng.random() < 0.45:
        land.tree(back + lot.inward * depth * 0.6 + lot.along * rng.uniform(-0.3, 0.3) * lot.width_m, int(rng.choice([0, 2, 3])), rng)
    elif rng.random() < 0.08:
        pool = back + lot.inward * (depth * 0.5 + 1)
        land.paint(pool + np.array([[-3, -1.5], [3, -1.5], [3, 1.5], [-3, 1.5]]) @ np.array([lot.along, lot.inward]), "pool")


def _yard(land: Land, quad: Quad, lots: list[Lot], rng: np.random.Generator) -> None:
    """Garages or cars in the middle of a block."""
    land.paint(quad.ring(0.36, 0.64), str(rng.choice(["concrete", "asphalt", "gravel"])))
    along = quad.along(0.5, 0.5)
    for s in np.arange(0.38 * quad.length_m, 0.62 * quad.length_m, 2.7):
        for v in (0.4, 0.6):
            spot = quad.at(s / quad.length_m, v)
            lot = Lot(spot, along, 2.6, 4.5, True)
            if is_free(lot, lots):
                land.stall(spot, quad.across(0.5, v), KERB_M, rng)


def _detached(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, str(rng.choice(["lawn", "grass", "meadow"])))
    setback = float(rng.uniform(3, 7))
    hedged = rng.random()
    lots: list[Lot] = []
    for frontage in block.block.frontages:
        new = _lots_along(frontage, quad, lots, setback, (4.0, 11.0), rng)
        lots += new
        for lot in new:
            _garden(land, lot, quad, setback, hedged, rng)
    land.houses += [house_on(lot, quarter, rng) for lot in lots]
    _scatter_trees(land, quad, float(rng.uniform(160, 500)), rng)


def _garden(land: Land, lot: Lot, quad: Quad, setback: float, hedged: float, rng: np.random.Generator) -> None:
    """Front garden, driveway with a car, hedge, and the lawn behind."""
    half, out = lot.along * (lot.width_m / 2), -lot.inward
    deep = lot.inward * (lot.depth_m + rng.uniform(4, 10))
    ring = lot.front + np.array([out * setback - half * 1.2, out * setback + half * 1.2, deep + half * 1.2, deep - half * 1.2])
    if rng.random() < 0.6 and quad.holds(ring * 0.98 + ring.mean(axis=0) * 0.02):
        land.paint(ring, str(rng.choice(["lawn", "grass", "meadow", "dry"])))
    side = half * 1.0 + lot.along * 1.6
    drive = [lot.front + side + lot.along * w + out * d for w, d in ((-1.4, setback), (1.4, setback), (1.4, -6.0), (-1.4, -6.0))]
    land.paint(drive, str(rng.choice(["concrete", "terrace", "gravel", "asphalt"])))
    land.stall(lot.front + side + lot.inward * 1.5, lot.inward, KERB_M, rng)
    land.paint([lot.front - lot.along * 0.3, lot.front - lot.along * 0.3 + out * setback], "terrace", 1.4)
    if rng.random() < hedged:
        edge = lot.front + out * (setback - 0.4)
        land.hedges.append((edge - half * 1.1, edge - lot.along * 1.3))
        land.hedges.append((edge + lot.along * 0.8, edge + half * 0.95))
    if rng.random() < 0.3:
        land.tree(lot.front - half * 0.7 + out * setback * 0.6, int(rng.choice([2, 3])), rng)


def _slabs(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    """Long houses one behind the other in a lawn, cars between them."""
    land.paint(quad.corners, str(rng.choice(["lawn", "grass", "dry"])))
    step, floors = float(rng.uniform(22, 30)), int(rng.integers(3, 7))
    bays = min(int((quad.length_m - 8) / BAY_M), 16)
    for t in np.arange(4.0, quad.depth_m - 4 * BAY_M - 2, step):
        v = t / quad.depth_m
        lot = Lot(quad.at(0.5, v), quad.along(0.5, v), bays * BAY_M, 4 * BAY_M, True)
        if quad.holds(lot.corners):
            land.houses.append(large_house_on(lot, quarter, floors, rng))
        if t + step < quad.depth_m:
            _stall_row(land, quad, t + 4 * BAY_M + 5.0, rng)
    land.paint([quad.at(0.02, 0.0), quad.at(0.02, 1.0)], "terrace", 2.5)
    for _ in range(8):
        land.tree(quad.at(rng.choice([0.06, 0.94]), rng.uniform(0.05, 0.95)), int(rng.choice([0, 1, 4])), rng)


def _stall_row(land: Land, quad: Quad, t: float, rng: np.random.Generator) -> None:
    """One row of stalls with the asphalt that they need, from t - 2.5 to t + 2.5 m."""
    ends = np.array([4.0, quad.length_m - 4.0])
    land.paint(quad.metres(ends[[0, 1, 1, 0]], [t - 2.6, t - 2.6, t + 2.6, t + 2.6]), "asphalt")
    _mark_stalls(land, quad, ends, t, rng)


def _mark_stalls(land: Land, quad: Quad, ends: Array, t: float, rng: np.random.Generator) -> None:
    for s in np.arange(ends[0] + 0.3, ends[1] - 2.6, 2.6):
        land.paint(quad.metres([s, s], [t - 2.3, t + 2.3]), "white", 0.15)
        land.stall(quad.metres(s + 1.3, t), quad.across((s + 1.3) / quad.length_m, t / quad.depth_m), KERB_M, rng)


def _parking(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, str(rng.choice(["asphalt", "dark", "light", "gravel"])))
    if quad.length_m < quad.depth_m:
        quad = Quad(np.roll(quad.corners, -1, axis=0))
    ends, module = np.array([2.0, quad.length_m - 2.0]), float(rng.uniform(15.5, 18))
    for t in np.arange(3.5, quad.depth_m - 3.0, module):
        for row in (t, t + 10.8):
            if row < quad.depth_m - 2.5:
                _mark_stalls(land, quad, ends, row, rng)
        if rng.random() < 0.6 and t > 8:
            land.paint(quad.metres(ends[[0, 1, 1, 0]], [t - 3.6, t - 3.6, t - 2.4, t - 2.4]), "lawn")
            for s in np.arange(6, quad.length_m - 4, rng.uniform(8, 20)):
                land.tree(quad.metres(s, t - 3), 0, rng)


def _hall(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    """A market hall or a workshop behind its parking lot."""
    land.paint(quad.corners, str(rng.choice(["asphalt", "concrete", "light"])))
    turn = int(rng.integers(4))
    quad = Quad(np.roll(quad.corners, -turn, axis=0))
    bays, deep = int((quad.length_m - 7) / BAY_M), int(min(0.5 * quad.depth_m, 30) / BAY_M)
    front = quad.metres(quad.length_m / 2, quad.depth_m - deep * BAY_M - 4)
    lot = Lot(front, quad.along(0.5, 0.6), min(bays, 18) * BAY_M, deep * BAY_M, True)
    if deep >= 3 and bays >= 3 and quad.holds(lot.corners):
        land.houses.append(large_house_on(lot, quarter, int(rng.choice([1, 2])), rng))
    for t in np.arange(4.0, quad.depth_m - deep * BAY_M - 10, 10.5):
        _mark_stalls(land, quad, np.array([3.0, quad.length_m - 3.0]), float(t), rng)
    for u in np.arange(0.06, 1, rng.uniform(0.12, 0.3)):
        land.tree(quad.at(u, 0.02), int(rng.choice([0, 1])), rng)


def _park(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, str(rng.choice(["lawn", "grass", "meadow"])))
    material, middle = str(rng.choice(["gravel", "sand", "asphalt", "terrace"])), rng.uniform(0.35, 0.65, 2)
    hub = quad.at(*middle)
    ends = [(0, 0), (1, 0), (1, 1), (0, 1), (0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)]
    for k in rng.choice(8, int(rng.integers(3, 6)), replace=False):
        bow = quad.at(*((np.array(ends[k]) + middle) / 2 + rng.normal(0, 0.05, 2)))
        land.paint([quad.at(*ends[k]), bow, hub], material, float(rng.uniform(1.8, 3.2)))
    if rng.random() < 0.35:
        land.paint(disc(quad.at(*rng.uniform(0.3, 0.7, 2)), min(quad.length_m, quad.depth_m) * 0.17), "water")
    else:
        land.paint(disc(hub, rng.uniform(3, 8)), material)
    if rng.random() < 0.4:
        corner = rng.uniform(0.15, 0.65, 2)
        land.paint(quad.at(corner[0] + [0, 0.2, 0.2, 0], corner[1] + [0, 0, 0.2, 0.2]), "sand")
    favourite, density = int(rng.choice([0, 1, 2, 4])), rng.uniform(120, 420)
    for _ in range(round(quad.length_m * quad.depth_m / density)):
        land.tree(quad.at(*rng.uniform(0.04, 0.96, 2)), favourite if rng.random() < 0.65 else int(rng.integers(5)), rng)
    for a, b in ((0, 1), (1, 2)):
        if rng.random() < 0.4:
            _hedge_line(land, quad.corners[a], quad.corners[b])


def _hedge_line(land: Land, a: Array, b: Array) -> None:
    count = max(1, round(float(np.linalg.norm(b - a)) / 15))
    for k in range(count):
        land.hedges.append((a + (b - a) * (k + 0.04) / count, a + (b - a) * (k + 0.9) / count))


def _square(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    base, stripe = (str(m) for m in rng.choice(["slabs", "cobbles", "terrace", "concrete", "light"], 2, replace=False))
    land.paint(quad.corners, base)
    if rng.random() < 0.5:
        for u in np.arange(0.1, 0.95, rng.uniform(0.1, 0.2)):
            land.paint([quad.at(u, 0.03), quad.at(u, 0.97)], stripe, 1.0)
    else:
        for low in np.arange(0.08, 0.4, 0.12):
            ring = quad.ring(low, 1 - low)
            land.paint(np.vstack([ring, ring[:1]]), stripe, 1.2)
    hub = quad.at(0.5, 0.5)
    land.paint(disc(hub, 5.5), stripe)
    land.paint(disc(hub, 3.6), "water" if rng.random() < 0.6 else "lawn")
    species, step = int(rng.choice([0, 1, 4])), rng.uniform(0.09, 0.2)
    for u in np.arange(0.1, 0.95, step):
        for v in (0.08, 0.92) if rng.random() < 0.8 else (0.08,):
            land.tree(quad.at(u, v), species, rng)


def _pitch(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, "grass")
    material = str(rng.choice(["pitch", "tartan", "sand", "hardcourt"]))
    ring = quad.ring(0.1, 0.9)
    land.paint(ring, material)
    inner = quad.ring(0.14, 0.86)
    land.paint(np.vstack([inner, inner[:1]]), "white", 0.25)
    land.paint(quad.at([0.5, 0.5], [0.14, 0.86]), "white", 0.25)
    circle = disc(quad.at(0.5, 0.5), 5)
    land.paint(np.vstack([circle, circle[:1]]), "white", 0.25)
    for u in np.arange(0.05, 1, 0.12):
        land.tree(quad.at(u, rng.choice([0.04, 0.96])), int(rng.choice([0, 1])), rng)


def _open(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, str(rng.choice(["meadow", "dry", "soil", "grass", "gravel"])))
    for _ in range(int(rng.integers(1, 4))):
        low = rng.uniform(0, 0.5, 2)
        high = low + rng.uniform(0.15, 0.5, 2)
        ring = quad.at([low[0], high[0], high[0], low[0]], [low[1], low[1], high[1], high[1]])
        land.paint(ring, str(rng.choice(["meadow", "dry", "soil", "grass", "field"])))
    land.paint([quad.at(*rng.uniform(0, 1, 2)), quad.at(*rng.uniform(0, 1, 2))], "gravel", 1.6)
    for _ in range(int(rng.integers(0, 9))):
        land.tree(quad.at(*rng.uniform(0.05, 0.95, 2)), int(rng.integers(5)), rng)


def _allotments(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    land.paint(quad.corners, "gravel")
    columns, rows = max(2, round(quad.length_m / 11)), max(2, round(quad.depth_m / 15))
    for i in range(columns):
        for j in range(rows):
            u, v = i + np.array([0.06, 0.94, 0.94, 0.06]), j + np.array([0.04, 0.04, 0.96, 0.96])
            cell = Quad(quad.at(u / columns, v / rows))
            land.paint(cell.corners, str(rng.choice(["lawn", "meadow", "soil", "grass", "field", "dry"])))
            if rng.random() < 0.6:
                land.paint(cell.at([0.1, 0.9, 0.9, 0.1], [0.5, 0.5, 0.9, 0.9]), "soil" if rng.random() < 0.5 else "field")
            if rng.random() < 0.5:
                land.tree(cell.at(0.5, 0.3), 3, rng)
            if rng.random() < 0.5:
                land.hedges.append((cell.corners[0], cell.corners[1]))


def _church(land: Land, block: DistrictBlock, quad: Quad, quarter: Quarter, rng: np.random.Generator) -> None:
    """A church with its tower in a churchyard or on a square."""
    land.paint(quad.corners, str(rng.choice(["lawn", "cobbles", "gravel"])))
    land.paint(quad.ring(0.2, 0.8), str(rng.choice(["slabs", "cobbles", "terrace"])))
    along, across = quad.along(0.5, 0.5), quad.across(0.5, 0.5)
    length, width = (round(min(0.45 * quad.length_m, 26) / BAY_M) * BAY_M, 4 * BAY_M)
    front = quad.at(0.55, 0.5) - across * width / 2
    nave = house_on(Lot(front, along, length, width, True), quarter, rng)
    tower = Lot(front - along * (length / 2 + BAY_M) + across * (width / 2 - BAY_M), along, 2 * BAY_M, 2 * BAY_M, True)
    land.houses.append(replace(nave, roof="side_gable", floors=3))
    land.houses.append(replace(nave, lot=tower, roof="hip", floors=7))
    for u in np.arange(0.06, 0.98, 0.11):
        for v in (0.06, 0.94):
            if rng.random() < 0.7:
                land.tree(quad.at(u, v), int(rng.choice([0, 4])), rng)


_FILLERS: dict[str, _Filler] = {
    "row": _row, "detached": _detached, "slabs": _slabs, "hall": _hall, "park": _park, "square": _square, "parking": _parking,
    "pitch": _pitch, "open": _open, "allotments": _allotments, "church": _church,
}  # fmt: skip
