"""Before a pose is believed, several images must tell the same story: estimates that agree once odometry has carried them to one stamp."""

from __future__ import annotations

from dataclasses import dataclass

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


def _agree(first: PoseEstimate, second: PoseEstimate, odometry: OdometryBuffer, rates: Rates | None, gate: float) -> bool:
    """Whether two estimates may be the same place, the first carried to the stamp of the second."""
    belief: Belief = from_measurement(first.stamp_ns, first.map_from_base, first.covariance, 0.0)
    moved = belief.moved(second.stamp_ns, odometry.motion(first.stamp_ns, second.stamp_ns, rates))
    return moved.normalized_innovation_squared(second.map_from_base, second.covariance) <= gate
