"""What was estimated somewhere, sometime, against a truth that is known elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ros2_loc.errors import DataError
from ros2_loc.evaluation import metrics
from ros2_loc.evaluation.metrics import ErrorStatistics
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.io import bags
from ros2_loc.io.bag_reader import BagReader, is_bag
from ros2_loc.io.ros_messages import ns_from_stamp, pose_from_message
from ros2_loc.io.sequences import open_sequence
from ros2_loc.io.trajectories import Trajectory, read_tum


@dataclass(frozen=True, slots=True)
class TrajectoryErrors:
    """Errors of poses without covariances, against the truth in the map frame, not aligned."""

    compared: int
    without_truth: int
    translation_m: ErrorStatistics | None
    rotation_deg: ErrorStatistics | None
    relative_translation_m: ErrorStatistics | None
    relative_rotation_deg: ErrorStatistics | None


def read_truth(path: str | Path, topic: str | None = None) -> Trajectory:
    """True poses of base_link in the map: of a bag's topic (all of them, not only those at images), a recording with poses, or a TUM file.

    Raises:
        DataError: there are none.
    """
    path = Path(path)
    if path.exists() and is_bag(path):
        return _truth_of_bag(path, topic or bags.TRUTH_TOPIC)
    if not path.is_dir():
        return read_tum(path)
    sequence = open_sequence(path)
    posed = [i for i, pose in enumerate(sequence.map_from_base) if pose is not None]
    if not posed:
        raise DataError(f"{path}: has no poses to measure against: give a bag with {bags.TRUTH_TOPIC}, or a TUM file")
    return Trajectory(sequence.stamps_ns[posed], tuple(pose for pose in sequence.map_from_base if pose is not None))


def _truth_of_bag(path: Path, topic: str) -> Trajectory:
    with BagReader(path) as reader:
        if topic not in reader.topics:
            raise DataError(f"{path}: has no {topic} to measure against; it has {', '.join(reader.topics)}")
        poses = {ns_from_stamp(message.header.stamp): pose_from_message(message.pose.pose) for _, _, message in reader.read([topic])}
    stamps = sorted(poses)
    return Trajectory(stamps, tuple(poses[stamp] for stamp in stamps))  # type: ignore[arg-type]


def with_truth(evaluation: Evaluation | Path, truth: Trajectory, max_gap_ns: int) -> Evaluation:
    """The same frames with the true pose at each one's stamp.

    Raises:
        DataError: none of them has one: another recording, or another clock.
    """
    recorded = Evaluation.read_json(evaluation) if isinstance(evaluation, Path) else evaluation
    frames = tuple(replace(frame, truth=truth.at(frame.stamp_ns, max_gap_ns)) for frame in recorded.frames)
    if frames and not any(frame.truth is not None for frame in frames):
        raise DataError(_apart(frames[0].stamp_ns, truth))
    return replace(recorded, frames=frames)


def trajectory_errors(estimated: Path, truth: Trajectory, max_gap_ns: int) -> TrajectoryErrors:
    """Absolute and relative errors of a TUM file; raises DataError as `with_truth`."""
    trajectory = read_tum(estimated)
    pairs = [(pose, truth.at(int(stamp), max_gap_ns)) for stamp, pose in zip(trajectory.stamps_ns, trajectory.poses, strict=True)]
    known = [(pose, true) for pose, true in pairs if true is not None]
    if not known:
        raise DataError(f"{estimated}: {_apart(int(trajectory.stamps_ns[0]), truth)}")
    poses, true_poses = [pose for pose, _ in known], [true for _, true in known]
    absolute = metrics.absolute_trajectory_error(poses, true_poses)
    relative = metrics.relative_trajectory_error(poses, true_poses, metrics.pairs_by_frames(len(poses)))
    return TrajectoryErrors(len(known), len(pairs) - len(known), *absolute, *relative)


def _apart(stamp_ns: int, truth: Trajectory) -> str:
    begin, end = int(truth.stamps_ns[0]) * 1e-9, int(truth.stamps_ns[-1]) * 1e-9
    return f"no pose has a true one at its time: the first is at {stamp_ns * 1e-9:.3f} s, the truth goes from {begin:.3f} to {end:.3f} s"
