"""Images there and back; damaged ones are refused, not filled up with gray."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
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


@pytest.mark.parametrize(("bits", "brightest"), [(16, 65535), (14, 9000), (12, 4095), (10, 600), (8, 255)])
def test_sixteen_bits_keep_the_upper_eight_of_those_in_use(tmp_path: Path, bits: int, brightest: int) -> None:
    deep = np.linspace(0, brightest, 48 * 64).reshape(48, 64).astype(np.uint16)
    expected = (deep >> (bits - 8)).astype(np.uint8)
    assert expected.max() > 60
    for name, stored in {"a.png": deep, "b.tiff": deep, "c.png": np.dstack([deep] * 3), "d.png": np.dstack([deep] * 4)}.items():
        cv2.imwrite(str(tmp_path / name), stored)
        np.testing.assert_array_equal(images.read_image(tmp_path / name), np.repeat(expected[..., None], 3, axis=2))


def test_a_black_image_stays_black(tmp_path: Path) -> None:
    for name, dtype in (("a.png", np.uint16), ("b.png", np.uint8)):
        cv2.imwrite(str(tmp_path / name), np.zeros((1, 1), dtype))
        np.testing.assert_array_equal(images.read_image(tmp_path / name), np.zeros((1, 1, 3)))


def test_alpha_is_dropped_also_where_it_is_zero(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([SMOOTH[..., ::-1], np.zeros_like(SMOOTH[..., 0])]))
    np.testing.assert_array_equal(images.read_image(tmp_path / "alpha.png"), SMOOTH)
    PIL.Image.fromarray(SMOOTH[..., 0]).convert("LA").save(tmp_path / "gray.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "gray.png"), np.repeat(SMOOTH[..., :1], 3, axis=2))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_orientation_in_exif_is_not_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    """The camera's calibration is that of the pixels as they are stored."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(SMOOTH).save(tmp_path / f"a{suffix}", exif=exif)
    if suffix == ".tiff":
        with pytest.raises(DataError, match=r"a.tiff: its TIFF orientation .* without that tag"):
            images.read_image(tmp_path / "a.tiff")
        return
    image = images.read_image(tmp_path / f"a{suffix}")
    assert image.shape == SMOOTH.shape and np.abs(image.astype(int) - SMOOTH).mean() < 2


def large_png(width: int, height: int) -> bytes:
    """A PNG that says it is so large, of which no pixel is there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def large_jpeg(width: int, height: int) -> bytes:
    encoded = images.encode_image(SMOOTH, ".jpg")
    at = encoded.index(b"\xff\xc0") + 5
    return encoded[:at] + struct.pack(">HH", height, width) + encoded[at + 4 :]


@pytest.mark.parametrize("make", [large_png, large_jpeg])
@pytest.mark.parametrize(("size", "megapixels"), [((12000, 9000), 108), ((40000, 30000), 1200)])
def test_an_image_over_100_megapixels_is_refused_before_it_is_decoded(
    tmp_path: Path, make: Callable[[int, int], bytes], size: tuple[int, int], megapixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(make(*size))
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=f"{size[0]}x{size[1]} px are {megapixels} megapixels, and 100 are the most") as caught:
        images.read_image(tmp_path / "large")
    assert "\n" not in str(caught.value) and "large: " in str(caught.value)


def test_numbers_that_are_no_image_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "depth.tiff"), np.ones((4, 5), np.float32))
    with pytest.raises(DataError, match=r"depth.tiff: (holds float32 numbers|is not an image)"):
        images.read_image(tmp_path / "depth.tiff")


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
