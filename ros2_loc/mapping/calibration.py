"""How large a map's own errors are: its images are localized, each in the map as it would be without that image.

The solver's covariance knows the noise of keypoints and points. What all points of a neighbourhood have in common (errors of the poses they
were triangulated from, of the camera's calibration) it can't know; it shows in these errors against the given poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ros2_loc.core.pose import Array, Pose, transport_to_left
from ros2_loc.mapping.adjustment import Linearized
from ros2_loc.mapping.sparse_map import ErrorModel, Place, SparseMap

MIN_TRIALS = 12
# For maps that can't be measured. On KITTI 03 the factor fitted is 10 with 5 m between images and 20 with 20 m; at 50 m, where hardly any
# image can be found without itself, 60 makes the queries consistent (docs/results.md).
UNMEASURED_SCALE = 60.0
# No floor is lower: trials on the map's own images can't show what another light, another lane, fewer keypoints or a stamp that is a little
# off bring in. In the synthetic town, whose given poses are exact, queries in another light and lane were overconfident without (NEES 10).
MIN_FLOOR_M = 0.005
MIN_FLOOR_RAD = np.radians(0.03)


def without_image(sparse_map: SparseMap, linearized: Linearized, image: int) -> SparseMap:
    """The map as if `image` had not been there: its points moved to where the other images see them, points that only one other
    saw dropped.

    One Newton step is exact to first order: at the optimum the gradients of all observations cancel, and without the image's own
    observation i the point moves by (V - V_i)^-1 J_i^T r_i.
    """
    own = np.flatnonzero(linearized.image_index == image)
    points = linearized.point_index[own]
    count = np.bincount(linearized.point_index, minlength=len(sparse_map.points_m))
    j, r = linearized.j_point[own], linearized.residual[own]
    information = linearized.point_information[points] - np.einsum("mki,mkj->mij", j, j)
    usable = (count[points] >= 3) & (np.linalg.cond(information) < 1e10)
    inverse = np.linalg.inv(information[usable])
    points_m, covariances = sparse_map.points_m.copy(), sparse_map.point_covariances.copy()
    points_m[points[usable]] += np.einsum("mij,mkj,mk->mi", inverse, j[usable], r[usable])
    covariances[points[usable]] = inverse * linearized.variance_px2
    dropped = np.zeros(len(points_m), dtype=bool)
    dropped[points[~usable]] = True
    places = [_keep(place, ~dropped[place.point_index]) for place in sparse_map.places]
    return replace(sparse_map, places=tuple(places), points_m=points_m, point_covariances=covariances)


def _keep(place: Place, kept: NDArray[np.bool_]) -> Place:
    return place if kept.all() else replace(place, features=place.features.select(kept), point_index=place.point_index[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One image of the map, localized without itself.

    Attributes:
        error: (6,) in ROS order and the camera's axes: m, rad.
        covariance: the solver's (6, 6), in the same axes.
        distance_m: to the nearest place that was left.
    """

    error: Array
    covariance: Array
    distance_m: float


def fit_error_model(trials: Sequence[Trial]) -> ErrorModel:
    """The scale and diagonal floor under which the errors are most likely: covariance_i' = scale covariance_i + floor.

    At the optimum the mean of e' C^-1 e is 6: the estimates are consistent on the map's own images.
    """
    length = np.array([np.linalg.norm(t.error[:3]) for t in trials])
    usable = [t for t, n in zip(trials, length, strict=True) if n < 8.0 * np.median(length) + 1e-9]  # a wrong place is no noise
    e, c = np.array([t.error for t in usable]), np.array([t.covariance for t in usable])

    def negative_log_likelihood(theta: Array) -> float:
        covariance = np.exp(theta[0]) * c + np.diag(np.exp(theta[1:]))
        nees = np.einsum("ni,nij,nj->n", e, np.linalg.inv(covariance), e)
        return float(0.5 * (np.linalg.slogdet(covariance)[1] + nees).mean())

    least = np.log(np.repeat([MIN_FLOOR_M**2, MIN_FLOOR_RAD**2], 3))
    bounds = [(np.log(0.5), np.log(30.0)), *((low, 0.0) for low in least)]
    spread = np.maximum(np.log(np.median(e**2, axis=0) / 0.455), least)  # 0.455: median of chi-square with one degree of freedom
    best = minimize(negative_log_likelihood, np.concatenate([[0.0], spread]), method="L-BFGS-B", bounds=bounds)
    distance_m = float(np.median([t.distance_m for t in usable]))
    return ErrorModel(float(np.exp(best.x[0])), np.diag(np.exp(best.x[1:])), distance_m, len(usable))


def unmeasured(prior_sigma_m: float, prior_sigma_deg: float) -> ErrorModel:
    """For maps with too few images to measure: the largest factor seen, and the errors that the given poses are assumed to have."""
    floor = np.diag(np.repeat([prior_sigma_m**2, np.radians(prior_sigma_deg) ** 2], 3))
    return ErrorModel(UNMEASURED_SCALE, floor, 0.0, 0)


def in_camera_axes(map_from_camera: Pose, vector_or_covariance: Array) -> Array:
    """A (6,) error or (6, 6) covariance in map axes, turned into the camera's."""
    turn = Pose(map_from_camera.rotation.T, np.zeros(3))
    if np.ndim(vector_or_covariance) == 2:
        return transport_to_left(turn, vector_or_covariance)
    return np.concatenate([turn.rotation @ vector_or_covariance[:3], turn.rotation @ vector_or_covariance[3:]])
