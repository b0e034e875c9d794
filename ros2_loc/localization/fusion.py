"""Odometry carries the pose, the map corrects it, and nothing is believed that the covariances forbid.

No clock, no ROS: time is the stamps. Estimates may arrive late and out of order; each is compared and applied at its own stamp, and
odometry carries the result to any other. How the uncertainty is kept honest is written in `belief.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv

from ros2_loc.core.pose import Pose, rotation_angle_rad
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import DataError
from ros2_loc.localization.belief import Belief, completed_covariance, from_measurement, usable_covariance
from ros2_loc.localization.consensus import Consensus, ConsensusPerSource, ConsensusRule, SourceRule
from ros2_loc.localization.odometry_buffer import DriftModel, HoldModel, OdometryBuffer, OdometryEvent, Rates

Array = NDArray[np.float64]

_CHECK_EVERY_NS = 100_000_000  # odometry comes at up to 1 kHz, its state does not change that fast
_APPLIED_MAX = 200
_AHEAD_MAX = 3
_TAKE_OVER = 5.0  # times more certain than the belief


class FusionState(str, Enum):
    """Where the fusion stands; only in TRACKING may `map_from_odom` be used for driving."""

    INITIALIZING = "initializing"  # no fix yet: estimates are collected until enough of them agree
    TRACKING = "tracking"
    LOST = "lost"  # no accepted estimate for too long, too far or with too large a sigma
    RELOCALIZING = "relocalizing"  # asked to start again, or estimates contradict the belief


@dataclass(frozen=True, slots=True)
class GateResult:
    """What became of an estimate.

    Attributes:
        accepted: it changed the belief.
        reason: "accepted", or "initialized", "relocalized" for the estimate that completes a consensus; else why not: "gated",
            "collecting" (waits for others to agree), "uncertain", "duplicate", "too_old", "ahead_of_odometry".
        nis: normalized innovation squared against the belief at the estimate's stamp (6 degrees of freedom), NaN without a belief.
        jump: the pose was set anew rather than corrected: consumers of map->odom see a jump.
    """

    accepted: bool
    reason: str
    nis: float
    jump: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Applied:
    """An accepted estimate (None for an initial pose) and the belief after it."""

    estimate: PoseEstimate | None
    belief: Belief


class PoseFusion:
    """Fuses map estimates and odometry to a pose with a covariance one can trust."""

    @dataclass(frozen=True)
    class Config:
        """Attributes:
        gate_probability: a true estimate passes the chi-square gate (6 degrees of freedom) with this probability.
        correlated_fraction: share of an estimate's covariance that may be the same error in all of them (map, calibration).
            Half: neighbouring images see the same points. It costs accuracy only where odometry is as good as the estimates.
        estimate_floor_m, estimate_floor_rad: standard deviations added to every estimate: what neither its solver nor its map knows.
            In the town, in a map of another pipeline, raw poses have a NEES of 10 and fused ones 5.4 of 6 (with 2 mm, 0.1 mrad: 8.3).
        lost_after_s, lost_after_m: time or way without an accepted estimate before the state is LOST.
        lost_sigma_m, lost_sigma_rad: the same for the predicted standard deviations.
        doubt_after: gated estimates in a row before the state is RELOCALIZING.
        relocalize_count: gated estimates that must agree with each other to replace the belief.
        initial_sigma_m, initial_sigma_rad: for axes that an initial pose leaves without variance (RViz: z, roll, pitch).
        history_s: how late an estimate may be.
        jump_back_s: odometry (or, without it, estimates) older than the newest by more than this is a new start of the clock.
        jump_forward_s: a gap in the odometry longer than this as well.
        max_speed_m_s: odometry that needs more was reset.
        sources: rules for the estimates of one localizer, by its name; without one the values above hold.
        """

        gate_probability: float = 0.999
        correlated_fraction: float = 0.5
        estimate_floor_m: float = 0.005
        estimate_floor_rad: float = 0.0003
        lost_after_s: float = 10.0
        lost_after_m: float = 100.0
        lost_sigma_m: float = 10.0
        lost_sigma_rad: float = 0.5
        doubt_after: int = 3
        relocalize_count: int = 5
        initial_sigma_m: float = 1.0
        initial_sigma_rad: float = 0.1
        history_s: float = 10.0
        jump_back_s: float = 1.0
        jump_forward_s: float = 30.0
        max_speed_m_s: float = 80.0
        consensus: ConsensusRule = field(default_factory=ConsensusRule)
        drift: DriftModel = field(default_factory=DriftModel)
        hold: HoldModel = field(default_factory=HoldModel)
        sources: dict[str, SourceRule] = field(default_factory=lambda: {"cross_view": SourceRule()})

        def rule(self, source: str) -> SourceRule:
            """How estimates of this source are taken."""
            general = SourceRule(self.correlated_fraction, self.lost_after_s, self.relocalize_count, self.consensus)
            return self.sources.get(source, general)

        def __post_init__(self) -> None:
            if not 0.5 <= self.gate_probability < 1.0:
                raise ValueError(f"gate_probability must be in [0.5, 1), got {self.gate_probability}")
            if not 0.0 <= self.correlated_fraction <= 1.0:
                raise ValueError(f"correlated_fraction must be in [0, 1], got {self.correlated_fraction}")
            for name in ("doubt_after", "relocalize_count"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            for name, value in self.__dict__.items():
                may_be_zero = name.startswith(("estimate_floor", "correlated"))
                if isinstance(value, float) and not (value > 0 or (may_be_zero and value == 0)):
                    raise ValueError(f"{name} must be positive, got {value}")

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or PoseFusion.Config()
        c = self.config
        self._gate = 2.0 * float(gammaincinv(3.0, c.gate_probability))  # chi-square quantile, 6 degrees of freedom
        self._odometry = OdometryBuffer(c.drift, c.hold, c.history_s, c.max_speed_m_s)
        self._first = ConsensusPerSource(lambda source: c.rule(source).consensus, self._gate)
        self._again = ConsensusPerSource(lambda source: c.rule(source).again, self._gate)
        self._state = FusionState.INITIALIZING
        self._applied: list[_Applied] = []
        self._seen: list[tuple[int, str]] = []
        self._newest_estimate_ns: int | None = None
        self._gated_in_a_row, self._ahead_in_a_row = 0, 0
        self._accepted_ns, self._accepted_at_m, self._checked_ns = 0, 0.0, 0
        self._patience_s = c.lost_after_s

    def reset(self) -> None:
        """Forgets everything, as after a jump of the clock."""
        self._odometry.clear()
        self._forget_belief(FusionState.INITIALIZING)
        self._newest_estimate_ns, self._ahead_in_a_row = None, 0
        self._seen = []

    def relocalize(self) -> None:
        """Forgets the belief, keeps the odometry, and waits for a consensus (the service of the node)."""
        self._forget_belief(FusionState.RELOCALIZING)

    @property
    def state(self) -> FusionState:
        """The state at the newest stamp seen; `advance` brings it to a later one."""
        return self._state

    @property
    def map_from_odom(self) -> Pose | None:
        """The transform to publish (frozen between accepted estimates); None without a belief or without odometry."""
        if not self._applied:
            return None
        belief = self._applied[-1].belief
        odom_from_base = self._odometry.odom_from_base(belief.stamp_ns)
        return None if odom_from_base is None else belief.map_from_base @ odom_from_base.inverse()

    def add_odometry(self, stamp_ns: int, odom_from_base: Pose, covariance: ArrayLike | None = None) -> OdometryEvent:
        """Takes odometry.

        Args:
            stamp_ns: its stamp; not newer than the newest: ignored, much older: everything starts anew.
            odom_from_base: pose of base_link in the odom frame.
            covariance: (6, 6) of that pose in odom axes; None or one that can't be a path's: the drift model alone.
        """
        newest = self._odometry.newest_ns
        event = self._odometry_event(stamp_ns, odom_from_base, newest)
        if event in (OdometryEvent.DUPLICATE, OdometryEvent.OUT_OF_ORDER):
            return event
        if event is OdometryEvent.TIME_JUMP:
            self.reset()
        if event is OdometryEvent.RESTARTED:
            self._restart_odometry(stamp_ns)
        self._odometry.append(stamp_ns, odom_from_base, usable_covariance(covariance))
        self._forget_old()
        if abs(stamp_ns - self._checked_ns) >= _CHECK_EVERY_NS:
            self._checked_ns = stamp_ns
            self.advance(stamp_ns)
        return event

    def add_estimate(self, estimate: PoseEstimate) -> GateResult:
        """Takes an estimate of a localizer and applies it at its own stamp, when the gate lets it through."""
        refusal = self._refusal(estimate)
        if refusal:
            return GateResult(False, refusal, float("nan"))
        self._seen = [*self._seen, (estimate.stamp_ns, estimate.source)][-_APPLIED_MAX:]
        self._newest_estimate_ns = max(estimate.stamp_ns, self._newest_estimate_ns or estimate.stamp_ns)
        self.advance(estimate.stamp_ns)
        if self._applied and self._state in (FusionState.TRACKING, FusionState.RELOCALIZING):
            return self._track(estimate)
        return self._initialize_by_consensus(estimate, self._first.of(estimate.source), "initialized")

    def initialize(self, stamp_ns: int, map_from_base: Pose, covariance: ArrayLike) -> None:
        """Sets the pose (from /initialpose) and the state to TRACKING.

        Args:
            stamp_ns: stamp of the pose; 0: the newest that is known.
            covariance: (6, 6), map axes; zero variances (RViz sends z, roll and pitch so) become the configured ones.

        Raises:
            DataError: a covariance that is none, a sigma above the limits of LOST, or a stamp of another clock; the state stays as it was.
        """
        c = self.config
        full = completed_covariance(covariance, c.initial_sigma_m, c.initial_sigma_rad)
        newest = self._newest_ns()
        stamp_ns = stamp_ns or newest or 0
        if newest is not None and abs(stamp_ns - newest) > c.history_s * 1e9:
            raise DataError(f"initial pose: its stamp is {(stamp_ns - newest) * 1e-9:+.1f} s from the newest data: check use_sim_time")
        belief = Belief(stamp_ns, map_from_base, full, np.zeros((6, 6)))
        if belief.sigma_m > c.lost_sigma_m or belief.sigma_rad > c.lost_sigma_rad:
            raise DataError(
                f"initial pose: sigma {belief.sigma_m:.3g} m, {belief.sigma_rad:.3g} rad is above the limits "
                f"{c.lost_sigma_m:g} m, {c.lost_sigma_rad:g} rad: send a smaller covariance"
            )
        self._forget_belief(FusionState.TRACKING)
        self._applied = [_Applied(None, belief)]
        self._newest_estimate_ns = stamp_ns
        self._mark_accepted(stamp_ns, c.lost_after_s)

    def at(self, stamp_ns: int) -> PoseEstimate | None:
        """The pose at a stamp, carried by odometry from the estimates before it; None without a belief.

        In TRACKING it is also the prior for the next image. In LOST and RELOCALIZING it is the old belief with its grown covariance:
        for show, not to narrow the search.
        """
        if not self._applied:
            return None
        belief = self._belief_at(stamp_ns)
        inliers = next((a.estimate.num_inliers for a in reversed(self._applied) if a.estimate is not None), 0)
        return PoseEstimate(stamp_ns, belief.map_from_base, belief.covariance, inliers, "fusion")

    def advance(self, stamp_ns: int) -> FusionState:
        """Brings the state to a later time (a node's timer calls it: silence is also news) and returns it."""
        if self._state is FusionState.TRACKING and self._applied and stamp_ns > self._applied[-1].belief.stamp_ns:
            c, belief = self.config, self._belief_at(stamp_ns)
            silent_s = (stamp_ns - self._accepted_ns) * 1e-9
            way_m = self._odometry.distance_m(stamp_ns) - self._accepted_at_m
            vague = belief.sigma_m > c.lost_sigma_m or belief.sigma_rad > c.lost_sigma_rad
            if silent_s > self._patience_s or way_m > c.lost_after_m or vague:
                self._state = FusionState.LOST
        return self._state

    def _forget_belief(self, state: FusionState) -> None:
        self._state = state
        self._applied = []
        self._first.clear()
        self._again.clear()
        self._gated_in_a_row = 0
        self._accepted_ns, self._accepted_at_m, self._checked_ns = 0, 0.0, 0

    def _odometry_event(self, stamp_ns: int, odom_from_base: Pose, newest: int | None) -> OdometryEvent:
        if newest is None:
            estimate_ns = self._newest_estimate_ns
            early = estimate_ns is not None and stamp_ns < estimate_ns - round(self.config.jump_back_s * 1e9)
            return OdometryEvent.TIME_JUMP if early else OdometryEvent.ACCEPTED
        return self._odometry.event_of(stamp_ns, odom_from_base, self.config.jump_back_s, self.config.jump_forward_s)

    def _restart_odometry(self, stamp_ns: int) -> None:
        """The odometry's old frame is gone: the belief is carried to the new one as if nothing had been known about the motion between."""
        if self._applied:
            moved = self._belief_at(stamp_ns)
            self._applied = [_Applied(self._applied[-1].estimate, moved)]
        self._odometry.clear()
        self._first.clear()
        self._again.clear()
        self._accepted_at_m = 0.0

    def _forget_old(self) -> None:
        """Moves the belief forward before the odometry that carries it is dropped."""
        oldest = self._odometry.expires_ns()
        if oldest is None or oldest == self._odometry.oldest_ns:
            return
        if self._applied and self._applied[-1].belief.stamp_ns < oldest:
            self._applied = [_Applied(self._applied[-1].estimate, self._belief_at(oldest))]
        self._applied = [a for a in self._applied if a.belief.stamp_ns >= oldest]
        self._odometry.forget()

    def _newest_ns(self) -> int | None:
        """Now, as far as stamps tell: odometry leads, estimates only where there is none."""
        return self._odometry.newest_ns if len(self._odometry) else self._newest_estimate_ns

    def _refusal(self, estimate: PoseEstimate) -> str:
        """Why an estimate can't be compared at all, or an empty string."""
        newest, c = self._newest_ns(), self.config
        if newest is not None and not len(self._odometry) and estimate.stamp_ns < newest - c.jump_back_s * 1e9:
            self.reset()
        elif newest is not None and estimate.stamp_ns < newest - c.history_s * 1e9:
            return "too_old"
        if len(self._odometry) and newest is not None and self._is_ahead(estimate.stamp_ns, newest):
            return "ahead_of_odometry"
        if (estimate.stamp_ns, estimate.source) in self._seen:
            return "duplicate"
        before_all = self._applied and estimate.stamp_ns < self._applied[0].belief.stamp_ns
        return "too_old" if before_all else ""

    def _is_ahead(self, stamp_ns: int, newest_ns: int) -> bool:
        """One stamp far ahead of the odometry is an error of its sender; several mean that the odometry has died, and is dropped."""
        ahead = stamp_ns > newest_ns + self.config.history_s * 1e9
        self._ahead_in_a_row = self._ahead_in_a_row + 1 if ahead else 0
        if self._ahead_in_a_row < _AHEAD_MAX:
            return ahead
        self._restart_odometry(stamp_ns)
        return False

    def _regularized(self, estimate: PoseEstimate) -> Array:
        floor = [self.config.estimate_floor_m**2] * 3 + [self.config.estimate_floor_rad**2] * 3
        return np.asarray(estimate.covariance + np.diag(floor))

    def _track(self, estimate: PoseEstimate) -> GateResult:
        covariance = self._regularized(estimate)
        nis = self._belief_at(estimate.stamp_ns).normalized_innovation_squared(estimate.map_from_base, covariance)
        if nis <= self._gate:
            members = self._takers_over(estimate)
            for member in members:
                self._apply(member)
            return GateResult(True, "accepted", nis) if members else GateResult(False, "collecting", nis)
        self._gated_in_a_row += 1
        if self._gated_in_a_row >= self.config.doubt_after:
            self._state = FusionState.RELOCALIZING
        result = self._initialize_by_consensus(estimate, self._again.of(estimate.source), "relocalized")
        return GateResult(True, result.reason, nis, True) if result.accepted else GateResult(False, "gated", nis)

    def _takers_over(self, estimate: PoseEstimate) -> list[PoseEstimate]:
        """What to apply of an estimate that passed the gate: itself. A wide gate lets wrong ones pass, so where it would sharpen the belief
        of another source a lot, its source must first agree with itself: then all that do, before that nothing."""
        last = self._applied[-1].estimate
        if last is None or last.source == estimate.source or estimate.sigma_m * _TAKE_OVER > self._belief_at(estimate.stamp_ns).sigma_m:
            return [estimate]
        members = self._first.of(estimate.source).add(estimate, self._odometry, self._rates())
        if members:
            self._first.of(estimate.source).clear()
        return members

    def _initialize_by_consensus(self, estimate: PoseEstimate, consensus: Consensus, reason: str) -> GateResult:
        if not consensus.is_certain(estimate):
            return GateResult(False, "uncertain", float("nan"))
        members = consensus.add(estimate, self._odometry, self._rates())
        if not members:
            return GateResult(False, "collecting", float("nan"))
        self._forget_belief(FusionState.TRACKING)
        for member in members:
            self._apply(member)
        return GateResult(True, reason, float("nan"), True)

    def _apply(self, estimate: PoseEstimate) -> None:
        """Puts the estimate in its place among the applied ones and applies those after it again."""
        i = bisect_right([a.belief.stamp_ns for a in self._applied], estimate.stamp_ns)
        later = [a.estimate for a in self._applied[i:] if a.estimate is not None]
        self._applied = self._applied[:i]
        for e in (estimate, *later):
            self._applied.append(_Applied(e, self._after(e)))
        self._applied = self._applied[-_APPLIED_MAX:]
        self._state, self._gated_in_a_row = FusionState.TRACKING, 0
        self._again.settle(estimate)
        self._mark_accepted(self._applied[-1].belief.stamp_ns, self.config.rule(estimate.source).lost_after_s)

    def _after(self, estimate: PoseEstimate) -> Belief:
        covariance, fraction = self._regularized(estimate), self.config.rule(estimate.source).correlated_fraction
        if not self._applied:
            return from_measurement(estimate.stamp_ns, estimate.map_from_base, covariance, fraction)
        return self._belief_at(estimate.stamp_ns).updated(estimate.map_from_base, covariance, fraction)

    def _mark_accepted(self, stamp_ns: int, patience_s: float) -> None:
        self._accepted_ns, self._accepted_at_m, self._patience_s = stamp_ns, self._odometry.distance_m(stamp_ns), patience_s

    def _belief_at(self, stamp_ns: int) -> Belief:
        """From the newest belief that is not younger than the stamp (else the oldest), carried to it."""
        i = bisect_right([a.belief.stamp_ns for a in self._applied], stamp_ns)
        belief = self._applied[max(i - 1, 0)].belief
        return belief.moved(stamp_ns, self._odometry.motion(belief.stamp_ns, stamp_ns, self._rates()))

    def _rates(self) -> Rates | None:
        """Speeds seen between the last two beliefs, else None; only asked where there is no odometry."""
        if len(self._applied) < 2:
            return None
        first, second = self._applied[-2].belief, self._applied[-1].belief
        seconds = max((second.stamp_ns - first.stamp_ns) * 1e-9, 1e-3)
        step = first.map_from_base.inverse() @ second.map_from_base
        return Rates(float(np.linalg.norm(step.translation)) / seconds, rotation_angle_rad(step.rotation) / seconds)
