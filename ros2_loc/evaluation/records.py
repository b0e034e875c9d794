"""What an evaluation found: one result per query frame, the metrics of all, and the JSON that holds both."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose, rotation_angle_rad
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.evaluation import metrics
from ros2_loc.io.files import atomic_path

Array = NDArray[np.float64]

FORMAT = "ros2_loc evaluation"
VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One query frame.

    Attributes:
        name: of the image, unique.
        stamp_ns: of the image.
        truth: map_from_base, or None where it is not known.
        result: of the localizer.
        num_keypoints, num_matches: of the query, and 2D-3D matches given to the solver.
        stage_s: seconds per stage.
        place: name of the map image that agreed best, empty when none did.
        candidates: names of the places tried, best first.
    """

    name: str
    stamp_ns: int
    truth: Pose | None
    result: PoseEstimate | Rejection
    num_matches: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)
    place: str = ""
    candidates: tuple[str, ...] = ()
    num_keypoints: int = 0

    @property
    def estimate(self) -> PoseEstimate | None:
        """The pose, None when the frame was rejected."""
        return self.result if isinstance(self.result, PoseEstimate) else None

    @property
    def num_inliers(self) -> int:
        """Inliers of the pose, 0 when the frame was rejected."""
        return self.estimate.num_inliers if self.estimate else 0

    @property
    def error_m(self) -> float | None:
        """Distance to the truth, None without estimate or truth."""
        if self.estimate is None or self.truth is None:
            return None
        return float(np.linalg.norm(self.estimate.map_from_base.translation - self.truth.translation))

    @property
    def error_rad(self) -> float | None:
        """Angle to the truth, None without estimate or truth."""
        if self.estimate is None or self.truth is None:
            return None
        return rotation_angle_rad(self.truth.rotation.T @ self.estimate.map_from_base.rotation)


@dataclass(frozen=True, slots=True)
class Recall:
    """Fractions within (threshold_m, threshold_deg): of all queries, and of those that got a pose."""

    threshold_m: float
    threshold_deg: float
    of_all: float | None
    of_accepted: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The numbers of an evaluation; None where there was nothing to compute them from.

    Attributes:
        queries, accepted, rejected: frames; frames with a pose; frames without.
        scored: frames with a pose and a known truth: errors, NEES and recall are of these.
        rejections: count by reason.
        wrong_and_confident: names of frames off by more than 1 m that claim a sigma below 0.3 m.
        translation_m, rotation_deg: absolute trajectory error of accepted frames.
        relative_translation_m, relative_rotation_deg: between consecutive accepted frames.
        nees_pose, nees_position, nees_rotation: against the claimed covariance.
        latency_s: per stage.
    """

    queries: int
    accepted: int
    rejected: int
    scored: int
    rejections: dict[str, int]
    recalls: tuple[Recall, ...]
    wrong_and_confident: tuple[str, ...]
    translation_m: metrics.ErrorStatistics | None
    rotation_deg: metrics.ErrorStatistics | None
    relative_translation_m: metrics.ErrorStatistics | None
    relative_rotation_deg: metrics.ErrorStatistics | None
    nees_pose: metrics.Nees | None
    nees_position: metrics.Nees | None
    nees_rotation: metrics.Nees | None
    latency_s: dict[str, metrics.Latency]

    def recall(self, threshold_m: float, threshold_deg: float) -> Recall:
        """The recall at these thresholds.

        Raises:
            KeyError: they are not among `RECALL_THRESHOLDS`.
        """
        for r in self.recalls:
            if (r.threshold_m, r.threshold_deg) == (threshold_m, threshold_deg):
                return r
        raise KeyError((threshold_m, threshold_deg))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All frames of an evaluation.

    Attributes:
        title: what was evaluated, for people.
        frames: in order of time.
        places_m: (P, 3) positions of the map's places, may be (0, 3).
        settings: what was set (pipeline, map, machine), for people: plain strings and numbers.
    """

    title: str
    frames: tuple[FrameResult, ...]
    places_m: Array = field(default_factory=lambda: np.zeros((0, 3)))
    settings: dict[str, str | int | float] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> Metrics:
        """Computed once."""
        return compute(self.frames)

    @property
    def scored(self) -> list[FrameResult]:
        """Frames with a pose and a truth."""
        return [f for f in self.frames if f.error_m is not None]

    def write_json(self, path: Path | str) -> None:
        """Writes metrics and frames; whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "settings": self.settings,
            "metrics": asdict(self.metrics),
            "places_m": np.asarray(self.places_m).round(4).tolist(),
            "frames": [_frame_to_json(f) for f in self.frames],
        }
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(json.dumps(finite(content), indent=1), encoding="utf-8")

    @staticmethod
    def read_json(path: Path | str) -> Evaluation:
        """Reads what `write_json` wrote; the metrics are computed anew from the frames.

        Raises:
            DataError: no such file, not JSON, not an evaluation, of another version, or damaged.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}): write it again with `ros2-loc evaluate --json`") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise DataError(f"{path}: not a {FORMAT} of version {VERSION}: write it with `ros2-loc evaluate --json`")
        try:
            frames = tuple(_frame_from_json(f) for f in content["frames"])
            places = np.array(content["places_m"], dtype=np.float64).reshape(-1, 3)
            return Evaluation(str(content["title"]), frames, places, dict(content["settings"]))
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"{path}: damaged evaluation: {type(error).__name__} {error}") from error


