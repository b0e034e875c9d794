"""How a vehicle moves through the town: along streets, in its lane, smoothly, with the small motions of a car body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from ros2_loc.core.pose import Pose, interpolate, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.world.layout import Plan

Array = NDArray[np.float64]

_STEP_M = 0.1
_CORNER_M = 5.0  # standard deviation of the filter that rounds corners: radius of a right angle about 0.9 of it
_TRUTH_STEP_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Vehicle:
    """How it drives.

    Attributes:
        speed_mps: on straights.
        lane_m: distance of its path to the left of the street's centre line; negative keeps right.
        lateral_accel_mps2, accel_mps2: what its driver allows in corners and along the way.
        sway_rad: size of pitch and roll; bounce_m: size of the vertical motion.
    """

    speed_mps: float = 6.0
    lane_m: float = -1.75
    lateral_accel_mps2: float = 2.0
    accel_mps2: float = 1.2
    sway_rad: float = 0.008
    bounce_m: float = 0.012

    def __post_init__(self) -> None:
        if min(self.speed_mps, self.lateral_accel_mps2, self.accel_mps2) <= 0 or min(self.sway_rad, self.bounce_m) < 0:
            raise ConfigError(f"{self}: speed and accelerations must be positive, sway and bounce not negative")


@dataclass(frozen=True, slots=True, eq=False)
class Drive:
    """A driven path: the exact pose of base_link (on the ground, x forward) every 10 ms.

    Attributes:
        stamps_ns: (N,) int64, increasing.
        map_from_base: N poses.
    """

    stamps_ns: NDArray[np.int64]
    map_from_base: tuple[Pose, ...]

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last pose."""
        return float(self.stamps_ns[-1] - self.stamps_ns[0]) * 1e-9

    @property
    def length_m(self) -> float:
        """Metres driven."""
        return float(np.linalg.norm(np.diff([p.translation for p in self.map_from_base], axis=0), axis=1).sum())

    def at(self, stamp_ns: int) -> Pose:
        """map_from_base at a time within the drive.

        Raises:
            ConfigError: a time outside of it.
        """
        if not self.stamps_ns[0] <= stamp_ns <= self.stamps_ns[-1]:
            raise ConfigError(f"stamp {stamp_ns} is outside of the drive, {self.stamps_ns[0]} to {self.stamps_ns[-1]}")
        k = min(int(np.searchsorted(self.stamps_ns, stamp_ns, side="right")) - 1, len(self.stamps_ns) - 2)
        share = (stamp_ns - self.stamps_ns[k]) / (self.stamps_ns[k + 1] - self.stamps_ns[k])
        return interpolate(self.map_from_base[k], self.map_from_base[k + 1], float(share))

    def stamps(self, rate_hz: float) -> NDArray[np.int64]:
        """(M,) int64 stamps within the drive at this rate."""
        count = int(self.duration_s * rate_hz) + 1
        return self.stamps_ns[0] + np.rint(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)

    def stamps_every(self, step_m: float, rate_hz: float = 100.0) -> NDArray[np.int64]:
        """(M,) int64 stamps at which another step_m have been driven, each the first of `stamps(rate_hz)` that reaches it.

        Raises:
            ConfigError: a step that is not positive.
        """
        if not step_m > 0:
            raise ConfigError(f"images need metres between them, got {step_m}")
        return _stamps_every(self, step_m, rate_hz)


def street_route(plan: Plan, crossings: Sequence[tuple[int, int]], start: float = 0.0, end: float = 1.0) -> Array:
    """(K, 2) m: the way over crossings (column, row) of `plan.nodes`, beginning and ending within its first and last street.

    Args:
        crossings: neighbours in the grid of streets; 0 and the last index lie at the town's edge.
        start: share of the first street that is left out; end: share of the last street that is driven.

    Raises:
        ConfigError: fewer than two crossings, one that does not exist, or two that no street joins.
    """
    shape = plan.nodes.shape[:2]
    for i, j in crossings:
        if not (0 <= i < shape[0] and 0 <= j < shape[1]):
            raise ConfigError(f"crossing ({i}, {j}) does not exist; columns are 0 to {shape[0] - 1}, rows 0 to {shape[1] - 1}")
    for a, b in zip(crossings[:-1], crossings[1:], strict=True):
        along_edge = any(a[k] == b[k] and a[k] in (0, shape[k] - 1) for k in (0, 1))
        if abs(a[0] - b[0]) + abs(a[1] - b[1]) != 1 or along_edge:
            raise ConfigError(f"no street joins the crossings {a} and {b}")
    if len(crossings) < 2:
        raise ConfigError("a route needs at least two crossings")
    points = np.array([plan.nodes[c] for c in crossings])
    first, last = points[0] + (points[1] - points[0]) * start, points[-2] + (points[-1] - points[-2]) * end
    return np.vstack([first, points[1:-1], last])


