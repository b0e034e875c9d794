"""Encodings, padding, byte order; the behaviour that cv_bridge documents."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS messages")

from sensor_msgs.msg import CompressedImage, Image

from ros2_loc.ros.images import PythonCvBridge, PythonCvBridgeError

bridge = PythonCvBridge()
rng = np.random.default_rng(3)


def message(rows: np.ndarray, encoding: str, width: int, padding: int = 0, big: bool = False) -> Image:
    """An image of (H, row bytes) uint8 rows with `padding` bytes of rubbish behind each."""
    rubbish = np.full((len(rows), padding), 0xAB, np.uint8)
    data = np.hstack([rows, rubbish])
    msg = Image(height=len(rows), width=width, encoding=encoding, step=data.shape[1], is_bigendian=int(big))
    msg.data = array("B", data.tobytes())
    return msg


def as_rows(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)


@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        ("mono8", "u1", 1),
        ("rgb8", "u1", 3),
        ("bgra8", "u1", 4),
        ("mono16", "u2", 1),
        ("rgb16", "u2", 3),
        ("32FC1", "f4", 1),
        ("16SC2", "i2", 2),
        ("8U", "u1", 1),
    ],
)
def test_padding_and_byte_order_are_undone(encoding: str, dtype: str, channels: int, big: bool, padding: int) -> None:
    shape = (3, 5) if channels == 1 else (3, 5, channels)
    pixels = rng.integers(0, 100, shape).astype(dtype)
    msg = message(as_rows(pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))), encoding, 5, padding, big)
    out = bridge.imgmsg_to_cv2(msg)
    assert out.dtype == np.dtype(dtype) and out.dtype.isnative and out.flags.c_contiguous
    np.testing.assert_array_equal(out, pixels)


@pytest.mark.parametrize("source", ["rgb8", "bgr8", "rgba8", "bgra8"])
@pytest.mark.parametrize("target", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colours_keep_their_places(source: str, target: str) -> None:
    colour = {"r": 10, "g": 20, "b": 30, "a": 255}
    pixels = np.tile(np.array([colour[c] for c in source[:-1]], np.uint8), (2, 4, 1))
    out = bridge.imgmsg_to_cv2(message(as_rows(pixels), source, 4), target)
    np.testing.assert_array_equal(out[1, 2], [colour[c] for c in target[:-1]])


def test_gray_is_repeated_and_colour_is_weighted() -> None:
    gray = rng.integers(0, 255, (4, 6), dtype=np.uint8)
    rgb = bridge.imgmsg_to_cv2(message(gray, "mono8", 6), "rgb8")
    np.testing.assert_array_equal(rgb, np.repeat(gray[..., None], 3, axis=2))
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert bridge.imgmsg_to_cv2(message(as_rows(red), "rgb8", 2), "mono8")[0, 0] == round(0.299 * 200)


def test_sixteen_and_eight_bit_are_scaled_into_each_other() -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message(as_rows(deep), "mono16", 4), "mono8"), [[0, 1, 128, 255]])
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message(as_rows(deep), "mono16", 4), "rgb8")[0, :, 1], [0, 1, 128, 255])
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message(np.array([[0, 1, 255]], np.uint8), "mono8", 3), "mono16"), [[0, 257, 65535]])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_back_a_flat_colour(pattern: str, bits: int) -> None:
    colour = dict(zip("rgb", (200, 120, 40), strict=True))
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]])
    mosaic = np.tile(tile, (6, 6)).astype(np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    msg = message(as_rows(mosaic.astype(np.uint8 if bits == 8 else "<u2")), f"bayer_{pattern}{bits}", 12)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(msg, "rgb8")[4:8, 4:8], np.tile([200, 120, 40], (4, 4, 1)))
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(msg, "bgra8")[5, 5], [40, 120, 200, 255])


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")])
def test_packed_yuv_has_its_luma_where_the_name_says(encoding: str, order: str) -> None:
    pair = [128 if c in "uv" else 180 for c in order]
    msg = message(np.tile(np.array(pair, np.uint8), (4, 3)), encoding, 6, padding=5)
    gray = bridge.imgmsg_to_cv2(msg, "mono8")
    rgb = bridge.imgmsg_to_cv2(msg, "rgb8")
    assert (gray == 180).all() and gray.shape == (4, 6)
    assert np.ptp(rgb) <= 1 and abs(int(rgb[0, 0, 0]) - round((180 - 16) * 255 / 219)) <= 2
    reddish = message(np.tile(np.array([240 if c == "v" else 128 if c == "u" else 100 for c in order], np.uint8), (4, 3)), encoding, 6)
    r, _, b = bridge.imgmsg_to_cv2(reddish, "rgb8")[0, 0]
    assert r > b


def bad(**changes: Any) -> Image:
    msg = message(np.zeros((4, 18), np.uint8), "rgb8", 6)
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ("msg", "words"),
    [
        (bad(encoding="rgb9"), "'rgb9' is unknown"),
        (bad(encoding=""), "'' is unknown"),
        (bad(width=7), "step 18 but a row needs 21"),
        (bad(height=5), "has 72 bytes but height x step is 90"),
        (bad(data=array("B", bytes(71))), "has 71 bytes but height x step is 72"),
        (bad(data=array("B", bytes(73))), "has 73 bytes"),
        (bad(width=0, height=0), "has no pixels"),
        (message(np.zeros((2, 10), np.uint8), "yuyv", 5), "even width"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(msg: Image, words: str) -> None:
    with pytest.raises(PythonCvBridgeError) as refused:
        bridge.imgmsg_to_cv2(msg, "rgb8")
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "target"), [("32FC1", "rgb8"), ("8UC3", "bgr8"), ("rgb8", "8UC1"), ("rgb8", "bayer_rggb8"), ("rgb8", "nonsense")]
)
def test_conversions_without_a_meaning_are_refused(source: str, target: str) -> None:
    size = {"32FC1": 4}.get(source, 3)
    with pytest.raises(PythonCvBridgeError):
        bridge.imgmsg_to_cv2(message(np.zeros((2, 4 * size), np.uint8), source, 4), target)


def test_type_names_convert_between_depths_only() -> None:
    pixels = np.array([[1.0, 2.5]], np.float32)
    assert bridge.imgmsg_to_cv2(message(as_rows(pixels), "32FC1", 2), "64FC1").dtype == np.float64
    rgb = rng.integers(0, 255, (2, 3, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message(as_rows(rgb), "rgb8", 3), "8UC3"), rgb)


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape"),
    [("rgb8", "u1", (3, 4, 3)), ("mono16", ">u2", (3, 4)), ("32FC1", "f4", (3, 4)), ("passthrough", "u1", (3, 4))],
)
def test_a_message_round_trips(encoding: str, dtype: str, shape: tuple[int, ...]) -> None:
    pixels = rng.integers(0, 250, shape).astype(dtype)
    msg = bridge.cv2_to_imgmsg(pixels, encoding)
    assert isinstance(msg.data, array) and msg.step * msg.height == len(msg.data)
    assert msg.encoding == ("8UC1" if encoding == "passthrough" else encoding)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(msg), pixels)


def test_a_view_is_written_as_it_looks() -> None:
    pixels = rng.integers(0, 250, (4, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(bridge.cv2_to_imgmsg(pixels[::2, ::-1], "rgb8")), pixels[::2, ::-1])


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [(np.zeros((2, 2), np.uint8), "rgb8"), (np.zeros((2, 2, 3)), "rgb8"), (np.zeros(5, np.uint8), "mono8"), (None, "mono8")],
)
def test_an_array_that_is_not_what_is_said_is_refused(pixels: Any, encoding: str) -> None:
    with pytest.raises(PythonCvBridgeError):
        bridge.cv2_to_imgmsg(pixels, encoding)


def test_compressed_images_round_trip() -> None:
    bgr = np.zeros((16, 24, 3), np.uint8)
    bgr[..., 2] = 220
    png = bridge.cv2_to_compressed_imgmsg(bgr, "png")
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(png), bgr)
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(png, "rgb8"), bgr[..., ::-1])
    jpg = bridge.compressed_imgmsg_to_cv2(bridge.cv2_to_compressed_imgmsg(bgr), "rgb8")
    assert abs(jpg.astype(int) - bgr[..., ::-1]).max() < 6
    deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(bridge.cv2_to_compressed_imgmsg(deep, "png")), deep)


@pytest.mark.parametrize(
    ("data", "form"), [(b"", "jpeg"), (b"not a jpeg", "jpeg"), (b"\x89PNG\r\n", "png"), (bytes(40), "16UC1; compressedDepth png")]
)
def test_rubbish_is_refused_in_one_line(data: bytes, form: str) -> None:
    with pytest.raises(PythonCvBridgeError) as refused:
        bridge.compressed_imgmsg_to_cv2(CompressedImage(format=form, data=array("B", data)), "rgb8")
    assert "\n" not in str(refused.value) and "send jpeg or png" in str(refused.value)