def compute(frames: tuple[FrameResult, ...]) -> Metrics:
    """The metrics of these frames."""
    scored = [(f, f.estimate, f.truth) for f in frames if f.estimate is not None and f.truth is not None]
    estimates = [e for _, e, _ in scored]
    poses, truth = [e.map_from_base for e in estimates], [t for _, _, t in scored]
    errors_m, errors_rad = metrics.pose_errors(poses, truth)
    with_truth = sum(f.truth is not None for f in frames)
    nees = metrics.nees_values(estimates, truth)
    confident = metrics.wrong_and_confident(errors_m, [e.sigma_m for e in estimates])
    relative = metrics.relative_trajectory_error(poses, truth, metrics.pairs_by_frames(len(poses)))
    accepted = sum(f.estimate is not None for f in frames)
    return Metrics(
        queries=len(frames),
        accepted=accepted,
        rejected=len(frames) - accepted,
        scored=len(scored),
        rejections=dict(Counter(f.result.reason.value for f in frames if isinstance(f.result, Rejection)).most_common()),
        recalls=tuple(
            Recall(m, deg, metrics.recall(errors_m, errors_rad, m, deg, with_truth), metrics.recall(errors_m, errors_rad, m, deg))
            for m, deg in metrics.RECALL_THRESHOLDS
        ),
        wrong_and_confident=tuple(f.name for (f, _, _), wrong in zip(scored, confident, strict=True) if wrong),
        translation_m=metrics.statistics(errors_m),
        rotation_deg=metrics.statistics(np.degrees(errors_rad)),
        relative_translation_m=relative[0],
        relative_rotation_deg=relative[1],
        nees_pose=metrics.nees(nees["pose"], 6),
        nees_position=metrics.nees(nees["position"], 3),
        nees_rotation=metrics.nees(nees["rotation"], 3),
        latency_s=metrics.latencies([f.stage_s for f in frames]),
    )


def _frame_to_json(frame: FrameResult) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": frame.name,
        "stamp_ns": frame.stamp_ns,
        "truth": _pose_to_json(frame.truth),
        "num_keypoints": frame.num_keypoints,
        "num_matches": frame.num_matches,
        "stage_s": frame.stage_s,
        "place": frame.place,
        "candidates": list(frame.candidates),
    }
    if isinstance(frame.result, Rejection):
        return out | {"rejection": {"reason": frame.result.reason.value, "detail": frame.result.detail}}
    estimate = frame.result
    errors = {"error_m": frame.error_m, "error_deg": None if frame.error_rad is None else math.degrees(frame.error_rad)}
    return out | {
        "estimate": {
            "map_from_base": _pose_to_json(estimate.map_from_base),
            "covariance": estimate.covariance.tolist(),
            "num_inliers": estimate.num_inliers,
            "source": estimate.source,
            **errors,
        }
    }


def _frame_from_json(content: dict[str, Any]) -> FrameResult:
    stamp_ns = int(content["stamp_ns"])
    result: PoseEstimate | Rejection
    if "rejection" in content:
        result = Rejection(stamp_ns, RejectionReason(content["rejection"]["reason"]), str(content["rejection"]["detail"]))
    else:
        e = content["estimate"]
        pose = _pose_from_json(e["map_from_base"])
        if pose is None:
            raise ValueError(f"frame {content['name']} has an estimate without a pose")
        result = PoseEstimate(stamp_ns, pose, np.array(e["covariance"]), int(e["num_inliers"]), str(e["source"]))
    return FrameResult(
        name=str(content["name"]),
        stamp_ns=stamp_ns,
        truth=_pose_from_json(content["truth"]),
        result=result,
        num_matches=int(content["num_matches"]),
        stage_s={str(k): float(v) for k, v in content["stage_s"].items()},
        place=str(content["place"]),
        candidates=tuple(map(str, content["candidates"])),
        num_keypoints=int(content["num_keypoints"]),
    )


def _pose_to_json(pose: Pose | None) -> list[list[float]] | None:
    """Rows of the (3, 4) matrix."""
    return None if pose is None else np.column_stack([pose.rotation, pose.translation]).tolist()


def _pose_from_json(rows: list[list[float]] | None) -> Pose | None:
    if rows is None:
        return None
    matrix = np.array(rows, dtype=np.float64).reshape(3, 4)
    return Pose(matrix[:, :3], matrix[:, 3])


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: None in their place; enums as their values."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, metrics.Consistency):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value