def make_drive(route_m: ArrayLike, vehicle: Vehicle | None = None, start_ns: int = 0, seed: int = 0) -> Drive:
    """Drives along a polyline (K, 2) m; corners are rounded, speed falls in them, the body sways a little (drawn from `seed`).

    Raises:
        ConfigError: a route shorter than 5 m.
    """
    vehicle = vehicle or Vehicle()
    path, heading, curvature = rounded_path(np.asarray(route_m, np.float64), vehicle.lane_m)
    speed = _speed(curvature, vehicle)
    time_s = np.concatenate([[0.0], np.cumsum(_STEP_M / (0.5 * (speed[1:] + speed[:-1])))])
    stamps_ns = np.arange(0, int(time_s[-1] * 1e9), _TRUTH_STEP_NS, dtype=np.int64)
    at_s = stamps_ns * 1e-9
    xy = np.column_stack([np.interp(at_s, time_s, path[:, k]) for k in (0, 1)])
    yaw = np.interp(at_s, time_s, heading)
    sway = _sway(at_s, np.interp(at_s, time_s, speed), np.interp(at_s, time_s, curvature), vehicle, np.random.default_rng([seed, 3]))
    places = np.column_stack([xy, sway[:, 0]])
    turns = [so3_exp([0, 0, y]) @ so3_exp([r, p, 0]) for y, (_, r, p) in zip(yaw, sway, strict=True)]
    poses = tuple(Pose(rotation, place) for rotation, place in zip(turns, places, strict=True))
    return Drive(start_ns + stamps_ns, poses)


def rounded_path(route: Array, lane_m: float) -> tuple[Array, Array, Array]:
    """A route with rounded corners, lane_m to its left.

    Returns:
        Points (N, 2) every 0.1 m, their heading (N,), continuous, and curvature (N,), 1/m, positive to the left.
    """
    legs = np.diff(route, axis=0)
    lengths = np.linalg.norm(legs, axis=1)
    if route.ndim != 2 or lengths.sum() < 5.0:
        raise ConfigError(f"a route of {lengths.sum():.1f} m is too short to drive; give at least 5 m")
    along = legs / lengths[:, None]
    left = np.column_stack([-along[:, 1], along[:, 0]]) * lane_m
    corners = [route[0] + left[0]]
    for k in range(1, len(legs)):
        normals = np.stack([left[k - 1], left[k]]) / lane_m if lane_m else np.zeros((2, 2))
        straight = abs(np.linalg.det(normals)) < 0.05
        corners.append(route[k] + (left[k] if straight else np.linalg.solve(normals, [lane_m, lane_m])))
    corners.append(route[-1] + left[-1])
    dense = _resample(np.array(corners))
    reach = min(round(4 * _CORNER_M / _STEP_M) + 1, len(dense))  # of the filter
    smooth = gaussian_filter1d(_extended(dense, reach), _CORNER_M / _STEP_M, axis=0)[reach : reach + len(dense)]
    smooth = _resample(smooth)
    tangent = np.gradient(smooth, axis=0)
    heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    return smooth, heading, np.gradient(heading) / _STEP_M


def _extended(points: Array, count: int) -> Array:
    """The polyline continued straight at both ends by so many points."""
    steps = np.arange(1, count + 1)[:, None]
    before, after = points[0] - steps[::-1] * (points[1] - points[0]), points[-1] + steps * (points[-1] - points[-2])
    return np.vstack([before, points, after])


def _resample(points: Array) -> Array:
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.arange(0.0, s[-1], _STEP_M)
    return np.column_stack([np.interp(at, s, points[:, k]) for k in (0, 1)])


def _speed(curvature: Array, vehicle: Vehicle) -> Array:
    """Speed along the path: that of straights, less in corners, changing no faster than the driver allows."""
    limit = np.minimum(vehicle.speed_mps, np.sqrt(vehicle.lateral_accel_mps2 / np.maximum(np.abs(curvature), 1e-4)))
    gain = 2 * vehicle.accel_mps2 * _STEP_M
    for order in (range(1, len(limit)), range(len(limit) - 2, -1, -1)):
        for k in order:
            other = k - 1 if order.step > 0 else k + 1
            limit[k] = min(limit[k], float(np.sqrt(limit[other] ** 2 + gain)))
    return np.asarray(gaussian_filter1d(limit, 1.0 / _STEP_M), np.float64)


def _sway(at_s: Array, speed: Array, curvature: Array, vehicle: Vehicle, rng: np.random.Generator) -> Array:
    """(N, 3) height m, roll and pitch rad: the road's unevenness, leaning in corners, nodding when the speed changes."""
    waves = np.zeros((len(at_s), 3))
    for frequency_hz in (0.35, 0.8, 1.5):
        phase = rng.uniform(0, 2 * np.pi, 3)
        waves += rng.normal(0, 0.6, 3) * np.sin(2 * np.pi * frequency_hz * at_s[:, None] + phase)
    out = waves * [vehicle.bounce_m, vehicle.sway_rad, vehicle.sway_rad]
    out[:, 1] += 0.006 * speed**2 * curvature  # the body leans out of the curve
    out[:, 2] -= 0.006 * np.gradient(speed, at_s)  # and lifts its nose when it speeds up
    return out


@lru_cache(maxsize=8)
def _stamps_every(drive: Drive, step_m: float, rate_hz: float) -> NDArray[np.int64]:
    stamps = drive.stamps(rate_hz)
    places = np.array([p.translation[:2] for p in drive.map_from_base])
    driven = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    at = np.interp(stamps - drive.stamps_ns[0], drive.stamps_ns - drive.stamps_ns[0], driven)
    chosen = np.unique(np.searchsorted(at, np.arange(0.0, at[-1] + 1e-9, step_m)))
    return stamps[chosen[chosen < len(stamps)]]
