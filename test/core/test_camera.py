"""Every camera model: projection there and back, resized, cropped, to ROS and back."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.errors import GeometryError

sys.path.insert(0, str(Path(__file__).parent))
from strategies import CAMERAS

cameras = st.sampled_from(CAMERAS)
# of the image's width and height, where all models of the tests can be inverted
inner = st.tuples(st.floats(0.15, 0.85), st.floats(0.15, 0.85))
depths = st.floats(0.1, 200.0)


def pixel(camera: Camera, part: tuple[float, float]) -> np.ndarray:
    return np.array([[part[0] * camera.width, part[1] * camera.height]])


@given(cameras, inner, depths)
def test_projection_inverts_unprojection(camera: Camera, part: tuple[float, float], depth: float) -> None:
    px = pixel(camera, part)
    xy = camera.unproject(px)
    point = depth * np.column_stack([xy, [1.0]])
    np.testing.assert_allclose(camera.project(point), px, atol=1e-5)
    ray = camera.rays(px)
    np.testing.assert_allclose(np.linalg.norm(ray), 1.0)
    np.testing.assert_allclose(np.cross(ray, point), 0.0, atol=1e-6 * depth)


@given(cameras, inner, depths, st.floats(0.3, 3.0))
def test_the_resized_camera_sees_the_same_there(camera: Camera, part: tuple[float, float], depth: float, factor: float) -> None:
    width = round(camera.width * factor)
    small = camera.resized(width, round(camera.height * width / camera.width)) if camera.focal_px[0] != camera.focal_px[1] else None
    small = small or camera.resized(camera.width * 2, camera.height * 2)
    point = depth * np.column_stack([camera.unproject(pixel(camera, part)), [1.0]])
    scale = [small.width / camera.width, small.height / camera.height]
    np.testing.assert_allclose(small.project(point), camera.project(point) * scale, atol=1e-6)


@given(cameras, inner, st.integers(0, 50), st.integers(0, 50))
def test_the_cropped_camera_sees_the_same_beside(camera: Camera, part: tuple[float, float], x0: int, y0: int) -> None:
    point = np.column_stack([camera.unproject(pixel(camera, part)), [1.0]])
    cropped = camera.cropped(x0, y0, 100, 90)
    assert (cropped.width, cropped.height) == (100, 90)
    np.testing.assert_allclose(cropped.project(point), camera.project(point) - [x0, y0], atol=1e-9)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_ros_and_back(camera: Camera) -> None:
    if camera.model in ("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"):
        with pytest.raises(GeometryError, match="OPENCV_FISHEYE"):
            camera.to_ros()
        return
    k, model, d = camera.to_ros()
    back = Camera.from_ros(camera.width, camera.height, k, model, d)
    px = np.random.default_rng(0).uniform([100, 100], [500, 300], (50, 2))
    np.testing.assert_allclose(back.unproject(px), camera.unproject(px), atol=1e-9)


@pytest.mark.parametrize("camera", [c for c in CAMERAS if c.model in ("PINHOLE", "RADIAL", "OPENCV", "FULL_OPENCV")], ids=lambda c: c.model)
def test_ros_parameters_mean_what_opencv_means(camera: Camera) -> None:
    """OpenCV is the reference for plumb_bob and rational_polynomial; its pixels begin half a pixel later."""
    k, _, d = camera.to_ros()
    points = np.random.default_rng(1).uniform([-0.4, -0.3, 1.0], [0.4, 0.3, 1.0], (50, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), k, np.array(d))
    np.testing.assert_allclose(camera.project(points), expected[:, 0] + 0.5, atol=1e-6)


def test_equidistant_means_opencv_fisheye() -> None:
    camera = next(c for c in CAMERAS if c.model == "OPENCV_FISHEYE")
    k, model, d = camera.to_ros()
    assert model == "equidistant"
    points = np.random.default_rng(1).uniform([-1, -1, 1.0], [1, 1, 1.0], (50, 1, 3))
    expected, _ = cv2.fisheye.projectPoints(points, np.zeros(3), np.zeros(3), k, np.array(d))
    np.testing.assert_allclose(camera.project(points.reshape(-1, 3)), expected[:, 0] + 0.5, atol=1e-6)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_colmap_has_the_same_camera(camera: Camera) -> None:
    colmap = camera.to_colmap()
    assert colmap.model_name == camera.model and (colmap.width, colmap.height) == (camera.width, camera.height)
    np.testing.assert_array_equal(colmap.calibration_matrix(), camera.matrix)


def test_points_behind_the_camera_have_no_pixel() -> None:
    px = CAMERAS[1].project([[0, 0, 1], [0, 0, -1], [1, 1, 0]])
    assert np.isfinite(px[0]).all() and np.isnan(px[1:]).all()


def test_contains_is_the_image_without_its_far_border() -> None:
    camera = Camera.pinhole(10, 8, 5, 5, 5, 4)
    inside = camera.contains([[0, 0], [9.99, 7.99], [10, 4], [5, 8], [-0.01, 4], [np.nan, 4]])
    assert inside.tolist() == [True, True, False, False, False, False]


def test_undistorted_keeps_focal_lengths_and_centre() -> None:
    camera = next(c for c in CAMERAS if c.model == "OPENCV").undistorted()
    assert camera == Camera.pinhole(640, 480, 500, 505, 320, 240)


@pytest.mark.parametrize(
    ("model", "width", "params"),
    [
        ("NONSENSE", 640, (500, 320, 240)),
        ("PINHOLE", 640, (500, 320, 240)),
        ("PINHOLE", 0, (500, 500, 320, 240)),
        ("PINHOLE", 640, (0, 500, 320, 240)),
        ("PINHOLE", 640, (500, -500, 320, 240)),
        ("PINHOLE", 640, (500, 500, np.nan, 240)),
    ],
)
def test_what_is_no_camera_is_refused(model: str, width: int, params: tuple[float, ...]) -> None:
    with pytest.raises(GeometryError):
        Camera(model, width, 480, params)


@pytest.mark.parametrize(("model", "d"), [("plumb_bob", [0.1] * 6), ("equidistant", [0.1] * 5), ("thin_prism", [0.1] * 4)])
def test_unknown_distortion_of_ros_is_refused(model: str, d: list[float]) -> None:
    with pytest.raises(GeometryError, match=r"plumb_bob \(4 or 5\)"):
        Camera.from_ros(640, 480, [500, 0, 320, 0, 500, 240, 0, 0, 1], model, d)


def test_an_uncalibrated_camera_is_refused() -> None:
    with pytest.raises(GeometryError, match="calibrated"):
        Camera.from_ros(640, 480, np.zeros(9))


@given(cameras, inner, depths)
def test_a_model_with_two_focal_lengths_is_the_same_camera_and_can_be_stretched(
    camera: Camera, part: tuple[float, float], depth: float
) -> None:
    point = depth * np.column_stack([camera.unproject(pixel(camera, part)), [1.0]])
    stretched = camera.with_two_focals().resized(2 * camera.width, camera.height)
    np.testing.assert_allclose(stretched.project(point), camera.project(point) * [2, 1], atol=1e-6)


def test_one_focal_length_cannot_be_stretched() -> None:
    with pytest.raises(GeometryError, match="stretched"):
        CAMERAS[0].resized(640, 240)
