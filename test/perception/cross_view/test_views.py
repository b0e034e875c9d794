"""Frames of any camera as the level pinhole camera would have taken them."""

import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.core.overhead import OverheadGrid, project_overhead
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.core.types import Frame
from ros2_loc.perception.cross_view.views import level_camera, level_frame, level_mounting

SIZE = (64, 256)
FISHEYE = Camera("OPENCV_FISHEYE", 640, 480, (220.0, 220.0, 320.0, 240.0, 0.02, -0.01, 0.003, -0.001))
PINHOLE = Camera.pinhole(640, 400, 350.0, 350.0, 320.0, 200.0)


def mounted(roll=0.0, pitch=0.0, yaw=0.0):
    base_from_body = so3_exp([0.0, 0.0, yaw]) @ so3_exp([0.0, pitch, 0.0]) @ so3_exp([roll, 0.0, 0.0])
    return Pose(base_from_body @ BODY_FROM_OPTICAL, np.array([1.0, 0.2, 1.6]))


def ground_picture(camera, base_from_camera):
    """A smooth pattern painted on the ground, as the camera sees it; grey where there is no ground."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = camera.rays(np.column_stack([x.ravel(), y.ravel()])) @ base_from_camera.rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        points = rays[:, :2] * (-base_from_camera.translation[2] / rays[:, 2:])
    value = pattern(points + base_from_camera.translation[:2])
    value = np.where((rays[:, 2] < -0.05) & np.isfinite(value), value, 128.0)
    return np.repeat(value.reshape(camera.height, camera.width, 1), 3, axis=2).astype(np.uint8)


def pattern(points):
    return 128.0 + 60.0 * np.sin(points[:, 0] * 0.6) + 50.0 * np.cos(points[:, 1] * 0.5)


@pytest.mark.parametrize("camera", [PINHOLE, FISHEYE], ids=["pinhole", "fisheye"])
@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.03, 0.15, 0.4), (np.pi, 0.05, 0.0)], ids=["straight", "tilted", "upside_down"])
def test_the_ground_lies_where_the_level_camera_says(camera, angles):
    mounting = mounted(*angles)
    frame = level_frame(Frame(1, ground_picture(camera, mounting), camera, mounting), SIZE)
    grid = OverheadGrid(40, 0.5, 0)
    px, visible = project_overhead(grid, frame.camera, frame.base_from_camera, Pose.identity())
    column, row = np.floor(px).astype(int).transpose(2, 0, 1)
    visible &= frame.mask[row.clip(0, 63), column.clip(0, 255)]
    cells = grid.cell_centres_m()[visible]
    assert visible.sum() > 100
    error = np.abs(frame.image[row[visible], column[visible], 0] - pattern(cells))
    assert np.median(error) < 4.0 and np.quantile(error, 0.9) < 15.0


def test_pixels_that_the_camera_does_not_have_are_masked():
    narrow = Camera.pinhole(640, 200, 700.0, 700.0, 320.0, 100.0)
    frame = level_frame(Frame(1, np.full((200, 640, 3), 200, np.uint8), narrow, mounted()), SIZE)
    assert frame.mask[16, 128] and not frame.mask[16, 5] and not frame.mask[63, 128]
    assert (frame.image[frame.mask] > 190).all() and not frame.image[~frame.mask].any()


def test_the_frames_own_mask_is_kept():
    mask = np.ones((400, 640), bool)
    mask[:, :320] = False
    frame = level_frame(Frame(1, np.full((400, 640, 3), 90, np.uint8), PINHOLE, mounted(), mask=mask), SIZE)
    assert not frame.mask[30, :120].any() and frame.mask[30, 140:200].all()


def test_a_frame_of_the_level_camera_is_left_as_it_is():
    camera, mounting = level_camera(*SIZE), level_mounting(mounted())
    frame = Frame(1, np.zeros((64, 256, 3), np.uint8), camera, mounting)
    assert level_frame(frame, SIZE) is frame


def test_nothing_of_a_camera_that_looks_at_the_sky():
    frame = level_frame(Frame(1, np.zeros((400, 640, 3), np.uint8), PINHOLE, mounted(pitch=-1.2)), SIZE)
    assert not frame.mask.any()
