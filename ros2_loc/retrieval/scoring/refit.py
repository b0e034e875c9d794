"""Transforms that fit all of their inliers best, for several places and several transforms of each at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros2_loc.retrieval.scoring.consensus import Points
from ros2_loc.retrieval.scoring.verified import Model

_LEAST_W = 1e-6
_LEAST_SPREAD = 1e-6  # determinant of the moments of inliers that are not in one line
_UPPER = ((0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2))  # of a symmetric matrix
_SYMMETRIC = (0, 1, 2, 1, 3, 4, 2, 4, 5)  # back from these


class Refit:
    """Homographies by the normalised direct linear transform (Hartley and Zisserman, algorithm 4.2), each match weighted by 1 / w^2 of the
    transform it had, so that it is a distance in the image that gets small; affine ones by least squares.
    """

    def __init__(self, points: Points, model: Model) -> None:
        self._homography = model == "homography"
        place, query = points.place.astype(np.float64), points.query.astype(np.float64)
        self._plane = np.concatenate([place, np.ones_like(place[..., :1])], axis=2)
        squares = self._plane[..., _UPPER[0]] * self._plane[..., _UPPER[1]]
        u, v = query[..., :1], query[..., 1:]
        self._moments = np.concatenate([squares, squares * u, squares * v, squares * (u * u + v * v)], axis=2)

    def __call__(self, transforms: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(P, T, 3, 3) fitted to the inliers (P, T, N) of the given ones; zeros where these fix none."""
        weights = inside.astype(np.float64)
        if self._homography:
            w = transforms[..., 2, :] @ self._plane.swapaxes(1, 2)
            weights /= np.square(np.maximum(w, _LEAST_W))
        sums = (weights @ self._moments).reshape(*weights.shape[:2], 4, 6)
        moments = sums[..., _SYMMETRIC].reshape(*sums.shape[:3], 3, 3)
        return _homographies(moments) if self._homography else _affine(moments)


def _homographies(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eigenvector of the smallest eigenvalue, with the sign that puts the middle of the inliers in front of the camera."""
    plain, by_u, by_v, by_both = np.moveaxis(moments, 2, 0)
    matrix = np.zeros((*plain.shape[:2], 9, 9))
    matrix[..., :3, :3] = matrix[..., 3:6, 3:6] = plain
    matrix[..., :3, 6:] = matrix[..., 6:, :3] = -by_u
    matrix[..., 3:6, 6:] = matrix[..., 6:, 3:6] = -by_v
    matrix[..., 6:, 6:] = by_both
    found = np.linalg.eigh(matrix)[1][..., 0].reshape(*plain.shape)
    sign = np.sign((found[..., 2, :] * plain[..., 2, :]).sum(axis=2))
    return np.asarray(found * sign[..., None, None])


def _affine(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    left, right = moments[:, :, 0], moments[:, :, 1:3, :, 2]
    found = np.zeros_like(left)
    usable = np.linalg.det(left) > _LEAST_SPREAD
    found[usable, :2] = np.linalg.solve(left[usable], right[usable].swapaxes(1, 2)).swapaxes(1, 2)
    found[usable, 2, 2] = 1.0
    return found
