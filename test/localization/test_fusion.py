"""The fusion's behaviour: gate, consensus, states, delays, clocks, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.config import build
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import ConfigError, DataError, GeometryError
from ros2_loc.localization.fusion import FusionState, PoseFusion
from ros2_loc.localization.odometry_buffer import OdometryEvent

S = 1_000_000_000
COVARIANCE = np.diag([0.02**2] * 3 + [0.002**2] * 3)
MAP_FROM_ODOM = Pose(so3_exp([0.02, -0.03, 1.2]), np.array([100.0, -40.0, 2.0]))


def odom_at(seconds: float) -> Pose:
    """A vehicle on a circle of 100 m at 10 m/s."""
    yaw = 0.1 * seconds
    return Pose(so3_exp([0, 0, yaw]), 100.0 * np.array([np.sin(yaw), 1 - np.cos(yaw), 0.0]))


def truth_at(seconds: float) -> Pose:
    return MAP_FROM_ODOM @ odom_at(seconds)


def estimate(
    seconds: float, offset: tuple[float, ...] = (0,) * 6, covariance: np.ndarray = COVARIANCE, source: str = "map"
) -> PoseEstimate:
    return PoseEstimate(round(seconds * S), truth_at(seconds).perturbed(np.array(offset, float)), covariance, 80, source)


def drive(fusion: PoseFusion, start: float, end: float, estimates: bool = True, offset: tuple[float, ...] = (0,) * 6) -> list:
    """Odometry at 20 Hz, estimates at 10 Hz."""
    results = []
    for i in range(round(start * 20), round(end * 20)):
        fusion.add_odometry(round(i * S / 20), odom_at(i / 20))
        if estimates and i % 2 == 0:
            results.append(fusion.add_estimate(estimate(i / 20, offset)))
    return results


def tracking() -> PoseFusion:
    fusion = PoseFusion()
    drive(fusion, 0, 1)
    assert fusion.state is FusionState.TRACKING
    return fusion


def test_nothing_is_claimed_before_estimates_agree() -> None:
    fusion = PoseFusion()
    assert fusion.at(0) is None and fusion.map_from_odom is None
    results = drive(fusion, 0, 0.5)
    assert [r.reason for r in results] == ["collecting", "collecting", "initialized", "accepted", "accepted"]
    assert [r.accepted for r in results] == [False, False, True, True, True]
    assert results[2].jump and not results[3].jump


def test_map_from_odom_is_found_and_constant_where_odometry_is_perfect() -> None:
    fusion = tracking()
    assert np.abs(fusion.map_from_odom.difference(MAP_FROM_ODOM)).max() < 1e-9
    before = fusion.map_from_odom
    drive(fusion, 1, 2, estimates=False)
    assert np.abs(fusion.map_from_odom.difference(before)).max() < 1e-9
    assert np.abs(fusion.at(2 * S).map_from_base.difference(truth_at(2.0))).max() < 0.02  # extrapolated past the newest odometry
    assert np.abs(fusion.at(round(1.33 * S)).map_from_base.difference(truth_at(1.33))).max() < 1e-3  # interpolated


def test_estimates_that_contradict_each_other_never_initialize() -> None:
    fusion = PoseFusion()
    rng = np.random.default_rng(1)
    for i in range(60):
        fusion.add_odometry(round(i * S / 10), odom_at(i / 10))
        result = fusion.add_estimate(estimate(i / 10, (*tuple(rng.uniform(-80, 80, 3)), 0, 0, rng.uniform(-3, 3))))
        assert not result.accepted
    assert fusion.state is FusionState.INITIALIZING and fusion.at(6 * S) is None


def test_uncertain_estimates_do_not_make_a_first_fix() -> None:
    fusion = PoseFusion()
    vague = np.diag([5.0**2] * 3 + [0.5**2] * 3)
    reasons = [fusion.add_estimate(estimate(i / 10, covariance=vague)).reason for i in range(5)]
    assert reasons == ["uncertain"] * 5 and fusion.state is FusionState.INITIALIZING


def test_an_outlier_is_gated_and_changes_nothing() -> None:
    fusion = tracking()
    before = fusion.at(1 * S)
    result = fusion.add_estimate(estimate(1.0, (3.0, 0, 0, 0, 0, 0)))
    assert (result.accepted, result.reason) == (False, "gated") and result.nis > 22.4
    assert np.array_equal(fusion.at(1 * S).map_from_base.translation, before.map_from_base.translation)
    assert fusion.state is FusionState.TRACKING
    assert fusion.add_estimate(estimate(1.0, source="other")).accepted


def test_the_gate_is_the_chi_square_quantile() -> None:
    """At 99.9 % and 6 degrees of freedom the table says 22.458."""
    fusion = tracking()
    belief = fusion.at(1 * S)
    floors = np.diag([PoseFusion.Config.estimate_floor_m**2] * 3 + [PoseFusion.Config.estimate_floor_rad**2] * 3)
    covariance = COVARIANCE + floors + belief.covariance
    for nis, accepted in ((22.4, True), (22.5, False)):
        copy = tracking()
        delta = np.linalg.cholesky(covariance) @ np.array([np.sqrt(nis), 0, 0, 0, 0, 0])
        result = copy.add_estimate(PoseEstimate(1 * S, belief.map_from_base.perturbed(delta), COVARIANCE, 50, "map"))
        assert result.nis == pytest.approx(nis, rel=1e-6) and result.accepted is accepted


def test_gated_estimates_that_agree_replace_the_belief_with_an_announced_jump() -> None:
    fusion = tracking()
    shift = (30.0, 5.0, 0, 0, 0, 0.0)
    results = drive(fusion, 1, 1.8, offset=shift)
    assert [r.reason for r in results[:4]] == ["gated"] * 4
    assert (results[4].reason, results[4].accepted, results[4].jump) == ("relocalized", True, True)
    assert fusion.state is FusionState.TRACKING
    moved = fusion.at(round(1.7 * S)).map_from_base.difference(truth_at(1.7))
    assert np.allclose(moved[:3], shift[:3], atol=1e-3)


def test_doubt_is_shown_and_ends_when_estimates_fit_again() -> None:
    fusion = tracking()
    rng = np.random.default_rng(0)
    for i in range(4):
        fusion.add_odometry(round((1 + i / 10) * S), odom_at(1 + i / 10))
        fusion.add_estimate(estimate(1 + i / 10, (*tuple(rng.uniform(20, 90, 3)), 0, 0, 0)))
    assert fusion.state is FusionState.RELOCALIZING and fusion.at(round(1.3 * S)) is not None
    assert fusion.add_estimate(estimate(1.35)).reason == "accepted"
    assert fusion.state is FusionState.TRACKING


@pytest.mark.parametrize("limits", [{"lost_after_s": 3.0}, {"lost_after_m": 30.0}, {"lost_sigma_m": 0.3}])
def test_lost_after_silence_then_found_again_by_consensus(limits: dict[str, float]) -> None:
    fusion = PoseFusion(PoseFusion.Config(**limits))
    drive(fusion, 0, 1)
    sigma_m = fusion.at(1 * S).sigma_m
    drive(fusion, 1, 2, estimates=False)
    assert fusion.state is FusionState.TRACKING
    drive(fusion, 2, 20, estimates=False)
    assert fusion.state is FusionState.LOST
    assert fusion.at(20 * S).sigma_m > 10 * sigma_m
    results = drive(fusion, 20, 20.4)
    assert [r.reason for r in results] == ["collecting", "collecting", "initialized", "accepted"]
    assert fusion.state is FusionState.TRACKING


def test_silence_is_noticed_by_time_alone() -> None:
    fusion = tracking()
    assert fusion.advance(2 * S) is FusionState.TRACKING
    assert fusion.advance(60 * S) is FusionState.LOST


def test_a_delayed_estimate_is_applied_at_its_own_stamp() -> None:
    punctual, late = tracking(), tracking()
    offset = (0.05, -0.02, 0.01, 0, 0, 0.004)
    punctual.add_estimate(estimate(1.0, offset))
    drive(punctual, 1, 2, estimates=False)
    drive(late, 1, 2, estimates=False)
    assert late.add_estimate(estimate(1.0, offset)).accepted
    a, b = punctual.at(2 * S), late.at(2 * S)
    assert np.abs(a.map_from_base.difference(b.map_from_base)).max() < 2e-3  # 1.0 s was extrapolated when it was punctual
    assert np.allclose(a.covariance, b.covariance, rtol=0.02, atol=1e-8)


def test_estimates_out_of_order_give_the_result_of_the_right_order() -> None:
    offsets = [(0.03, 0, 0, 0, 0, 0.002), (-0.02, 0.01, 0, 0, 0, 0), (0, 0.02, -0.01, 0.001, 0, 0)]
    ordered, mixed = tracking(), tracking()
    for fusion, order in ((ordered, (0, 1, 2)), (mixed, (2, 0, 1))):
        drive(fusion, 1, 2, estimates=False)
        assert all(fusion.add_estimate(estimate(1.2 + 0.2 * k, offsets[k])).accepted for k in order)
    a, b = ordered.at(2 * S), mixed.at(2 * S)
    assert np.abs(a.map_from_base.difference(b.map_from_base)).max() < 1e-9
    assert np.allclose(a.covariance, b.covariance, rtol=1e-9)


def test_duplicates_and_old_estimates_are_refused() -> None:
    fusion = tracking()
    assert fusion.add_estimate(estimate(0.9)).reason == "duplicate"
    assert fusion.add_odometry(round(0.95 * S), odom_at(0.95)) is OdometryEvent.DUPLICATE
    assert fusion.add_odometry(round(0.9 * S), odom_at(0.9)) is OdometryEvent.OUT_OF_ORDER
    drive(fusion, 1, 15)
    assert fusion.add_estimate(estimate(2.05)).reason == "too_old"
    assert fusion.state is FusionState.TRACKING


def test_a_bag_in_a_loop_starts_anew() -> None:
    fusion = PoseFusion()
    drive(fusion, 0, 20)
    assert fusion.add_odometry(0, odom_at(0)) is OdometryEvent.TIME_JUMP
    assert fusion.state is FusionState.INITIALIZING and fusion.at(0) is None and fusion.map_from_odom is None
    fusion.add_estimate(estimate(20.0))  # was on its way when the bag began again
    results = drive(fusion, 0.05, 1.0)
    assert any(r.accepted for r in results) and fusion.state is FusionState.TRACKING
    assert np.abs(fusion.at(round(0.9 * S)).map_from_base.difference(truth_at(0.9))).max() < 1e-6


def test_a_bag_in_a_loop_without_odometry_starts_anew() -> None:
    fusion = PoseFusion()
    for i in range(50):
        fusion.add_estimate(estimate(i / 10))
    assert fusion.state is FusionState.TRACKING
    assert fusion.add_estimate(estimate(0.0)).reason == "collecting"
    assert fusion.state is FusionState.INITIALIZING
    assert [fusion.add_estimate(estimate(i / 10)).accepted for i in (1, 2, 3)] == [False, True, True]


def test_a_long_gap_of_the_clock_starts_anew_and_a_short_one_is_driven_over() -> None:
    fusion = tracking()
    assert fusion.add_odometry(4 * S, odom_at(4)) is OdometryEvent.ACCEPTED
    assert fusion.state is FusionState.TRACKING
    assert fusion.add_estimate(estimate(4.0)).accepted
    assert fusion.add_odometry(500 * S, odom_at(500)) is OdometryEvent.TIME_JUMP
    assert fusion.state is FusionState.INITIALIZING


def test_odometry_that_was_reset_does_not_move_the_pose() -> None:
    fusion = tracking()
    before = fusion.at(1 * S).map_from_base
    jumped = Pose(so3_exp([0, 0, 2.0]), np.array([900.0, 0, 0]))
    assert fusion.add_odometry(1 * S, jumped) is OdometryEvent.RESTARTED
    after = fusion.at(1 * S)
    assert np.linalg.norm(after.map_from_base.translation - before.translation) < 0.1
    assert np.abs((fusion.map_from_odom @ jumped).difference(after.map_from_base)).max() < 1e-9
    assert fusion.add_estimate(estimate(1.0)).accepted


def test_odometry_that_dies_is_replaced_by_a_growing_covariance() -> None:
    fusion = tracking()
    reasons = [fusion.add_estimate(estimate(20 + i / 10)).reason for i in range(8)]
    assert reasons[:2] == ["ahead_of_odometry"] * 2 and reasons[-1] == "accepted"
    assert fusion.state is FusionState.TRACKING and fusion.map_from_odom is None


def test_one_stamp_far_ahead_does_no_harm() -> None:
    fusion = tracking()
    assert fusion.add_estimate(estimate(3000.0)).reason == "ahead_of_odometry"
    assert all(r.accepted for r in drive(fusion, 1, 2)) and fusion.state is FusionState.TRACKING


def test_without_odometry_the_prior_is_the_last_pose_with_growing_covariance() -> None:
    fusion = PoseFusion()
    results = [fusion.add_estimate(estimate(i / 10)) for i in range(30)]
    assert all(r.accepted for r in results[2:])
    last, later, much_later = (fusion.at(round(t * S)) for t in (2.9, 3.0, 3.3))
    assert np.array_equal(later.map_from_base.translation, last.map_from_base.translation)
    assert last.sigma_m < 0.05 < 1.0 <= later.sigma_m < much_later.sigma_m  # 10 m/s and the margin
    assert fusion.map_from_odom is None
    assert fusion.advance(5 * S) is FusionState.LOST


def test_relocalize_forgets_the_belief_and_keeps_the_odometry() -> None:
    fusion = tracking()
    fusion.relocalize()
    assert fusion.state is FusionState.RELOCALIZING and fusion.at(1 * S) is None
    results = drive(fusion, 1, 1.5, offset=(50.0, 0, 0, 0, 0, 0))
    assert [r.accepted for r in results] == [False, False, True, True, True]


def test_initial_pose_of_rviz_is_completed_and_tracked() -> None:
    fusion = PoseFusion()
    drive(fusion, 0, 1, estimates=False)
    rviz = np.zeros((6, 6))
    rviz[0, 0] = rviz[1, 1] = 0.25
    rviz[5, 5] = 0.0685
    fusion.initialize(1 * S, truth_at(1.0).perturbed(np.array([0.4, -0.3, 0.5, 0, 0, 0.1])), rviz)
    assert fusion.state is FusionState.TRACKING
    covariance = fusion.at(1 * S).covariance
    assert covariance[2, 2] > 0.5 and covariance[0, 0] == pytest.approx(0.25, rel=0.05)
    assert fusion.add_estimate(estimate(1.0)).accepted
    assert np.linalg.norm(fusion.at(1 * S).map_from_base.translation - truth_at(1.0).translation) < 0.02


@pytest.mark.parametrize(
    ("covariance", "says"),
    [
        (np.full((6, 6), np.nan), "finite"),
        (-np.eye(6), "negative"),
        (np.eye(6) + np.triu(np.ones((6, 6)), 1), "symmetric"),
        (np.ones((6, 6)) * 3 - 2.9 * np.eye(6), "positive definite"),
        (np.eye(6) * 1e4, "above the limits"),
        (np.eye(5), "36 finite"),
    ],
)
def test_a_bad_initial_pose_is_refused_with_a_reason_and_changes_nothing(covariance: np.ndarray, says: str) -> None:
    fusion = tracking()
    before = fusion.at(1 * S)
    with pytest.raises(DataError, match=says):
        fusion.initialize(1 * S, Pose.identity(), covariance)
    assert fusion.state is FusionState.TRACKING
    assert np.array_equal(fusion.at(1 * S).map_from_base.translation, before.map_from_base.translation)


def test_an_initial_pose_of_another_clock_is_refused() -> None:
    with pytest.raises(DataError, match="use_sim_time"):
        tracking().initialize(1_700_000_000 * S, Pose.identity(), np.eye(6) * 0.1)


def test_nan_can_not_enter() -> None:
    with pytest.raises(GeometryError):
        Pose(np.eye(3), np.array([np.nan, 0, 0]))
    with pytest.raises(GeometryError):
        PoseEstimate(0, Pose.identity(), np.full((6, 6), np.nan), 5, "map")
    fusion = tracking()
    assert fusion.add_odometry(1 * S, odom_at(1), np.full((6, 6), np.nan)) is OdometryEvent.ACCEPTED
    assert np.isfinite(fusion.at(1 * S).covariance).all()


@pytest.mark.parametrize(
    "values",
    [{"gate_probability": 1.5}, {"correlated_fraction": -0.1}, {"history_s": 0.0}, {"drift": {"noise_m_per_sqrt_s": 0.0}}, {"unknown": 1}],
)
def test_bad_configuration_is_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="pipeline"):
        build(PoseFusion.Config, values, "pipeline: fusion")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 60), st.booleans(), st.floats(-40, 40)), max_size=60))
def test_any_order_of_messages_leaves_a_valid_state(messages: list[tuple[int, int, bool, float]]) -> None:
    """Odometry and estimates with any stamps and offsets: no exception, and every covariance is one."""
    fusion = PoseFusion()
    for odometry_ds, estimate_ds, both, offset in messages:
        fusion.add_odometry(odometry_ds * S // 10, odom_at(odometry_ds / 10), COVARIANCE * (1 + odometry_ds) if both else None)
        fusion.add_estimate(estimate(estimate_ds / 10, (offset, 0, 0, 0, 0, 0)))
        pose = fusion.at(estimate_ds * S // 10)
        assert (pose is None) == (fusion.state is FusionState.INITIALIZING)
        assert pose is None or np.linalg.eigvalsh(pose.covariance).min() > 0
