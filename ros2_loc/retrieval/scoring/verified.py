"""What a geometric check of several candidates found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Model = Literal["homography", "affine"]
SAMPLE: dict[str, int] = {"homography": 4, "affine": 3}  # matches that fix a model


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """Of P places with M matches in total.

    Attributes:
        inliers_per_place: (P,) int32 matches that agree with the place's transform; where there are fewer matches than fix one, all of
            them; 0 where they fix none.
        inlier_mask: (M,) bool, which.
        transforms: (P, 3, 3) query_from_place of pixels, the last element 1; zeros where there is none.
    """

    inliers_per_place: NDArray[np.int32]
    inlier_mask: NDArray[np.bool_]
    transforms: NDArray[np.float64]
