"""Images, odometry and a rough north -> where base_link is on satellite tiles, or why that is not known.

CVLNet (Shi et al., ACCV 2022) compares a short video with a tile; its best match alone is wrong more often than right. Here its scores are
evidence for a Bayes filter (`tile_filter.py`), and a pose comes out when the filter is sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.geodesy import GeoFix, enu_from_geodetic
from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Candidate, Frame, OverheadDescriptor, PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.localization.belief import usable_covariance
from ros2_loc.localization.belief_view import BeliefView
from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig
from ros2_loc.localization.frame_buffer import BufferedFrame, FrameBuffer, video_poses
from ros2_loc.localization.heading_buffer import HeadingBuffer, odometry_yaw_rad
from ros2_loc.localization.odometry_buffer import OdometryBuffer, OdometryEvent
from ros2_loc.localization.score_grid import reach_of
from ros2_loc.localization.stage_clock import StageClock
from ros2_loc.localization.tile_filter import Position, TileFilter
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.retrieval.tile_matching import match_tiles

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

SOURCE = "cross_view"
_TOP_TILES = 10


@dataclass(frozen=True, slots=True, eq=False)
class CrossViewResult:
    """What one image led to.

    Attributes:
        result: the pose, the reason why there is none, or None where the image was only kept for the next query.
        belief: after this image.
        descriptor: of the video under the most probable heading, or None without a query.
        yaw_rad: of base_link in that descriptor; NaN without a query.
        candidates: the tiles that the query is most like, best first, with their best score.
        scores: (K, K) of the best tile under that heading, or (0, 0).
        frames: images in the video.
        scored_tiles: how many tiles were compared.
        log_evidence: how much better than elsewhere the query fits what was believed before (`TileFilter.update`); NaN without a query.
        stage_s: seconds per stage: encode, describe, match, filter.
    """

    result: PoseEstimate | Rejection | None
    belief: BeliefView
    descriptor: OverheadDescriptor | None = None
    yaw_rad: float = math.nan
    candidates: tuple[Candidate, ...] = ()
    scores: FloatArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    frames: int = 0
    scored_tiles: int = 0
    log_evidence: float = math.nan
    stage_s: dict[str, float] = field(default_factory=dict)


class CrossViewLocalizer:
    """Frames in, poses out. No clock: time is the stamps. Not thread-safe: one per worker."""

    def __init__(self, config: CrossViewPipelineConfig, tiles: TileDatabase, encoder: CrossViewEncoder) -> None:
        """Raises:
        ConfigError: the tiles were encoded by another encoder, or lie too far apart for its shifts.
        """
        tiles.require_encoder(encoder)
        reach_m = reach_of(encoder.grid)
        if tiles.layout.spacing_m > 2.0 * reach_m + 1e-6:
            apart = f"tiles lie {tiles.layout.spacing_m:g} m apart, {encoder.name} searches {reach_m:.1f} m around each"
            raise ConfigError(f"{apart}: build them with --spacing {2.0 * reach_m:.3g} or less")
        self._config, video = config, config.localizer
        self._tiles, self._encoder = tiles, encoder
        self._filter = TileFilter(config.filter, tiles.centres_m, encoder.grid)
        self._odometry = OdometryBuffer(video.drift, video.hold, video.odometry_history_s, video.max_speed_m_s)
        max_sigma_deg = max(config.filter.max_heading_error_deg, config.filter.heading_step_deg)
        self._headings = HeadingBuffer(video.heading_max_age_s, math.radians(max_sigma_deg))
        self._frames = FrameBuffer(video.frames, video.spacing_m, video.refresh_s)
        self.reset()

    def reset(self) -> None:
        """Forgets everything, as after a jump of the clock."""
        self._odometry.clear()
        self._headings.clear()
        self._newest_ns: int | None = None
        self._yaw_offset_rad: float | None = None
        self.relocalize()

    def relocalize(self) -> None:
        """Forgets where base_link is believed to be; what was seen and driven stays."""
        self._filter.reset()
        self._frames.clear()
        self._believed_ns: int | None = None
        self._query_ns: int | None = None
        self._query_at_m = 0.0
        self._view = self._filter.view()

    @property
    def belief(self) -> BeliefView:
        """After the newest image."""
        return self._view

    def add_odometry(self, stamp_ns: int, odom_from_base: Pose, covariance: ArrayLike | None = None) -> OdometryEvent:
        """Takes odometry; what can't follow what was there before starts anew, as in `PoseFusion`.

        Args:
            stamp_ns: its stamp.
            odom_from_base: pose of base_link in the odom frame, whose z is up.
            covariance: (6, 6) of that pose in odom axes, or None.
        """
        video = self._config.localizer
        event = self._odometry.event_of(stamp_ns, odom_from_base, video.jump_back_s, video.jump_forward_s)
        if event in (OdometryEvent.DUPLICATE, OdometryEvent.OUT_OF_ORDER):
            return event
        if event is OdometryEvent.TIME_JUMP:
            self.reset()
        if event is OdometryEvent.RESTARTED:
            self._restart_odometry(stamp_ns)
        self._odometry.append(stamp_ns, odom_from_base, usable_covariance(covariance))
        oldest = self._odometry.expires_ns()
        if oldest is not None and self._believed_ns is not None and self._believed_ns < oldest:
            self._predict(stamp_ns)
        self._odometry.forget()
        return event

    def add_heading(self, stamp_ns: int, yaw_rad: float, sigma_rad: float) -> bool:
        """Takes a measured yaw of base_link (0 = east, counter-clockwise); False: it claims a larger error than the filter searches.

        Raises:
            DataError: not a number.
        """
        return self._headings.add(stamp_ns, yaw_rad, sigma_rad)

    def add_fix(self, fix: GeoFix) -> None:
        """Takes a position by satellite as evidence, whenever there is one.

        Raises:
            DataError: it lies off the tiles, or its covariance is none.
        """
        enu = enu_from_geodetic(self._tiles.origin, fix.lat_deg, fix.lon_deg, fix.alt_m)
        sigma_m = self._config.localizer.fix_sigma_m
        covariance = sigma_m**2 * np.eye(2) if fix.covariance_enu is None else fix.covariance_enu[:2, :2]
        offset = self._offset_rad(fix.stamp_ns)
        if offset is not None:
            yaw = offset + odometry_yaw_rad(self._odometry, fix.stamp_ns)
            enu = enu - so3_exp([0.0, 0.0, yaw]) @ fix.antenna_in_base_m
        displacement, moved = self._carried(fix.stamp_ns)
        self._filter.weigh(enu[:2] + displacement, covariance + moved)
        self._view = self._filter.view()

    def initialize(self, stamp_ns: int, map_from_base: Pose, covariance: ArrayLike) -> None:
        """Starts anew near a pose (from /initialpose); its heading is not used: north comes from the heading's source.

        Raises:
            DataError: it lies off the tiles, or its covariance (6, 6) is none.
        """
        of_position = np.asarray(covariance, dtype=np.float64)
        if of_position.shape != (6, 6):
            raise DataError(f"initial pose: a covariance is (6, 6), got shape {of_position.shape}")
        self._filter.initialize(map_from_base.translation[:2], of_position[:2, :2])
        self._believed_ns = stamp_ns or self._newest_ns
        self._query_ns = None
        self._view = self._filter.view()

    def wants(self, stamp_ns: int) -> bool:
        """Whether `localize` would look at an image of this stamp, or refuse it: the others need not be decoded."""
        way_m = self._odometry.distance_m(stamp_ns)
        return self._refusal(stamp_ns) is not None or self._is_due(stamp_ns, way_m) or self._frames.wants(stamp_ns, way_m)

    def localize(self, frame: Frame) -> CrossViewResult:
        """Takes an image, newer than all before; at some of them the tiles are asked.

        `frame.odom_from_base`, where given, counts as odometry of that stamp; `add_odometry` and `add_heading` before.
        """
        self._follow_clock(frame)
        refusal = self._refusal(frame.stamp_ns)
        if refusal is not None:
            return CrossViewResult(refusal, self._view)
        clock = StageClock()
        way_m = self._odometry.distance_m(frame.stamp_ns)
        due = self._is_due(frame.stamp_ns, way_m)
        if self._frames.is_late(frame.stamp_ns) or not (due or self._frames.wants(frame.stamp_ns, way_m)):
            return CrossViewResult(None, self._view)
        if not len(self._odometry):
            self._frames.clear()
        features = clock.run("encode", lambda: self._encoder.encode_frame(frame))
        pose = self._odometry.odom_from_base(frame.stamp_ns) or Pose.identity()
        self._frames.add(BufferedFrame(frame.stamp_ns, features, pose, way_m))
        if not due:
            return CrossViewResult(None, self._view, frames=len(self._frames), stage_s=clock.seconds)
        return self._query(frame.stamp_ns, way_m, clock)

    def _query(self, stamp_ns: int, way_m: float, clock: StageClock) -> CrossViewResult:
        self._query_ns, self._query_at_m = stamp_ns, way_m
        video, errors = self._frames.newest_first, self._filter.headings_to_score()
        offset = self._offset_rad(stamp_ns)
        assert offset is not None
        features, tilt = [f.features for f in video], self._config.localizer.use_tilt
        poses = [video_poses(video, offset + float(error), tilt) for error in errors]
        descriptors = clock.run("describe", lambda: self._encoder.describe_many(features, poses))
        visible = max(int(d.visible.sum()) for d in descriptors)
        if visible < self._config.localizer.min_visible_cells:
            detail = f"the images show {visible} cells of the ground: is base_from_camera right, or does the camera look up?"
            rejection = Rejection(stamp_ns, RejectionReason.BAD_INPUT, detail)
            return CrossViewResult(rejection, self._view, frames=len(video), stage_s=clock.seconds)
        clock.run("filter", lambda: self._predict(stamp_ns))
        ids = self._filter.tiles_to_score()
        scores = clock.run("match", lambda: self._match(descriptors, ids))
        has_odometry = len(self._odometry) > 0
        evidence = clock.run("filter", lambda: self._filter.update(scores, ids, errors, with_odometry=has_odometry))
        result = clock.run("filter", lambda: self._result(stamp_ns, offset, visible))
        self._view = clock.run("filter", self._filter.view)
        heading = int(np.abs(errors - self._view.heading_error_rad).argmin())
        best = np.argsort(-scores[heading].max(axis=(1, 2)), kind="stable")[:_TOP_TILES]
        return CrossViewResult(
            result=result,
            belief=self._view,
            descriptor=descriptors[heading],
            yaw_rad=offset + float(errors[heading]) + odometry_yaw_rad(self._odometry, stamp_ns),
            candidates=tuple(Candidate(int(ids[i]), float(scores[heading, i].max())) for i in best),
            scores=scores[heading, best[0]],
            frames=len(video),
            scored_tiles=len(ids),
            log_evidence=evidence,
            stage_s=clock.seconds,
        )

    def _match(self, descriptors: list[OverheadDescriptor], ids: NDArray[np.int64]) -> FloatArray:
        described = self._tiles.descriptors
        assert described is not None
        if len(ids) == len(described):
            return match_tiles(descriptors, described.features, described.uncertainty)
        return match_tiles(descriptors, described.features[ids], described.uncertainty[ids])

    def _result(self, stamp_ns: int, offset_rad: float, visible: int) -> PoseEstimate | Rejection:
        found, video = self._filter.position(), self._config.localizer
        if not isinstance(found, Position):
            return Rejection(stamp_ns, found.reason, found.detail)
        odometry = self._odometry.odom_from_base(stamp_ns) or Pose.identity()
        level = so3_exp([0.0, 0.0, odometry.yaw_rad])
        turn = so3_exp([0.0, 0.0, offset_rad + float(found.mean[2])])
        rotation = turn @ (odometry.rotation if video.use_tilt else level)
        tilt_variance = math.radians(video.tilt_sigma_deg) ** 2
        covariance = np.diag([0.0, 0.0, video.ground_sigma_m**2, tilt_variance, tilt_variance, 0.0])
        axes = np.array([0, 1, 5])
        covariance[np.ix_(axes, axes)] = found.covariance
        covariance[5, 5] += math.radians(video.heading_sigma_deg) ** 2
        pose = Pose(rotation, np.array([found.mean[0], found.mean[1], 0.0]))
        return PoseEstimate(stamp_ns, pose, covariance, visible, SOURCE)

    def _follow_clock(self, frame: Frame) -> None:
        """An image that is much older than the newest belongs to a new run of the clock."""
        jump_back_ns = round(self._config.localizer.jump_back_s * 1e9)
        if self._newest_ns is not None and frame.stamp_ns < self._newest_ns - jump_back_ns:
            self.reset()
        if frame.odom_from_base is not None:
            self.add_odometry(frame.stamp_ns, frame.odom_from_base)
        self._newest_ns = max(frame.stamp_ns, self._newest_ns or frame.stamp_ns)

    def _refusal(self, stamp_ns: int) -> Rejection | None:
        video = self._config.localizer
        if video.require_odometry and not self._odometry_covers(stamp_ns):
            detail = "no odometry of the image's time: send it, or set localizer.require_odometry=false and take single images"
            return Rejection(stamp_ns, RejectionReason.NO_ODOMETRY, detail)
        if self._offset_rad(stamp_ns) is None:
            remedy = "send an Imu's, or set localizer.heading=odometry if that knows north"
            detail = f"no heading of the last {video.heading_max_age_s:g} s: {remedy}"
            return Rejection(stamp_ns, RejectionReason.NO_HEADING, detail)
        return None

    def _odometry_covers(self, stamp_ns: int) -> bool:
        oldest, newest = self._odometry.oldest_ns, self._odometry.newest_ns
        late_ns = round(self._config.localizer.hold.max_extrapolation_s * 1e9)
        return oldest is not None and newest is not None and oldest <= stamp_ns <= newest + late_ns

    def _is_due(self, stamp_ns: int, way_m: float) -> bool:
        video = self._config.localizer
        if len(self._odometry) and len(self._frames) + 1 < video.min_frames:
            return False
        if self._query_ns is None:
            return True
        if len(self._odometry):
            return way_m - self._query_at_m >= video.query_every_m
        return stamp_ns - self._query_ns >= round(video.query_every_s * 1e9)

    def _offset_rad(self, stamp_ns: int) -> float | None:
        """True yaw minus the odometry's, as measured; None: unknown."""
        if self._config.localizer.heading == "odometry":
            return 0.0 if len(self._odometry) else None
        offset = self._headings.offset_rad(stamp_ns, self._odometry)
        if offset is not None:
            self._yaw_offset_rad = offset
        return offset

    def _predict(self, stamp_ns: int) -> None:
        """Carries the belief to a stamp."""
        if self._believed_ns is not None and stamp_ns > self._believed_ns:
            displacement, covariance = self._displacement(self._believed_ns, stamp_ns)
            self._filter.predict(displacement, covariance, (stamp_ns - self._believed_ns) * 1e-9)
        self._believed_ns = max(stamp_ns, self._believed_ns or stamp_ns)

    def _carried(self, stamp_ns: int) -> tuple[Array, Array]:
        """Brings the belief to a stamp, or says how a position of that stamp moved to the belief's, with a covariance."""
        self._offset_rad(stamp_ns)
        self._predict(stamp_ns)
        assert self._believed_ns is not None
        if stamp_ns == self._believed_ns:
            return np.zeros(2), np.zeros((2, 2))
        return self._displacement(stamp_ns, self._believed_ns)

    def _displacement(self, start_ns: int, end_ns: int) -> tuple[Array, Array]:
        """(2,) m east and north between two stamps under the measured heading, and its covariance (2, 2)."""
        motion = self._odometry.motion(start_ns, end_ns, None)
        start = self._odometry.odom_from_base(start_ns) or Pose.identity()
        ends = [self._offset_rad(start_ns), self._offset_rad(end_ns)]
        known = [e for e in ends if e is not None] or [self._yaw_offset_rad or 0.0]
        offset = math.atan2(sum(map(math.sin, known)), sum(map(math.cos, known)))
        enu_from_start = so3_exp([0.0, 0.0, offset]) @ start.rotation
        covariance = enu_from_start @ motion.covariance[:3, :3] @ enu_from_start.T
        return (enu_from_start @ motion.base0_from_base1.translation)[:2], covariance[:2, :2]

    def _restart_odometry(self, stamp_ns: int) -> None:
        """The odometry's old frame is gone, and with it what joins the images; the belief is carried on as far as the motion is known."""
        if self._believed_ns is not None:
            self._predict(stamp_ns)
        self._odometry.clear()
        self._headings.clear()
        self._frames.clear()
        self._yaw_offset_rad, self._query_at_m = None, 0.0
