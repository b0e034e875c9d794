"""What the vehicle's other sensors say: odometry that drifts, with the covariance that it really has, a compass, positions by satellite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.geodesy import GeoFix, GeoOrigin, geodetic_from_enu
from ros2_loc.core.pose import Pose, compose_covariance, so3_exp, so3_log
from ros2_loc.world.drive import Drive

Array = NDArray[np.float64]

STANDARD_GRAVITY_M_S2 = 9.80665


@dataclass(frozen=True, slots=True)
class OdometryNoise:
    """Random walk of each axis of base_link: standard deviation after one second. The defaults are those of a car with wheel encoders and a
    simple gyroscope: about 1 % of the way, 2 degrees after half a minute."""

    along_m: float = 0.05
    across_m: float = 0.02
    up_m: float = 0.01
    roll_pitch_rad: float = 0.0006
    yaw_rad: float = 0.006

    @property
    def density(self) -> Array:
        """(6, 6) covariance per second of an increment, axes of base_link, ROS order."""
        sigmas = [self.along_m, self.across_m, self.up_m, self.roll_pitch_rad, self.roll_pitch_rad, self.yaw_rad]
        return np.diag(np.square(sigmas))


@dataclass(frozen=True, slots=True, eq=False)
class OdometrySample:
    """One reading.

    Attributes:
        stamp_ns: time.
        odom_from_base: pose since the start, where it was the identity.
        covariance: (6, 6) of that pose, ROS order, axes of odom.
        twist: (6,) linear m/s and angular rad/s, axes of base_link; twist_covariance (6, 6).
    """

    stamp_ns: int
    odom_from_base: Pose
    covariance: Array
    twist: Array
    twist_covariance: Array


def measure_odometry(drive: Drive, rate_hz: float = 20.0, noise: OdometryNoise | None = None, seed: int = 0) -> list[OdometrySample]:
    """Odometry of a drive: true increments, each disturbed by white noise; the covariances say exactly that, to first order."""
    density = (noise or OdometryNoise()).density
    rng = np.random.default_rng([seed, 11])
    stamps = drive.stamps(rate_hz)
    pose, covariance = Pose.identity(), np.eye(6) * 1e-9
    samples = [OdometrySample(int(stamps[0]), pose, covariance, np.zeros(6), density * rate_hz)]
    before = drive.at(int(stamps[0]))
    for last, now in zip(stamps[:-1], stamps[1:], strict=True):
        seconds = float(now - last) * 1e-9
        after = drive.at(int(now))
        step = (before.inverse() @ after).perturbed(np.sqrt(np.diag(density) * seconds) * rng.standard_normal(6))
        covariance = compose_covariance(pose, covariance, step, density * seconds)
        pose, before = pose @ step, after
        twist = np.concatenate([step.translation, so3_log(step.rotation)]) / seconds
        samples.append(OdometrySample(int(now), pose, covariance, twist, density / seconds))
    return samples


@dataclass(frozen=True, slots=True)
class CompassNoise:
    """Of an Imu's orientation: the yaw errs by one angle for the whole drive and by noise; roll and pitch by noise. Standard deviations."""

    yaw_bias_rad: float = 0.03
    yaw_rad: float = 0.01
    roll_pitch_rad: float = 0.004

    @property
    def covariance(self) -> Array:
        """(3, 3) of roll, pitch and yaw."""
        return np.diag([self.roll_pitch_rad**2, self.roll_pitch_rad**2, self.yaw_bias_rad**2 + self.yaw_rad**2])


@dataclass(frozen=True, slots=True, eq=False)
class ImuSample:
    """One reading, in the axes of base_link.

    Attributes:
        stamp_ns: time.
        enu_from_base: measured orientation (a pure rotation), its covariance (3, 3).
        angular_velocity_rad_s, linear_acceleration_m_s2: (3,); the latter with gravity, as accelerometers have it.
    """

    stamp_ns: int
    enu_from_base: Pose
    covariance: Array
    angular_velocity_rad_s: Array
    linear_acceleration_m_s2: Array


def measure_imu(drive: Drive, rate_hz: float = 20.0, noise: CompassNoise | None = None, seed: int = 0) -> list[ImuSample]:
    """An Imu with a compass at base_link's origin; turning and acceleration are those of the drive, without noise."""
    how = noise or CompassNoise()
    rng = np.random.default_rng([seed, 14])
    bias_rad = how.yaw_bias_rad * float(rng.standard_normal())
    sigma = np.array([how.roll_pitch_rad, how.roll_pitch_rad, how.yaw_rad])
    stamps = drive.stamps(rate_hz)
    poses = [drive.at(int(stamp)) for stamp in stamps]
    seconds = (stamps - stamps[0]) * 1e-9
    velocity = np.gradient(np.array([p.translation for p in poses]), seconds, axis=0)
    acceleration = np.gradient(velocity, seconds, axis=0) + np.array([0.0, 0.0, STANDARD_GRAVITY_M_S2])
    samples = []
    for i, (stamp, pose) in enumerate(zip(stamps, poses, strict=True)):
        error = rng.standard_normal(3) * sigma + np.array([0.0, 0.0, bias_rad])
        after, before = min(i + 1, len(poses) - 1), max(i - 1, 0)
        turning = so3_log(poses[before].rotation.T @ poses[after].rotation) / (seconds[after] - seconds[before])
        measured = Pose(so3_exp(error) @ pose.rotation, np.zeros(3))
        samples.append(ImuSample(int(stamp), measured, how.covariance, turning, pose.rotation.T @ acceleration[i]))
    return samples


def measure_fixes(
    drive: Drive, origin: GeoOrigin, rate_hz: float = 1.0, sigma_m: tuple[float, float, float] = (1.2, 1.2, 2.5), seed: int = 0
) -> list[GeoFix]:
    """Positions of base_link's origin by satellite with independent noise of sigma (east, north, up), which their covariance states."""
    rng = np.random.default_rng([seed, 12])
    covariance = np.diag(np.square(sigma_m))
    fixes = []
    for stamp in drive.stamps(rate_hz):
        place = drive.at(int(stamp)).translation + rng.standard_normal(3) * sigma_m
        lat, lon, alt = geodetic_from_enu(origin, place)
        fixes.append(GeoFix(int(stamp), float(lat), float(lon), float(alt), covariance))
    return fixes
