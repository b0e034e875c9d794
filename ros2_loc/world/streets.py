"""Streets as a graph, and how a district's crooked grid of them is laid. Map frame, metres."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Surface = Literal["dark", "asphalt", "light", "cobble", "concrete"]
Marks = Literal["none", "dashes", "double", "edges"]


@dataclass(frozen=True, slots=True)
class Street:
    """One segment between two nodes, by their numbers.

    Attributes:
        width_m: of the carriageway; sidewalk_m: of the sidewalks beside it.
        surface, marks: what it is made of and what is painted on it.
        parking: whether cars stand along its (left, right) kerb, seen from `start`.
        trees_m: distance of the trees along its sidewalks; none where it is 0.
    """

    start: int
    end: int
    width_m: float
    sidewalk_m: float
    surface: Surface
    marks: Marks
    parking: tuple[bool, bool]
    trees_m: float


@dataclass(frozen=True, eq=False)
class StreetNetwork:
    """Nodes (N, 2) m and the segments between them; nodes without a segment belong to no street."""

    nodes: Array
    streets: tuple[Street, ...]
    _at: dict[int, list[Street]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        for street in self.streets:
            self._at.setdefault(street.start, []).append(street)
            self._at.setdefault(street.end, []).append(street)

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The nodes that streets meet at, ascending."""
        return tuple(sorted(self._at))

    def at(self, node: int) -> list[Street]:
        """The segments at a node."""
        return self._at.get(node, [])

    def neighbours(self, node: int) -> list[int]:
        """The nodes that a segment joins to this one."""
        return [s.end if s.start == node else s.start for s in self.at(node)]

    def ends(self, street: Street) -> tuple[Array, Array]:
        """Both ends of its centre line, (2,) m each."""
        return self.nodes[street.start], self.nodes[street.end]

    def radius_m(self, node: int) -> float:
        """Half of the widest carriageway at a node."""
        return max((s.width_m for s in self.at(node)), default=0.0) / 2

    def within(self, half_m: float) -> StreetNetwork:
        """The streets inside of the square around the origin, less dead ends: one can drive on there without turning back."""
        kept = {s for s in self.streets if max(np.abs(self.nodes[[s.start, s.end]]).max(axis=1)) <= half_m}
        while True:
            ends = Counter(node for s in kept for node in (s.start, s.end))
            loose = {s for s in kept if min(ends[s.start], ends[s.end]) < 2}
            if not loose:
                return StreetNetwork(self.nodes, tuple(s for s in self.streets if s in kept))
            kept -= loose

    def is_crossing(self, node: int) -> bool:
        """Whether one can turn there: three streets or more."""
        return len(self.at(node)) > 2
