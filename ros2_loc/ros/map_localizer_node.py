"""Node map_localizer: camera images and a map in, poses with covariance out. Topics, QoS and parameters: docs/nodes.md."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ros2_loc.core.types import Frame, PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import ConfigError, Ros2LocError
from ros2_loc.localization.fusion import FusionState
from ros2_loc.localization.map_localizer import Localization, MapLocalizer
from ros2_loc.localization.pipeline import PipelineConfig, load_pipeline
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.context_pairing import ContextInput, ReceivedImage
from ros2_loc.ros.detection_messages import vision_messages
from ros2_loc.ros.diagnostics import Level, RateMeter, Report
from ros2_loc.ros.frame_statistics import FrameStatistics
from ros2_loc.ros.frames import FrameBuilder
from ros2_loc.ros.mailbox import Worker
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run
from ros2_loc.ros.params import parameter
from ros2_loc.ros.prior import PriorKeeper
from ros2_loc.ros.tf import TransformException, TransformReader
from ros2_loc.ros.thumbnails import Thumbnails
from ros2_loc.visualization.detections import Drawing, draw_detections
from ros2_loc.visualization.overlay import OverlayStatus, draw_overlay

_JUMP_BACK_NS = 500_000_000  # images may come out of order by less
_SILENT_S = 3.0
CONTEXTS = ("pipeline", "mask", "detections", "none")


@dataclass(frozen=True)
class MapLocalizerParameters(BaseParameters):
    """Parameters of map_localizer."""

    map: str = parameter("", "folder of the map (`ros2-loc map build`)")
    pipeline: str = parameter("fast", "name of a pipeline in config/pipelines, or the path of a YAML file")
    device: str = parameter("cpu", "where networks run", choices=("cpu", "cuda"))
    map_frame: str = parameter("map", "frame that the poses are given in")
    base_frame: str = parameter("base_link", "frame whose pose is estimated")
    odom_frame: str = parameter("odom", "frame of odometry, asked for where the pipeline weighs places by the frames before")
    image_transport: str = parameter("raw", "raw: Image; compressed: CompressedImage on <image>/compressed", choices=("raw", "compressed"))
    image_reliability: str = parameter("reliable", "QoS of the image subscription", choices=qos.RELIABILITIES)
    rectified: bool = parameter(False, "the images are rectified: the camera is P of camera_info, not K and D")
    transform_patience_s: float = parameter(0.2, "how long the worker waits for the camera's transform, s", minimum=0.0, maximum=5.0)
    context: str = parameter("pipeline", "what tells of movers: the pipeline's detector, a topic's masks or boxes; none", choices=CONTEXTS)
    context_wait_ms: float = parameter(500.0, "a pose comes so much later at most for the sake of its mask, ms", minimum=0.0, maximum=5e3)
    thumbnails: bool = parameter(False, "put small pictures of the places into localization/places")
    prior: str = parameter("fusion", "look first near the fused pose, the own last pose, or everywhere", choices=("fusion", "own", "none"))
    prior_max_age_s: float = parameter(1.0, "a pose further from the image's stamp is no prior, s", minimum=0.0)
    prior_speed_m_s: float = parameter(15.0, "how fast the base may move between prior and image, m/s", minimum=0.0)
    prior_turn_rad_s: float = parameter(0.7, "how fast it may turn, rad/s", minimum=0.0)


class MapLocalizerNode(NodeBase):
    """Callbacks put the newest image into a mailbox; a worker localizes it and publishes with the image's stamp."""

    Parameters = MapLocalizerParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("map_localizer", **options)

    def configure(self) -> None:
        """Load map and pipeline; refuse a map that was built with other features."""
        p: MapLocalizerParameters = self.params
        if not p.map:
            raise ConfigError("parameter 'map' is empty: name the folder of a map, for instance -p map:=/maps/town")
        self._messages = conversions.own_messages()
        started = time.perf_counter()
        self._map = SparseMap.load(p.map)
        pipeline = self._in_context(load_pipeline(p.pipeline))
        self._localizer, self._uses_odometry = MapLocalizer(self._map, pipeline, p.device), pipeline.localizer.sequence
        self._thumbnails = Thumbnails(self._map)
        self._state_names = {getattr(self._messages.LocalizationStatus, state.name): state.value for state in FusionState}
        self._statistics = FrameStatistics()
        self._pose_publisher = self.publish(PoseWithCovarianceStamped, "localization/map_pose", qos.RESULT)
        self._status_publisher = self.publish(self._messages.LocalizationStatus, "localization/status", qos.RESULT)
        self._places_publisher = self.publish(self._messages.RetrievedPlaces, "localization/places", qos.RESULT)
        self._place_poses_publisher = self.publish(PoseArray, "localization/place_poses", qos.RESULT)
        self._places_image_publisher = self.publish(Image, "localization/places_image", qos.image_qos())
        self._overlay_publisher = self.publish(Image, "localization/matches_image", qos.image_qos())
        self.diagnostics.add("input", self._diagnose_input)
        self.diagnostics.add("localization", self._statistics.report)
        self.diagnostics.add("context", self._diagnose_context)
        self.get_logger().info(f"map {p.map}: {len(self._map.places)} places, loaded in {time.perf_counter() - started:.1f} s")
        if p.context in ("pipeline", "none") and (differs := self._map.masked_otherwise(pipeline.detector)):
            self.get_logger().info(differs)

    def activate(self) -> None:
        """Subscribe, and start the worker."""
        p: MapLocalizerParameters = self.params
        self._images, self._newest_ns, self._epoch = RateMeter(), 0, 0
        self._state, self._state_name = self._messages.LocalizationStatus.INITIALIZING, ""
        self._prior = PriorKeeper(p.prior_max_age_s, p.prior_speed_m_s, p.prior_turn_rad_s)
        self._transforms = TransformReader(self)
        self.own(self._transforms.close)
        self._frames = FrameBuilder(self._transforms, p.base_frame, rectified=p.rectified, patience_s=p.transform_patience_s)
        self._movers = self._context_input()
        mailbox = self._movers.mailbox if self._movers else None
        self._worker: Worker[ReceivedImage] = Worker("localize", self._work, self.failed, mailbox)
        self.own(self._stop_worker)
        self._subscribe(p)

    def _in_context(self, pipeline: PipelineConfig) -> PipelineConfig:
        """The pipeline, without its own detector where somebody else's counts."""
        self._masking, self._movers = pipeline.context, None
        if self.params.context == "detections":
            self._detection_array = vision_messages().Detection2DArray
        return pipeline if self.params.context == "pipeline" else replace(pipeline, detector={})

    def _context_input(self) -> ContextInput | None:
        """Subscribe to what tells of movers; None where the pipeline does it, or nothing."""
        p: MapLocalizerParameters = self.params
        if p.context not in ("mask", "detections"):
            return None
        heard = ContextInput(p.context, self._masking, p.context_wait_ms * 1e-3)  # type: ignore[arg-type]
        if p.context == "mask":
            self.subscribe(Image, "detections/mask", heard.received, qos.image_qos(depth=5))
        else:
            self.subscribe(self._detection_array, "detections", heard.received, qos.RESULT)
        return heard

    def _subscribe(self, p: MapLocalizerParameters) -> None:
        self.subscribe(CameraInfo, "camera/camera_info", self._frames.camera_info, qos.image_qos(p.image_reliability))
        topic, message = "camera/image_raw", Image
        if p.image_transport == "compressed":  # as image_transport does: who remaps the image remaps its compressed form
            topic, message = f"{self.resolve_topic_name(topic)}/compressed", CompressedImage
        self.subscribe(message, topic, self._on_image, qos.image_qos(p.image_reliability))
        if p.prior == "fusion":
            self.subscribe(PoseWithCovarianceStamped, "localization/pose", self._on_fused_pose, qos.RESULT)
            self.subscribe(self._messages.LocalizationStatus, "localization/state", self._on_state, qos.LATCHED)

    def _stop_worker(self) -> None:
        if not self._worker.stop():
            self.get_logger().warning("the worker is still busy with an image; its result is thrown away")
        self._epoch += 1

    # --- callbacks: they note and return

    def _on_image(self, message: Any) -> None:
        self._images.tick()
        stamp_ns = conversions.ns_from_stamp(message.header.stamp)
        if stamp_ns < self._newest_ns - _JUMP_BACK_NS:
            self.get_logger().info(f"time went back by {(self._newest_ns - stamp_ns) * 1e-9:.1f} s: starting anew")
            self._epoch += 1
            self._prior.forget()
            self._worker.mailbox.clear()
            self._newest_ns = 0
        self._newest_ns = max(stamp_ns, self._newest_ns)
        self._worker.mailbox.put(ReceivedImage(message, stamp_ns, time.perf_counter(), self._epoch))

    def _on_fused_pose(self, message: PoseWithCovarianceStamped) -> None:
        if message.header.frame_id == self.params.map_frame:
            self._prior.offer(conversions.estimate_from_message(message, "pose_fusion"))

    def _on_state(self, message: Any) -> None:
        self._state, self._state_name = message.state, self._state_names.get(message.state, "")
        if message.state != message.TRACKING:
            self._prior.forget()

    # --- the worker's thread

    def _work(self, item: ReceivedImage) -> None:
        frame = self._frames.build(item.message)
        if isinstance(frame, Frame) and self._movers is not None and item.partner is not None:
            frame = self._masked(frame, self._movers, item.partner)
        localization = Localization(frame) if isinstance(frame, Rejection) else self._localize(frame)
        if item.epoch != self._epoch:  # time jumped or the node was deactivated meanwhile
            return
        self._statistics.add(localization.result, localization.stage_s, time.perf_counter() - item.received_s)
        self._publish_result(localization)
        if isinstance(frame, Frame):
            self._publish_pictures(frame, localization, item.message.header.frame_id)

    def _masked(self, frame: Frame, context: ContextInput, message: Any) -> Frame:
        """As it is where the message can't be used: a pose that movers may have moved says so by its inliers."""
        try:
            return context.masked(frame, message)
        except Ros2LocError as error:
            self.log_throttled("warn", f"localized without: {one_line(error)}", one_line(error)[:40])
            return frame

    def _localize(self, frame: Frame) -> Localization:
        try:
            asked = self._with_odometry(frame) if self._uses_odometry else frame
            return self._localizer.localize(asked, self._prior.at(frame.stamp_ns))
        except Exception as error:  # whatever one image does: it gets a status, and the next one is tried
            self.failed(error)
            reason = RejectionReason.BAD_INPUT if isinstance(error, Ros2LocError) else RejectionReason.INTERNAL_ERROR
            return Localization(Rejection(frame.stamp_ns, reason, one_line(error)))

    def _with_odometry(self, frame: Frame) -> Frame:
        """As it is where there is no odometry at its stamp: the way between frames is then guessed by their times."""
        p: MapLocalizerParameters = self.params
        try:
            odom_from_base = self._transforms.pose(p.odom_frame, p.base_frame, frame.stamp_ns, p.transform_patience_s)
        except TransformException:
            return frame
        return replace(frame, odom_from_base=odom_from_base)

    def _publish_result(self, localization: Localization) -> None:
        frame_id, result = self.params.map_frame, localization.result
        if isinstance(result, PoseEstimate):
            self._pose_publisher.publish(conversions.estimate_to_message(result, frame_id))
            if self.params.prior == "own":
                self._prior.offer(result)
        elif result.reason in (RejectionReason.BAD_INPUT, RejectionReason.NO_TRANSFORM):
            self.log_throttled("warn", f"{result.reason.value}: {result.detail}", result.reason.value + result.detail[:40])
        status = conversions.localization_status(localization, state=self._state, source=self.get_name(), frame_id=frame_id)
        self._status_publisher.publish(status)
        if self._places_publisher.get_subscription_count() or self._place_poses_publisher.get_subscription_count():
            thumbnail = self._thumbnails.jpeg if self.params.thumbnails else None
            places = conversions.retrieved_places(localization, self._map.places, frame_id, thumbnail)
            self._places_publisher.publish(places)
            self._place_poses_publisher.publish(PoseArray(header=places.header, poses=[place.pose for place in places.places]))

    def _publish_pictures(self, frame: Frame, localization: Localization, frame_id: str) -> None:
        """Those that somebody wants to see."""
        pictures = ((self._overlay_publisher, self._overlay), (self._places_image_publisher, self._thumbnails.beside))
        for publisher, draw in pictures:
            if publisher.get_subscription_count():
                publisher.publish(conversions.image_from_rgb(draw(frame, localization), frame.stamp_ns, frame_id))

    def _overlay(self, frame: Frame, localization: Localization) -> NDArray[np.uint8]:
        place = "" if localization.best_place is None else self._map.places[localization.best_place].name
        status = OverlayStatus(localization.result, self._state_name, localization.num_matches, place, localization.stage_s)
        seen = frame.image if frame.mask is None else np.where(frame.mask[..., None], frame.image, frame.image // 3)
        if localization.detections:  # of the pipeline's own detector
            seen = draw_detections(seen, localization.detections, Drawing(words=False, scale=1.0))
        return draw_overlay(seen, status, localization.inlier_pixels_px, localization.keypoints_px)

    # --- diagnostics

    def _diagnose_input(self) -> Report:
        if not hasattr(self, "_images"):
            return Report(Level.OK, "not active")
        topic = self.resolve_topic_name("camera/image_raw")
        age_s = self._images.age_s
        values = {
            "image rate (Hz)": self._images.rate_hz,
            "age of the last image (s)": age_s,
            "images replaced by newer ones": self._worker.mailbox.replaced,
            "camera_info": "received" if self._frames.is_calibrated else "missing",
        }
        if age_s is None or age_s > _SILENT_S:
            return Report(Level.WARN, f"no images on {topic}" + ("" if age_s is None else f" for {age_s:.0f} s"), values)
        if not self._frames.is_calibrated:
            return Report(Level.ERROR, f"no camera_info on {self.resolve_topic_name('camera/camera_info')}", values)
        return Report(Level.OK, f"{values['image rate (Hz)']:.1f} images/s", values)

    def _diagnose_context(self) -> Report:
        if self._movers is None:
            words = {"pipeline": "the pipeline's own detector, if it has one", "none": "nothing is masked"}
            return Report(Level.OK, words.get(self.params.context, "not active"))
        topic = "detections/mask" if self.params.context == "mask" else "detections"
        return self._movers.report(self.resolve_topic_name(topic))


def main() -> int:
    """Run the node until it is told to stop."""
    return run([MapLocalizerNode])


if __name__ == "__main__":
    raise SystemExit(main())
