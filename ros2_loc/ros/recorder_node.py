"""Node recorder: what the localization published, written when it stops: JSON with covariances and rejections, and TUM trajectories.

`localized.json`, `localized.tum`: map_localizer's own poses, one frame for each image; `cross_view.*`: those of cross_view_localizer, one
frame for each query, when it is there; `fused.*`: pose_fusion's. The JSON is an evaluation without truth: `ros2-loc evaluate trajectory
localized.json --truth BAG` puts the truth beside it. `detections.json`: the objects in each image, when somebody detects.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, Image

from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import ConfigError, MissingDependencyError
from ros2_loc.evaluation.records import Evaluation, FrameResult
from ros2_loc.io.files import atomic_path
from ros2_loc.io.images import write_image
from ros2_loc.io.trajectories import Trajectory, write_tum
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.detection_messages import detections_from_message, vision_messages
from ros2_loc.ros.diagnostics import Level, Report
from ros2_loc.ros.node_base import BaseParameters, NodeBase, run
from ros2_loc.ros.params import parameter


@dataclass(frozen=True)
class RecorderParameters(BaseParameters):
    """Parameters of recorder."""

    out: str = parameter("", "folder to write to; files of an earlier run in it are replaced")
    overlays: bool = parameter(False, "also keep the pictures of matches and of objects, as overlays/<stamp>.jpg and objects/<stamp>.jpg")


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one localizer said, by the stamps of its images: poses, and statuses with the time at which they came."""

    source: str
    estimates: dict[int, PoseEstimate] = field(default_factory=dict)
    statuses: dict[int, tuple[Any, float]] = field(default_factory=dict)

    def on_pose(self, message: PoseWithCovarianceStamped) -> None:
        estimate = conversions.estimate_from_message(message, self.source)
        self.estimates[estimate.stamp_ns] = estimate

    def on_status(self, message: Any) -> None:
        self.statuses[conversions.ns_from_stamp(message.header.stamp)] = (message, time.perf_counter())

    def frames(self, arrived_s: dict[int, float]) -> list[FrameResult]:
        found = (self._frame(stamp_ns, arrived_s) for stamp_ns in sorted(self.statuses))
        return [frame for frame in found if frame is not None]

    def _frame(self, stamp_ns: int, arrived_s: dict[int, float]) -> FrameResult | None:
        """One image; None when its pose is still on the way."""
        status, heard_s = self.statuses[stamp_ns]
        result: PoseEstimate | Rejection
        if not status.accepted:
            result = Rejection(stamp_ns, _reason(status.rejection_reason), status.rejection_detail)
        elif stamp_ns in self.estimates:
            heard = self.estimates[stamp_ns]
            result = PoseEstimate(stamp_ns, heard.map_from_base, heard.covariance, int(status.num_inliers), heard.source)
        else:
            return None
        stage_s = {name: float(seconds) for name, seconds in zip(status.stage_names, status.stage_times_s, strict=False)}
        if stamp_ns in arrived_s:  # what is left is the way through DDS, decoding, and waiting for the image before
            stage_s["transport"] = max(heard_s - arrived_s[stamp_ns] - sum(stage_s.values()), 0.0)
        return FrameResult(f"image {stamp_ns}", stamp_ns, None, result, int(status.num_matches), stage_s)


