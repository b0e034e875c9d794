"""The text files of the visual localization benchmark (https://www.visuallocalization.net): queries, pairs to match, poses to hand in.

Poses are camera_from_world, quaternions qw first, image names without their folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import atomic_path, read_text


def read_queries(path: str | Path) -> dict[str, Camera]:
    """Intrinsics by the query's name, of rows `name MODEL width height params...` (`day_time_queries_with_intrinsics.txt`).

    Raises:
        DataError: missing, empty, or a damaged row.
    """
    found: dict[str, Camera] = {}
    for row, where in _rows(path, "list of queries with intrinsics"):
        if len(row) < 7:
            raise DataError(f"{where}: expected `name MODEL width height params...`, got {' '.join(row)[:60]!r}")
        try:
            found[row[0]] = Camera(row[1], int(row[2]), int(row[3]), tuple(float(word) for word in row[4:]))
        except (ValueError, GeometryError) as error:
            raise DataError(f"{where}: {error}") from error
    return found


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Pairs of image names, one a row (`image_pairs_to_match.txt`); each pair once, an image with itself never.

    Raises:
        DataError: missing, empty, or a row that is not two names.
    """
    found: dict[tuple[str, str], None] = {}
    for row, where in _rows(path, "list of image pairs"):
        if len(row) != 2:
            raise DataError(f"{where}: expected two image names, got {len(row)} words")
        if row[0] != row[1]:
            found[min(row), max(row)] = None
    return list(found)


def read_poses(path: str | Path) -> dict[str, Pose]:
    """camera_from_world by image name, of rows `name qw qx qy qz tx ty tz`.

    Raises:
        DataError: missing, empty, or a row that is no pose.
    """
    found: dict[str, Pose] = {}
    for row, where in _rows(path, "list of poses (name qw qx qy qz tx ty tz)"):
        try:
            qw, qx, qy, qz, *translation = (float(word) for word in row[1:])
            quaternion = np.array([qx, qy, qz, qw])
            found[row[0]] = Pose.from_quaternion_xyzw(quaternion / np.linalg.norm(quaternion), translation)
        except (ValueError, GeometryError) as error:
            raise DataError(f"{where}: is no pose `name qw qx qy qz tx ty tz`: {error}") from error
    return found


def write_poses(path: str | Path, camera_from_world: Mapping[str, Pose]) -> None:
    """Write what the benchmark takes: `name qw qx qy qz tx ty tz`, names without folders, in the order given.

    Raises:
        DataError: two names are equal without their folders.
    """
    short = [Path(name).name for name in camera_from_world]
    if len(set(short)) != len(short):
        raise DataError(f"{path}: two queries have the same name without their folders; the benchmark takes each once")
    lines = []
    for name, pose in zip(short, camera_from_world.values(), strict=True):
        x, y, z, w = pose.quaternion_xyzw
        lines.append(" ".join([name, *(f"{value:.12g}" for value in (w, x, y, z, *pose.translation))]))
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))


def _rows(path: str | Path, what: str) -> list[tuple[list[str], str]]:
    lines = [line.partition("#")[0].split() for line in read_text(path, what).splitlines()]
    found = [(row, f"{path}: line {number}") for number, row in enumerate(lines, 1) if row]
    if not found:
        raise DataError(f"{path}: is empty; give the path of the {what}")
    return found
