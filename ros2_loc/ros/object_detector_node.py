"""Node object_detector: camera images in; objects, a mask of movers, and a picture out. Topics, QoS and parameters: docs/nodes.md."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.interfaces import Detector
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection, Frame
from ros2_loc.errors import ConfigError, DataError, Ros2LocError
from ros2_loc.perception.scene_context import SceneContextConfig, static_mask
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.detection_messages import detections_to_message, mask_to_message, vision_messages
from ros2_loc.ros.detection_statistics import DetectionStatistics
from ros2_loc.ros.diagnostics import Level, RateMeter, Report
from ros2_loc.ros.mailbox import BatchMailbox, Worker
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run
from ros2_loc.ros.params import parameter
from ros2_loc.visualization.detections import draw_detections

_JUMP_BACK_NS = 500_000_000  # images may come out of order by less
_SILENT_S = 3.0


@dataclass(frozen=True)
class ObjectDetectorParameters(BaseParameters):
    """Parameters of object_detector."""

    detector: str = parameter("", "name of the detector: centernet, d2det, or that of another package")
    weights: str = parameter("", "its weights: a name of `ros2-loc weights list` or a file; empty: those it has by default")
    settings: tuple[str, ...] = parameter(("",), "its other settings, key=value, for instance max_detections=50")
    device: str = parameter("cpu", "where networks run", choices=("cpu", "cuda"))
    cameras: tuple[str, ...] = parameter(("",), "several cameras by name, which share batches: topics become <name>/image, ...; empty: one")
    batch_wait_ms: float = parameter(10.0, "how long the first image of several cameras waits for the others, ms", minimum=0.0, maximum=1e3)
    image_transport: str = parameter("raw", "raw: Image; compressed: CompressedImage on <image>/compressed", choices=("raw", "compressed"))
    image_reliability: str = parameter("reliable", "QoS of the image subscriptions", choices=qos.RELIABILITIES)
    max_rate_hz: float = parameter(0.0, "so many images of each camera at most, the newest; 0: no limit", minimum=0.0, live=True)
    labels: tuple[str, ...] = parameter(("",), "only these objects are published and masked; empty: all that the detector knows")
    min_score: float = parameter(0.3, "objects below are left out, beside the detector's own limit", minimum=0.0, maximum=1.0, live=True)
    mask_labels: tuple[str, ...] = parameter(("",), "what of the published objects is in the mask; empty: all that can move")
    mask_min_score: float = parameter(0.3, "objects below are not in the mask", minimum=0.0, maximum=1.0)
    mask_margin_px: float = parameter(4.0, "how far the mask reaches beyond an object, px", minimum=0.0)
    mask_margin_share: float = parameter(0.04, "and in shares of the shorter side of its box", minimum=0.0)


@dataclass(frozen=True, slots=True)
class _Received:
    message: Any
    stamp_ns: int
    received_s: float
    epoch: int


class _Camera:
    """The topics of one camera, and what is known of its images."""

    def __init__(self, node: NodeBase, name: str) -> None:
        self._node, self.name = node, name
        self.images, self.newest_ns, self.epoch = RateMeter(), 0, 0

    def topic(self, name: str) -> str:
        """Its own of that name."""
        return f"{self.name}/{name}" if self.name else name

    def publish(self, message_type: type, topic: str, profile: QoSProfile) -> Publisher:
        """A publisher of this camera."""
        return self._node.publish(message_type, self.topic(topic), profile)

    def advertise(self, detections: type) -> None:
        """Make its publishers."""
        self.detections = self.publish(detections, "detections", qos.RESULT)
        self.mask = self.publish(Image, "detections/mask", qos.image_qos())
        self.overlay = self.publish(Image, "detections/overlay", qos.image_qos())


class ObjectDetectorNode(NodeBase):
    """Callbacks put the newest image of each camera into a slot; a worker detects in all that wait and publishes with their headers."""

    Parameters = ObjectDetectorParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("object_detector", **options)

    def configure(self) -> None:
        """Load the detector; refuse labels that it does not know."""
        p: ObjectDetectorParameters = self.params
        started = time.perf_counter()
        messages = vision_messages()
        self._detector: Detector = registry.create("detector", detector_section(p), p.device)
        self._labels = _chosen("labels", p.labels, self._detector.labels)
        masked = _chosen("mask_labels", p.mask_labels, self._detector.labels)
        self._mask = SceneContextConfig(masked, p.mask_min_score, p.mask_margin_px, p.mask_margin_share)
        self._cameras = {name: _Camera(self, name) for name in _camera_names(p.cameras)}
        for camera in self._cameras.values():
            camera.advertise(messages.Detection2DArray)
        self._statistics = DetectionStatistics()
        self.diagnostics.add("input", self._diagnose_input)
        self.diagnostics.add("detection", self._statistics.report)
        known = ", ".join(self._detector.labels[:12]) + (", …" if len(self._detector.labels) > 12 else "")
        took_s = time.perf_counter() - started
        self.get_logger().info(f"detector {p.detector}: knows {len(self._detector.labels)} labels ({known}), loaded in {took_s:.1f} s")

    def activate(self) -> None:
        """Subscribe, and start the worker."""
        p: ObjectDetectorParameters = self.params
        for camera in self._cameras.values():
            camera.images, camera.newest_ns = RateMeter(), 0
        self._slots: BatchMailbox[_Received] = BatchMailbox(len(self._cameras), p.batch_wait_ms * 1e-3, _period_s(p.max_rate_hz))
        self._worker: Worker[dict[str, _Received]] = Worker("detect", self._work, self.failed, self._slots)
        self.own(self._stop_worker)
        for camera in self._cameras.values():
            self._subscribe(p, camera)

    def parameters_changed(self, parameters: Any) -> None:
        """Take a new rate at once."""
        if hasattr(self, "_slots"):
            self._slots.set_period(_period_s(parameters.max_rate_hz))

    def _subscribe(self, p: ObjectDetectorParameters, camera: _Camera) -> None:
        topic, message = camera.topic("image"), Image
        if p.image_transport == "compressed":  # as image_transport does: who remaps the image remaps its compressed form
            topic, message = f"{self.resolve_topic_name(topic)}/compressed", CompressedImage
        self.subscribe(message, topic, lambda received: self._on_image(camera, received), qos.image_qos(p.image_reliability))

    def _stop_worker(self) -> None:
        if not self._worker.stop():
            self.get_logger().warning("the worker is still busy with an image; its result is thrown away")
        for camera in self._cameras.values():
            camera.epoch += 1

    # --- callbacks: they note and return

    def _on_image(self, camera: _Camera, message: Any) -> None:
        camera.images.tick()
        stamp_ns = conversions.ns_from_stamp(message.header.stamp)
        if stamp_ns < camera.newest_ns - _JUMP_BACK_NS:
            self.get_logger().info(f"time went back by {(camera.newest_ns - stamp_ns) * 1e-9:.1f} s: the image in work is dropped")
            camera.epoch += 1
            camera.newest_ns = 0
        camera.newest_ns = max(stamp_ns, camera.newest_ns)
        self._slots.put({camera.name: _Received(message, stamp_ns, time.perf_counter(), camera.epoch)})

    # --- the worker's thread

    def _work(self, batch: dict[str, _Received]) -> None:
        frames = {name: frame for name, received in batch.items() if (frame := self._frame(name, received)) is not None}
        names, size = list(frames), max(self._detector.batch_size, 1)
        for start in range(0, len(names), size):
            some = names[start : start + size]
            began_s = time.perf_counter()
            found = self._detector.detect_many([frames[name] for name in some])
            self._statistics.add_batch(len(some), time.perf_counter() - began_s)
            for name, detections in zip(some, found, strict=True):
                self._answer(self._cameras[name], batch[name], frames[name].image, self._wanted(detections))

    def _frame(self, name: str, received: _Received) -> Frame | None:
        """The image as detectors take it, which want no calibration; None and a line in the log when it can't be used."""
        try:
            if received.stamp_ns == 0:
                raise DataError("the image has no stamp: its driver must fill header.stamp")
            image = conversions.rgb_from_image(received.message)
        except Ros2LocError as error:
            where = self.resolve_topic_name(self._cameras[name].topic("image"))
            self._statistics.add_refusal(one_line(error))
            self.log_throttled("warn", f"{where}: {one_line(error)}", where + one_line(error)[:40])
            return None
        height, width = image.shape[:2]
        camera = Camera.pinhole(width, height, float(max(width, height)), float(max(width, height)), width / 2, height / 2)
        return Frame(received.stamp_ns, image, camera, Pose.identity())

    def _wanted(self, detections: Sequence[Detection]) -> list[Detection]:
        least: float = self.params.min_score
        return [d for d in detections if d.score >= least and (not self._labels or d.label in self._labels)]

    def _answer(self, camera: _Camera, received: _Received, image: NDArray[np.uint8], detections: Sequence[Detection]) -> None:
        if received.epoch != camera.epoch:  # time jumped or the node was deactivated meanwhile
            return
        header = received.message.header
        if camera.mask.get_subscription_count():
            camera.mask.publish(mask_to_message(~static_mask(detections, image.shape[:2], self._mask), header))
        camera.detections.publish(detections_to_message(detections, header))
        self._statistics.add(detections, time.perf_counter() - received.received_s)
        if camera.overlay.get_subscription_count():
            picture = draw_detections(image, detections)
            camera.overlay.publish(conversions.image_from_rgb(picture, received.stamp_ns, header.frame_id))

    # --- diagnostics

    def _diagnose_input(self) -> Report:
        if not hasattr(self, "_slots"):
            return Report(Level.OK, "not active")
        limit = self.params.max_rate_hz or "none"
        values: dict[str, Any] = {"images replaced by newer ones": self._slots.replaced, "rate limit (Hz)": limit}
        silent = []
        for camera in self._cameras.values():
            age_s, topic = camera.images.age_s, self.resolve_topic_name(camera.topic("image"))
            of = f" of {camera.name}" if camera.name else ""
            values |= {f"image rate{of} (Hz)": camera.images.rate_hz, f"age of the last image{of} (s)": age_s}
            if age_s is None or age_s > _SILENT_S:
                silent.append(topic)
        if silent:
            return Report(Level.WARN, f"no images on {', '.join(silent)}", values)
        return Report(Level.OK, f"{sum(camera.images.rate_hz for camera in self._cameras.values()):.1f} images/s", values)


