"""Images there and back; damaged ones are refused, not filled up with gray."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc.core.camera import Camera
from ros2_loc.errors import DataError
from ros2_loc.io import images

SMOOTH = np.dstack([*np.meshgrid(2 * np.arange(64), 2 * np.arange(48)), np.full((48, 64), 99)]).astype(np.uint8)


def test_png_keeps_every_pixel_and_red_stays_red(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    images.write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), image)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    images.write_image(tmp_path / "red.png", red)
    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 255]  # OpenCV's order


def test_jpeg_is_close(tmp_path: Path) -> None:
    images.write_image(tmp_path / "a.jpg", SMOOTH)
    assert np.abs(images.read_image(tmp_path / "a.jpg").astype(int) - SMOOTH).max() < 8


def test_gray_is_repeated(tmp_path: Path) -> None:
    gray = SMOOTH[..., 0]
    images.write_image(tmp_path / "a.png", gray)
    image = images.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, axis=2))
    assert images.is_gray(image) and not images.is_gray(SMOOTH)


def test_sixteen_bit_and_alpha(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), SMOOTH[..., 0].astype(np.uint16) * 256)
    np.testing.assert_array_equal(images.read_image(tmp_path / "deep.png")[..., 1], SMOOTH[..., 0])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([SMOOTH[..., ::-1], SMOOTH[..., 0]]))
    np.testing.assert_array_equal(images.read_image(tmp_path / "alpha.png"), SMOOTH)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95])
def test_an_image_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    encoded = images.encode_image(image, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded[: int(len(encoded) * kept)])
    with pytest.raises(DataError, match=r"a\.(png|jpg): (is empty|the image is cut short|is not an image)") as caught:
        images.read_image(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match="not an image"):
        images.read_image(tmp_path / "a.png")
    for wrong in (SMOOTH.astype(float), SMOOTH[..., :2], np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match="an image is"):
            images.encode_image(wrong, ".png")
    with pytest.raises(DataError, match="can't be written as"):
        images.encode_image(SMOOTH, ".nonsense")


@pytest.mark.parametrize("size", [(32, 24), (96, 72), (100, 30)])
def test_a_point_stays_where_the_resized_camera_sees_it(size: tuple[int, int]) -> None:
    """The centre of a blob moves as `Camera.resized` says, half pixels included."""
    camera = Camera.pinhole(64, 48, 50, 50, 32, 24)
    y, x = np.mgrid[0:48, 0:64] + 0.5
    blob = np.array([25.0, 20.0])
    image = np.repeat((255 * np.exp(-((x - blob[0]) ** 2 + (y - blob[1]) ** 2) / 50))[..., None], 3, axis=2).astype(np.uint8)
    small = images.resize_image(image, *size)[..., 0].astype(float)
    assert small.shape == size[::-1]
    v, u = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    centre = np.array([(u * small).sum(), (v * small).sum()]) / small.sum()
    point = np.column_stack([camera.unproject([blob]), [1.0]])
    np.testing.assert_allclose(centre, camera.resized(*size).project(point)[0], atol=0.12)
