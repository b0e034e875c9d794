"""Images as cameras and people leave them, through `localize` and `map build`: used as they should be, or refused in one line."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.io.cameras import write_camera
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.sparse_map import SparseMap

SMALL = ("--set", "extractor.max_keypoints=800", "--set", "encoder.num_words=16")
GRAY = cv2.COLOR_RGB2GRAY


def folder_of(images: list[NDArray], camera: Camera, folder: Path) -> list[object]:
    """The images as PNG with their calibration; the words that `localize` and `map build` need of them."""
    (folder / "images").mkdir(parents=True)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / "images" / f"{i:03d}.png"), image)
    write_camera(folder / "camera.yaml", camera)
    return [folder / "images", "--camera", folder / "camera.yaml"]


FORMS: dict[str, Callable[[NDArray], NDArray]] = {
    "gray": lambda rgb: cv2.cvtColor(rgb, GRAY),
    "gray, 16 bits": lambda rgb: cv2.cvtColor(rgb, GRAY).astype(np.uint16) * 257,
    "gray, 12 bits": lambda rgb: cv2.cvtColor(rgb, GRAY).astype(np.uint16) * 16,
    "alpha 0": lambda rgb: np.dstack([rgb[..., ::-1], np.zeros(rgb.shape[:2], np.uint8)]),
    "colour, 16 bits": lambda rgb: rgb[..., ::-1].astype(np.uint16) * 257,
}


@pytest.mark.parametrize("form", FORMS)
def test_images_in_other_forms_find_their_place(
    call: Callable, town_map: SparseMap, town_sequence: ImageSequence, tmp_path: Path, form: str
) -> None:
    words = folder_of([FORMS[form](town_sequence.image(i)) for i in (5, 11)], town_sequence.camera, tmp_path)
    said = call("localize", town_map.folder, *words, *SMALL, "--json", tmp_path / "frames.json")
    assert said.code == 0, said.err
    frames = Evaluation.read_json(tmp_path / "frames.json").frames
    for i, frame in zip((5, 11), frames, strict=True):
        assert frame.estimate is not None
        truth = town_sequence.map_from_base[i]
        assert truth is not None
        camera_m = (truth @ town_sequence.base_from_camera).translation  # without TF or --mounting, base_link is at the camera
        assert np.linalg.norm(frame.estimate.map_from_base.translation - camera_m) < 0.3


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("size", [(320, 200), (1, 1)])
def test_images_that_show_nothing_are_rejected_one_by_one(
    call: Callable, town_map: SparseMap, tmp_path: Path, value: int, size: tuple[int, int]
) -> None:
    words = folder_of([np.full((*size[::-1], 3), value, np.uint8)] * 2, Camera.pinhole(*size, 250, 250, size[0] / 2, size[1] / 2), tmp_path)
    said = call("localize", town_map.folder, *words, *SMALL, "--json", tmp_path / "frames.json")
    assert said.code == 0 and not said.err, said
    assert all(frame.estimate is None for frame in Evaluation.read_json(tmp_path / "frames.json").frames)


def build(call: Callable, words: list[object], folder: Path) -> str:
    (folder / "poses.txt").write_text("".join(f"1 0 0 {0.5 * i} 0 1 0 0 0 0 1 0\n" for i in range(3)))
    said = call("map", "build", *words, "--poses", folder / "poses.txt", folder / "map", *SMALL)
    assert said.code == 1 and said.err.startswith("ros2-loc: error: ") and said.err.count("\n") == 1, said
    assert not (folder / "map").exists()
    return said.err


@pytest.mark.parametrize("size", [(320, 200), (1, 1)])
def test_a_map_of_nothing_is_refused(call: Callable, tmp_path: Path, size: tuple[int, int]) -> None:
    camera = Camera.pinhole(*size, 250, 250, size[0] / 2, size[1] / 2)
    words = folder_of([np.zeros((*size[::-1], 3), np.uint8)] * 3, camera, tmp_path)
    assert f"sift finds no keypoint in 3 images of {size[0]}x{size[1]}: are they black" in build(call, words, tmp_path)


def test_an_image_over_100_megapixels_is_named(call: Callable, tmp_path: Path) -> None:
    camera = Camera.pinhole(320, 200, 250, 250, 160, 100)
    words = folder_of([np.random.default_rng(i).integers(0, 255, (200, 320), dtype=np.uint8) for i in range(3)], camera, tmp_path)
    png = (tmp_path / "images" / "001.png").read_bytes()
    header = png[12:16] + (20000).to_bytes(4, "big") * 2 + png[24:29]
    (tmp_path / "images" / "001.png").write_bytes(png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:])
    assert "001.png: 20000x20000 px are 400 megapixels" in build(call, words, tmp_path)
