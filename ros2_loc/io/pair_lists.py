"""Lists of image pairs as SuperGlue's evaluation has them (ScanNet, phototourism, MegaDepth).

A row is `name0 name1`, or with two EXIF rotations, or with `rot0 rot1 K0(9) K1(9) T_0to1(16)` behind the names.
Source: https://github.com/magicleap/SuperGluePretrainedNetwork, match_pairs.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import read_text
from ros2_loc.io.image_pairs import PosedPair, View, file_view
from ros2_loc.io.images import read_image

_WITH_TRUTH = 38


def read_pair_list(path: str | Path, images: str | Path) -> list[PosedPair]:
    """The pairs of a list; those without K and pose have no truth and no cameras. An image paired with itself is left out.

    Args:
        path: the list.
        images: folder that the names are relative to.

    Raises:
        DataError: a missing file, a damaged row, or images that the list wants rotated.
    """
    path, images = Path(path), Path(images)
    rows = [line.partition("#")[0].split() for line in read_text(path, "list of image pairs").splitlines()]
    found = [_pair(row, images, f"{path}: line {number}") for number, row in enumerate(rows, 1) if row and row[0] != row[-1]]
    if not found:
        raise DataError(f"{path}: holds no pairs; expected rows `name0 name1 [rot0 rot1 K0 K1 T_0to1]`")
    return found


def _pair(row: list[str], images: Path, where: str) -> PosedPair:
    if len(row) not in (2, 4, _WITH_TRUTH):
        raise DataError(f"{where}: has {len(row)} words; expected `name0 name1`, with 2 rotations, or with K and pose {_WITH_TRUTH}")
    if any(word not in ("0", "0.0") for word in row[2:4]):
        raise DataError(f"{where}: wants its images rotated ({row[2]} {row[3]}); rotate them once and write 0 there")
    paths = [images / name for name in row[:2]]
    for file in paths:
        if not file.is_file():
            raise DataError(f"{where}: {file}: no such image; give the folder of the images")
    if len(row) < _WITH_TRUTH:
        first, second = (file_view(p, name=name) for p, name in zip(paths, row[:2], strict=True))
        return PosedPair(first, second, "", None)
    try:
        numbers = np.array([float(word) for word in row[4:]])
        first, second = (_view(p, name, numbers[k : k + 9]) for p, name, k in zip(paths, row[:2], (0, 9), strict=True))
        return PosedPair(first, second, "", Pose.from_matrix(numbers[18:].reshape(4, 4)))
    except (ValueError, GeometryError) as error:
        raise DataError(f"{where}: {error}") from error


def _view(path: Path, name: str, k: np.ndarray) -> View:
    height, width = read_image(path).shape[:2]
    return file_view(path, Camera.from_ros(width, height, k), name)
