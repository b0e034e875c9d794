"""Strecha's multi-view benchmark: `images/0000.jpg` and a `.camera` file for each, with K, radial zeros, R, C and the image size.

Strecha et al., "On benchmarking camera calibration and multi-view stereo for high resolution imagery", CVPR 2008. The file's rotation is
world_from_camera and its K is for the size it states: images of another size get a camera that is resized with them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import numbers_in, read_text
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.image_pairs import PosedView, file_view
from ros2_loc.io.images import read_image

_NUMBERS = 26  # K 9, distortion 3, R 9, C 3, width and height


def is_strecha(folder: Path) -> bool:
    """Whether a folder holds images and their `.camera` files, in it or one below."""
    return folder.is_dir() and bool(_camera_files(folder))


def read_strecha_camera(path: str | Path, width: int, height: int) -> tuple[Camera, Pose]:
    """(camera of images of width x height px, camera_from_world) of a `.camera` file.

    Raises:
        DataError: missing, damaged, or for images of other proportions.
    """
    numbers = numbers_in(read_text(path, "camera of Strecha's benchmark"))
    if len(numbers) != _NUMBERS:
        raise DataError(f"{path}: holds {len(numbers)} numbers where a .camera file has {_NUMBERS}; copy it again")
    k = np.array(numbers[:9]).reshape(3, 3)
    full_width, full_height = round(numbers[24]), round(numbers[25])
    if abs(width * full_height - height * full_width) > max(full_width, full_height):
        raise DataError(f"{path}: is for {full_width}x{full_height} px, which is no multiple of these images' {width}x{height}")
    try:
        camera = Camera.from_ros(full_width, full_height, k).resized(width, height)
        world_from_camera = Pose.from_matrix(np.column_stack([np.array(numbers[12:21]).reshape(3, 3), numbers[21:24]]))
    except GeometryError as error:
        raise DataError(f"{path}: {error}") from error
    return camera, world_from_camera.inverse()


def open_strecha(folder: str | Path) -> list[PosedView]:
    """The posed images of one scene, for instance fountain-P11.

    Raises:
        DataError: no images, or one without a camera.
    """
    folder = Path(folder)
    cameras = {p.name.removesuffix(".camera"): p for p in _camera_files(folder)}
    if not cameras:
        raise DataError(f"{folder}: has no .camera files; copy gt_dense_cameras beside the images")
    images = folder / "images" if (folder / "images").is_dir() else folder
    found = []
    for path in image_files(images):
        if path.name not in cameras:
            raise DataError(f"{folder}: {path.name} has no {path.name}.camera; copy all of gt_dense_cameras")
        height, width = read_image(path).shape[:2]
        camera, camera_from_world = read_strecha_camera(cameras[path.name], width, height)
        found.append(PosedView(file_view(path, camera), camera_from_world))
    return found


def _camera_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.camera")) or sorted(folder.glob("*/*.camera"))
