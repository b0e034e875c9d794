"""Images named on the command line: what files, folders, patterns and videos stand for."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ros2_loc.errors import DataError
from ros2_loc.io.image_inputs import count_images, find_inputs, images_of
from ros2_loc.io.images import write_image


def picture(path: Path, value: int = 100, size: tuple[int, int] = (20, 30)) -> Path:
    write_image(path, np.full((*size, 3), value, np.uint8))
    return path


def test_files_folders_and_patterns_give_each_image_once(tmp_path: Path) -> None:
    files = [picture(tmp_path / "a" / f"{k}.png") for k in (10, 9, 1)]
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = find_inputs([files[0], tmp_path / "a", str(tmp_path / "a" / "*.png")])
    assert [one.name for one in found] == ["10.png", "1.png", "9.png"]
    assert not any(one.is_video for one in found) and count_images(found[0]) == 1


def test_files_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    found = find_inputs([picture(tmp_path / side / "1.png") for side in ("left", "right")])
    assert [one.name for one in found] == ["left/1.png", "right/1.png"]


def test_photos_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "photo.jpg", exif=exif)
    ((name, image),) = images_of(*find_inputs([tmp_path / "photo.jpg"]))
    assert name == "photo.jpg" and image.shape == (30, 20, 3)


def test_a_video_is_its_images(tmp_path: Path) -> None:
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for k in range(7):
        writer.write(np.full((48, 64, 3), (0, 0, 30 * k), np.uint8))
    writer.release()
    (video,) = find_inputs([path])
    read = list(images_of(video, every=3))
    assert video.is_video and count_images(video, 3) == len(read) == 3
    assert [name for name, _ in read] == [f"drive.avi/{k:06d}.jpg" for k in (0, 3, 6)]
    for k, (_, image) in zip((0, 3, 6), read, strict=True):  # red in RGB
        assert image.shape == (48, 64, 3) and abs(int(image[20, 20, 0]) - 30 * k) < 12 > int(image[20, 20, 2])


@pytest.mark.parametrize(
    ("make", "word", "expected"),
    [
        (None, "nothing.png", "no such file"),
        ("a.txt", "a.txt", "neither an image"),
        ("a.png", "a.png", "is empty"),
        (None, "*.png", "fits this pattern"),
        ("sub/", "sub", "holds no images"),
    ],
)
def test_what_is_no_image_is_said_in_one_line(tmp_path: Path, make: str | None, word: str, expected: str) -> None:
    if make and make.endswith("/"):
        (tmp_path / make).mkdir()
    elif make:
        (tmp_path / make).write_text("text" if make.endswith("txt") else "")
    with pytest.raises(DataError, match=expected):
        find_inputs([tmp_path / word])


def test_damaged_videos_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(os.urandom(2000))
    with pytest.raises(DataError, match=r"bad\.mp4: is no video"):
        list(images_of(*find_inputs([tmp_path / "bad.mp4"])))
