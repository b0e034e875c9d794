"""Poses over time, and the text files they come in: TUM, KITTI, and one 4x4 matrix per file (7-Scenes).

Sources: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats, devkit readme of KITTI odometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.pose import Pose, interpolate
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import atomic_path, rows_of_numbers

_WHAT = "poses (TUM: stamp x y z qx qy qz qw; KITTI: 12 numbers of a 3x4 matrix a row)"
_DECIMALS = 9  # of a written number: nanometres


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Poses over time.

    Attributes:
        stamps_ns: (N,) int64, strictly increasing.
        poses: N poses of one moving frame in one fixed frame.

    Raises:
        DataError: different lengths, or stamps that do not increase.
    """

    stamps_ns: NDArray[np.int64]
    poses: tuple[Pose, ...]

    def __post_init__(self) -> None:
        stamps = np.array(self.stamps_ns, dtype=np.int64)
        object.__setattr__(self, "stamps_ns", stamps)
        object.__setattr__(self, "poses", tuple(self.poses))
        if stamps.shape != (len(self.poses),):
            raise DataError(f"a trajectory needs a stamp for each pose, got {stamps.shape} stamps and {len(self.poses)} poses")
        if (np.diff(stamps) <= 0).any():
            row = 2 + int(np.argmax(np.diff(stamps) <= 0))
            raise DataError(f"stamps must increase, but that of pose {row} ({stamps[row - 1]} ns) does not; sort them and drop doubles")

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def positions_m(self) -> NDArray[np.float64]:
        """(N, 3) m."""
        return np.array([pose.translation for pose in self.poses]).reshape(-1, 3)

    def at(self, stamp_ns: int, max_gap_ns: int) -> Pose | None:
        """The pose at a time, interpolated between the two around it (linear and slerp, as tf2).

        None before the first and after the last pose, and between two that are more than `max_gap_ns` apart.
        """
        i = int(np.searchsorted(self.stamps_ns, stamp_ns))
        if i < len(self) and self.stamps_ns[i] == stamp_ns:
            return self.poses[i]
        if i == 0 or i == len(self):
            return None
        before, after = int(self.stamps_ns[i - 1]), int(self.stamps_ns[i])
        if after - before > max_gap_ns:
            return None
        return interpolate(self.poses[i - 1], self.poses[i], (stamp_ns - before) / (after - before))


def ns_from_seconds(seconds: ArrayLike) -> NDArray[np.int64]:
    """Integer nanoseconds of seconds (...,) float64; whole and broken seconds apart, to keep all that float64 has."""
    whole, broken = np.divmod(np.asarray(seconds, dtype=np.float64), 1.0)
    return whole.astype(np.int64) * 1_000_000_000 + np.round(broken * 1e9).astype(np.int64)


def read_tum(path: str | Path) -> Trajectory:
    """A TUM trajectory: rows `stamp_s x y z qx qy qz qw`, blanks or commas between, `#` comments.

    Raises:
        DataError: missing, empty, cut short, no unit quaternions, or stamps that do not increase.
    """
    rows = _rows(path, 8)
    try:
        poses = tuple(Pose.from_quaternion_xyzw(_normalized(row[4:]), row[1:4]) for row in rows)
        return Trajectory(_stamps_of(path), poses)
    except (DataError, GeometryError) as error:
        raise DataError(f"{path}: {error}") from error


def _normalized(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    # four printed decimals are off by more than Pose forgives, a zero or a row of other numbers is off by far more
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1.0) > 0.01:
        raise GeometryError(f"({', '.join(f'{q:g}' for q in quaternion)}) is not a unit quaternion (qx qy qz qw)")
    return quaternion / norm


def _stamps_of(path: str | Path) -> NDArray[np.int64]:
    """The first column as integer nanoseconds, taken from the digits: float64 has only 200 ns left at a time since 1970."""
    words = (line.partition("#")[0].replace(",", " ").split() for line in Path(path).read_text(encoding="utf-8-sig").splitlines())
    return np.array([stamp_from_text(w[0]) for w in words if w], dtype=np.int64)