def detector_section(p: ObjectDetectorParameters) -> dict[str, Any]:
    """The parameters as a pipeline's section `detector`.

    Raises:
        ConfigError: no detector is named, or a setting is not key=value.
    """
    if not p.detector:
        known = ", ".join(sorted(registry.components()["detector"])) or "none is installed"
        raise ConfigError(f"parameter 'detector' is empty: name one, for instance -p detector:=centernet ({known})")
    given = [setting for setting in p.settings if setting]
    for setting in given:
        if "=" not in setting or setting.startswith("="):
            raise ConfigError(f"parameter 'settings': {setting!r} is not key=value, for instance max_detections=50")
    try:
        settings: Any = OmegaConf.to_container(OmegaConf.from_dotlist(given))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"parameter 'settings': {one_line(error)}") from error
    return {"name": p.detector, **({"weights": p.weights} if p.weights else {}), **settings}


def _chosen(name: str, labels: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The labels that are not empty, each known to the detector."""
    chosen = tuple(label for label in labels if label)
    for label in chosen:
        if label not in known:
            close = get_close_matches(label, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(known)}"
            raise ConfigError(f"parameter {name!r}: the detector does not know {label!r}; {hint}")
    return chosen


def _camera_names(cameras: Sequence[str]) -> list[str]:
    names = [name.strip("/") for name in cameras if name.strip("/")] or [""]
    if len(set(names)) < len(names):
        raise ConfigError(f"parameter 'cameras' names one twice: {', '.join(names)}")
    return names


def _period_s(rate_hz: float) -> float:
    return 1.0 / rate_hz if rate_hz > 0 else 0.0


def main() -> int:
    """Run the node until it is told to stop."""
    return run([ObjectDetectorNode])


if __name__ == "__main__":
    raise SystemExit(main())
