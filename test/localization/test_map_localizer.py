"""One image against a map of the synthetic town, whose truth is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame, PoseEstimate, Rejection, RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.map_localizer import MapLocalizer
from ros2_loc.localization.pipeline import LocalizerConfig, PipelineConfig
from ros2_loc.localization.pose_solver import Solution
from ros2_loc.mapping.sparse_map import SparseMap

QUERIES = range(3, 16, 4)


@pytest.fixture(scope="module")
def localizer(town_map: SparseMap, small_pipeline: PipelineConfig) -> MapLocalizer:
    return MapLocalizer(town_map, small_pipeline)


def error(estimate: PoseEstimate, truth: Pose | None) -> np.ndarray:
    assert truth is not None
    return estimate.map_from_base.difference(truth)


def prior_at(pose: Pose | None, sigma_m: float = 0.5) -> PoseEstimate:
    assert pose is not None
    return PoseEstimate(0, pose, np.diag([sigma_m**2] * 3 + [0.01] * 3), 1, "test")


@pytest.mark.parametrize("i", QUERIES)
def test_finds_the_pose_from_the_image_alone(localizer: MapLocalizer, town_sequence: ImageSequence, i: int) -> None:
    found = localizer.localize(town_sequence.frame(i))
    assert isinstance(found.result, PoseEstimate)
    delta = error(found.result, town_sequence.map_from_base[i])
    assert np.linalg.norm(delta[:3]) < 0.06 and np.degrees(np.linalg.norm(delta[3:])) < 0.3
    assert delta @ np.linalg.solve(found.result.covariance, delta) < 25
    assert found.result.stamp_ns == town_sequence.stamps_ns[i]
    assert set(found.stage_s) >= {"extract", "encode", "retrieve", "match", "solve"}
    assert found.result.num_inliers == len(found.inlier_pixels_px) == len(found.inlier_points_m) <= found.num_matches
    assert found.best_place is not None and len(found.pairs_px) > 10 and np.isfinite(found.pairs_px).all()


def test_inliers_reproject(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    frame = town_sequence.frame(5)
    found = localizer.localize(frame)
    assert isinstance(found.result, PoseEstimate)
    map_from_camera = found.result.map_from_base @ frame.base_from_camera
    pixels = frame.camera.project(map_from_camera.inverse().apply(found.inlier_points_m))
    assert np.median(np.linalg.norm(pixels - found.inlier_pixels_px, axis=1)) < 1.5


def test_a_prior_saves_the_retrieval(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    found = localizer.localize(town_sequence.frame(7), prior_at(town_sequence.map_from_base[6]))
    assert isinstance(found.result, PoseEstimate)
    assert "retrieve" not in found.stage_s
    assert np.linalg.norm(error(found.result, town_sequence.map_from_base[7])[:3]) < 0.06


def test_a_wrong_prior_costs_time_only(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    found = localizer.localize(town_sequence.frame(3), prior_at(Pose(np.eye(3), np.array([500.0, 0.0, 0.0]))))
    assert isinstance(found.result, PoseEstimate)
    assert np.linalg.norm(error(found.result, town_sequence.map_from_base[3])[:3]) < 0.06


def with_image(frame: Frame, image: np.ndarray) -> Frame:
    return replace(frame, image=np.ascontiguousarray(image))


def test_what_is_no_place_of_the_map_is_rejected(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    frame = town_sequence.frame(5)
    dark = localizer.localize(with_image(frame, frame.image // 200))
    assert isinstance(dark.result, Rejection) and dark.result.reason is RejectionReason.TOO_FEW_KEYPOINTS
    rng = np.random.default_rng(0)
    noise = localizer.localize(with_image(frame, rng.integers(0, 255, frame.image.shape, dtype=np.uint8)))
    assert isinstance(noise.result, Rejection)
    mirrored = localizer.localize(with_image(frame, frame.image[:, ::-1]))
    assert isinstance(mirrored.result, Rejection)
    for found in (dark, noise, mirrored):
        assert found.result.stamp_ns == frame.stamp_ns and found.result.detail  # type: ignore[union-attr]
        assert len(found.inlier_points_m) == 0 and found.best_place is None


def test_masked_parts_are_not_used(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    frame = town_sequence.frame(5)
    mask = np.ones(frame.image.shape[:2], dtype=bool)
    mask[:, 200:] = False
    found = localizer.localize(replace(frame, mask=mask))
    assert (found.keypoints_px[:, 0] < 202).all()


def test_a_place_can_be_hidden(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    frame = town_sequence.frame(8)  # is place 4
    features = localizer._extractor.extract(frame)
    found = localizer.localize_features(frame, features, without_place=4)
    assert found.best_place != 4 and all(c.source != 4 for c in found.places.candidates)
    assert isinstance(found.result, PoseEstimate)
    assert np.linalg.norm(error(found.result, town_sequence.map_from_base[8])[:3]) < 0.1


def test_a_pose_that_looks_where_no_place_looks_has_no_guided_matches(localizer: MapLocalizer, town_sequence: ImageSequence) -> None:
    frame = town_sequence.frame(5)
    features = localizer._extractor.extract(frame)
    place = localizer._map.places[2].map_from_camera
    behind = Pose(place.rotation @ np.diag([-1.0, 1.0, -1.0]), place.translation)
    matched, support = localizer._guided(frame, features, behind, np.zeros(0, np.int64))
    assert len(matched.query) == 0 == support.found == support.by_chance


def test_a_wrong_first_pose_finds_no_support(
    localizer: MapLocalizer, town_sequence: ImageSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What repeated walls and windows can do to RANSAC: inliers enough, and a pose that is off by metres and degrees."""
    frame = town_sequence.frame(7)
    solve = localizer._solver.solve

    def wrong(*arguments: Any) -> Solution:
        solution = solve(*arguments)
        assert isinstance(solution, Solution)
        return replace(solution, map_from_camera=solution.map_from_camera.perturbed(np.array([1.5, -1.0, 0.3, 0.0, 0.0, 0.15])))

    monkeypatch.setattr(localizer._solver, "solve", wrong)
    found = localizer.localize(frame)
    assert isinstance(found.result, Rejection) and found.result.reason is RejectionReason.UNSUPPORTED
    assert "by chance" in found.result.detail


def test_refuses_a_map_of_other_features(town_map: SparseMap, small_pipeline: PipelineConfig) -> None:
    with pytest.raises(DataError, match="orb"):
        MapLocalizer(town_map, replace(small_pipeline, extractor={"name": "orb"}))


def test_a_pose_far_beyond_where_errors_were_measured_is_rejected(
    town_map: SparseMap, town_sequence: ImageSequence, small_pipeline: PipelineConfig
) -> None:
    pipeline = replace(small_pipeline, localizer=LocalizerConfig(max_distance_to_place_m=0.5))
    frame = town_sequence.frame(7)  # 1.5 m from the places beside it
    near = replace(town_map, error_model=replace(town_map.error_model, distance_m=1.0, num_trials=20))
    unmeasured = replace(town_map, error_model=replace(town_map.error_model, distance_m=0.0, num_trials=0))  # places 3 m apart
    for wide in (near, unmeasured):
        assert isinstance(MapLocalizer(wide, pipeline).localize(frame).result, PoseEstimate)
    nearer = replace(town_map, error_model=replace(town_map.error_model, distance_m=0.1, num_trials=20))
    result = MapLocalizer(nearer, pipeline).localize(frame).result
    assert isinstance(result, Rejection) and result.reason is RejectionReason.FAR_FROM_PLACES and "was measured up to 0 m" in result.detail
