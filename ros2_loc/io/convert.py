"""Recordings of others -> rosbag2: what `ros2-loc convert` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io import bags
from ros2_loc.io.bags import BagWriter
from ros2_loc.io.drifting_odometry import Drift, drifting_odometry
from ros2_loc.io.files import require_absent
from ros2_loc.io.image_folders import FolderOptions
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import is_gray
from ros2_loc.io.kitti_raw import open_kitti_raw
from ros2_loc.io.oxts import IMU_HEIGHT_M, OxtsLog, read_oxts
from ros2_loc.io.sequences import in_range, open_kitti_odometry

# KITTI's odometry sequences count from 0, which in ROS means "no time"; this is the day most of them were recorded
KITTI_EPOCH_NS = 1_316_995_200_000_000_000
ODOMETRY_NOTE = "odometry"


@dataclass(frozen=True, slots=True)
class BagOutput:
    """How a bag is written: see `BagWriter`; `progress` shows a bar on stderr."""

    storage: Literal["sqlite3", "mcap"] = "sqlite3"
    image_format: Literal["raw", "jpeg", "png"] = "raw"
    jpeg_quality: int = 95
    overwrite: bool = False
    progress: bool = True


@dataclass(frozen=True, slots=True)
class ConversionSummary:
    """What a conversion wrote."""

    path: Path
    images: int
    poses: int
    odometry: int
    fixes: int
    imu: int
    duration_s: float


def convert_kitti_odometry(
    folder: str | Path,
    out: str | Path,
    *,
    image_folder: str | None = None,
    poses: str | Path | None = None,
    odometry_from_truth: Drift | None = None,
    seed: int = 0,
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    output: BagOutput | None = None,
) -> ConversionSummary:
    """A sequence of KITTI odometry as a rosbag2 with camera, camera_info, TF static and the truth on /ground_truth/odometry.

    Args:
        folder: for instance `sequences/03`.
        out: the bag to make.
        image_folder: which camera, for instance "image_2"; default: the first that is there.
        poses: file of poses, where it does not lie in its usual places.
        odometry_from_truth: also write /odom and TF odom -> base_link, made from the truth with this drift. The data set has no odometry:
            the bag's metadata say that this one is simulated.
        seed: of the drift's random numbers.
        every, start, stop: every Nth image of those from number `start` to before `stop`.
        output: how the bag is written.

    Raises:
        DataError: anything missing or damaged, or `out` exists; nothing is left then.
    """
    _require_free(out, output or BagOutput())
    options = FolderOptions(poses=None if poses is None else Path(poses))
    sequence = in_range(open_kitti_odometry(folder, options, image_folder), every, start, stop)
    notes = {"source": f"KITTI odometry, {Path(folder).resolve().name}"}
    return write_sequence(sequence, out, notes=notes, odometry_from_truth=odometry_from_truth, seed=seed, output=output)


def write_sequence(
    sequence: ImageSequence,
    out: str | Path,
    *,
    notes: dict[str, str],
    odometry_from_truth: Drift | None = None,
    seed: int = 0,
    output: BagOutput | None = None,
) -> ConversionSummary:
    """Images with their truth as a rosbag2; the arguments are those of `convert_kitti_odometry`, `notes` say where the images came from.

    Stamps that count from the start of the recording are moved to a day in 2011: in ROS 0 means "no time".

    Raises:
        DataError: no poses to make odometry of, an image that can't be read, or `out` exists; nothing is left then.
    """
    output = output or BagOutput()
    _require_free(out, output)
    offset = KITTI_EPOCH_NS if sequence.stamps_ns[0] < KITTI_EPOCH_NS // 2 else 0
    stamps = [offset + int(stamp) for stamp in sequence.stamps_ns]
    made: tuple[tuple[Pose, ...], tuple[np.ndarray, ...]] | None = None
    if odometry_from_truth is not None:
        truth = [pose for pose in sequence.map_from_base if pose is not None]
        if len(truth) != len(sequence):
            raise DataError(f"{notes['source']}: has no poses to make odometry of; give the file of poses")
        made = drifting_odometry(truth, odometry_from_truth, seed)
        notes = {**notes, ODOMETRY_NOTE: f"simulated from the ground truth, {odometry_from_truth}, seed {seed}"}
    with _writer(out, output, notes) as writer:
        writer.static_transform(stamps[0], sequence.base_from_camera)
        for i in tqdm(range(len(sequence)), desc=Path(out).name, unit="image", disable=not output.progress):
            _write_image(writer, sequence, i, stamps[i])
            if (pose := sequence.map_from_base[i]) is not None:
                writer.truth(stamps[i], pose)
            if made is not None:
                writer.odometry(stamps[i], made[0][i], made[1][i])
    known = sum(pose is not None for pose in sequence.map_from_base)
    return ConversionSummary(Path(out), len(sequence), known, len(sequence) if made else 0, 0, 0, (stamps[-1] - stamps[0]) * 1e-9)


def convert_kitti_raw(
    drive: str | Path,
    out: str | Path,
    *,
    image_folder: str | None = None,
    every: int = 1,
    start: int = 0,
    stop: int | None = None,
    output: BagOutput | None = None,
) -> ConversionSummary:
    """A drive of KITTI raw as a rosbag2; where it has OXTS also the truth, /odom and TF odom -> base_link, /fix and /imu/data.

    The odometry adds up the velocities and turn rates that OXTS states (dead reckoning), and so drifts.

    Args:
        drive: for instance `2011_09_26/2011_09_26_drive_0001_sync`.
        out: the bag to make.
        image_folder: which camera, for instance "image_02"; default: the first that is there.
        every, start, stop: every Nth image of those from number `start` to before `stop`.
        output: how the bag is written.

    Raises:
        DataError: anything missing or damaged, or `out` exists; nothing is left then.
    """
    output = output or BagOutput()
    _require_free(out, output)
    sequence = in_range(open_kitti_raw(drive, FolderOptions(), image_folder), every, start, stop)
    oxts = read_oxts(Path(drive) / "oxts") if (Path(drive) / "oxts").is_dir() else None
    first, last = int(sequence.stamps_ns[0]), int(sequence.stamps_ns[-1])
    records = _records_around(oxts, first, last) if oxts else range(0)
    notes = {"source": f"KITTI raw, {Path(drive).resolve().name}"}
    if oxts:
        notes[ODOMETRY_NOTE] = "dead reckoning of the velocities and rates of OXTS"
    with _writer(out, output, notes) as writer:
        _write_mountings(writer, sequence, first, bool(oxts))
        events = [(int(stamp), i, True) for i, stamp in enumerate(sequence.stamps_ns)]
        events += [(int(oxts.stamps_ns[i]), i, False) for i in records] if oxts else []
        odometry = oxts.dead_reckoning().poses if oxts else ()
        for stamp_ns, i, is_image in tqdm(sorted(events), desc=Path(out).name, unit="message", disable=not output.progress):
            if is_image:
                _write_image(writer, sequence, i, stamp_ns)
            elif oxts:
                _write_record(writer, oxts, i, odometry[i])
    n = len(records)
    return ConversionSummary(Path(out), len(sequence), n, n, n, n, (last - first) * 1e-9)


def _require_free(out: str | Path, output: BagOutput) -> None:
    if not output.overwrite:
        require_absent(out)


def _writer(out: str | Path, output: BagOutput, notes: dict[str, str]) -> BagWriter:
    return BagWriter(
        out,
        storage=output.storage,
        image_format=output.image_format,
        jpeg_quality=output.jpeg_quality,
        overwrite=output.overwrite,
        notes=notes,
    )


def _write_image(writer: BagWriter, sequence: ImageSequence, i: int, stamp_ns: int) -> None:
    image = sequence.image(i)
    writer.camera_info(stamp_ns, sequence.camera)  # before the image, whose first receiver needs it
    writer.image(stamp_ns, image[..., 0] if is_gray(image) else image)


def _write_mountings(writer: BagWriter, sequence: ImageSequence, stamp_ns: int, with_oxts: bool) -> None:
    writer.static_transform(stamp_ns, sequence.base_from_camera)
    if with_oxts:
        base_from_imu = Pose(np.eye(3), np.array([0.0, 0.0, IMU_HEIGHT_M]))
        writer.static_transform(stamp_ns, base_from_imu, bags.IMU_FRAME)
        writer.static_transform(stamp_ns, base_from_imu, bags.GPS_FRAME)


def _records_around(oxts: OxtsLog, first_ns: int, last_ns: int) -> range:
    """The records between two times, and one before and after for interpolation."""
    begin = int(np.searchsorted(oxts.stamps_ns, first_ns, side="right")) - 1
    end = int(np.searchsorted(oxts.stamps_ns, last_ns)) + 1
    return range(max(begin, 0), min(end, len(oxts)))


def _write_record(writer: BagWriter, oxts: OxtsLog, i: int, odom_from_base: Pose) -> None:
    stamp_ns, map_from_base = int(oxts.stamps_ns[i]), oxts.map_from_base[i]
    writer.truth(stamp_ns, map_from_base)
    writer.odometry(stamp_ns, odom_from_base, twist_in_base=np.concatenate([oxts.velocity_m_s[i], oxts.rate_rad_s[i]]))
    writer.fix(oxts.fixes[i])
    writer.imu(stamp_ns, map_from_base, oxts.rate_rad_s[i], oxts.acceleration_m_s2[i])
