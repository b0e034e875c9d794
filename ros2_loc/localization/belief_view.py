"""What a filter believes about the position, as people and other rooms see it: a picture of probabilities and its modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ros2_loc.core.types import RejectionReason

FloatArray = NDArray[np.float32]
Array = NDArray[np.float64]

_COMPONENT_FLOOR = 1e-3  # of the peak: a Gaussian keeps 99.9 % of its mass above it
_MODES_MAX = 20


@dataclass(frozen=True, slots=True, eq=False)
class Mode:
    """One place where base_link may be.

    Attributes:
        east_m, north_m: mean, ENU of the map.
        mass: probability of being in this mode.
        covariance: (2, 2) m^2, east and north: second moments of the belief within the mode, and of a cell.
    """

    east_m: float
    north_m: float
    mass: float
    covariance: Array


@dataclass(frozen=True, slots=True, eq=False)
class BeliefView:
    """The belief about the position, whatever the heading.

    Attributes:
        west_m, north_m: outer corner of the north-western cell, ENU of the map.
        metres_per_cell: side of a cell.
        probability: (rows, columns) float32, row 0 is the northmost; sums up to `mass`. Only the box that holds belief.
        mass: probability that base_link is in one of these cells; what is left is somewhere else: off the imagery, or carried away.
        entropy_nats: of the whole belief, the rest taken as spread over all cells of the tiles.
        modes: most probable first; at most 20 and none below a thousandth.
        heading_error_rad, heading_sigma_rad: mean and standard deviation of true yaw minus measured yaw.
    """

    west_m: float
    north_m: float
    metres_per_cell: float
    probability: FloatArray
    mass: float
    entropy_nats: float
    modes: tuple[Mode, ...]
    heading_error_rad: float
    heading_sigma_rad: float

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) of the box, ENU of the map."""
        rows, columns = self.probability.shape
        return self.west_m, self.north_m - rows * self.metres_per_cell, self.west_m + columns * self.metres_per_cell, self.north_m


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """Where base_link is, when one mode holds nearly all of the belief.

    Attributes:
        mean: (3,) east m, north m, heading error rad (true yaw minus measured yaw).
        covariance: (3, 3) of these: second moments of the mode, of a cell and of a heading step, divided by the mode's mass.
        mass: probability of the mode.
    """

    mean: Array
    covariance: Array
    mass: float


@dataclass(frozen=True, slots=True)
class Undecided:
    """Why there is no position."""

    reason: RejectionReason
    detail: str


def label_modes(probability: FloatArray) -> tuple[NDArray[np.int32], Array]:
    """Connected regions of a (rows, columns) belief that stand out of the rest.

    Returns:
        (rows, columns) label of each cell, 0: of none, 1: of the heaviest region, and so on; (L,) mass of each region, heaviest first.
    """
    peak = float(probability.max(initial=0.0))
    if peak <= 0.0:
        return np.zeros(probability.shape, dtype=np.int32), np.zeros(0)
    found, count = ndimage.label(probability > _COMPONENT_FLOOR * peak, structure=np.ones((3, 3)))
    masses = np.bincount(found.ravel(), weights=probability.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-masses, kind="stable")[:_MODES_MAX]
    order = order[masses[order] >= 1e-3]
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[order + 1] = np.arange(1, len(order) + 1)
    return rank[found], masses[order]


def moments(mass: FloatArray, east_m: Array, north_m: Array, heading_rad: Array) -> tuple[Array, Array, float]:
    """Mean (3,) and covariance (3, 3) of east m, north m and heading rad, and the sum of a mass (H, rows, columns).

    Args:
        mass: of each heading and cell.
        east_m, north_m: (H, columns) and (H, rows), where it sits.
        heading_rad: (H,).
    """
    total = max(float(mass.sum(dtype=np.float64)), 1e-30)
    of_rows, of_columns = mass.sum(axis=2, dtype=np.float64), mass.sum(axis=1, dtype=np.float64)
    of_headings = of_rows.sum(axis=1)
    mean = np.array([(of_columns * east_m).sum(), (of_rows * north_m).sum(), of_headings @ heading_rad]) / total
    de, dn, dh = east_m - mean[0], north_m - mean[1], heading_rad - mean[2]
    en = float(sum(n @ layer @ e for layer, e, n in zip(mass, de, dn, strict=True)))
    ee, nn, hh = (of_columns * de**2).sum(), (of_rows * dn**2).sum(), of_headings @ dh**2
    eh, nh = (of_columns * de).sum(axis=1) @ dh, (of_rows * dn).sum(axis=1) @ dh
    return mean, np.array([[ee, en, eh], [en, nn, nh], [eh, nh, hh]]) / total, total


def density(east_m: Array, north_m: Array, mean_m: Array, covariance: Array) -> FloatArray:
    """(H, rows, columns) float32 of a normal distribution (2,), (2, 2) at (H, columns) east and (H, rows) north, per m^2."""
    inverse = np.linalg.inv(covariance)
    de, dn = (east_m - mean_m[0])[:, None, :], (north_m - mean_m[1])[:, :, None]
    squared = inverse[0, 0] * de**2 + 2.0 * inverse[0, 1] * de * dn + inverse[1, 1] * dn**2
    return (np.exp(-0.5 * squared) / (2.0 * np.pi * np.sqrt(np.linalg.det(covariance)))).astype(np.float32)


def entropy(mass: FloatArray, elsewhere: float, cells: int) -> float:
    """Entropy in nats of a mass of any shape, and of a rest that is spread over so many cells."""
    held = mass[mass > 0].astype(np.float64)
    rest = elsewhere * np.log(elsewhere / cells) if elsewhere > 0 else 0.0
    return float(-(held * np.log(held)).sum() - rest)
