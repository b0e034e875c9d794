"""Node pose_fusion: poses of the localizers and odometry in, one fused pose and map->odom out. Topics, QoS and parameters: docs/nodes.md.

REP-105: the odometry's driver owns odom->base_link; this node owns map->odom and publishes nothing else on TF. Where there is no odometry,
map->odom cannot be known: then there is the pose, and no TF. Pose, odometry and TF are sent in TRACKING alone; at other times the state
says why there are none.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.time import Time
from sensor_msgs.msg import NavSatFix
from std_srvs.srv import Trigger

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate, RejectionReason
from ros2_loc.errors import Ros2LocError
from ros2_loc.localization.fusion import FusionState, GateResult, PoseFusion
from ros2_loc.localization.odometry_buffer import OdometryEvent
from ros2_loc.localization.pipeline import load_pipeline
from ros2_loc.ros import conversions, qos
from ros2_loc.ros.conversions import OdometrySample
from ros2_loc.ros.diagnostics import Level, RateMeter, Report
from ros2_loc.ros.node_base import BaseParameters, NodeBase, one_line, run
from ros2_loc.ros.params import parameter
from ros2_loc.ros.tf import TFMessage, TransformBroadcaster, TransformException, TransformReader

_ADVANCE_S = 0.5
_PATH_S = 1.0
_SILENT_S = 3.0


@dataclass(frozen=True)
class PoseFusionParameters(BaseParameters):
    """Parameters of pose_fusion."""

    pipeline: str = parameter("fast", "pipeline whose section `fusion` holds gate, consensus and drift: a name or a YAML file")
    estimate_topics: tuple[str, ...] = parameter(
        ("localization/map_pose", "localization/cross_view_pose"),
        "topics of the localizers (PoseWithCovarianceStamped); `cross_view_pose` is `cross_view` in the pipeline's fusion.sources",
    )
    odometry: str = parameter("topic", "from nav_msgs/Odometry on `odom`, from TF, or none", choices=("topic", "tf", "none"))
    odometry_reliability: str = parameter("reliable", "QoS of the odometry subscription", choices=qos.RELIABILITIES)
    map_frame: str = parameter("map", "frame of the map")
    odom_frame: str = parameter("odom", "frame of the odometry; TF map->odom is published for it")
    base_frame: str = parameter("base_link", "frame whose pose is estimated")
    earth_frame: str = parameter("earth", "parent of the map on TF where it is georeferenced: then there is localization/fix")
    publish_tf: bool = parameter(True, "publish TF map->odom; false where another node does")
    publish_rate_hz: float = parameter(20.0, "pose and TF go out with the odometry, at most so often, Hz", minimum=0.1, maximum=1000.0)
    transform_tolerance_s: float = parameter(
        0.2, "how far map->odom is dated ahead: it must hold when the next odom->base_link arrives, s", minimum=0.0, maximum=5.0, live=True
    )
    path_step_m: float = parameter(0.2, "the path gets a point every so many metres", minimum=0.001)
    path_length: int = parameter(5000, "the path keeps so many points", minimum=1, maximum=1_000_000)


class PoseFusionNode(NodeBase):
    """Hands messages to `PoseFusion`, whose time is the stamps, and publishes what it believes."""

    Parameters = PoseFusionParameters

    def __init__(self, **options: Any) -> None:
        super().__init__("pose_fusion", **options)

    def configure(self) -> None:
        """Read the pipeline's section `fusion`, make publishers."""
        p: PoseFusionParameters = self.params
        self._messages = conversions.own_messages()
        self._config = load_pipeline(p.pipeline).fusion
        self._pose_publisher = self.publish(PoseWithCovarianceStamped, "localization/pose", qos.RESULT)
        self._odometry_publisher = self.publish(Odometry, "localization/odometry", qos.RESULT)
        self._fix_publisher = self.publish(NavSatFix, "localization/fix", qos.RESULT)
        self._path_publisher = self.publish(Path, "localization/path", qos.LATCHED)
        self._state_publisher = self.publish(self._messages.LocalizationStatus, "localization/state", qos.LATCHED)
        if p.publish_tf:
            self._broadcaster = TransformBroadcaster(self)
            self.own(lambda: self.destroy_publisher(self._broadcaster.pub_tf))
        self.diagnostics.add("fusion", self._diagnose)

    def activate(self) -> None:
        """Start with no belief; subscribe."""
        p: PoseFusionParameters = self.params
        self._fusion = PoseFusion(self._config)
        self._said_state: FusionState | None = None
        self._estimates, self._odometry_rate = RateMeter(), RateMeter()
        self._counts: Counter[str] = Counter()
        self._georeference: tuple[GeoOrigin, Pose] | None = None
        self._start_anew()
        for topic in p.estimate_topics:
            self.subscribe(PoseWithCovarianceStamped, topic, partial(self._on_estimate, source_name(topic)), qos.RESULT)
        self.subscribe(TFMessage, "/tf_static", self._on_static_transforms, qos.TF_STATIC)
        if p.odometry == "topic":
            self.subscribe(Odometry, "odom", self._on_odometry, qos.odometry_qos(p.odometry_reliability))
        if p.odometry == "tf":
            self._transforms = TransformReader(self)
            self.own(self._transforms.close)
            self.every(1.0 / p.publish_rate_hz, self._poll_odometry)
        self.subscribe(PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, qos.RESULT)
        self.serve(Trigger, "~/relocalize", self._on_relocalize)
        self.every(_ADVANCE_S, self._advance)
        self.every(_PATH_S, self._publish_path)
        self._say_state(self._newest_ns)

    def _start_anew(self) -> None:
        """Forget what belongs to a time that is over: at the start, and when a bag starts again."""
        self._newest_ns, self._newest_s = 0, time.monotonic()
        self._published_ns, self._tf_stamp_ns = 0, 0
        self._path: deque[tuple[int, Pose]] = deque(maxlen=self.params.path_length)
        self._path_changed = True

    # --- callbacks

    def _on_estimate(self, source: str, message: PoseWithCovarianceStamped) -> None:
        estimate = conversions.estimate_from_message(message, source)
        conversions.require_frame("pose", message.header.frame_id, self.params.map_frame)
        self._estimates.tick()
        self._note_time(estimate.stamp_ns)
        result = self._fusion.add_estimate(estimate)
        self._counts[f"of {source} {result.reason}"] += 1
        self._say_result(estimate, result)
        if result.accepted:
            self._publish(max(estimate.stamp_ns, self._newest_ns) if self._fusion.map_from_odom is not None else estimate.stamp_ns)

    def _on_odometry(self, message: Odometry) -> None:
        sample = conversions.odometry_from_message(message)
        conversions.require_frame("odometry", message.header.frame_id, self.params.odom_frame)
        if message.child_frame_id:
            conversions.require_frame("odometry's child", message.child_frame_id, self.params.base_frame)
        self._take_odometry(sample)

    def _poll_odometry(self) -> None:
        p: PoseFusionParameters = self.params
        try:
            transform = self._transforms.buffer.lookup_transform(p.odom_frame, p.base_frame, Time())
        except TransformException:
            return  # the diagnostics say that there is no odometry
        stamp_ns = conversions.ns_from_stamp(transform.header.stamp)
        self._take_odometry(OdometrySample(stamp_ns, conversions.pose_from_transform(transform.transform), None))

    def _take_odometry(self, sample: OdometrySample) -> None:
        event = self._fusion.add_odometry(sample.stamp_ns, sample.odom_from_base, sample.covariance)
        if event in (OdometryEvent.DUPLICATE, OdometryEvent.OUT_OF_ORDER):
            return
        self._odometry_rate.tick()
        if event is OdometryEvent.TIME_JUMP:
            self.get_logger().info("time jumped: starting anew")
            self._start_anew()
        elif event is OdometryEvent.RESTARTED:
            self.get_logger().warning("the odometry jumped: its history is dropped, the pose is kept with a larger covariance")
        self._note_time(sample.stamp_ns)
        self._say_state(sample.stamp_ns)
        if (sample.stamp_ns - self._published_ns) * 1e-9 >= 0.999 / self.params.publish_rate_hz:
            self._publish(sample.stamp_ns)

    def _on_static_transforms(self, message: TFMessage) -> None:
        p: PoseFusionParameters = self.params
        for transform in message.transforms:
            if (transform.header.frame_id.lstrip("/"), transform.child_frame_id.lstrip("/")) == (p.earth_frame, p.map_frame):
                self._georeference = conversions.origin_from_earth(conversions.pose_from_transform(transform.transform))

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            conversions.require_frame("initial pose", message.header.frame_id, self.params.map_frame)
            given = conversions.initial_pose_from_message(message)
            self._fusion.initialize(given.stamp_ns, given.pose, given.covariance)
        except Ros2LocError as error:
            self.log_throttled("warn", f"/initialpose refused: {one_line(error)}")
            self._send_status(self._newest_ns, (RejectionReason.BAD_INPUT.value, f"/initialpose: {one_line(error)}"))
            return
        self._note_time(given.stamp_ns)
        self.get_logger().info(f"initial pose {np.round(given.pose.translation, 2).tolist()} m taken")
        self._say_state(self._newest_ns)
        self._publish(self._newest_ns)

    def _on_relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._fusion.relocalize()
        self._say_state(self._newest_ns)
        response.success, response.message = True, "the pose is forgotten: waiting for poses that agree with each other"
        return response

    def _advance(self) -> None:
        """Silence is news too: the state ages when nothing comes."""
        if self._newest_ns:
            now_ns = self._newest_ns + int((time.monotonic() - self._newest_s) * 1e9)
            if self.get_parameter("use_sim_time").value:  # a bag that is paused, or played at another rate
                now_ns = max(self._newest_ns, min(now_ns, self.get_clock().now().nanoseconds))
            self._fusion.advance(now_ns)
            self._say_state(now_ns)

    def _note_time(self, stamp_ns: int) -> None:
        if stamp_ns < self._newest_ns - self._config.jump_back_s * 1e9 and not self._odometry_rate.count:
            self._start_anew()  # without odometry the estimates alone show that a bag has started again
        if stamp_ns > self._newest_ns:
            self._newest_ns, self._newest_s = stamp_ns, time.monotonic()

    # --- what is published

    def _publish(self, stamp_ns: int) -> None:
        """Pose, odometry and map->odom for a stamp, in TRACKING."""
        estimate = self._fusion.at(stamp_ns) if self._fusion.state is FusionState.TRACKING else None
        if estimate is None:
            return
        p: PoseFusionParameters = self.params
        self._published_ns = stamp_ns
        self._pose_publisher.publish(conversions.estimate_to_message(estimate, p.map_frame))
        if self._odometry_publisher.get_subscription_count():
            self._odometry_publisher.publish(conversions.odometry_to_message(estimate, p.map_frame, p.base_frame))
        if self._georeference is not None and self._fix_publisher.get_subscription_count():
            self._fix_publisher.publish(conversions.fix_from_estimate(estimate, *self._georeference, p.base_frame))
        self._extend_path(estimate)
        if p.publish_tf and (map_from_odom := self._fusion.map_from_odom) is not None:
            # Never dated before one that was sent already: in tf2 that one would go on holding for all later times.
            self._tf_stamp_ns = max(self._tf_stamp_ns + 1, stamp_ns + int(p.transform_tolerance_s * 1e9))
            self._broadcaster.sendTransform(conversions.transform_stamped(map_from_odom, self._tf_stamp_ns, p.map_frame, p.odom_frame))

    def _extend_path(self, estimate: PoseEstimate) -> None:
        here = estimate.map_from_base
        if not self._path or np.linalg.norm(here.translation - self._path[-1][1].translation) >= self.params.path_step_m:
            self._path.append((estimate.stamp_ns, here))
            self._path_changed = True

    def _publish_path(self) -> None:
        if self._path_changed:
            self._path_changed = False
            self._path_publisher.publish(conversions.path(self._path, self._newest_ns, self.params.map_frame))

    def _say_result(self, estimate: PoseEstimate, result: GateResult) -> None:
        detail = "" if result.accepted else f"normalized innovation squared {result.nis:.1f}" if np.isfinite(result.nis) else result.reason
        self._log_state()
        self._send_status(estimate.stamp_ns, None if result.accepted else (result.reason, detail))

    def _say_state(self, stamp_ns: int) -> None:
        """One message for each change of the state."""
        if self._log_state():
            self._send_status(stamp_ns, ("state_change", f"now {self._fusion.state.name}"))

    def _log_state(self) -> bool:
        state = self._fusion.state
        if state is self._said_state:
            return False
        self._said_state = state
        self.get_logger().info(f"state {state.name}")
        return True

    def _send_status(self, stamp_ns: int, rejection: tuple[str, str] | None) -> None:
        state = getattr(self._messages.LocalizationStatus, self._fusion.state.name)
        status = conversions.status_message(
            stamp_ns, state=state, source=self.get_name(), frame_id=self.params.map_frame, rejection=rejection
        )
        self._state_publisher.publish(status)

    # --- diagnostics

    def _diagnose(self) -> Report:
        if self._said_state is None:
            return Report(Level.OK, "not active")
        state, p = self._fusion.state, self.params
        estimate = self._fusion.at(self._newest_ns) if self._newest_ns else None
        values = {
            "state": state.name,
            "pose rate (Hz)": self._estimates.rate_hz,
            "age of the last pose (s)": self._estimates.age_s,
            "odometry rate (Hz)": self._odometry_rate.rate_hz,
            "age of the last odometry (s)": self._odometry_rate.age_s,
            "sigma (m)": estimate.sigma_m if estimate else None,
            "sigma (rad)": estimate.sigma_rad if estimate else None,
            **{f"poses {reason}": count for reason, count in sorted(self._counts.items())},
        }
        if state in (FusionState.LOST, FusionState.RELOCALIZING):
            level = Level.ERROR if state is FusionState.LOST else Level.WARN
            return Report(level, f"{state.name}: map->{p.odom_frame} is not published", values)
        age_s = self._odometry_rate.age_s
        if p.odometry != "none" and (age_s is None or age_s > _SILENT_S):
            return Report(Level.WARN, f"{state.name}, no odometry: poses only, no TF map->{p.odom_frame}", values)
        return Report(Level.OK if state is FusionState.TRACKING else Level.WARN, state.name, values)


def source_name(topic: str) -> str:
    """What the pipeline's `fusion.sources` calls the localizer that publishes on a topic: `localization/map_pose` is `map`."""
    return topic.rpartition("/")[2].removesuffix("_pose")


def main() -> int:
    """Run the node until it is told to stop."""
    return run([PoseFusionNode])


if __name__ == "__main__":
    raise SystemExit(main())
