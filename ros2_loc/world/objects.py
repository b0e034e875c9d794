"""Which objects a picture shows: their boxes and how much of each is seen, counted from the numbers of what its pixels show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros2_loc.world.movers import PlacedMover

Box = tuple[float, float, float, float]

MIN_PIXELS = 20


class SeenObject(NamedTuple):
    """One object of a picture.

    Attributes:
        id: its number in `View.objects`.
        label: of `movers.LABELS`.
        box_px: (x0, y0, x1, y1) outer edges of its visible pixels.
        visible_share: its visible pixels over those that it would have in this picture if nothing stood before it.
        moving: whether it is no parked car.
    """

    id: int
    label: str
    box_px: Box
    visible_share: float
    moving: bool


def seen_objects(
    objects: NDArray[np.int32], movers: Iterable[PlacedMover], whole_px: Callable[[Sequence[PlacedMover]], Mapping[int, int]]
) -> tuple[SeenObject, ...]:
    """Those with at least MIN_PIXELS, ascending by number.

    Args:
        objects: (H, W) number of what each pixel shows, 0 for all else.
        movers: whatever can be among them.
        whole_px: how many pixels each one would have, by its number, if nothing stood before it.
    """
    counts = np.bincount(objects.ravel())
    enough = np.flatnonzero(counts[1:] >= MIN_PIXELS) + 1
    by_id = {mover.id: mover for mover in movers}
    found = [by_id[number] for number in enough.tolist()]
    whole = whole_px(found)
    return tuple(_seen(objects, mover, int(counts[mover.id]), whole[mover.id]) for mover in found)


def _seen(objects: NDArray[np.int32], mover: PlacedMover, count: int, whole: int) -> SeenObject:
    return SeenObject(mover.id, mover.label, box_of(objects == mover.id), count / max(whole, count), mover.moving)


def box_of(mask: NDArray[Any]) -> Box:
    """(x0, y0, x1, y1) outer edges of a mask (H, W) that is not empty, px."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
