"""OXTS, the inertial and satellite navigation of KITTI's raw drives: `oxts/timestamps.txt`, `oxts/data/0000000000.txt` of 30 numbers each.

base_link has the axes of the IMU and lies under it on the ground; map axes are east, north, up, from base_link at the first record.
Source: devkit of KITTI raw (oxts/dataformat.txt, matlab/convertOxtsToPose.m); Geiger et al. 2013 for the height.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.geodesy import SEMI_MAJOR_AXIS_M, GeoFix, GeoOrigin
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import numbers_in, read_text
from ros2_loc.io.trajectories import Trajectory

_log = logging.getLogger(__name__)

IMU_HEIGHT_M = 0.93
_NUM_FIELDS = 30
# indices into a record; velocities, accelerations and rates along the axes of the vehicle (forward, left, up)
_LAT, _LON, _ALT, _ROLL, _PITCH, _YAW = range(6)
_VELOCITY, _ACCELERATION, _RATE, _ACCURACY = slice(8, 11), slice(11, 14), slice(17, 20), 23


@dataclass(frozen=True, slots=True, eq=False)
class OxtsLog:
    """The navigation unit's records, base_link = under the IMU on the ground.

    Attributes:
        stamps_ns: (N,) int64, strictly increasing.
        map_from_base: N poses; map axes east, north, up.
        origin: where the map's origin lies on the earth.
        fixes: N positions of the IMU's origin, with the accuracy that the unit states.
        velocity_m_s, acceleration_m_s2, rate_rad_s: (N, 3) along the vehicle's axes (forward, left, up).
    """

    stamps_ns: NDArray[np.int64]
    map_from_base: tuple[Pose, ...]
    origin: GeoOrigin
    fixes: tuple[GeoFix, ...]
    velocity_m_s: NDArray[np.float64]
    acceleration_m_s2: NDArray[np.float64]
    rate_rad_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def trajectory(self) -> Trajectory:
        """map_from_base over time."""
        return Trajectory(self.stamps_ns, self.map_from_base)

    def dead_reckoning(self) -> Trajectory:
        """odom_from_base by adding up velocities and rates from the first record on: what odometry would say. It drifts."""
        poses = [Pose.identity()]
        seconds = np.diff(self.stamps_ns) * 1e-9
        for i, dt in enumerate(seconds):
            velocity, rate = (0.5 * (v[i] + v[i + 1]) for v in (self.velocity_m_s, self.rate_rad_s))
            half_turned = so3_exp(0.5 * dt * rate)  # the way is an arc
            poses.append(poses[-1] @ Pose(so3_exp(dt * rate), half_turned @ (dt * velocity)))
        return Trajectory(self.stamps_ns, tuple(poses))


def read_timestamps(path: str | Path) -> NDArray[np.int64]:
    """(N,) ns since 1970 of a KITTI timestamps.txt: rows such as `2011-09-26 13:02:25.964389445`, taken as UTC.

    Raises:
        DataError: missing, empty, or a row that is no time.
    """
    stamps = []
    for number, line in enumerate(read_text(path, "times of the drive").splitlines(), 1):
        if not line.strip():
            continue
        whole, _, broken = line.strip().partition(".")
        try:
            second = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            stamps.append(int(second.timestamp()) * 1_000_000_000 + int(broken[:9].ljust(9, "0")))
        except ValueError as error:
            raise DataError(f"{path}: line {number} is no time: {line.strip()[:40]!r}; expected 2011-09-26 13:02:25.964389445") from error
    return np.array(stamps, dtype=np.int64)


def read_oxts(folder: str | Path) -> OxtsLog:
    """The `oxts` folder of a drive.

    Raises:
        DataError: missing files, records without 30 numbers (cut short), a position that does not exist.
    """
    folder = Path(folder)
    files = sorted((folder / "data").glob("*.txt"))
    if not files:
        raise DataError(f"{folder}: has no data/*.txt; copy the oxts folder of the drive")
    stamps = read_timestamps(folder / "timestamps.txt")
    if len(stamps) != len(files):
        raise DataError(f"{folder}: has {len(files)} records and {len(stamps)} timestamps; copy the oxts folder again")
    rows = np.array([_record(path) for path in files])
    kept = _increasing(stamps)
    if len(kept) < len(stamps):
        _log.warning("%s: %d records go back in time and are left out", folder, len(stamps) - len(kept))
    return _log_of(stamps[kept], rows[kept], folder)


def _record(path: Path) -> list[float]:
    numbers = numbers_in(read_text(path, "OXTS record"))
    if len(numbers) != _NUM_FIELDS or not np.isfinite(numbers).all():
        raise DataError(f"{path}: has {len(numbers)} numbers where an OXTS record has {_NUM_FIELDS} finite ones; copy it again")
    return numbers


def _increasing(stamps: NDArray[np.int64]) -> NDArray[np.intp]:
    latest_before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(stamps)[:-1]])
    return np.flatnonzero(stamps > latest_before)


def _log_of(stamps: NDArray[np.int64], rows: NDArray[np.float64], folder: Path) -> OxtsLog:
    positions = mercator_positions(rows[:, _LAT], rows[:, _LON], rows[:, _ALT])
    lever = np.array([0.0, 0.0, IMU_HEIGHT_M])
    map_from_imu = [Pose(_rotation(row), position) for row, position in zip(rows, positions, strict=True)]
    bases = [pose @ Pose(np.eye(3), -lever) for pose in map_from_imu]
    start = bases[0].translation
    try:
        fixes = tuple(
            GeoFix(int(stamp), row[_LAT], row[_LON], row[_ALT], np.eye(3) * max(row[_ACCURACY], 1e-3) ** 2, lever)
            for stamp, row in zip(stamps, rows.tolist(), strict=True)
        )
        # the Mercator plane's axes are east and north; the first base_link lies straight under the first fix but for roll and pitch
        origin = GeoOrigin(float(rows[0, _LAT]), float(rows[0, _LON]), float(rows[0, _ALT]) - IMU_HEIGHT_M)
    except GeometryError as error:
        raise DataError(f"{folder}: {error}") from error
    return OxtsLog(
        stamps_ns=stamps,
        map_from_base=tuple(Pose(pose.rotation, pose.translation - start) for pose in bases),
        origin=origin,
        fixes=fixes,
        velocity_m_s=rows[:, _VELOCITY],
        acceleration_m_s2=rows[:, _ACCELERATION],
        rate_rad_s=rows[:, _RATE],
    )


def mercator_positions(lat_deg: ArrayLike, lon_deg: ArrayLike, alt_m: ArrayLike) -> NDArray[np.float64]:
    """(N, 3) m east, north, up as KITTI's devkit computes them: Mercator, scaled by the first latitude so that metres are metres there."""
    lat, lon, alt = (np.asarray(v, dtype=np.float64) for v in (lat_deg, lon_deg, alt_m))
    scale = np.cos(np.radians(lat[0])) * SEMI_MAJOR_AXIS_M
    return np.column_stack([scale * np.radians(lon), scale * np.arctanh(np.sin(np.radians(lat))), alt])


def _rotation(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """ENU from IMU: yaw (0 = east, counter-clockwise) about z, then pitch, then roll."""
    return so3_exp([0, 0, row[_YAW]]) @ so3_exp([0, row[_PITCH], 0]) @ so3_exp([row[_ROLL], 0, 0])
