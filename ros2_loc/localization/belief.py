"""A pose with an uncertainty that is split in two: errors that are new each time, and errors that may be the same every time.

Estimates from one map share its points, its camera calibration and its georeference; averaging a thousand of them does not make those
errors smaller. A Kalman filter believes it does. Split covariance intersection (Julier and Uhlmann 2001; Li, Nashashibi and Yang, "Split
covariance intersection filter", IEEE T-ITS 2013) averages the independent part as a Kalman filter and never counts the correlated
part twice, whatever the correlation is. With a correlated fraction of 0 it is the Kalman filter, with 1 covariance intersection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.pose import Pose, largest_sigma, transport_to_left, transport_to_right
from ros2_loc.errors import DataError
from ros2_loc.localization.odometry_buffer import Motion

Array = NDArray[np.float64]

_WEIGHTS = np.linspace(0.01, 0.99, 25)


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """map_from_base at a stamp; independent and correlated (6, 6) in ROS order and map axes, their sum is the covariance."""

    stamp_ns: int
    map_from_base: Pose
    independent: Array
    correlated: Array

    @property
    def covariance(self) -> Array:
        """(6, 6), exactly symmetric."""
        total = self.independent + self.correlated
        return 0.5 * (total + total.T)

    @property
    def sigma_m(self) -> float:
        """Largest standard deviation of the position along any axis, m."""
        return largest_sigma(self.covariance[:3, :3])

    @property
    def sigma_rad(self) -> float:
        """Largest standard deviation of the rotation about any axis, rad."""
        return largest_sigma(self.covariance[3:, 3:])

    def moved(self, stamp_ns: int, motion: Motion) -> Belief:
        """The belief after a motion; the motion's errors are independent."""
        pose, step = self.map_from_base, motion.base0_from_base1
        turned = Pose(pose.rotation, np.zeros(3))
        independent = transport_to_right(pose, step, self.independent) + transport_to_left(turned, motion.covariance)
        return Belief(stamp_ns, pose @ step, independent, transport_to_right(pose, step, self.correlated))

    def innovation(self, map_from_base: Pose) -> Array:
        """(6,) that moves this belief onto a measured pose: m and rad, map axes."""
        return map_from_base.difference(self.map_from_base)

    def normalized_innovation_squared(self, map_from_base: Pose, covariance: Array) -> float:
        """Squared Mahalanobis distance to a measured pose; chi-square with 6 degrees of freedom where both covariances are true."""
        delta = self.innovation(map_from_base)
        return float(delta @ np.linalg.solve(self.covariance + covariance, delta))

    def updated(self, map_from_base: Pose, covariance: Array, correlated_fraction: float) -> Belief:
        """The belief after a measurement of map_from_base with covariance (6, 6), of which a fraction may be the same error every time."""
        r_independent, r_correlated = (1.0 - correlated_fraction) * covariance, correlated_fraction * covariance
        prior, measured = self._weighted(r_independent, r_correlated)
        gain = np.linalg.solve(prior + measured, prior).T
        keep = np.eye(6) - gain
        total = keep @ prior @ keep.T + gain @ measured @ gain.T
        independent = keep @ self.independent @ keep.T + gain @ r_independent @ gain.T
        pose = self.map_from_base.perturbed(gain @ self.innovation(map_from_base))
        return Belief(self.stamp_ns, pose, independent, total - independent)

    def _weighted(self, r_independent: Array, r_correlated: Array) -> tuple[Array, Array]:
        """Both covariances with their correlated parts enlarged by the weights that leave the most information."""
        w = _WEIGHTS[:, None, None]
        priors = self.independent + self.correlated / w
        measured = r_independent + r_correlated / (1.0 - w)
        information = np.linalg.inv(priors) + np.linalg.inv(measured)
        best = int(np.argmax(np.linalg.slogdet(information)[1]))
        return priors[best], measured[best]


def from_measurement(stamp_ns: int, map_from_base: Pose, covariance: Array, correlated_fraction: float) -> Belief:
    """The belief that one measurement alone supports."""
    return Belief(stamp_ns, map_from_base, (1.0 - correlated_fraction) * covariance, correlated_fraction * covariance)


def usable_covariance(covariance: ArrayLike | None) -> Array | None:
    """The (6, 6) when it is finite, symmetric and has positive variances; else None: drivers send zeros, -1 and NaN for "don't know"."""
    if covariance is None:
        return None
    c = np.asarray(covariance, dtype=np.float64)
    if c.shape != (6, 6) or not np.isfinite(c).all() or np.diag(c).min() <= 0:
        return None
    return 0.5 * (c + c.T) if np.abs(c - c.T).max() <= 1e-6 * np.abs(c).max() else None


def completed_covariance(covariance: ArrayLike, sigma_m: float, sigma_rad: float) -> Array:
    """The (6, 6) of an initial pose, its zero variances (RViz sends z, roll and pitch so) replaced by these sigmas squared.

    Raises:
        DataError: not a covariance: not finite, not symmetric, a negative variance, or not positive definite.
    """
    c = np.asarray(covariance, dtype=np.float64)
    if c.shape != (6, 6) or not np.isfinite(c).all():
        raise DataError(f"initial pose: a covariance is 36 finite numbers, got shape {c.shape} {'with NaN' if c.shape == (6, 6) else ''}")
    if np.diag(c).min() < 0 or np.abs(c - c.T).max() > 1e-6 * max(np.abs(c).max(), 1e-12):
        raise DataError(f"initial pose: a covariance is symmetric with no negative variance, got the diagonal {np.diag(c).tolist()}")
    silent = np.diag(c) == 0.0
    full = 0.5 * (c + c.T) + np.diag(np.where(silent, [sigma_m**2] * 3 + [sigma_rad**2] * 3, 0.0))
    if np.linalg.eigvalsh(full).min() <= 0:
        raise DataError("initial pose: the covariance is not positive definite: its correlations are larger than its variances allow")
    return full
