"""Transforms from the fewest matches that fix them, many at a time and in closed form.

A transform of the plane is given by what it does to a triangle and, for a homography, to a fourth point: with areas of the triangles of
these points it needs no system of equations (Hartley and Zisserman, "Multiple View Geometry", section 2.3, in barycentric coordinates).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ros2_loc.retrieval.scoring.verified import Model

_LEAST_AREA = 1e-3  # of a triangle, where the points' standard deviation is 1
_STEPS = 1 << 16
Float = NDArray[np.float32]


@cache
def draws(count: int, size: int, seed: int) -> NDArray[np.uint32]:
    """(size, count) integers in [0, 65536), always the same ones: a place's result depends on nothing but its own matches."""
    numbers = np.random.default_rng(seed).integers(0, _STEPS, (size, count), dtype=np.uint32)
    numbers.flags.writeable = False
    return numbers


def chosen(numbers: NDArray[np.uint32], counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """(..., N) draws and (P,) numbers of matches -> (..., P, N) one of each place's matches."""
    return (numbers[..., None, :] * counts.astype(np.uint64)[:, None] >> 16).astype(np.int64)


def from_samples(query: Float, place: Float, model: Model) -> tuple[Float, NDArray[np.bool_]]:
    """Transforms query_from_place of samples.

    Args:
        query, place: (2, S, N) coordinates of N samples of S = 4 or 3 matches, each image's with standard deviation 1 or so.
        model: which.

    Returns:
        (K, 3, 3) of the samples that fix one, and (N,) which those are: no three points in line, and none mirrored.
    """
    areas_q, areas_p = _areas(query, model), _areas(place, model)
    usable = np.ones(query.shape[2], dtype=bool)
    for q, p in zip(areas_q, areas_p, strict=True):
        # mirrored by the transform where the signs differ
        usable &= (q * p > 0.0) & (np.minimum(np.abs(q), np.abs(p)) > _LEAST_AREA)
    rows = np.flatnonzero(usable)
    q, p = np.take(query, rows, axis=2), np.take(place, rows, axis=2)
    if model == "affine":
        return _transforms(q, p, areas_p[0][rows], np.ones((3, len(rows)), dtype=np.float32)), usable
    # w at the corners of the triangle, relative to the fourth point
    whole = areas_p[3][rows] / areas_q[3][rows]
    weights = np.stack([q_area[rows] / p_area[rows] * whole for q_area, p_area in zip(areas_q[:3], areas_p[:3], strict=True)])
    return _transforms(q, p, areas_p[3][rows], weights), usable


def _areas(points: Float, model: Model) -> tuple[Float, ...]:
    """Twice the areas of triangles: of an affine sample its own; of a homography's those with the fourth point, then the first three."""
    (x0, *xs), (y0, *ys) = points
    ax, bx, ay, by = xs[0] - x0, xs[1] - x0, ys[0] - y0, ys[1] - y0
    whole = ax * by - ay * bx
    if model == "affine":
        return (whole,)
    cx, cy = xs[2] - x0, ys[2] - y0
    first, second = cx * by - cy * bx, ax * cy - ay * cx
    return whole - first - second, first, second, whole


def _transforms(q: Float, p: Float, area: Float, weights: Float) -> Float:
    """(3, 3, K) -> (K, 3, 3) from three points (2, S, K) of each image and w at them (3, K)."""
    (x0, x1, x2), (y0, y1, y2) = p[:, :3]
    (u0, u1, u2), (v0, v1, v2) = q[:, :3]
    ax, bx, ay, by = x1 - x0, x2 - x0, y1 - y0, y2 - y0
    # barycentric coordinates as functions of x, y, 1
    first = np.stack([by, -bx, y0 * bx - x0 * by]) / area
    second = np.stack([-ay, ax, x0 * ay - y0 * ax]) / area
    w = (weights[1] - weights[0]) * first + (weights[2] - weights[0]) * second
    w[2] += weights[0]
    x = u0 * w + weights[1] * (u1 - u0) * first + weights[2] * (u2 - u0) * second
    y = v0 * w + weights[1] * (v1 - v0) * first + weights[2] * (v2 - v0) * second
    return np.ascontiguousarray(np.stack([x, y, w]).transpose(2, 0, 1))
