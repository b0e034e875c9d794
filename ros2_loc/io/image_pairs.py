"""Images and pairs of them with a known geometry: what local features are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import DataError
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import RGB, read_image

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One image, read when it is needed.

    Attributes:
        name: unique within its data set.
        load: reads it as (H, W, 3) uint8 RGB.
        camera: intrinsics, or None where nobody knows them.
    """

    name: str
    load: Callable[[], RGB]
    camera: Camera | None = None

    def frame(self) -> Frame:
        """The image as extractors take it; without known intrinsics the camera has the image's size and any focal length.

        Raises:
            DataError: the image can't be read, or is not of the camera's size.
        """
        image = self.load()
        height, width = image.shape[:2]
        camera = self.camera or Camera.pinhole(width, height, float(max(width, height)), float(max(width, height)), width / 2, height / 2)
        return Frame(0, image, camera, Pose.identity())


@dataclass(frozen=True, slots=True, eq=False)
class HomographyPair:
    """Two images of a plane, or from one place.

    Attributes:
        group: "viewpoint" or "illumination".
        second_from_first: (3, 3), pixels of the first -> pixels of the second, centre of the first pixel at (0.5, 0.5).
    """

    first: View
    second: View
    group: str
    second_from_first: Array


@dataclass(frozen=True, slots=True, eq=False)
class PosedPair:
    """Two images of one scene; the pose (optical frames) is None where no truth is known."""

    first: View
    second: View
    group: str
    second_from_first: Pose | None


@dataclass(frozen=True, slots=True, eq=False)
class PosedView:
    """A view with its pose in a world that all of its kind share."""

    view: View
    camera_from_world: Pose


def file_view(path: Path, camera: Camera | None = None, name: str | None = None) -> View:
    """The view of an image file."""
    return View(name or path.name, lambda: read_image(path), camera)


def image_views(folder: str | Path) -> list[View]:
    """All images of a folder, without cameras.

    Raises:
        DataError: no such folder, or no images in it.
    """
    return [file_view(path) for path in image_files(folder)]


def posed_views(sequence: ImageSequence) -> list[PosedView]:
    """Images of a recording that have poses.

    Raises:
        DataError: fewer than two.
    """
    found = [_posed_view(sequence, i) for i, pose in enumerate(sequence.map_from_base) if pose is not None]
    if len(found) < 2:
        raise DataError("the images have no poses: relative poses can't be measured without")
    return found


def _posed_view(sequence: ImageSequence, i: int) -> PosedView:
    pose = sequence.map_from_base[i]
    assert pose is not None
    view = View(sequence.names[i], lambda: sequence.image(i), sequence.camera)
    return PosedView(view, (pose @ sequence.base_from_camera).inverse())
