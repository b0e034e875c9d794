"""Before a pose is believed, several images must tell the same story: estimates that agree once odometry has carried them to one stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ros2_loc.core.types import PoseEstimate
from ros2_loc.localization.belief import Belief, from_measurement
from ros2_loc.localization.odometry_buffer import OdometryBuffer, Rates


@dataclass(frozen=True)
class ConsensusRule:
    """Attributes:
    count: estimates that must agree, each with each.
    window_s: the oldest of them may be this much older than the newest.
    max_sigma_m, max_sigma_rad: less certain estimates agree with everything and are not asked.
    """

    count: int = 3
    window_s: float = 5.0
    max_sigma_m: float = 1.0
    max_sigma_rad: float = 0.2

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"consensus.count must be at least 1, got {self.count}")
        for name in ("window_s", "max_sigma_m", "max_sigma_rad"):
            if not getattr(self, name) > 0:
                raise ValueError(f"consensus.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class SourceRule:
    """How the estimates of one localizer are taken. The defaults are those of a localizer that filters what it sees over its way
    (`cross_view`): its estimates repeat each other's errors, are metres wide, come every few metres and not while the base stands.

    Attributes:
        correlated_fraction: share of an estimate's covariance that may be the same error in all of them. All: where an estimate is a
            filter's state, most of what it says was in the one before.
        lost_after_s: time without an accepted estimate before the state is LOST, counted from one of this source.
        relocalize_count: gated estimates that must agree with each other to replace the belief.
        consensus: before the first fix, and before this source takes over from a much less certain one.
    """

    correlated_fraction: float = 1.0
    lost_after_s: float = 600.0
    relocalize_count: int = 5
    consensus: ConsensusRule = field(default_factory=lambda: ConsensusRule(2, 10.0, 10.0, 0.3))

    def __post_init__(self) -> None:
        if not 0.0 <= self.correlated_fraction <= 1.0:
            raise ValueError(f"correlated_fraction must be in [0, 1], got {self.correlated_fraction}")
        if self.relocalize_count < 1:
            raise ValueError(f"relocalize_count must be at least 1, got {self.relocalize_count}")
        if not self.lost_after_s > 0:
            raise ValueError(f"lost_after_s must be positive, got {self.lost_after_s}")

    @property
    def again(self) -> ConsensusRule:
        """Before a belief is replaced."""
        return replace(self.consensus, count=self.relocalize_count)


class Consensus:
    """Collects estimates until enough of them agree with each other."""

    def __init__(self, rule: ConsensusRule, gate: float) -> None:
        self._rule, self._gate = rule, gate
        self._estimates: list[PoseEstimate] = []

    def __len__(self) -> int:
        return len(self._estimates)

    def clear(self) -> None:
        """Forgets all estimates."""
        self._estimates = []

    @property
    def newest_sigma_m(self) -> float:
        """Of the newest estimate, infinite without one."""
        return self._estimates[-1].sigma_m if self._estimates else float("inf")

    def is_certain(self, estimate: PoseEstimate) -> bool:
        """Whether the estimate is certain enough to be asked."""
        return estimate.sigma_m <= self._rule.max_sigma_m and estimate.sigma_rad <= self._rule.max_sigma_rad

    def add(self, estimate: PoseEstimate, odometry: OdometryBuffer, rates: Rates | None) -> list[PoseEstimate]:
        """Takes an estimate; returns those that agree with it and with each other, oldest first, once they are enough; else []."""
        window_ns = round(self._rule.window_s * 1e9)
        near = [e for e in self._estimates if abs(e.stamp_ns - estimate.stamp_ns) <= window_ns]
        self._estimates = sorted([*near, estimate], key=lambda e: e.stamp_ns)[-4 * self._rule.count :]
        members = [estimate]
        for candidate in reversed(near):
            if len(members) < self._rule.count and all(_agree(candidate, m, odometry, rates, self._gate) for m in members):
                members.append(candidate)
        return sorted(members, key=lambda e: e.stamp_ns) if len(members) >= self._rule.count else []


class ConsensusPerSource:
    """A consensus for each localizer: one that repeats itself does not speak for another."""

    def __init__(self, rule: Callable[[str], ConsensusRule], gate: float) -> None:
        self._rule, self._gate = rule, gate
        self._of: dict[str, Consensus] = {}

    def of(self, source: str) -> Consensus:
        """The consensus of this localizer."""
        if source not in self._of:
            self._of[source] = Consensus(self._rule(source), self._gate)
        return self._of[source]

    def clear(self) -> None:
        """Forgets all estimates."""
        self._of.clear()

    def settle(self, accepted: PoseEstimate) -> None:
        """An accepted estimate ends the doubts of its own source and those of less certain ones: else a map and tiles that are shifted
        against each other would replace each other's belief in turns."""
        for source, consensus in self._of.items():
            if source == accepted.source or consensus.newest_sigma_m > accepted.sigma_m:
                consensus.clear()


def _agree(first: PoseEstimate, second: PoseEstimate, odometry: OdometryBuffer, rates: Rates | None, gate: float) -> bool:
    """Whether two estimates may be the same place, the first carried to the stamp of the second."""
    belief: Belief = from_measurement(first.stamp_ns, first.map_from_base, first.covariance, 0.0)
    moved = belief.moved(second.stamp_ns, odometry.motion(first.stamp_ns, second.stamp_ns, rates))
    return moved.normalized_innovation_squared(second.map_from_base, second.covariance) <= gate
