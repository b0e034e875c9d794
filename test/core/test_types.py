"""Records refuse what they may not hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import (
    Detection,
    Frame,
    GlobalDescriptor,
    GroundFeatures,
    LocalFeatures,
    Matches,
    OverheadDescriptor,
    PoseEstimate,
    Tile,
    TileDescriptors,
)
from ros2_loc.errors import DataError, GeometryError

CAMERA = Camera.pinhole(8, 6, 5, 5, 4, 3)
IMAGE = np.zeros((6, 8, 3), np.uint8)


def features(**changes: Any) -> LocalFeatures:
    values: dict[str, Any] = {
        "keypoints": np.arange(8, dtype=np.float32).reshape(4, 2),
        "descriptors": np.eye(4, dtype=np.float32),
        "scores": np.arange(4, dtype=np.float32),
        "scales": np.ones(4, np.float32),
        "extractor": "test",
        "size": (640, 480),
    }
    return LocalFeatures(**{**values, **changes})


@pytest.mark.parametrize("image", [IMAGE[..., 0], IMAGE.astype(np.float32), IMAGE[:5], np.zeros((8, 6, 3), np.uint8), None])
def test_a_frame_has_an_rgb_image_of_its_cameras_size(image: Any) -> None:
    with pytest.raises(DataError):
        Frame(0, image, CAMERA, Pose.identity())


def test_a_frame_has_a_mask_of_its_images_size() -> None:
    Frame(0, IMAGE, CAMERA, Pose.identity(), mask=np.ones((6, 8), bool))
    with pytest.raises(DataError, match="mask"):
        Frame(0, IMAGE, CAMERA, Pose.identity(), mask=np.ones((8, 6), bool))


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints": np.zeros((4, 3), np.float32)},
        {"descriptors": np.zeros((3, 4), np.float32)},
        {"scores": np.zeros(3, np.float32)},
        {"scales": np.zeros((4, 1), np.float32)},
        {"descriptors": np.full((4, 4), np.nan, np.float32)},
        {"keypoints": np.full((4, 2), np.inf, np.float32)},
    ],
)
def test_features_belong_together_and_are_finite(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        features(**changes)


def test_features_are_selected_by_index_and_by_mask() -> None:
    for selection in (np.array([3, 1]), np.array([False, True, False, True])):
        chosen = features().select(selection)
        assert len(chosen) == 2 and chosen.extractor == "test"
    np.testing.assert_array_equal(features().select(np.array([3, 1])).scores, [3, 1])


def test_a_global_descriptor_has_unit_length() -> None:
    GlobalDescriptor(np.array([0.6, 0.8], np.float32), "test")
    for vector in (np.array([1.0, 1.0], np.float32), np.zeros(2, np.float32), np.array([np.nan, 0], np.float32)):
        with pytest.raises(DataError):
            GlobalDescriptor(vector, "test")


def test_matches_are_pairs() -> None:
    with pytest.raises(DataError):
        Matches(np.zeros((3, 3), np.int32), np.zeros(3, np.float32))
    with pytest.raises(DataError):
        Matches(np.zeros((3, 2), np.int32), np.zeros(2, np.float32))


def test_a_box_is_finite() -> None:
    with pytest.raises(DataError):
        Detection(np.array([0, 0, np.nan, 1], np.float32), "car", 0.5)


def test_an_estimate_knows_its_largest_uncertainty() -> None:
    turned = np.array([[0.5, 0.4, 0], [0.4, 0.5, 0], [0, 0, 0.01]])  # eigenvalues 0.9, 0.1, 0.01
    covariance = np.zeros((6, 6))
    covariance[:3, :3], covariance[3:, 3:] = turned, np.eye(3) * 1e-4
    estimate = PoseEstimate(0, Pose.identity(), covariance, 10, "test")
    assert estimate.sigma_m == pytest.approx(np.sqrt(0.9)) and estimate.sigma_rad == pytest.approx(0.01)
    with pytest.raises(GeometryError):
        PoseEstimate(0, Pose.identity(), np.zeros((6, 6)), 10, "test")


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        features().extractor = "other"  # type: ignore[misc]


def test_a_tile_has_area_and_a_colour_image() -> None:
    Tile(0, IMAGE, (0.0, 0.0, 4.0, 3.0), 0.5)
    with pytest.raises(DataError, match="tile 3 has no area"):
        Tile(3, IMAGE, (4.0, 0.0, 4.0, 3.0), 0.5)
    with pytest.raises(DataError, match="image"):
        Tile(0, IMAGE[..., 0], (0.0, 0.0, 4.0, 3.0), 0.5)


@pytest.mark.parametrize(
    ("features", "uncertainty"),
    [
        (np.zeros((2, 4, 8, 7), np.float32), np.ones((2, 3, 3), np.float32)),
        (np.zeros((2, 4, 8, 8)), np.ones((2, 3, 3), np.float32)),
        (np.zeros((2, 4, 8, 8), np.float32), np.ones((2, 3, 5), np.float32)),
        (np.zeros((2, 4, 8, 8), np.float32), np.ones((1, 3, 3), np.float32)),
        (np.zeros((2, 4, 8, 8), np.float32), np.zeros((2, 3, 3), np.float32)),
        (np.full((2, 4, 8, 8), np.nan, np.float16), np.ones((2, 3, 3), np.float32)),
    ],
)
def test_tile_descriptors_fit_together(features: Any, uncertainty: Any) -> None:
    assert len(TileDescriptors(np.zeros((2, 4, 8, 8), np.float16), np.ones((2, 3, 3), np.float32), "x")) == 2
    with pytest.raises(DataError):
        TileDescriptors(features, uncertainty, "x")


def test_what_a_video_shows_is_finite_and_square() -> None:
    GroundFeatures(np.zeros((4, 2, 3), np.float32), CAMERA, Pose.identity(), "x", np.ones((6, 8), bool))
    OverheadDescriptor(np.zeros((4, 8, 8), np.float32), np.zeros((8, 8), bool), "x")
    with pytest.raises(DataError, match="not finite"):
        GroundFeatures(np.full((4, 2, 3), np.inf, np.float32), CAMERA, Pose.identity(), "x")
    with pytest.raises(DataError, match="mask"):
        GroundFeatures(np.zeros((4, 2, 3), np.float32), CAMERA, Pose.identity(), "x", np.ones((8, 6), bool))
    with pytest.raises(DataError, match="overhead descriptor"):
        OverheadDescriptor(np.zeros((4, 8, 8), np.float32), np.zeros((8, 7), bool), "x")
