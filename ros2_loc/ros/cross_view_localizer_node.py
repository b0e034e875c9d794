"""Node cross_view_localizer: images, odometry and a rough north in, positions on satellite tiles out. Topics and QoS: docs/nodes.md."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import OccupancyGrid, Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from ros2_loc import registry
from ros2_loc.core.pose import Pose, transport_to_left
from ros2_loc.core.types import Frame, OverheadDescriptor, PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import ConfigError, DataError, Ros2LocError
from ros2_loc.localization.belief_view import BeliefView
from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer, CrossViewResult
from ros2_loc.localization.cross_view_pipeline import load_cross_view_pipeline
from ros2_loc.localization.fusion import FusionState
from ros2_loc.mapping.shared_frame import in_map, map_from_tiles
from ros2_loc.mapping.sparse_map import MapFrame
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.belief_messages import belief_grid, mode_markers
from ros2_loc.ros.conversions import OdometrySample
from ros2_loc.ros.cross_view_inputs import Inputs
from ros2_loc.ros.diagnostics import Level, RateMeter, Report
from ros2_loc.ros.frame_statistics import FrameStatistics
from ros2_loc.ros.frames import FrameBuilder
from ros2_loc.ros.heading import Heading, ImuHeading, OdometryHeading
from ros2_loc.ros.mailbox import Worker
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run
from ros2_loc.ros.params import parameter
from ros2_loc.ros.tf import TransformException, TransformReader
from ros2_loc.visualization.overhead import OverheadView, draw_overhead

_JUMP_BACK_NS = 500_000_000  # images may come out of order by less
_SILENT_S = 3.0


@dataclass(frozen=True)
class CrossViewLocalizerParameters(BaseParameters):
    """Parameters of cross_view_localizer."""

    tiles: str = parameter("", "folder of the satellite tiles (`ros2-loc tiles build`), encoded by the pipeline's encoder")
    map: str = parameter("", "folder of the visual map in whose frame the poses are given; empty: east-north-up at the tiles' origin")
    cross_view_pipeline: str = parameter("cross_view", "name of a pipeline in config/pipelines, or the path of a YAML file")
    device: str = parameter("cpu", "where networks run", choices=("cpu", "cuda"))
    map_frame: str = parameter("map", "frame that the poses are given in")
    odom_frame: str = parameter("odom", "frame of the odometry")
    base_frame: str = parameter("base_link", "frame whose pose is estimated; its origin lies on the ground")
    image_transport: str = parameter("raw", "raw: Image; compressed: CompressedImage on <image>/compressed", choices=("raw", "compressed"))
    image_reliability: str = parameter("reliable", "QoS of the image subscription", choices=qos.RELIABILITIES)
    odometry_reliability: str = parameter("reliable", "QoS of the subscriptions to odometry and Imu", choices=qos.RELIABILITIES)
    rectified: bool = parameter(False, "the images are rectified: the camera is P of camera_info, not K and D")
    transform_patience_s: float = parameter(0.2, "how long the worker waits for the camera's transform, s", minimum=0.0, maximum=5.0)
    odometry_patience_s: float = parameter(0.1, "how long it waits for odometry of the image's time, s", minimum=0.0, maximum=5.0)
    heading: str = parameter("imu", "north from the orientation of an Imu, or from an odometry that knows it", choices=("imu", "odometry"))
    heading_offset_rad: float = parameter(0.0, "heading: odometry: yaw of the odometry's frame, 0 where its x points east, rad")
    heading_sigma_rad: float = parameter(0.05, "standard deviation of a heading whose message states none, rad", minimum=0.0001)
    fix_topic: str = parameter("", "topic of satellite positions (NavSatFix) that help when they come; empty: none are used")
    fix_period_s: float = parameter(30.0, "a fix so soon after the last one is not used: its errors would be the same, s", minimum=0.0)
    belief_rate_hz: float = parameter(1.0, "belief and modes are published at most so often, Hz", minimum=0.01, maximum=100.0)


class CrossViewLocalizerNode(NodeBase):
    """Callbacks note what comes; a worker gives it to the localizer in the order of its arrival and publishes with the image's stamp."""

    Parameters = CrossViewLocalizerParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("cross_view_localizer", **options)

    def configure(self) -> None:
        """Load tiles and pipeline; refuse tiles of another encoder, and a map of another place."""
        p: CrossViewLocalizerParameters = self.params
        if not p.tiles:
            raise ConfigError("parameter 'tiles' is empty: name a folder of satellite tiles, for instance -p tiles:=/tiles/town")
        self._messages = conversions.own_messages()
        started = time.perf_counter()
        pipeline = load_cross_view_pipeline(p.cross_view_pipeline)
        # where north comes from is a matter of the robot: the node's parameter says it
        self._pipeline = replace(pipeline, localizer=replace(pipeline.localizer, heading="measured"))
        self._tiles = TileDatabase.load(Path(p.tiles).expanduser())
        self._find_frame(p.map)
        self._encoder = registry.create("cross_view", pipeline.encoder, p.device)
        self._localizer = CrossViewLocalizer(self._pipeline, self._tiles, self._encoder)
        self._state_names = {getattr(self._messages.LocalizationStatus, state.name): state.value for state in FusionState}
        self._statistics = FrameStatistics()
        self._pose_publisher = self.publish(PoseWithCovarianceStamped, "localization/cross_view_pose", qos.RESULT)
        self._status_publisher = self.publish(self._messages.LocalizationStatus, "localization/cross_view_status", qos.RESULT)
        self._fix_publisher = self.publish(NavSatFix, "localization/cross_view_fix", qos.RESULT)
        self._belief_publisher = self.publish(OccupancyGrid, "localization/belief", qos.LATCHED)
        self._modes_publisher = self.publish(MarkerArray, "localization/belief_modes", qos.LATCHED)
        self._picture_publisher = self.publish(Image, "localization/overhead_image", qos.image_qos())
        self.diagnostics.add("input", self._diagnose_input)
        self.diagnostics.add("localization", self._statistics.report)
        self.get_logger().info(f"tiles {p.tiles}: {len(self._tiles)}, loaded in {time.perf_counter() - started:.1f} s")

    def _find_frame(self, map_folder: str) -> None:
        """Where the tiles lie in the frame of the poses, and that one on the earth."""
        self._map_from_tiles, self._georeference = Pose.identity(), (self._tiles.origin, Pose.identity())
        if map_folder:
            frame = MapFrame.load(Path(map_folder).expanduser())
            self._map_from_tiles = map_from_tiles(frame, self._tiles)
            assert frame.origin is not None
            self._georeference = (frame.origin, frame.enu_from_map)

    def activate(self) -> None:
        """Start with no belief; subscribe, and start the worker."""
        p: CrossViewLocalizerParameters = self.params
        self._localizer.reset()
        self._inputs: Inputs[CrossViewLocalizer] = Inputs()
        self._images, self._odometry, self._headings, self._fixes = RateMeter(), RateMeter(), RateMeter(), RateMeter()
        self._newest_ns, self._epoch, self._kept, self._fix_ns = 0, 0, 0, 0
        self._unpublished: tuple[int, BeliefView] | None = None
        self._state = self._messages.LocalizationStatus.INITIALIZING
        self._transforms = TransformReader(self)
        self.own(self._transforms.close)
        self._frames = FrameBuilder(self._transforms, p.base_frame, rectified=p.rectified, patience_s=p.transform_patience_s)
        self._imu_heading = ImuHeading(partial(self._mounting, "Imu"), p.heading_sigma_rad)
        self._odometry_heading = OdometryHeading(p.heading_offset_rad, p.heading_sigma_rad)
        self._worker: Worker[tuple[Any, float, int]] = Worker("localize", self._work, self.failed)
        self.own(self._stop_worker)
        self._subscribe(p)
        self.every(1.0 / p.belief_rate_hz, self._publish_belief)

    def _subscribe(self, p: CrossViewLocalizerParameters) -> None:
        self.subscribe(CameraInfo, "camera/camera_info", self._frames.camera_info, qos.image_qos(p.image_reliability))
        topic, message = "camera/image_raw", Image
        if p.image_transport == "compressed":
            topic, message = f"{self.resolve_topic_name(topic)}/compressed", CompressedImage
        self.subscribe(message, topic, self._on_image, qos.image_qos(p.image_reliability))
        self.subscribe(Odometry, "odom", self._on_odometry, qos.odometry_qos(p.odometry_reliability))
        if p.heading == "imu":
            self.subscribe(Imu, "imu/data", self._on_imu, qos.odometry_qos(p.odometry_reliability))
        if p.fix_topic:
            self.subscribe(NavSatFix, p.fix_topic, self._on_fix, qos.odometry_qos(p.odometry_reliability))
        self.subscribe(PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, qos.RESULT)
        self.subscribe(self._messages.LocalizationStatus, "localization/state", self._on_state, qos.LATCHED)
        self.serve(Trigger, "~/relocalize", self._on_relocalize)

    def _stop_worker(self) -> None:
        if not self._worker.stop(timeout_s=2.0):
            self.get_logger().warning("the worker is still busy with an image; its result is thrown away")
        self._epoch += 1

    # --- callbacks: they note and return

    def _on_image(self, message: Any) -> None:
        self._images.tick()
        stamp_ns = conversions.ns_from_stamp(message.header.stamp)
        if stamp_ns < self._newest_ns - _JUMP_BACK_NS:
            self.get_logger().info(f"time went back by {(self._newest_ns - stamp_ns) * 1e-9:.1f} s: starting anew")
            self._epoch += 1
            self._newest_ns, self._fix_ns = 0, 0
        self._newest_ns = max(stamp_ns, self._newest_ns)
        self._worker.mailbox.put((message, time.perf_counter(), self._epoch))

    def _on_odometry(self, message: Odometry) -> None:
        p: CrossViewLocalizerParameters = self.params
        sample = conversions.odometry_from_message(message)
        conversions.require_frame("odometry", message.header.frame_id, p.odom_frame)
        if message.child_frame_id:
            conversions.require_frame("odometry's child", message.child_frame_id, p.base_frame)
        self._odometry.tick()
        self._inputs.add(partial(_give_odometry, sample), sample.stamp_ns)
        if p.heading == "odometry":
            self._take_heading(self._odometry_heading.of(sample))

    def _on_imu(self, message: Imu) -> None:
        try:
            heading = self._imu_heading.of(message)
        except TransformException as error:
            self.log_throttled("warn", one_line(error), "mounting of the Imu")
            return
        if heading is not None:
            self._take_heading(heading)

    def _take_heading(self, heading: Heading) -> None:
        self._headings.tick()
        self._inputs.add(partial(self._give_heading, heading))

    def _on_fix(self, message: NavSatFix) -> None:
        fix = conversions.fix_from_message(message)
        if 0 <= fix.stamp_ns - self._fix_ns < self.params.fix_period_s * 1e9:
            return
        self._fixes.tick()
        self._fix_ns = fix.stamp_ns
        try:
            antenna_in_base_m = self._mounting("antenna", message.header.frame_id).translation
            fix = replace(fix, antenna_in_base_m=antenna_in_base_m)
        except TransformException as error:  # metres at most, where a fix is as wrong
            self.log_throttled("warn", f"{one_line(error)}: taken as at {self.params.base_frame}", "mounting of the antenna")
        self._inputs.add(lambda localizer: localizer.add_fix(fix))

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        conversions.require_frame("initial pose", message.header.frame_id, self.params.map_frame)
        given = conversions.initial_pose_from_message(message)
        tiles_from_map = self._map_from_tiles.inverse()
        covariance = transport_to_left(Pose(tiles_from_map.rotation, np.zeros(3)), given.covariance)
        self._inputs.add(lambda localizer: localizer.initialize(given.stamp_ns, tiles_from_map @ given.pose, covariance))

    def _on_state(self, message: Any) -> None:
        self._state = message.state

    def _on_relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._inputs.add(CrossViewLocalizer.relocalize)
        response.success, response.message = True, "the belief is forgotten: anywhere on the tiles"
        return response

    def _mounting(self, what: str, frame: str) -> Pose:
        """base_from_frame; raises TransformException in one line."""
        try:
            return self._transforms.pose(self.params.base_frame, frame)
        except TransformException as error:
            raise type(error)(f"no transform from {frame} to {self.params.base_frame} for the {what}: {one_line(error)}") from error

    # --- the worker's thread

    def _work(self, item: tuple[Any, float, int]) -> None:
        message, received_s, epoch = item
        stamp_ns = conversions.ns_from_stamp(message.header.stamp)
        self._inputs.wait_until(stamp_ns, self.params.odometry_patience_s)
        self._give_inputs()
        if stamp_ns and not self._localizer.wants(stamp_ns):
            return
        frame = self._frames.build(message)
        found = self._localize(frame)
        if epoch != self._epoch:  # time jumped or the node was deactivated meanwhile
            return
        self._unpublished = (stamp_ns, found.belief)
        if found.result is None:
            self._kept += 1
            return
        self._statistics.add(found.result, found.stage_s, time.perf_counter() - received_s, _values(found))
        self._publish_result(found.result, found)
        if isinstance(frame, Frame) and found.descriptor is not None and self._picture_publisher.get_subscription_count():
            picture = draw_overhead(self._view(frame, found.result, found, found.descriptor))
            self._picture_publisher.publish(conversions.image_from_rgb(picture, stamp_ns, message.header.frame_id))

    def _give_inputs(self) -> None:
        for give in self._inputs.take():
            try:
                give(self._localizer)
            except DataError as error:
                self.log_throttled("warn", one_line(error))

    def _give_heading(self, heading: Heading, localizer: CrossViewLocalizer) -> None:
        if not localizer.add_heading(*heading):
            limit = max(self._pipeline.filter.max_heading_error_deg, self._pipeline.filter.heading_step_deg)
            text = f"heading refused: it states a sigma of {np.degrees(heading.sigma_rad):.1f} deg, the filter searches {limit:g} deg"
            self.log_throttled("warn", f"{text}: calibrate the compass, or raise filter.max_heading_error_deg", "sigma of the heading")

    def _localize(self, frame: Frame | Rejection) -> CrossViewResult:
        if isinstance(frame, Rejection):
            return CrossViewResult(frame, self._localizer.belief)
        try:
            return self._localizer.localize(frame)
        except Exception as error:  # whatever one image does: it gets a status, and the next one is tried
            self.failed(error)
            reason = RejectionReason.BAD_INPUT if isinstance(error, Ros2LocError) else RejectionReason.INTERNAL_ERROR
            return CrossViewResult(Rejection(frame.stamp_ns, reason, one_line(error)), self._localizer.belief)

    # --- what is published

    def _publish_result(self, result: PoseEstimate | Rejection, found: CrossViewResult) -> None:
        p: CrossViewLocalizerParameters = self.params
        rejection = None
        if isinstance(result, PoseEstimate):
            estimate = in_map(result, self._map_from_tiles)
            self._pose_publisher.publish(conversions.estimate_to_message(estimate, p.map_frame))
            self._fix_publisher.publish(conversions.fix_from_estimate(estimate, *self._georeference, p.base_frame))
        else:
            rejection = (result.reason.value, result.detail)
            if result.reason is not RejectionReason.AMBIGUOUS:  # that is how every drive begins
                self.log_throttled("warn", f"{result.reason.value}: {result.detail}", result.reason.value + result.detail[:40])
        status = conversions.status_message(
            result.stamp_ns,
            state=self._state,
            source=self.get_name(),
            frame_id=p.map_frame,
            rejection=rejection,
            stage_s=found.stage_s,
        )
        self._status_publisher.publish(status)

    def _publish_belief(self) -> None:
        if self._unpublished is None:
            return
        (stamp_ns, belief), self._unpublished = self._unpublished, None
        frame_id = self.params.map_frame
        self._belief_publisher.publish(belief_grid(belief, self._map_from_tiles, stamp_ns, frame_id))
        self._modes_publisher.publish(mode_markers(belief, self._map_from_tiles, stamp_ns, frame_id))

    def _view(self, frame: Frame, result: PoseEstimate | Rejection, found: CrossViewResult, seen: OverheadDescriptor) -> OverheadView:
        words = f"{self._state_names.get(self._state, '')}   {found.frames} images   {found.scored_tiles} tiles compared"
        return OverheadView(
            frame=frame,
            yaw_rad=found.yaw_rad,
            features=seen.features,
            grid=self._encoder.grid,
            tile=self._tiles.tile(found.candidates[0].source) if found.candidates else None,
            scores=found.scores,
            probability=found.belief.probability,
            result=result,
            words=words.strip(),
            stage_s=found.stage_s,
        )

    # --- diagnostics

    def _diagnose_input(self) -> Report:
        if not hasattr(self, "_images"):
            return Report(Level.OK, "not active")
        values = {
            "image rate (Hz)": self._images.rate_hz,
            "age of the last image (s)": self._images.age_s,
            "images replaced by newer ones": self._worker.mailbox.replaced,
            "images kept for the next query": self._kept,
            "camera_info": "received" if self._frames.is_calibrated else "missing",
            "odometry rate (Hz)": self._odometry.rate_hz,
            "age of the last odometry (s)": self._odometry.age_s,
            "heading": f"from the {self.params.heading}",
            "heading rate (Hz)": self._headings.rate_hz,
            "age of the last heading (s)": self._headings.age_s,
            "fixes used": self._fixes.count,
        }
        for what, meter, topic in (
            ("images", self._images, "camera/image_raw"),
            ("odometry", self._odometry, "odom"),
            ("heading", self._headings, "imu/data" if self.params.heading == "imu" else "odom"),
        ):
            age_s = meter.age_s
            if age_s is None or age_s > _SILENT_S:
                since = "" if age_s is None else f" for {age_s:.0f} s"
                return Report(Level.WARN, f"no {what} on {self.resolve_topic_name(topic)}{since}", values)
        if not self._frames.is_calibrated:
            return Report(Level.ERROR, f"no camera_info on {self.resolve_topic_name('camera/camera_info')}", values)
        return Report(Level.OK, f"{self._images.rate_hz:.1f} images/s, {self._headings.rate_hz:.1f} headings/s", values)


def _give_odometry(sample: OdometrySample, localizer: CrossViewLocalizer) -> None:
    localizer.add_odometry(sample.stamp_ns, sample.odom_from_base, sample.covariance)


def _values(found: CrossViewResult) -> dict[str, Any]:
    """What the diagnostics show of a query."""
    belief = found.belief
    return {
        "belief: entropy (nats)": belief.entropy_nats,
        "belief: on the tiles": belief.mass,
        "belief: modes": len(belief.modes),
        "belief: best mode": belief.modes[0].mass if belief.modes else 0.0,
        "belief: error of the heading (deg)": float(np.degrees(belief.heading_error_rad)),
        "belief: sigma of the heading (deg)": float(np.degrees(belief.heading_sigma_rad)),
        "images in the video": found.frames,
        "tiles compared": found.scored_tiles,
        "log evidence": found.log_evidence,
    }


def main() -> int:
    """Run the node until it is told to stop."""
    return run([CrossViewLocalizerNode])


if __name__ == "__main__":
    raise SystemExit(main())
