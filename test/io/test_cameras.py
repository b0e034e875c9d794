"""Calibration files of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.errors import DataError
from ros2_loc.io.cameras import read_camera, write_camera

KITTI_ROW = "7.188560000000e+02 0.0 6.071928000000e+02 {tx} 0.0 7.188560000000e+02 1.852157000000e+02 0.0 0.0 0.0 1.0 0.0"
KITTI = Camera.pinhole(1241, 376, 718.856, 718.856, 607.6928, 185.7157)

ROS_YAML = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [438.783367, 0.000000, 305.593336, 0.000000, 437.302876, 243.738352, 0.000000, 0.000000, 1.000000]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.361976, 0.110510, 0.001014, 0.000505, 0.000000]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [393.653800, 0, 322.797939, 0, 0, 393.653800, 241.090902, 0, 0, 0, 1, 0]
"""


def write(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content)
    return folder / name


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(f"P{i}: " + KITTI_ROW.format(tx=-10.0 * i) for i in range(4)) + "\nTr: 1 0 0 0 0 1 0 0 0 0 1 0\n",
        KITTI_ROW.format(tx=0) + "\n" + KITTI_ROW.format(tx=-386.1) + "\n",
        "calib_time: 09-Jan-2012 13:57:47\nS_rect_00: 1.241000e+03 3.760000e+02\nP_rect_00: " + KITTI_ROW.format(tx=0) + "\n",
        "718.856 0 607.1928\n0 718.856 185.2157\n0 0 1\n",
        "K = np.array([[718.856, 0.0, 607.1928],\n [0.0, 718.856, 185.2157],\n [0, 0, 1]])\n\nCamera height: 1.65 m\n",
    ],
    ids=["calib.txt", "bare rows", "calib_cam_to_cam.txt", "K", "python"],
)
def test_kitti_and_k(tmp_path: Path, content: str) -> None:
    assert read_camera(write(tmp_path, "calib.txt", content), 1241, 376) == KITTI


def test_kitti_takes_the_camera_that_was_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "calib.txt", "P0: " + KITTI_ROW.format(tx=0) + "\nP2: " + KITTI_ROW.format(tx=45).replace("7.18", "7.20"))
    assert read_camera(path, 1241, 376, index=2).focal_px == (720.856, 720.856)
    with pytest.raises(DataError, match="has no camera 1; it has 0, 2"):
        read_camera(path, 1241, 376, index=1)


def test_ros_yaml(tmp_path: Path) -> None:
    camera = read_camera(write(tmp_path, "c.yaml", ROS_YAML))
    assert (camera.model, camera.width, camera.height) == ("OPENCV", 640, 480)
    assert camera.params == pytest.approx((438.783367, 437.302876, 306.093336, 244.238352, -0.361976, 0.110510, 0.001014, 0.000505))


@pytest.mark.parametrize(
    "line",
    [
        "1 PINHOLE 640 480 500 501 320 240",
        "1 SIMPLE_RADIAL 640 480 500 320 240 -0.1",
        "1 OPENCV_FISHEYE 640 480 300 301 320 240 0 0 0 0",
    ],
)
def test_colmap_keeps_its_pixels(tmp_path: Path, line: str) -> None:
    text = "# Camera list with one line of data per camera:\n#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n# Number of cameras: 1\n" + line
    _, model, width, height, *params = line.split()
    expected = Camera(model, int(width), int(height), tuple(map(float, params)))
    assert read_camera(write(tmp_path, "cameras.txt", text), 640, 480) == expected


@pytest.mark.parametrize(
    "camera",
    [
        Camera.pinhole(640, 480, 500, 501, 320.25, 240.125),
        Camera("OPENCV", 640, 480, (500, 501, 320, 240, -0.3, 0.1, 0.001, 0.0005)),
        Camera("FULL_OPENCV", 640, 480, (500, 501, 320, 240, -0.3, 0.1, 0.001, 0.0005, 0.01, 0.02, 0.03, 0.04)),
        Camera("OPENCV_FISHEYE", 640, 480, (300, 301, 320, 240, 0.1, 0.01, 0.001, 0.0001)),
    ],
    ids=lambda c: c.model,
)
def test_round_trip(tmp_path: Path, camera: Camera) -> None:
    write_camera(tmp_path / "c.yaml", camera)
    back = read_camera(tmp_path / "c.yaml", 640, 480)
    assert back.model == camera.model and back.params == pytest.approx(camera.params, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.yaml", "", "is empty"),
        ("c.yaml", ROS_YAML[:200], "has no|is damaged"),
        ("c.yaml", ROS_YAML.replace("image_width: 640\n", ""), "has no 'image_width'"),
        ("c.yaml", ROS_YAML.replace("438.783367", "0"), "calibrated"),
        ("c.yaml", ROS_YAML.replace("plumb_bob", "thin_prism"), "thin_prism"),
        ("c.yaml", "a: [1, 2", "is damaged"),
        ("c.txt", "1 2 3 4", "of no known kind"),
        ("c.txt", "hello", "of no known kind"),
        ("c.txt", "1 0 0\n0 1 0\n1 2 3", "not a camera matrix"),
        ("c.txt", "1 PINHOLE 640 480 500 501 320", "4 parameters"),
        ("c.txt", "1 PINHOLE 640 480 500 501 320 x", "not a camera of COLMAP"),
        ("c.txt", "1 PINHOLE 640 480 5 5 3 2\n2 PINHOLE 640 480 5 5 3 2", "holds 2 cameras"),
    ],
)
def test_damaged_calibrations_are_told_in_one_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=words) as caught:
        read_camera(path, 640, 480)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_size_must_be_known_and_fit(tmp_path: Path) -> None:
    k = write(tmp_path, "K.txt", "500 0 320\n0 500 240\n0 0 1")
    with pytest.raises(DataError, match="size of the images"):
        read_camera(k)
    with pytest.raises(DataError, match="is for 640x480 images but these are 320x240"):
        read_camera(write(tmp_path, "c.yaml", ROS_YAML), 320, 240)


def test_real_files(shared_data: Path) -> None:
    assert read_camera(shared_data / "kitti/03/K.txt", 1242, 375) == Camera.pinhole(1242, 375, 721.5377, 721.5377, 610.0593, 173.354)
    assert read_camera(shared_data / "kitti/06_frames0-50/calib.txt", 1226, 370).focal_px[0] == 707.0912
    assert read_camera(shared_data / "7scenes_redkitchen/camera-intrinsics.txt", 640, 480).focal_px == (585.0, 585.0)