def stamp_from_text(seconds: str) -> int:
    """Integer nanoseconds of a decimal number of seconds, exact to the last digit."""
    whole, point, broken = seconds.partition(".")
    if point and whole.lstrip("+-").isdigit() and broken.isdigit():
        sign = -1 if whole.startswith("-") else 1
        return int(whole) * 1_000_000_000 + sign * int(broken[:9].ljust(9, "0"))
    return int(ns_from_seconds(float(seconds)))


def write_tum(path: str | Path, trajectory: Trajectory) -> None:
    """Write a TUM trajectory, stamps to the nanosecond."""
    lines = ["# stamp_s x_m y_m z_m qx qy qz qw"]
    for stamp, pose in zip(trajectory.stamps_ns.tolist(), trajectory.poses, strict=True):
        numbers = " ".join(f"{value:.{_DECIMALS}f}" for value in (*pose.translation, *pose.quaternion_xyzw))
        sign, (whole, broken) = "-" if stamp < 0 else "", divmod(abs(stamp), 1_000_000_000)
        lines.append(f"{sign}{whole}.{broken:09d} {numbers}")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_kitti(path: str | Path) -> tuple[Pose, ...]:
    """Poses of a KITTI file: 12 numbers a row, the upper three rows of the matrix, as they are written (`cam0(0)_from_cam0(t)`).

    Raises:
        DataError: missing, empty, cut short, or rows that are no poses.
    """
    return _poses_of(path, _rows(path, 12).reshape(-1, 3, 4))


def write_kitti(path: str | Path, poses: Sequence[Pose]) -> None:
    """Write poses as KITTI does, to 12 digits."""
    lines = [" ".join(f"{value:.12e}" for value in pose.matrix[:3].ravel()) for pose in poses]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_pose_matrix(path: str | Path) -> Pose:
    """The pose in a file with a 4x4 (or 3x4) matrix, as 7-Scenes has one for each frame (`world_from_camera`).

    Raises:
        DataError: missing, empty, or not a pose.
    """
    matrix = rows_of_numbers(path, "4x4 matrix of a pose")
    if matrix.shape not in ((4, 4), (3, 4)):
        raise DataError(f"{path}: holds {matrix.shape[0]}x{matrix.shape[1]} numbers where a pose has 4x4")
    return _poses_of(path, matrix[None, :3])[0]


def read_trajectory(path: str | Path, stamps_ns: ArrayLike | None = None) -> Trajectory:
    """A trajectory file in TUM or KITTI form; the number of columns says which.

    Args:
        path: the file.
        stamps_ns: (N,) stamps of the rows of a KITTI file, which has none (ignored for TUM).

    Raises:
        DataError: as the readers of the forms, or a KITTI file whose rows have no stamps.
    """
    if not is_kitti_form(path):
        return read_tum(path)
    poses = read_kitti(path)
    if stamps_ns is None:
        raise DataError(f"{path}: is in KITTI form, which has no stamps; give the times file or the poses in TUM form")
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    if len(stamps) != len(poses):
        raise DataError(f"{path}: has {len(poses)} poses for {len(stamps)} stamps; give the files of the same sequence")
    return Trajectory(stamps, poses)


def is_kitti_form(path: str | Path) -> bool:
    """Whether a file of poses has KITTI's 12 columns (else TUM's 8).

    Raises:
        DataError: it has neither, or is no file of numbers.
    """
    columns = rows_of_numbers(path, _WHAT).shape[1]
    if columns not in (8, 12):
        raise DataError(f"{path}: has {columns} numbers a row; expected {_WHAT}")
    return columns == 12


def _rows(path: str | Path, columns: int) -> NDArray[np.float64]:
    rows = rows_of_numbers(path, _WHAT)
    if rows.shape[1] != columns:
        raise DataError(f"{path}: has {rows.shape[1]} numbers a row where {columns} are expected: {_WHAT}")
    return rows


def _poses_of(path: str | Path, matrices: NDArray[np.float64]) -> tuple[Pose, ...]:
    poses = []
    for row, matrix in enumerate(matrices, 1):
        try:
            poses.append(Pose.from_matrix(matrix))
        except GeometryError as error:
            raise DataError(f"{path}: row {row} is no pose: {error}") from error
    return tuple(poses)
