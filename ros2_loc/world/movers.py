"""What moves through a town, or is parked in it: where it is, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.world.cars import BODIES, car
from ros2_loc.world.layout import KERB_M
from ros2_loc.world.people import BUILDS, PHASES, cyclist, person
from ros2_loc.world.solids import Array32, Solid
from ros2_loc.world.town import Town
from ros2_loc.world.trucks import HAULERS, truck

Array = NDArray[np.float64]

LABELS = ("car", "truck", "person", "cyclist")
_LOOKS = {"car": len(BODIES), "truck": len(HAULERS), "person": BUILDS, "cyclist": BUILDS}
_STRIDE_M = {"person": 1.45, "cyclist": 4.5}  # of two steps, of a turn of the pedals


@dataclass(frozen=True, slots=True, eq=False)
class PlacedMover:
    """One of them at one moment.

    Attributes:
        id: above 0, the same over time.
        label: of LABELS.
        map_from_mover: pose of its middle on the ground, x forward, y left, z up.
        moving: whether it is no parked car; those have the numbers 1 to len(town.furniture.cars).
        look: draws shape, colours and size.
        travelled_m: how far it has come, for its limbs; standing people have a negative one.
        braking: whether its brake lights are on.
    """

    id: int
    label: str
    map_from_mover: Pose
    moving: bool = True
    look: int = 0
    travelled_m: float = 0.0
    braking: bool = False

    def __post_init__(self) -> None:
        if self.label not in LABELS or self.id < 1:
            raise ConfigError(f"a mover has a number above 0 and a label of {', '.join(LABELS)}; got {self.id} and {self.label!r}")

    @property
    def size_m(self) -> Array:
        """(3,) length, width, height of the box about its middle that holds it in all its motion."""
        return np.array(mover_size(self.label, self.look))

    @property
    def corners_m(self) -> Array:
        """(8, 3) corners of its box, map frame."""
        length, width, height = self.size_m
        signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)])
        return np.asarray(self.map_from_mover.apply(signs * [length, width, height]), np.float64)

    def solid(self, fine: bool = True) -> Solid:
        """Its shape in the map frame, for a view from near or from afar."""
        shape = _shape(self.label, self.look, self._phase(), fine)
        rotation = self.map_from_mover.rotation.astype(np.float32)
        placed = shape.triangles_m * _scale(self.label, self.look) @ rotation.T + self.map_from_mover.translation.astype(np.float32)
        return Solid(placed, shape.normals @ rotation.T, shape.material)

    def _phase(self) -> int:
        if self.label not in _STRIDE_M:
            return 0
        if self.travelled_m < 0:
            return PHASES
        stride = _STRIDE_M[self.label] * float(_scale(self.label, self.look)[2])
        return int(self.travelled_m / stride * PHASES) % PHASES


@lru_cache(maxsize=4096)
def mover_size(label: str, look: int) -> tuple[float, float, float]:
    """Length, width, height in m of the box about its middle that holds a mover of this look in all its motion."""
    size = _shape_size(label, look % _LOOKS[label]) * _scale(label, look)
    return float(size[0]), float(size[1]), float(size[2])


@lru_cache(maxsize=32)
def _shape_size(label: str, number: int) -> Array:
    phases = range(PHASES + 1) if label == "person" else range(PHASES) if label == "cyclist" else range(1)
    sizes = [_shape(label, number, phase, fine).size_m for phase in phases for fine in (True, False)]
    return np.asarray(np.max(sizes, axis=0), np.float64)


def parked_cars(town: Town) -> tuple[PlacedMover, ...]:
    """The town's parked cars, numbered from 1 in the order of its furniture."""
    return _parked(town)


@lru_cache(maxsize=2)
def _parked(town: Town) -> tuple[PlacedMover, ...]:
    rng = np.random.default_rng([town.seed, 25, town.day])
    out = []
    for k, (at, forward) in enumerate(town.furniture.cars):
        z = float(at[2]) if len(at) > 2 else KERB_M
        yaw = float(np.arctan2(forward[1], forward[0]))
        pose = Pose(so3_exp([0, 0, yaw]), np.array([at[0], at[1], z]))
        out.append(PlacedMover(k + 1, "car", pose, moving=False, look=int(rng.integers(2**31))))
    return tuple(out)


def _shape(label: str, look: int, phase: int, fine: bool = True) -> Solid:
    number = look % _LOOKS[label]
    if label == "car":
        return car(number, fine)
    if label == "truck":
        return truck(number, fine)
    if label == "cyclist":
        return cyclist(number, phase % PHASES, fine)
    return person(number, phase % PHASES, phase < PHASES, fine)


@lru_cache(maxsize=4096)
def _scale(label: str, look: int) -> Array32:
    """(3,) by how much a look's length, width and height differ from its shape's."""
    rng = np.random.default_rng([look, 72])
    if label in ("car", "truck"):
        return np.asarray([rng.uniform(0.95, 1.06), rng.uniform(0.98, 1.03), rng.uniform(0.97, 1.04)], np.float32)
    child = label == "person" and rng.random() < 0.12
    height, stout = rng.uniform(0.60, 0.78) if child else rng.uniform(0.90, 1.08), rng.uniform(0.9, 1.18)
    if label == "cyclist":
        height, stout = rng.uniform(0.93, 1.05), 1.0
    return np.asarray([height * stout if label == "person" else height, height * stout, height], np.float32)
