"""Some seconds of odometry: how base_link moved between any two stamps, and how far that can be trusted.

The odometry's noise is kept as a running sum in the axes of the odom frame, so that the covariance of the motion between two stamps is
a difference of two entries, whatever the rate. Noise of one step is white (a random walk); a scale error, the same for the whole
way, comes on top of it: it acts along the motion and about the axis of the turning, and leaves what odometry says about the other axes
(height, sideways, roll and pitch of a vehicle) as good as it is. Where there is no odometry the base is taken to stand still, and the
covariance grows as fast as it may move.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose, interpolate, skew, so3_exp, so3_log

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DriftModel:
    """How wrong odometry may be, one standard deviation on each axis.

    Used alone where the message's covariance is missing or can't be the covariance of a path (constant, shrinking, absurd); the
    terms per second are the least noise that is always assumed. The defaults are a careful guess for wheels of which nothing is known:
    in the synthetic town, whose messages state the true noise, they are 1.5 times as large along the way and 4 times across it.

    Attributes:
        noise_m_per_sqrt_m, noise_rad_per_sqrt_m, noise_rad_per_sqrt_rad: random walk over the way and over the turning.
        noise_m_per_sqrt_s, noise_rad_per_sqrt_s: random walk over time; it also lets a belief forget (correlated estimates).
        scale_error: error that is the same all the way since the last estimate, as a fraction of way and turning. It comes on top of a
            message's covariance too: drivers state noise, and hardly ever a wheel's diameter or a gyroscope's factor.
    """

    noise_m_per_sqrt_m: float = 0.03
    noise_rad_per_sqrt_m: float = 0.001
    noise_rad_per_sqrt_rad: float = 0.02
    noise_m_per_sqrt_s: float = 0.005
    noise_rad_per_sqrt_s: float = 0.0005
    scale_error: float = 0.01

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"drift.{name} must not be negative, got {value}")
        if min(self.noise_m_per_sqrt_s, self.noise_rad_per_sqrt_s) <= 0:
            raise ValueError("drift.noise_m_per_sqrt_s and drift.noise_rad_per_sqrt_s must be positive: no odometry is free of noise")


@dataclass(frozen=True)
class HoldModel:
    """How fast base_link may have moved where no odometry says so; standard deviations grow with these rates times the time.

    Attributes:
        unknown_speed_m_s, unknown_turn_rad_s: while nothing is known about the motion.
        speed_margin_m_s, turn_margin_rad_s: on top of the last speed that was seen.
        acceleration_m_s2, turn_acceleration_rad_s2: while the last velocity is extrapolated.
        max_extrapolation_s: how long a velocity is extrapolated past the newest odometry.
    """

    unknown_speed_m_s: float = 15.0
    unknown_turn_rad_s: float = 0.7
    speed_margin_m_s: float = 2.0
    turn_margin_rad_s: float = 0.3
    acceleration_m_s2: float = 3.0
    turn_acceleration_rad_s2: float = 1.0
    max_extrapolation_s: float = 0.3

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"hold.{name} must be positive, got {value}")


@dataclass(frozen=True, slots=True)
class Rates:
    """Speeds without direction: m/s and rad/s."""

    speed_m_s: float
    turn_rad_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """From one stamp to another: base0_from_base1, its covariance (6, 6) in the axes of base0, and the way along the path in m."""

    base0_from_base1: Pose
    covariance: Array
    distance_m: float


class OdometryEvent(str, Enum):
    """What became of an odometry sample."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    RESTARTED = "restarted"  # the odometry jumped in space: its old history says nothing about the new
    TIME_JUMP = "time_jump"  # the clock went back (a bag in a loop) or far forward


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    stamp_ns: int
    odom_from_base: Pose
    covariance: Array | None
    noise: Array  # (6, 6) running sum, left perturbation about the first sample's position, odom axes
    distance_m: float
    angle_rad: float
    turning: Array  # (3,) running sum of the turns since the first sample, rad, odom axes: signed, and never wrapped at half a turn


