"""Two localizers in one fusion: a map's estimates of centimetres, and a filter's over satellite tiles of metres that repeat each other."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.config import build
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import ConfigError
from ros2_loc.evaluation.metrics import Consistency, nees, nees_values
from ros2_loc.localization.consensus import SourceRule
from ros2_loc.localization.fusion import FusionState, PoseFusion
from ros2_loc.localization.odometry_buffer import DriftModel

S = 1_000_000_000
MAP_COVARIANCE = np.diag([0.03] * 3 + [0.002] * 3) ** 2
Q_M, Q_RAD = 0.07, 0.002  # of a step of 2 m and 0.2 s
DRIFT = DriftModel(Q_M / np.sqrt(2.0), Q_RAD / np.sqrt(2.0), 0.0, 0.005, 0.0005, 0.0)
RUNS = 14
PLANE = [0, 1, 5]
Sample = tuple[int, PoseEstimate, PoseEstimate, Pose]


class TileFilter:
    """East, north and yaw predicted by the same odometry and corrected by weak positions and a compass, as a Kalman filter."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.covariance = np.diag([3.0, 3.0, 0.05]) ** 2
        self.error = rng.multivariate_normal(np.zeros(3), self.covariance)  # truth minus state
        self._rest = rng.normal(0, [0.5, 0.02, 0.02])  # z, roll and pitch are not observed: one error for the whole drive

    def predict(self, truth: Pose, moved: Pose, noise: np.ndarray) -> None:
        east, north = (truth.rotation @ moved.translation)[:2]
        f = np.array([[1.0, 0, -north], [0, 1, east], [0, 0, 1]])
        world = truth.rotation @ noise[:3]
        self.error = f @ self.error + np.array([world[0], world[1], noise[5]])
        self.covariance = f @ self.covariance @ f.T + np.diag([Q_M**2, Q_M**2, Q_RAD**2])

    def correct(self) -> None:
        r = np.diag([6.0, 6.0, 0.04]) ** 2
        gain = np.linalg.solve(self.covariance + r, self.covariance).T
        self.error = self.error - gain @ (self.error + self._rng.multivariate_normal(np.zeros(3), r))
        self.covariance = (np.eye(3) - gain) @ self.covariance

    def estimate(self, stamp_ns: int, truth: Pose) -> PoseEstimate:
        covariance = np.diag([0.0, 0.0, 0.5, 0.02, 0.02, 0.0]) ** 2
        covariance[np.ix_(PLANE, PLANE)] = self.covariance
        error = np.array([*self.error[:2], *self._rest, self.error[2]])
        pose = Pose(so3_exp(-error[3:]) @ truth.rotation, truth.translation - error[:3])
        return PoseEstimate(stamp_ns, pose, covariance, 9, "cross_view")


