"""The picture of a cross-view query: the ground lies where it is, north is up, and nothing breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Frame, PoseEstimate, Rejection, RejectionReason, Tile
from ros2_loc.visualization.overhead import OverheadView, draw_overhead, ground_from_above, heat

CAMERA = Camera.pinhole(320, 200, 200.0, 200.0, 160.0, 80.0)
BASE_FROM_CAMERA = Pose(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.array([0.3, 0.0, 1.6]))


def painted(east_m: NDArray, north_m: NDArray) -> NDArray[np.uint8]:
    """(..., 3): smooth colours of the ground."""
    red, green = 127 + 100 * np.sin(east_m / 4.0), 127 + 100 * np.cos(north_m / 5.0)
    return np.stack([red, green, np.full_like(red, 90.0)], axis=-1).astype(np.uint8)


def frame_at(yaw_rad: float) -> Frame:
    """What a camera of a vehicle in the middle sees of that ground."""
    x, y = np.meshgrid(np.arange(CAMERA.width) + 0.5, np.arange(CAMERA.height) + 0.5)
    rays = CAMERA.rays(np.column_stack([x.ravel(), y.ravel()])) @ (so3_exp([0, 0, yaw_rad]) @ BASE_FROM_CAMERA.rotation).T
    camera_m = so3_exp([0, 0, yaw_rad]) @ BASE_FROM_CAMERA.translation
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = camera_m + rays * (-camera_m[2] / rays[:, 2:])
    colours = painted(np.nan_to_num(ground[:, 0]), np.nan_to_num(ground[:, 1]))
    colours[rays[:, 2] >= 0] = (150, 190, 240)
    return Frame(1, colours.reshape(CAMERA.height, CAMERA.width, 3), CAMERA, BASE_FROM_CAMERA)


@pytest.mark.parametrize("yaw_rad", [0.0, 1.0, np.pi / 2, -2.5])
def test_the_ground_lies_where_it_is(yaw_rad: float) -> None:
    seen = ground_from_above(frame_at(yaw_rad), yaw_rad, 40.0, 80)
    centres = OverheadGrid(80, 0.5, 0).cell_centres_m()
    ahead = centres @ [np.cos(yaw_rad), np.sin(yaw_rad)]
    aside = np.abs(centres @ [-np.sin(yaw_rad), np.cos(yaw_rad)])
    known = (ahead > 4.0) & (ahead < 15.0) & (aside < 0.6 * ahead)
    assert known.sum() > 200
    difference = np.abs(seen.astype(int) - painted(centres[..., 0], centres[..., 1]))[known]
    assert np.median(difference) <= 3 and difference.mean() < 6
    behind = seen[ahead < -1.0]
    assert (behind == behind[0]).all()


@pytest.mark.parametrize("kind", ["pose", "rejection", "nothing"])
def test_every_result_can_be_drawn(kind: str) -> None:
    grid, frame = OverheadGrid(20, 2.0, 3), frame_at(0.7)
    tile = Tile(5, np.full((64, 64, 3), 100, np.uint8), (0.0, 0.0, 40.0, 40.0), 0.625)
    result = Rejection(1, RejectionReason.AMBIGUOUS, "3 modes, best 40%")
    if kind == "pose":
        result = PoseEstimate(1, Pose.identity(), np.eye(6), 100, "cross_view")  # type: ignore[assignment]
    scores = np.zeros((0, 0), np.float32) if kind == "nothing" else np.random.default_rng(0).uniform(-1, 1, (7, 7)).astype(np.float32)
    probability = np.zeros((0, 4), np.float32) if kind == "nothing" else np.ones((30, 50), np.float32)
    seen, best = np.ones((4, 20, 20), np.float32), None if kind == "nothing" else tile
    view = OverheadView(frame, 0.7, seen, grid, best, scores, probability, result, "8 images", {"encode": 0.01})
    picture = draw_overhead(view, 128)
    assert picture.dtype == np.uint8 and picture.shape[0] > 128 and picture.shape[1] > 5 * 128 and np.ptp(picture) > 100


def test_the_most_probable_cell_is_the_brightest() -> None:
    values = np.full((10, 20), 0.01, np.float32)
    values[2, 15] = 1.0
    picture = heat(values, 200).astype(int).sum(axis=2)
    row, column = np.unravel_index(int(picture.argmax()), picture.shape)
    assert 150 <= column < 160 and 50 + 20 <= row < 50 + 30  # fitted into the square
    assert not heat(np.zeros((5, 5), np.float32), 50).max() > 60