class Recorder(NodeBase):
    """Keeps what it hears while it is active, and writes it when it is deactivated or told to stop."""

    Parameters = RecorderParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", **options)

    def configure(self) -> None:
        """Make the folder, so that a wrong one is told at the start."""
        if not self.params.out:
            raise ConfigError("recorder: parameter 'out' is empty: name a folder to write to")
        self._folder = Path(self.params.out).expanduser()
        try:
            for name in ("overlays", "objects") if self.params.overlays else ("",):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self._folder}: can't be made: {error.strerror}; choose another folder") from error
        self._messages = conversions.own_messages()
        self.diagnostics.add("recorder", self._diagnose)

    def activate(self) -> None:
        """Start with nothing; subscribe."""
        self._arrived_s: dict[int, float] = {}
        self._map, self._cross_view = _Heard("map_localizer"), _Heard("cross_view")
        self._fused: dict[int, PoseEstimate] = {}
        self._states: Counter[str] = Counter()
        self._objects: dict[int, dict[str, Any]] = {}
        self.own(self._write)
        # the calibration comes with each image and is small: when it arrives, so does the image
        self.subscribe(CameraInfo, "camera/camera_info", self._on_camera_info, qos.image_qos(depth=20))
        status = self._messages.LocalizationStatus
        self.subscribe(PoseWithCovarianceStamped, "localization/map_pose", self._map.on_pose, qos.RESULT)
        self.subscribe(status, "localization/status", self._map.on_status, qos.RESULT)
        self.subscribe(PoseWithCovarianceStamped, "localization/cross_view_pose", self._cross_view.on_pose, qos.RESULT)
        self.subscribe(status, "localization/cross_view_status", self._cross_view.on_status, qos.RESULT)
        self.subscribe(PoseWithCovarianceStamped, "localization/pose", self._on_pose, qos.RESULT)
        self.subscribe(status, "localization/state", self._on_state, qos.LATCHED)
        self._subscribe_to_objects()
        if self.params.overlays:
            self.subscribe(Image, "localization/matches_image", lambda image: self._keep(image, "overlays"), qos.image_qos(depth=5))
            self.subscribe(Image, "detections/overlay", lambda image: self._keep(image, "objects"), qos.image_qos(depth=5))

    def _subscribe_to_objects(self) -> None:
        try:
            array = vision_messages().Detection2DArray
        except MissingDependencyError:  # then nobody here can publish them either
            return
        self.subscribe(array, "detections", self._on_detections, qos.RESULT)

    # --- callbacks

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._arrived_s[conversions.ns_from_stamp(message.header.stamp)] = time.perf_counter()

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        estimate = conversions.estimate_from_message(message, "pose_fusion")
        self._fused[estimate.stamp_ns] = estimate

    def _on_state(self, message: Any) -> None:
        if message.rejection_reason == "state_change":
            self._states[message.rejection_detail] += 1
        else:
            self._states["poses fused" if message.accepted else f"poses refused: {message.rejection_reason}"] += 1

    def _on_detections(self, message: Any) -> None:
        stamp_ns = conversions.ns_from_stamp(message.header.stamp)
        found = detections_from_message(message)
        objects = [{"label": one.label, "score": one.score, "box": [round(float(edge), 2) for edge in one.box]} for one in found]
        self._objects[stamp_ns] = {"stamp_ns": stamp_ns, "frame_id": message.header.frame_id, "objects": objects}

    def _keep(self, message: Image, folder: str) -> None:
        stamp_ns = conversions.ns_from_stamp(message.header.stamp)
        write_image(self._folder / folder / f"{stamp_ns}.jpg", conversions.rgb_from_image(message))

    # --- results

    def _write(self) -> None:
        frames, queries = self._map.frames(self._arrived_s), self._cross_view.frames(self._arrived_s)
        images = len(self._arrived_s)
        settings: dict[str, str | int | float] = {"images sent": images, "images that newer ones replaced": max(images - len(frames), 0)}
        self._write_one("localized", frames, settings)
        if queries:
            self._write_one("cross_view", queries, {"images sent": images})
        else:
            for suffix in ("json", "tum"):
                (self._folder / f"cross_view.{suffix}").unlink(missing_ok=True)
        self._write_objects()
        fused = [FrameResult(f"pose {stamp_ns}", stamp_ns, None, self._fused[stamp_ns]) for stamp_ns in sorted(self._fused)]
        self._write_one("fused", fused, dict(self._states))
        asked = f", {len(queries)} queries over tiles" if queries else ""
        self.get_logger().info(f"{self._folder}: {len(frames)} images of {images}{asked}, {len(fused)} fused poses")

    def _write_objects(self) -> None:
        path = self._folder / "detections.json"
        if not self._objects:
            path.unlink(missing_ok=True)
            return
        with atomic_path(path) as unfinished:
            unfinished.write_text(json.dumps({"images": [self._objects[stamp_ns] for stamp_ns in sorted(self._objects)]}, indent=1) + "\n")

    def _write_one(self, name: str, frames: list[FrameResult], settings: dict[str, str | int | float]) -> None:
        Evaluation(f"{name} poses of the nodes", tuple(frames), np.zeros((0, 3)), settings).write_json(self._folder / f"{name}.json")
        posed = [frame.estimate for frame in frames if frame.estimate is not None]
        stamps = np.array([estimate.stamp_ns for estimate in posed], dtype=np.int64)
        write_tum(self._folder / f"{name}.tum", Trajectory(stamps, tuple(estimate.map_from_base for estimate in posed)))

    def _diagnose(self) -> Report:
        return Report(Level.OK, f"recording to {self.params.out}", {"images": len(self._map.statuses) if hasattr(self, "_map") else 0})


def _reason(text: str) -> RejectionReason:
    try:
        return RejectionReason(text)
    except ValueError:
        return RejectionReason.INTERNAL_ERROR


def main() -> None:
    """Entry point of `ros2 run ros2_loc recorder`."""
    sys.exit(run([Recorder]))


if __name__ == "__main__":
    main()