def drive(seed: int, seconds: int, map_seen: range, config: PoseFusion.Config | None = None) -> list[Sample]:
    """10 m/s with odometry at 5 Hz, tiles at 2.5 Hz, the map at 2.5 Hz in the seconds `map_seen`; (second, fused, of the tiles, truth)."""
    rng = np.random.default_rng(seed)
    fusion, tiles = PoseFusion(config or PoseFusion.Config(drift=DRIFT)), TileFilter(rng)
    truth, odom, samples = Pose(so3_exp([0, 0, rng.uniform(-3, 3)]), np.array([30.0, -20.0, 1.0])), Pose.identity(), []
    for i in range(5 * seconds):
        stamp_ns = i * S // 5
        fusion.add_odometry(stamp_ns, odom)
        if i % 2 == 0:
            tiles.correct()
            of_tiles = tiles.estimate(stamp_ns, truth)
            fusion.add_estimate(of_tiles)
            if i // 5 in map_seen:
                error = rng.multivariate_normal(np.zeros(6), MAP_COVARIANCE)
                fusion.add_estimate(PoseEstimate(stamp_ns, truth.perturbed(-error), MAP_COVARIANCE, 50, "map"))
            if (fused := fusion.at(stamp_ns)) is not None:
                samples.append((i // 5, fused, of_tiles, truth))
        moved = Pose(so3_exp([0, 0, 0.04 * np.sin(i / 15)]), np.array([2.0, 0.0, 0.0]))
        noise = np.concatenate([rng.normal(0, Q_M, 3), rng.normal(0, Q_RAD, 3)])
        tiles.predict(truth, moved, noise)
        truth, odom = truth @ moved.perturbed(noise), odom @ moved
    return samples


def error_m(estimate: PoseEstimate, truth: Pose) -> float:
    return float(np.linalg.norm((estimate.map_from_base.translation - truth.translation)[:2]))


MAP_SEEN = range(8, 14)


@pytest.fixture(scope="module")
def drives() -> list[list[Sample]]:
    """Tiles alone, then both, then the map is blind again."""
    return [drive(seed, 30, MAP_SEEN) for seed in range(RUNS)]


@pytest.mark.parametrize("second", [7, 12, 17, 29])
def test_the_fused_pose_is_consistent_or_conservative_in_every_phase(drives: list, second: int) -> None:
    """One sample of each drive, as samples of one drive are not independent."""
    at = [next(sample for sample in samples if sample[0] == second) for samples in drives]
    values = nees_values([fused for _, fused, _, _ in at], [truth for _, _, _, truth in at])["position"]
    result = nees(values, 3)
    assert result.verdict in (Consistency.CONSISTENT, Consistency.CONSERVATIVE), result
    assert result.mean > 0.2 * 3, result  # conservative, not useless


def test_a_kalman_filter_would_be_overconfident(drives: list) -> None:
    """The measure can fail: estimates of a filter taken for new ones each time."""
    wrong = PoseFusion.Config(drift=DRIFT, sources={"cross_view": SourceRule(correlated_fraction=0.0)})
    ends = [drive(seed, 12, range(0), wrong)[-1] for seed in range(RUNS)]
    values = nees_values([fused for _, fused, _, _ in ends], [truth for _, _, _, truth in ends])["position"]
    assert nees(values, 3).verdict is Consistency.OVERCONFIDENT


def test_the_map_takes_over_and_the_tiles_carry_on(drives: list) -> None:
    def mean(seconds: range, which: int) -> float:
        return float(np.mean([error_m(sample[which], sample[3]) for samples in drives for sample in samples if sample[0] in seconds]))

    assert mean(range(4, 8), 1) < 1.1 * mean(range(4, 8), 2)  # no worse than the tiles alone
    assert mean(range(10, 14), 1) < 0.1  # the map's
    assert mean(range(14, 17), 1) < 0.6 * mean(range(14, 17), 2)  # odometry from the map's last pose is better than the tiles
    assert mean(range(25, 30), 1) < 1.1 * mean(range(25, 30), 2)  # and when it has drifted, the tiles hold it


def test_no_jump_is_larger_than_the_covariance_allows(drives: list) -> None:
    """From one estimate to the next the fused position moves by odometry and at most by what it was uncertain."""
    for samples in drives:
        for (_, before, _, truth0), (_, after, _, truth1) in zip(samples, samples[1:], strict=False):
            carried = before.map_from_base @ (truth0.inverse() @ truth1)
            step = after.map_from_base.translation - carried.translation
            covariance = before.covariance[:3, :3] + np.eye(3) * 0.1
            assert step @ np.linalg.solve(covariance, step) < 22.0


def still(fusion: PoseFusion, start: float, end: float) -> None:
    for i in range(round(start * 5), round(end * 5)):
        fusion.add_odometry(i * S // 5, Pose.identity())


def at_rest(seconds: float, east_m: float, sigma_m: float, source: str) -> PoseEstimate:
    covariance = np.diag([sigma_m] * 3 + [0.02] * 3) ** 2
    return PoseEstimate(round(seconds * S), Pose(np.eye(3), np.array([east_m, 0.0, 0.0])), covariance, 9, source)


def first_fix() -> PoseFusion:
    fusion = PoseFusion()
    still(fusion, 0, 5)
    assert fusion.add_estimate(at_rest(1.0, 0.0, 4.0, "cross_view")).reason == "collecting"
    assert fusion.add_estimate(at_rest(4.0, 1.0, 4.0, "cross_view")).reason == "initialized"
    return fusion


def test_two_estimates_of_metres_make_the_first_fix_where_the_map_needs_three_of_centimetres() -> None:
    assert first_fix().state is FusionState.TRACKING
    fusion = PoseFusion()
    still(fusion, 0, 8)
    assert [fusion.add_estimate(at_rest(1.0 + k, 0.0, 4.0, "map")).reason for k in range(3)] == ["uncertain"] * 3
    assert [fusion.add_estimate(at_rest(4.0 + k, 0.0, 0.05, "map")).reason for k in range(3)] == ["collecting", "collecting", "initialized"]


def test_one_wrong_pose_of_the_map_inside_the_wide_gate_is_not_believed() -> None:
    fusion = first_fix()
    wrong = fusion.add_estimate(at_rest(4.1, 6.0, 0.05, "map"))
    assert (wrong.accepted, wrong.reason) == (False, "collecting") and fusion.state is FusionState.TRACKING
    assert fusion.at(round(4.2 * S)).map_from_base.translation[0] < 2.0
    reasons = [fusion.add_estimate(at_rest(4.2 + 0.1 * k, 1.5, 0.05, "map")).reason for k in range(4)]
    assert reasons == ["collecting", "collecting", "accepted", "accepted"]
    assert fusion.at(round(4.5 * S)).map_from_base.translation[0] == pytest.approx(1.5, abs=0.05)
    assert fusion.at(round(4.5 * S)).sigma_m < 0.1


def test_tiles_that_are_shifted_against_the_map_do_not_pull_the_pose_away() -> None:
    """The sharper source wins while it speaks; alone, the other may replace it."""
    fusion = PoseFusion()
    still(fusion, 0, 1)
    for i in range(1, 30):
        still(fusion, i, i + 1)
        accepted = fusion.add_estimate(at_rest(i, 0.0, 0.05, "map"))
        shifted = fusion.add_estimate(at_rest(i + 0.5, 40.0, 3.0, "cross_view"))
        if i > 8:
            assert accepted.accepted and not shifted.accepted and fusion.state is FusionState.TRACKING
    assert abs(fusion.at(30 * S).map_from_base.translation[0]) < 0.1
    reasons = []
    for i in range(30, 36):
        still(fusion, i, i + 1)
        reasons.append(fusion.add_estimate(at_rest(i + 0.5, 40.0, 3.0, "cross_view")).reason)
    assert "relocalized" in reasons and fusion.at(36 * S).map_from_base.translation[0] == pytest.approx(40.0, abs=1.0)


def test_a_map_contradicts_wrong_tiles_although_they_agree_with_themselves() -> None:
    fusion, reasons = first_fix(), []
    for i in range(5, 12):
        still(fusion, i, i + 1)
        reasons.append(fusion.add_estimate(at_rest(i + 0.3, 60.0, 0.05, "map")).reason)
        fusion.add_estimate(at_rest(i + 0.6, 0.0, 4.0, "cross_view"))
    assert "relocalized" in reasons and fusion.at(12 * S).map_from_base.translation[0] == pytest.approx(60.0, abs=0.1)


def test_a_red_light_is_not_the_end_of_tracking_by_tiles() -> None:
    """Frames come by distance travelled: none while the vehicle stands."""
    fusion = first_fix()
    still(fusion, 5, 120)
    assert fusion.state is FusionState.TRACKING and fusion.at(119 * S).sigma_m < 6.0
    fusion.add_estimate(at_rest(119.0, 1.0, 0.05, "map"))
    [fusion.add_estimate(at_rest(119.0 + 0.1 * k, 1.0, 0.05, "map")) for k in range(1, 4)]
    still(fusion, 120, 140)
    assert fusion.state is FusionState.LOST  # a map's images come all the time


def test_the_rules_of_a_source_come_from_the_pipeline_and_are_checked() -> None:
    config = build(PoseFusion.Config, {"sources": {"gnss": {"correlated_fraction": 0.2}}}, "test")
    assert config.rule("gnss").correlated_fraction == 0.2 and config.rule("map").correlated_fraction == config.correlated_fraction
    for wrong in ({"correlated_fraction": 1.5}, {"lost_after_s": 0.0}, {"relocalize_count": 0}):
        with pytest.raises(ConfigError):
            build(PoseFusion.Config, {"sources": {"gnss": wrong}}, "test")