class OdometryBuffer:
    """A history of `odom_from_base` with the noise of its steps."""

    def __init__(self, drift: DriftModel, hold: HoldModel, history_s: float, max_speed_m_s: float) -> None:
        self._drift, self._hold = drift, hold
        self._history_ns = round(history_s * 1e9)
        self._max_speed_m_s = max_speed_m_s
        self._samples: list[_Sample] = []
        self._stamps: list[int] = []
        self._origin_m = np.zeros(3)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample, None when there is none."""
        return self._stamps[-1] if self._stamps else None

    @property
    def oldest_ns(self) -> int | None:
        """Stamp of the oldest sample, None when there is none."""
        return self._stamps[0] if self._stamps else None

    def clear(self) -> None:
        """Forgets everything."""
        self._samples, self._stamps = [], []

    def event_of(self, stamp_ns: int, odom_from_base: Pose, jump_back_s: float, jump_forward_s: float) -> OdometryEvent:
        """What a new sample is, compared with the newest: older or newer than it by more than these times, the clock jumped."""
        newest = self.newest_ns
        if newest is None:
            return OdometryEvent.ACCEPTED
        if stamp_ns == newest:
            return OdometryEvent.DUPLICATE
        gap_s = (stamp_ns - newest) * 1e-9
        if gap_s < -jump_back_s or gap_s > jump_forward_s:
            return OdometryEvent.TIME_JUMP
        if gap_s < 0:
            return OdometryEvent.OUT_OF_ORDER
        return OdometryEvent.RESTARTED if self.is_discontinuous(stamp_ns, odom_from_base) else OdometryEvent.ACCEPTED

    def is_discontinuous(self, stamp_ns: int, odom_from_base: Pose) -> bool:
        """Whether reaching this pose from the newest sample needs more than the greatest speed: the odometry was reset."""
        if not self._samples:
            return False
        last = self._samples[-1]
        step_m = float(np.linalg.norm(odom_from_base.translation - last.odom_from_base.translation))
        return step_m > self._max_speed_m_s * max((stamp_ns - last.stamp_ns) * 1e-9, 0.05)

    def append(self, stamp_ns: int, odom_from_base: Pose, covariance: Array | None) -> None:
        """Adds a sample that is newer than all before. covariance: (6, 6) of odom_from_base in odom axes, or None."""
        if not self._samples:
            self._origin_m = odom_from_base.translation
            self._samples.append(_Sample(stamp_ns, odom_from_base, covariance, np.zeros((6, 6)), 0.0, 0.0, np.zeros(3)))
        else:
            last = self._samples[-1]
            turn = so3_log(odom_from_base.rotation @ last.odom_from_base.rotation.T)
            step_m = float(np.linalg.norm(odom_from_base.translation - last.odom_from_base.translation))
            step_rad = float(np.linalg.norm(turn))
            noise = last.noise + self._step_noise(last, stamp_ns, odom_from_base, covariance, step_m, step_rad)
            distance_m, angle_rad = last.distance_m + step_m, last.angle_rad + step_rad
            self._samples.append(_Sample(stamp_ns, odom_from_base, covariance, noise, distance_m, angle_rad, last.turning + turn))
        self._stamps.append(stamp_ns)

    def forget(self) -> None:
        """Drops what is older than the history."""
        keep = bisect_right(self._stamps, self._stamps[-1] - self._history_ns) - 1 if self._stamps else 0
        if keep > 0:
            del self._samples[:keep], self._stamps[:keep]

    def expires_ns(self) -> int | None:
        """The stamp that `forget` would keep as the oldest, None without samples."""
        if not self._stamps:
            return None
        return self._stamps[max(bisect_right(self._stamps, self._stamps[-1] - self._history_ns) - 1, 0)]

    def odom_from_base(self, stamp_ns: int) -> Pose | None:
        """Odometry at the stamp: interpolated, extrapolated for a short time, held beyond; None without samples."""
        return self._at(stamp_ns).odom_from_base if self._samples else None

    def distance_m(self, stamp_ns: int) -> float:
        """The odometer at the stamp: way along the path since the first sample."""
        return self._at(stamp_ns).distance_m if self._samples else 0.0

    def motion(self, stamp0_ns: int, stamp1_ns: int, rates: Rates | None) -> Motion:
        """How the base moved from stamp0 to stamp1 (either order).

        Args:
            rates: speeds seen last, for the time that no odometry covers; None: unknown.
        """
        if not self._samples:
            return Motion(Pose.identity(), self._hold_covariance(abs(stamp1_ns - stamp0_ns) * 1e-9, rates), 0.0)
        first, second = self._at(stamp0_ns), self._at(stamp1_ns)
        base0_from_base1 = first.odom_from_base.inverse() @ second.odom_from_base
        noise = second.noise - first.noise if stamp1_ns >= stamp0_ns else first.noise - second.noise
        covariance = self._noise_at(noise, first.odom_from_base, second.odom_from_base)
        turning = first.odom_from_base.rotation.T @ (second.turning - first.turning)
        covariance += _of_scale(self._drift.scale_error, base0_from_base1.translation, turning)
        covariance += self._uncovered(stamp0_ns, stamp1_ns, rates)
        return Motion(base0_from_base1, 0.5 * (covariance + covariance.T), abs(second.distance_m - first.distance_m))

    def last_rates(self) -> Rates | None:
        """Speeds between the two newest samples, None when there are fewer."""
        if len(self._samples) < 2:
            return None
        before, last = self._samples[-2:]
        seconds = max((last.stamp_ns - before.stamp_ns) * 1e-9, 1e-3)
        return Rates((last.distance_m - before.distance_m) / seconds, (last.angle_rad - before.angle_rad) / seconds)

    def _at(self, stamp_ns: int) -> _Sample:
        i = bisect_right(self._stamps, stamp_ns)
        if i == 0:
            return self._samples[0]
        if i == len(self._samples):
            return self._extrapolated(stamp_ns)
        a, b = self._samples[i - 1], self._samples[i]
        f = (stamp_ns - a.stamp_ns) / (b.stamp_ns - a.stamp_ns)
        pose = interpolate(a.odom_from_base, b.odom_from_base, f)
        distance_m = a.distance_m + f * (b.distance_m - a.distance_m)
        noise, angle_rad = a.noise + f * (b.noise - a.noise), a.angle_rad + f * (b.angle_rad - a.angle_rad)
        return _Sample(stamp_ns, pose, None, noise, distance_m, angle_rad, a.turning + f * (b.turning - a.turning))

    def _extrapolated(self, stamp_ns: int) -> _Sample:
        last = self._samples[-1]
        ahead_s = min((stamp_ns - last.stamp_ns) * 1e-9, self._hold.max_extrapolation_s)
        if len(self._samples) < 2 or ahead_s <= 0:
            return last
        before = self._samples[-2]
        f = ahead_s / max((last.stamp_ns - before.stamp_ns) * 1e-9, 1e-3)
        motion = before.odom_from_base.inverse() @ last.odom_from_base
        step = Pose(so3_exp(f * so3_log(motion.rotation)), f * motion.translation)
        distance_m = last.distance_m + f * (last.distance_m - before.distance_m)
        angle_rad = last.angle_rad + f * (last.angle_rad - before.angle_rad)
        turning = last.turning + f * (last.turning - before.turning)
        return _Sample(stamp_ns, last.odom_from_base @ step, None, last.noise, distance_m, angle_rad, turning)

    def _step_noise(
        self, last: _Sample, stamp_ns: int, odom_from_base: Pose, covariance: Array | None, step_m: float, step_rad: float
    ) -> Array:
        """(6, 6) of one step, left perturbation about the origin of the buffer in odom axes."""
        seconds, drift = (stamp_ns - last.stamp_ns) * 1e-9, self._drift
        arm = odom_from_base.translation - last.odom_from_base.translation
        noise = _increment(last.covariance, covariance, arm, step_m)
        if noise is None:
            sigma_rad = math.hypot(drift.noise_rad_per_sqrt_m * math.sqrt(step_m), drift.noise_rad_per_sqrt_rad * math.sqrt(step_rad))
            noise = _isotropic(drift.noise_m_per_sqrt_m * math.sqrt(step_m), sigma_rad)
        noise += _isotropic(drift.noise_m_per_sqrt_s * math.sqrt(seconds), drift.noise_rad_per_sqrt_s * math.sqrt(seconds))
        return _moved(noise, self._origin_m - odom_from_base.translation)

    def _noise_at(self, noise: Array, odom_from_base0: Pose, odom_from_base1: Pose) -> Array:
        """From the buffer's origin in odom axes to the position of base1 in the axes of base0."""
        j = np.kron(np.eye(2), odom_from_base0.rotation.T)
        return j @ _moved(noise, odom_from_base1.translation - self._origin_m) @ j.T

    def _uncovered(self, stamp0_ns: int, stamp1_ns: int, rates: Rates | None) -> Array:
        """Covariance for the part of the time before the oldest and after the newest sample."""
        start, end = min(stamp0_ns, stamp1_ns), max(stamp0_ns, stamp1_ns)
        covariance = self._hold_covariance(max(min(self._stamps[0], end) - start, 0) * 1e-9, rates)
        ahead_s = max(end - max(self._stamps[-1], start), 0) * 1e-9
        hold, extrapolated_s = self._hold, min(ahead_s, self._hold.max_extrapolation_s)
        covariance += _isotropic(0.5 * hold.acceleration_m_s2 * extrapolated_s**2, 0.5 * hold.turn_acceleration_rad_s2 * extrapolated_s**2)
        return covariance + self._hold_covariance(ahead_s - extrapolated_s, self.last_rates() or rates)

    def _hold_covariance(self, seconds: float, rates: Rates | None) -> Array:
        hold, drift = self._hold, self._drift
        speed, turn = hold.unknown_speed_m_s, hold.unknown_turn_rad_s
        if rates is not None:
            speed, turn = rates.speed_m_s + hold.speed_margin_m_s, rates.turn_rad_s + hold.turn_margin_rad_s
        least = _isotropic(drift.noise_m_per_sqrt_s * math.sqrt(seconds), drift.noise_rad_per_sqrt_s * math.sqrt(seconds))
        return least + _isotropic(speed * seconds, min(turn * seconds, math.pi))


