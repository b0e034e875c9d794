"""Whether the covariance is true: NEES over many simulated drives, with errors that are new each time and errors that stay."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.pose import Pose, compose_covariance, so3_exp
from ros2_loc.core.types import PoseEstimate
from ros2_loc.evaluation.metrics import Consistency, nees, nees_values
from ros2_loc.localization.fusion import PoseFusion
from ros2_loc.localization.odometry_buffer import DriftModel

S = 1_000_000_000
RUNS, ESTIMATES = 60, 10
R = np.diag([0.03, 0.02, 0.05, 0.002, 0.003, 0.001]) ** 2
# no floors and no scale error: exactly the noise that is simulated
DRIFT = DriftModel(0.03, 0.001, 0.02, 0.005, 0.0005, 0.0)


def configuration(correlated_fraction: float) -> PoseFusion.Config:
    return PoseFusion.Config(correlated_fraction=correlated_fraction, estimate_floor_m=0.0, estimate_floor_rad=0.0, drift=DRIFT)


def simulate(rng: np.random.Generator, config: PoseFusion.Config, constant_fraction: float, delay_s: float = 0.0):
    """One drive: odometry at 10 Hz with a random-walk error, estimates at 5 Hz of which a fraction of the variance is one constant error.

    Returns the fused estimate at the end and the truth.
    """
    fusion = PoseFusion(config)
    step, seconds = Pose(so3_exp([0.001, -0.002, 0.02]), np.array([0.4, 0.01, 0.005])), 0.1
    way, angle = np.linalg.norm(step.translation), np.linalg.norm([0.001, 0.002, 0.02])
    q_m = np.hypot(DRIFT.noise_m_per_sqrt_m * np.sqrt(way), DRIFT.noise_m_per_sqrt_s * np.sqrt(seconds))
    turning = np.hypot(DRIFT.noise_rad_per_sqrt_m * np.sqrt(way), DRIFT.noise_rad_per_sqrt_rad * np.sqrt(angle))
    q_rad = np.hypot(turning, DRIFT.noise_rad_per_sqrt_s * np.sqrt(seconds))
    truth = Pose(so3_exp([0.1, -0.1, rng.uniform(-3, 3)]), rng.uniform(-200, 200, 3))
    odom = Pose(so3_exp([0, 0, rng.uniform(-3, 3)]), rng.uniform(-50, 50, 3))
    constant = rng.multivariate_normal(np.zeros(6), constant_fraction * R)
    waiting: list[PoseEstimate] = []
    for i in range(2 * ESTIMATES + 1):
        stamp = round(i * seconds * S)
        fusion.add_odometry(stamp, odom)
        if i % 2 == 0:
            error = constant + rng.multivariate_normal(np.zeros(6), (1 - constant_fraction) * R)
            # truth = measured.perturbed(error) in first order
            measured = Pose(so3_exp(-error[3:]) @ truth.rotation, truth.translation - error[:3])
            waiting.append(PoseEstimate(stamp, measured, R, 50, "map"))
        while waiting and waiting[0].stamp_ns <= stamp - delay_s * S:
            fusion.add_estimate(waiting.pop(0))
        if i < 2 * ESTIMATES:
            noise = np.concatenate([rng.normal(0, q_m, 3), rng.normal(0, q_rad, 3)])
            truth, odom = truth @ step.perturbed(noise), odom @ step
    return fusion.at(stamp), truth


def verdict(correlated_fraction: float, constant_fraction: float, delay_s: float = 0.0):
    rng = np.random.default_rng(11)
    results = [simulate(rng, configuration(correlated_fraction), constant_fraction, delay_s) for _ in range(RUNS)]
    assert all(estimate is not None for estimate, _ in results)
    values = nees_values([e for e, _ in results], [t for _, t in results])
    return {name: nees(v, 6 if name == "pose" else 3) for name, v in values.items()}


@pytest.mark.parametrize("delay_s", [0.0, 0.75])
def test_white_errors_in_a_kalman_filter_are_consistent(delay_s: float) -> None:
    """Inside the bounds, no more and no less: prediction, transport, update and delay are right."""
    for result in verdict(0.0, 0.0, delay_s).values():
        assert result.verdict is Consistency.CONSISTENT, result


@pytest.mark.parametrize("constant_fraction", [0.0, 0.5])
def test_the_default_is_consistent_or_conservative_with_white_and_with_correlated_errors(constant_fraction: float) -> None:
    for result in verdict(PoseFusion.Config.correlated_fraction, constant_fraction).values():
        assert result.verdict in (Consistency.CONSISTENT, Consistency.CONSERVATIVE), result
        assert result.mean > 0.25 * result.degrees_of_freedom, result  # conservative, not useless


def test_covariance_intersection_survives_errors_that_are_all_the_same() -> None:
    for result in verdict(1.0, 1.0).values():
        assert result.mean < result.upper, result


def test_a_plain_kalman_filter_would_be_overconfident() -> None:
    """The measure can fail: errors that stay, believed to be new each time."""
    assert verdict(0.0, 0.7)["pose"].verdict is Consistency.OVERCONFIDENT


def test_a_thousand_estimates_of_a_standing_robot_do_not_make_it_certain() -> None:
    """The same image again and again brings the same error again and again."""
    fusion, kalman = PoseFusion(), PoseFusion(PoseFusion.Config(correlated_fraction=0.0))
    for i in range(100):
        for f in (fusion, kalman):
            f.add_odometry(i * S // 10, Pose.identity())
            f.add_estimate(PoseEstimate(i * S // 10, Pose.identity(), R, 50, "map"))
    floor = PoseFusion.Config.correlated_fraction * R
    assert (np.diag(fusion.at(10 * S).covariance) >= np.diag(floor)).all()
    assert kalman.at(10 * S).covariance[2, 2] < 0.5 * floor[2, 2]


# a good map (8 mm, 0.03 degrees) and the odometry of the synthetic town, whose messages state its noise
PRECISE = np.diag([0.008, 0.008, 0.008, 0.0006, 0.0006, 0.0006]) ** 2
NOISE_PER_S = np.diag([0.05, 0.02, 0.01, 0.0006, 0.0006, 0.006]) ** 2


def drive_past_a_good_map(rng: np.random.Generator, constant_fraction: float):
    """Odometry at 20 Hz, images at 4 Hz that arrive 0.2 s late.

    Returns lists of (estimate, truth, its age in s): raw, fused at the images' stamps, and fused at each odometry, of the last image's age.
    """
    fusion, seconds = PoseFusion(), 0.05
    step, truth, odom = Pose(so3_exp([0, 0, 0.01]), np.array([0.3, 0, 0])), Pose.identity(), Pose.identity()
    covariance, constant = np.eye(6) * 1e-9, rng.multivariate_normal(np.zeros(6), constant_fraction * PRECISE)
    raw, at_image, now, waiting = [], [], [], []
    for i in range(200):
        stamp = round(i * seconds * S)
        fusion.add_odometry(stamp, odom, covariance)
        if i % 5 == 0:
            error = constant + rng.multivariate_normal(np.zeros(6), (1 - constant_fraction) * PRECISE)
            waiting.append((PoseEstimate(stamp, truth.perturbed(-error), PRECISE, 50, "map"), truth))
        if waiting and stamp - waiting[0][0].stamp_ns >= 0.2 * S:
            estimate, true = waiting.pop(0)
            fusion.add_estimate(estimate)
            if i > 20:
                raw.append((estimate, true, 0.0))
                at_image.append((fusion.at(estimate.stamp_ns), true, 0.0))
        if raw:
            now.append((fusion.at(stamp), truth, (stamp - raw[-1][0].stamp_ns) / S))
        noise = rng.multivariate_normal(np.zeros(6), NOISE_PER_S * seconds)
        measured = step.perturbed(noise)
        covariance = compose_covariance(odom, covariance, measured, NOISE_PER_S * seconds)
        truth, odom = truth @ step, odom @ measured
    return raw, at_image, now


@pytest.mark.parametrize("constant_fraction", [0.0, 0.5])
def test_poor_odometry_does_not_spoil_a_good_map(constant_fraction: float) -> None:
    """At the images' stamps the fused pose is no worse than the raw one; later it has the odometry's noise since then, and no more."""
    rng = np.random.default_rng(5)
    drives = [drive_past_a_good_map(rng, constant_fraction) for _ in range(5)]
    raw, at_image, now = ([sample for drive in drives for sample in drive[k]] for k in range(3))
    (raw_m2, raw_rad2), (image_m2, image_rad2), (now_m2, now_rad2) = (mean_squares(samples) for samples in (raw, at_image, now))
    assert image_m2 < raw_m2 and image_rad2 < raw_rad2
    age_s = float(np.mean([age for _, _, age in now]))
    odometry_m2, odometry_rad2 = (float(np.trace(NOISE_PER_S[k : k + 3, k : k + 3])) * age_s for k in (0, 3))
    assert now_m2 < 1.15 * (raw_m2 + odometry_m2) and now_rad2 < 1.15 * (raw_rad2 + odometry_rad2)
    for samples in (at_image, now):
        mean = float(nees_values([e for e, _, _ in samples], [t for _, t, _ in samples])["pose"].mean())
        assert 3.0 < mean < 6.5, mean


def mean_squares(samples) -> tuple[float, float]:
    """Of the errors' lengths: m^2 and rad^2."""
    errors = np.array([truth.difference(estimate.map_from_base) for estimate, truth, _ in samples])
    return float((errors[:, :3] ** 2).sum(axis=1).mean()), float((errors[:, 3:] ** 2).sum(axis=1).mean())
