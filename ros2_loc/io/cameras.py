"""Calibration files of all kinds -> `Camera`.

ROS, OpenCV and KITTI put (0, 0) into the centre of the first pixel, COLMAP and this package (0.5, 0.5):
`Camera.from_ros` adds the half pixel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ros2_loc.core.camera import Camera
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import atomic_path, numbers_in, read_text

_WHAT = "calibration (ROS camera_info YAML, COLMAP cameras.txt, KITTI calib.txt, or a file with the 9 numbers of K)"
_KEY = re.compile(r"(P|P_rect_|S_rect_)(\d+)")


def read_camera(path: str | Path, width: int | None = None, height: int | None = None, index: int = 0) -> Camera:
    """The camera of a calibration file; what kind of file it is, its content says.

    Args:
        path: ROS camera_info YAML (camera_calibration's form), COLMAP cameras.txt with one camera, KITTI calib.txt (odometry, or
            calib_cam_to_cam.txt of a raw drive), or a text file with a 3x3 matrix K.
        width, height: size of the images, px. Needed for files that do not state it (KITTI, K); checked against those that do.
        index: which camera of a KITTI file (2 for image_2 or image_02).

    Raises:
        DataError: missing, empty, of no known kind, without the image size, or for images of another size.
    """
    text = read_text(path, _WHAT)
    try:
        camera = _parse(text, Path(path), width, height, index)
    except GeometryError as error:
        raise DataError(f"{path}: {error}") from error
    if (width, height) != (None, None) and (camera.width, camera.height) != (width, height):
        raise DataError(f"{path}: is for {camera.width}x{camera.height} images but these are {width}x{height}; give their calibration")
    return camera


def _parse(text: str, path: Path, width: int | None, height: int | None, index: int) -> Camera:
    if path.suffix.lower() in (".yaml", ".yml") or "camera_matrix" in text:
        return _from_ros_yaml(text, path)
    if rows := [words for line in text.splitlines() if (words := line.partition("#")[0].split()) and len(words) > 4 and words[1].isupper()]:
        return _from_colmap(rows, path)
    projections = kitti_projections(text)
    if projections:
        if index not in projections:
            raise DataError(f"{path}: has no camera {index}; it has {', '.join(map(str, sorted(projections)))}")
        return _of_size(projections[index][:, :3], path, *(kitti_size(text, index) or (width, height)))
    return _of_size(_matrix_k(text, path), path, width, height)


def _from_ros_yaml(text: str, path: Path) -> Camera:
    try:
        values = yaml.safe_load(text)
        size = int(values["image_width"]), int(values["image_height"])
        k = values["camera_matrix"]["data"]
        d = (values.get("distortion_coefficients") or {}).get("data", [])
        return Camera.from_ros(*size, np.array(k, dtype=np.float64).reshape(3, 3), str(values.get("distortion_model") or "plumb_bob"), d)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, GeometryError):
            raise
        what = f"has no {error}" if isinstance(error, KeyError) else f"is damaged ({str(error).splitlines()[0]})"
        expected = "image_width, image_height, camera_matrix, distortion_model, distortion_coefficients"
        raise DataError(f"{path}: {what}; expected {expected}") from error


def _from_colmap(rows: list[list[str]], path: Path) -> Camera:
    if len(rows) != 1:
        raise DataError(f"{path}: holds {len(rows)} cameras; keep the line of the one that took these images")
    _, model, width, height, *params = rows[0]
    try:
        return Camera(model, int(width), int(height), tuple(float(p) for p in params))
    except ValueError as error:
        if isinstance(error, GeometryError):
            raise
        raise DataError(f"{path}: not a camera of COLMAP: {' '.join(rows[0])[:60]!r}; expected ID MODEL WIDTH HEIGHT PARAMS...") from error


def kitti_projections(text: str) -> dict[int, np.ndarray]:
    """Projection matrices (3, 4) of KITTI's rectified cameras by their number: lines `P2: ...`, `P_rect_02: ...` or 12 bare numbers."""
    found: dict[int, np.ndarray] = {}
    for key, number, values in _keyed_rows(text):
        if len(values) == 12 and key in ("P", "P_rect_", ""):
            found[number if key else len(found)] = np.array(values).reshape(3, 4)
    return found


def kitti_size(text: str, index: int) -> tuple[int, int] | None:
    """(width, height) px of a rectified camera in KITTI's calib_cam_to_cam.txt, where it is stated."""
    for key, number, values in _keyed_rows(text):
        if (key, number, len(values)) == ("S_rect_", index, 2):
            return round(values[0]), round(values[1])
    return None


def _keyed_rows(text: str) -> Iterator[tuple[str, int, list[float]]]:
    """(P, 2, numbers) of a line `P2: numbers`; the key is empty for lines of nothing but numbers."""
    for line in text.splitlines():
        key, colon, numbers = line.rpartition(":")
        match = _KEY.fullmatch(key.strip())
        if not colon or match:
            try:
                values = [float(word) for word in numbers.split()]
            except ValueError:
                continue
            yield (match[1], int(match[2]), values) if match else ("", 0, values)


def _matrix_k(text: str, path: Path) -> np.ndarray:
    bracketed = re.search(r"\[\s*\[.*?\]\s*\]", text, re.DOTALL)
    values = numbers_in(bracketed.group() if bracketed else text)
    if len(values) != 9:
        raise DataError(f"{path}: is of no known kind; give the path of the {_WHAT}")
    k = np.array(values).reshape(3, 3)
    if not np.allclose(k[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]) or k[0, 1] != 0:
        raise DataError(f"{path}: {k.tolist()} is not a camera matrix K (fx 0 cx, 0 fy cy, 0 0 1)")
    return k


def _of_size(k: np.ndarray, path: Path, width: int | None, height: int | None) -> Camera:
    if width is None or height is None:
        raise DataError(f"{path}: does not state the size of the images; open it together with them")
    return Camera.from_ros(width, height, k)


def write_camera(path: str | Path, camera: Camera, name: str = "camera") -> None:
    """Write a ROS camera_info YAML, which `read_camera`, camera_info_manager and image_publisher read.

    Raises:
        GeometryError: the camera's model has no ROS name.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(ros_calibration(camera, name), sort_keys=False, default_flow_style=None))


def ros_calibration(camera: Camera, name: str = "camera") -> Mapping[str, Any]:
    """The mapping that camera_calibration writes as YAML."""
    k, model, d = camera.to_ros()
    projection = np.column_stack([k, np.zeros(3)])
    return {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": {"rows": 3, "cols": 3, "data": k.ravel().tolist()},
        "distortion_model": model,
        "distortion_coefficients": {"rows": 1, "cols": len(d), "data": [float(x) for x in d]},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": np.eye(3).ravel().tolist()},
        "projection_matrix": {"rows": 3, "cols": 4, "data": projection.ravel().tolist()},
    }
