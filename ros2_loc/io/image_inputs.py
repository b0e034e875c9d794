"""Images that a user names on the command line: files, folders, patterns, videos; one name for each, which no other has."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ros2_loc.errors import DataError
from ros2_loc.io.files import require_file
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.images import RGB, SUFFIXES, read_image, require_size
from ros2_loc.io.photos import read_upright

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_PHOTOS = (".jpg", ".jpeg", ".webp")  # of cameras that are turned and say so in EXIF


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image file, or one video.

    Attributes:
        path: of the file.
        name: the file's name, with as many of its folders as set it apart from the others.
        is_video: whether it holds many images.
    """

    path: Path
    name: str
    is_video: bool


def find_inputs(words: Sequence[str | Path]) -> list[ImageInput]:
    """What files, folders (their images, not those of folders below) and patterns with `*` stand for, in their order, each once.

    Raises:
        DataError: something that is not there, is neither image nor video, or a pattern that fits nothing.
    """
    paths = list(dict.fromkeys(path for word in words for path in _expanded(str(word))))
    return [
        ImageInput(path, name, path.suffix.lower() in VIDEO_SUFFIXES) for path, name in zip(paths, _names(paths), strict=True)
    ]


def images_of(given: ImageInput, every: int = 1) -> Iterator[tuple[str, RGB]]:
    """Names and images (H, W, 3) uint8 RGB, upright where the file says how; of a video each `every`-th, read when it is asked for.

    Raises:
        DataError: a file that can't be read.
    """
    if given.is_video:
        yield from _video(given, every)
    else:
        yield given.name, read_upright(given.path) if given.path.suffix.lower() in _PHOTOS else read_image(given.path)


def count_images(given: ImageInput, every: int = 1) -> int:
    """How many `images_of` will give; of a video, as its header says."""
    if not given.is_video:
        return 1
    video = cv2.VideoCapture(str(given.path))
    frames = int(max(0, video.get(cv2.CAP_PROP_FRAME_COUNT)))
    video.release()
    return -(-frames // every)


def _expanded(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        return image_files(path)
    if not path.exists() and glob.has_magic(word):
        found = sorted(Path(one) for one in glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        fitting = [one for one in found if one.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES) and one.is_file()]
        if not fitting:
            raise DataError(f"{word}: no image or video fits this pattern; put it in quotes, or give a folder")
        return fitting
    if path.exists() and path.suffix.lower() not in (*SUFFIXES, *VIDEO_SUFFIXES):
        raise DataError(f"{word}: is neither an image ({' '.join(SUFFIXES)}) nor a video ({' '.join(VIDEO_SUFFIXES)})")
    return [require_file(path, "image or video")]


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names where these differ, else their paths below the folder that holds them all."""
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    whole = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (a link keeps its own name)
    above = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(above).as_posix() for path in whole]


def _video(given: ImageInput, every: int) -> Iterator[tuple[str, RGB]]:
    require_file(given.path, "video")
    video = cv2.VideoCapture(str(given.path))
    try:
        index = 0
        while video.grab():
            if index % every == 0:
                whole, image = video.retrieve()
                if not whole:
                    raise DataError(f"{given.path}: image {index} of the video can't be decoded; copy it again")
                require_size(image.shape[1], image.shape[0], str(given.path))
                yield f"{given.name}/{index:06d}.jpg", np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            index += 1
        if index == 0:
            raise DataError(f"{given.path}: is no video that OpenCV can read; convert it to H.264 in MP4")
    finally:
        video.release()
