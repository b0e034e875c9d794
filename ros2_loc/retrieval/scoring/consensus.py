"""Which matches agree with which transforms, for several places at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Matches of P places, at most N each, filled up.

    Attributes:
        query, place: (P, N, 2), of each place with mean 0 and standard deviation 1.
        valid: (P, N) bool, False for the filling.
        counts: (P,) valid ones; they come first.
        limits: (P,) largest distance of an inlier, in units of `query`.
    """

    query: NDArray[np.float32]
    place: NDArray[np.float32]
    valid: NDArray[np.bool_]
    counts: NDArray[np.int64]
    limits: NDArray[np.float32]

    def of(self, places: NDArray) -> Points:
        """Some of the places."""
        return Points(*(array[places] for array in (self.query, self.place, self.valid, self.counts, self.limits)))

    def at(self, indices: NDArray[np.int64]) -> Points:
        """(P, n) chosen valid matches of each place."""
        query, place = (np.take_along_axis(array, indices[..., None], axis=1) for array in (self.query, self.place))
        return Points(query, place, np.ones(indices.shape, dtype=bool), np.full(len(indices), indices.shape[1]), self.limits)


def agreeing(points: Points, transforms: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(P, T, N) matches whose transformed place point is nearer than the limit; T transforms (P, T, 3, 3) for each place."""
    dtype = transforms.dtype
    x, y = np.moveaxis(points.place.astype(dtype, copy=False), 2, 0)
    u, v = np.moveaxis(points.query.astype(dtype, copy=False), 2, 0)
    plane = np.stack([x, y, np.ones_like(x)], axis=1)
    w = transforms[..., 2, :] @ plane
    # the distance times w is linear in the transform: one product, no division
    dx = np.concatenate([transforms[..., 0, :], transforms[..., 2, :]], axis=2) @ np.concatenate([plane, -u[:, None] * plane], axis=1)
    dy = np.concatenate([transforms[..., 1, :], transforms[..., 2, :]], axis=2) @ np.concatenate([plane, -v[:, None] * plane], axis=1)
    np.multiply(dx, dx, out=dx)
    np.multiply(dy, dy, out=dy)
    dx += dy
    # behind the camera where w is negative: no distance is below that
    np.abs(w, out=dy)
    w *= dy
    w *= np.square(points.limits.astype(dtype))[:, None, None]
    inside: NDArray[np.bool_] = dx < w
    return inside & points.valid[:, None] if not points.valid.all() else inside