def _isotropic(sigma_m: float, sigma_rad: float) -> Array:
    return np.diag([sigma_m**2] * 3 + [sigma_rad**2] * 3)


def _of_scale(scale_error: float, translation: Array, turning: Array) -> Array:
    """(6, 6) of a motion (3,), (3,) in the same axes whose way is wrong by one factor and whose turning by another. The
    turning is taken as even over the way: then, to first order, it moves the end by half of the way times its angle."""
    of_way = np.concatenate([translation, np.zeros(3)])
    of_turning = np.concatenate([0.5 * np.cross(turning, translation), turning])
    return scale_error**2 * (np.outer(of_way, of_way) + np.outer(of_turning, of_turning))


def _moved(noise: Array, arm: Array) -> Array:
    """Covariance of a twist about one point -> about the point that lies `arm` further, same axes."""
    j = np.eye(6)
    j[:3, 3:] = -skew(arm)
    return j @ noise @ j.T


def _increment(before: Array | None, after: Array | None, arm: Array, step_m: float) -> Array | None:
    """What two covariances of odom_from_base say about the step between them (odom axes), None when they can't be those of a path."""
    if before is None or after is None:
        return None
    noise = after - _moved(before, arm)
    values, vectors = np.linalg.eigh(0.5 * (noise + noise.T))
    largest = float(values[-1])
    if largest <= 0 or values[0] < -1e-3 * largest or math.sqrt(largest) > 0.5 * step_m + 0.1:
        return None
    return (vectors * np.maximum(values, 0.0)) @ vectors.T
