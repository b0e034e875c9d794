"""COLMAP models of others: their cameras and posed images, and who sees the same points."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pycolmap

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io.image_pairs import PosedView, file_view

_MOST_IN_A_TRACK = 60  # a point that hundreds of images see says little about two of them, and has thousands of pairs


def is_colmap_model(folder: Path) -> bool:
    """Whether a folder holds a sparse model, binary or text."""
    return (folder / "images.bin").is_file() or (folder / "images.txt").is_file()


def find_colmap_model(folder: Path) -> Path | None:
    """The first model in a folder, or below it in the usual places."""
    usual = ("", "sparse", "sparse/0", "model", "3D-models", "dense/sparse", "dense/0/sparse")
    found = [folder / name for name in usual if is_colmap_model(folder / name)]
    return next(iter(found or sorted(p.parent for p in folder.glob("3D-models/*/images.*"))), None)


def read_colmap_model(folder: str | Path) -> Any:
    """The `pycolmap.Reconstruction` in a folder.

    Raises:
        DataError: none there, damaged, or without images.
    """
    if not is_colmap_model(Path(folder)):
        raise DataError(f"{folder}: has no COLMAP model (cameras, images, points3D as .bin or .txt)")
    try:
        model = pycolmap.Reconstruction(str(folder))
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{folder}: is no whole COLMAP model: {str(error).splitlines()[0]}") from error
    if model.num_reg_images() == 0:
        raise DataError(f"{folder}: the model has no images with poses")
    return model


def camera_of(colmap_camera: Any) -> Camera:
    """Intrinsics of a `pycolmap.Camera`; raises GeometryError for models that this package does not have."""
    return Camera(colmap_camera.model.name, colmap_camera.width, colmap_camera.height, tuple(colmap_camera.params))


def model_views(model: Any, images: str | Path) -> list[PosedView]:
    """The posed images of a model, by name.

    Args:
        model: `read_colmap_model`.
        images: folder that the names are relative to.

    Raises:
        DataError: an image file is missing.
    """
    found = []
    for image in sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: str(image.name)):
        path = Path(images) / image.name
        if not path.is_file():
            raise DataError(f"{path}: no such image, but the model has it; give the folder of the model's images")
        pose = Pose.from_matrix(image.cam_from_world().matrix())
        found.append(PosedView(file_view(path, camera_of(model.camera(image.camera_id)), image.name), pose))
    return found


def covisibility(model: Any) -> Counter[tuple[str, str]]:
    """How many points two images have in common, by their names in alphabetical order; pairs without any are not in it."""
    names = {i: str(model.image(i).name) for i in model.reg_image_ids()}
    shared: Counter[tuple[str, str]] = Counter()
    for point in model.points3D.values():
        seen = sorted({names[e.image_id] for e in point.track.elements if e.image_id in names})
        if len(seen) <= _MOST_IN_A_TRACK:
            shared.update(combinations(seen, 2))
    return shared


def covisible_pairs(model: Any, neighbours: int) -> list[tuple[str, str]]:
    """Each image with the `neighbours` that share most points with it."""
    partners: dict[str, list[tuple[int, str]]] = {}
    for (a, b), count in covisibility(model).items():
        partners.setdefault(a, []).append((-count, b))
        partners.setdefault(b, []).append((-count, a))
    kept = {(min(a, b), max(a, b)) for a, others in partners.items() for _, b in sorted(others)[:neighbours]}
    return sorted(kept)
