"""Is a pose supported by more than chance, and by more than one spot of the image?

A poster, a window or a shop sign that is there twice gives many true matches, all in one spot, and a pose that is wrong by a street. What
else agrees with it is chance, as much as agrees with the same points looked for elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ros2_loc.core.pose import Array

SPOT = (1 / 6, 1 / 4)  # of the image's width and height


@dataclass(frozen=True, slots=True)
class Support:
    """Matches of a pose, and the mean number at poses that are wrong by construction; the same outside the densest spot.

    Attributes:
        found, by_chance: in the whole image.
        found_beside, by_chance_beside: outside that spot.
    """

    found: int
    by_chance: float
    found_beside: int
    by_chance_beside: float


def support_of(found_px: Array, by_chance_px: Sequence[Array], size: tuple[int, int]) -> Support:
    """Of matches at pixels (M, 2) and of those that chance gave, several times (K_i, 2), in an image of this width and height."""
    count = float(np.mean([len(pixels) for pixels in by_chance_px])) if by_chance_px else 0.0
    if not len(found_px):
        return Support(0, count, 0, count)
    unit = np.array(size) * SPOT  # a spot is a square of side 1 in these units
    scaled = np.asarray(found_px, dtype=np.float64) / unit
    crowd = cKDTree(scaled).query_ball_point(scaled, 0.5, p=np.inf, return_length=True)
    centre = scaled[int(np.argmax(crowd))]
    beside = float(np.mean([_beside(pixels / unit, centre) for pixels in by_chance_px])) if by_chance_px else 0.0
    return Support(len(found_px), count, _beside(scaled, centre), beside)


def beyond_chance(found: int, by_chance: float, least: float) -> bool:
    """Whether there are `least` matches more than chance gives, and more than chance gives once in a thousand (three sigmas of a count)."""
    return found - by_chance >= max(least, 3.0 * np.sqrt(by_chance))


def _beside(scaled: NDArray[np.floating], centre: NDArray[np.floating]) -> int:
    return int((np.abs(scaled - centre).max(axis=1, initial=0.0) > 0.5).sum())
