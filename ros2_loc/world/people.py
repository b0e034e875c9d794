"""Shapes of people on foot and on bicycles, with limbs as they are at a phase of their step. x forward, y left, z up, metres."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.materials import BAG, BLACK, FRAME, HAIR, RIM, SHIRT, SHOES, SKIN, TROUSERS
from ros2_loc.world.solids import Solid, SolidBuilder, moved

Array = NDArray[np.float64]

PHASES = 12  # of a step that are told apart
BUILDS = 6  # kinds of people
_THIGH_M, _SHIN_M, _HIP_M = 0.44, 0.43, 0.93
_TRUNK_M = (
    (0.88, 0.165, 0.115), (0.98, 0.17, 0.12), (1.10, 0.155, 0.105), (1.25, 0.175, 0.115), (1.38, 0.19, 0.115),
    (1.45, 0.17, 0.10), (1.49, 0.11, 0.075), (1.52, 0.06, 0.058),
)  # height, half width, half depth from the hip to the neck  # fmt: skip
_PACK_M = ((-0.14, 1.0), (0.14, 1.0), (0.15, 1.3), (0.1, 1.45), (-0.1, 1.45), (-0.15, 1.3))
_UPPER_M, _FORE_M, _SHOULDER_M = 0.29, 0.26, 1.43


@lru_cache(maxsize=4 * PHASES * BUILDS)
def person(build: int, phase: int, walking: bool = True, fine: bool = True) -> Solid:
    """An adult of 1.75 m.

    Args:
        build: below BUILDS: of clothes, hair and what is carried.
        phase: below PHASES: of two steps.
        walking: else standing.
        fine: else as one needs to be from afar.
    """
    turn = 2 * np.pi * phase / PHASES
    reach = 1.0 if walking else 0.12
    long_coat, skirt, pack, long_hair = build in (1,), build in (3,), build in (2, 4), build in (3, 5)
    builder = SolidBuilder(fine)
    for way, angle in ((1.0, turn), (-1.0, turn + np.pi)):
        swing = 0.46 * reach * np.sin(angle)
        bend = reach * (0.12 + 0.55 * max(0.0, np.cos(angle)) ** 2) if walking else 0.03
        _leg(builder, way * 0.095, swing, bend, TROUSERS if not skirt else SKIN)
        _arm(builder, way, -0.42 * reach * np.sin(angle) + 0.03, 0.25 + 0.2 * reach, SHIRT if build != 5 else SKIN)
    _trunk(builder, long_coat, skirt)
    _head(builder, long_hair)
    if pack:
        builder.loft(np.array([[[-x, y, z] for y, z in _PACK_M] for x in (0.11, 0.27)]), BAG)
    if build == 0:
        builder.box([-0.1, 0.30, 0.62], [0.16, 0.38, 0.9], BAG)
    return builder.build()


def _leg(builder: SolidBuilder, y_m: float, swing: float, bend: float, material: int) -> None:
    hip = np.array([0.0, y_m, _HIP_M])
    knee = hip + _THIGH_M * np.array([np.sin(swing), 0, -np.cos(swing)])
    ankle = knee + _SHIN_M * np.array([np.sin(swing - bend), 0, -np.cos(swing - bend)])
    builder.tube([moved(hip, 0, 0, 0.02), (hip + knee) / 2, knee], [0.092, 0.082, 0.062], material)
    builder.tube([knee, (knee + ankle) / 2, ankle], [0.062, 0.058, 0.045], material)
    _shoe(builder, ankle, swing - bend)


def _shoe(builder: SolidBuilder, ankle: Array, pitch: float) -> None:
    heel, toe = np.array([-0.07, 0, -0.05]), np.array([0.20, 0, -0.055])
    c, s = np.cos(pitch), np.sin(pitch)
    middle = moved((heel + toe) / 2, 0, 0, 0.015)
    turned = [moved(ankle, c * p[0] - s * p[2], 0.0, s * p[0] + c * p[2]) for p in (heel, middle, toe)]
    builder.tube(turned, [0.045, 0.052, 0.035], SHOES, sides=6)


def _arm(builder: SolidBuilder, way: float, swing: float, bend: float, material: int) -> None:
    shoulder = np.array([0.0, way * 0.195, _SHOULDER_M])
    elbow = shoulder + _UPPER_M * np.array([np.sin(swing), way * 0.10, -np.cos(swing)])
    hand = elbow + _FORE_M * np.array([np.sin(swing + bend), 0, -np.cos(swing + bend)])
    builder.tube([shoulder, (shoulder + elbow) / 2, elbow], [0.062, 0.054, 0.044], SHIRT)
    builder.ball(shoulder, (0.075, 0.07, 0.07), SHIRT, sides=8, rows=5)
    builder.tube([elbow, hand], [0.044, 0.033], material)
    builder.ball(moved(hand, 0.01, 0, -0.06), (0.04, 0.03, 0.065), SKIN, sides=6, rows=4)


def _trunk(builder: SolidBuilder, long_coat: bool, skirt: bool) -> None:
    """With the hem of a coat or a skirt."""
    builder.loft(_rings(_TRUNK_M[2:]), SHIRT)
    builder.loft(_rings(_TRUNK_M[:3]), SHIRT if long_coat else TROUSERS)
    if long_coat or skirt:
        builder.loft(_rings([(0.50, 0.20, 0.19), (0.7, 0.19, 0.16), (0.98, 0.172, 0.122)]), SHIRT if long_coat else TROUSERS)


def _rings(rows: Sequence[tuple[float, float, float]]) -> Array:
    angles = np.arange(12) * 2 * np.pi / 12
    return np.array([np.column_stack([deep * np.cos(angles), wide * np.sin(angles), np.full(12, z)]) for z, wide, deep in rows])


def _head(builder: SolidBuilder, long_hair: bool, base_m: Array | None = None) -> None:
    at = np.zeros(3) if base_m is None else base_m
    builder.tube([moved(at, 0, 0, 1.48), moved(at, 0.01, 0, 1.56)], [0.055, 0.052], SKIN)
    builder.ball(moved(at, 0.012, 0, 1.635), (0.10, 0.078, 0.118), SKIN)
    builder.ball(moved(at, -0.014, 0, 1.665), (0.104, 0.086, 0.105), HAIR, rows=6)
    if long_hair:
        builder.ball(moved(at, -0.06, 0, 1.56), (0.06, 0.088, 0.15), HAIR)


@lru_cache(maxsize=2 * PHASES * BUILDS)
def cyclist(build: int, phase: int, fine: bool = True) -> Solid:
    """A rider on a bicycle."""
    builder = SolidBuilder(fine)
    _bicycle(builder)
    turn = 2 * np.pi * phase / PHASES
    hip, shoulder = np.array([-0.22, 0, 0.98]), np.array([0.10, 0, 1.45])
    for way, angle in ((1.0, turn), (-1.0, turn + np.pi)):
        pedal = np.array([0.02 + 0.17 * np.cos(angle), way * 0.11, 0.29 + 0.17 * np.sin(angle)])
        _bent(builder, moved(hip, 0, way * 0.09, 0), moved(pedal, -0.03, 0, 0.07), 0.45, 0.46, (0.085, 0.06, 0.045), TROUSERS)
        _shoe(builder, moved(pedal, -0.04, 0, 0.06), 0.0)
        hand = np.array([0.46, way * 0.25, 1.05])
        elbow = (moved(shoulder, 0, way * 0.2, -0.02) + hand) / 2 + [-0.04, way * 0.06, -0.09]
        builder.tube([moved(shoulder, 0, way * 0.19, -0.02), elbow], [0.058, 0.045], SHIRT)
        builder.tube([elbow, hand], [0.045, 0.033], SKIN if build % 2 else SHIRT)
        builder.ball(hand, (0.045, 0.03, 0.04), SKIN, sides=6, rows=4)
    along = np.linspace(0, 1, 5)[:, None]
    builder.tube(hip + (shoulder - hip) * along, [0.13, 0.14, 0.15, 0.165, 0.11], SHIRT, sides=10, flat=0.75)
    base = shoulder + np.array([0.06, 0, 0.05]) - [0, 0, 1.50]
    _head(builder, build == 3, base)
    if build != 3:
        builder.ball(moved(base, -0.005, 0, 1.70), (0.13, 0.092, 0.075), BAG, rows=6)
    if build in (2, 4):
        builder.ball([-0.16, 0, 1.30], (0.13, 0.14, 0.2), BAG)
    return builder.build()


def _bent(
    builder: SolidBuilder, top: Array, end: Array, upper_m: float, lower_m: float, radii: tuple[float, float, float], material: int
) -> None:
    """A limb of two parts whose joint points forward."""
    span = end - top
    length = min(float(np.linalg.norm(span)), 0.999 * (upper_m + lower_m))
    along = span / np.linalg.norm(span)
    forward = np.array([1.0, 0, 0]) - along * along[0]
    forward /= np.linalg.norm(forward)
    share = (upper_m**2 - lower_m**2 + length**2) / (2 * length)
    joint = top + along * share + forward * np.sqrt(max(upper_m**2 - share**2, 0.0))
    builder.tube([top, (top + joint) / 2, joint], [radii[0], radii[0] * 0.92, radii[1]], material)
    builder.tube([joint, end], [radii[1], radii[2]], material)


def _bicycle(builder: SolidBuilder) -> None:
    rear, front, crank = (np.array(p) for p in ((-0.52, 0, 0.34), (0.56, 0, 0.34), (0.02, 0, 0.29)))
    seat, head = np.array([-0.16, 0, 0.80]), np.array([0.38, 0, 0.84])
    for wheel in (rear, front):
        for y in (-0.016, 0.016):
            builder.disc(moved(wheel, 0, y, 0), 0.34, BLACK, hole=0.91, sides=24)
        for k in range(8 if builder.fine else 0):
            a = np.pi * k / 8
            spoke = np.array([np.cos(a), 0, np.sin(a)]) * 0.31
            side = np.array([-np.sin(a), 0, np.cos(a)]) * 0.004
            builder.polygon([wheel + spoke + side, wheel + spoke - side, wheel - spoke - side, wheel - spoke + side], RIM)
    for a, b in ((rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head), (head, front)):
        builder.tube([a, b], 0.019, FRAME, sides=6)
    builder.tube([seat, moved(seat, -0.05, 0, 0.13)], 0.014, RIM, sides=6)
    builder.ball([-0.22, 0, 0.94], (0.13, 0.07, 0.03), BLACK, sides=8, rows=4)
    builder.tube([head, moved(head, -0.03, 0, 0.2)], 0.016, RIM, sides=6)
    builder.tube([[0.40, -0.28, 1.02], [0.36, 0, 1.05], [0.40, 0.28, 1.02]], 0.016, BLACK, sides=6)
