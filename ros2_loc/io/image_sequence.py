"""`ImageSequence`: the one form in which mapping, localization and evaluation get their images, wherever these come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import DataError
from ros2_loc.io.images import RGB

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSequence:
    """Images of one camera in the order of their stamps, and what is known about where they were taken.

    Attributes:
        names: file name, or topic and stamp; unique, used in the COLMAP model.
        stamps_ns: (N,) int64, strictly increasing.
        camera: intrinsics of all of them.
        base_from_camera: mounting of the optical frame on base_link.
        map_from_base: N poses (truth, or the poses to map with), each None where there is none.
        odom_from_base: N poses of odometry, each None where there is none.
        fixes: positions by satellite, with stamps of their own; often none.
        load: reads image i as (H, W, 3) uint8 RGB; may be called from several threads.
        load_mask: reads the mask of image i, (H, W) bool, True where keypoints may be used; None where there are no masks.

    Raises:
        DataError: no images, lengths that differ, names that are not unique, stamps that do not increase.
    """

    names: tuple[str, ...]
    stamps_ns: NDArray[np.int64]
    camera: Camera
    base_from_camera: Pose
    map_from_base: tuple[Pose | None, ...]
    odom_from_base: tuple[Pose | None, ...]
    fixes: tuple[GeoFix, ...]
    load: Callable[[int], RGB]
    load_mask: Callable[[int], BoolArray] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamps_ns", np.array(self.stamps_ns, dtype=np.int64))
        n = len(self.names)
        if n == 0:
            raise DataError("a sequence needs at least one image; look at the range (every, start, stop) that was asked for")
        if not (self.stamps_ns.shape == (n,) and len(self.map_from_base) == n and len(self.odom_from_base) == n):
            raise DataError(f"a sequence of {n} images needs {n} stamps, map poses and odometry poses (None where there is none)")
        if len(set(self.names)) != n:
            raise DataError("two images of a sequence have the same name; rename them")
        if (np.diff(self.stamps_ns) <= 0).any():
            name = self.names[1 + int(np.argmax(np.diff(self.stamps_ns) <= 0))]
            raise DataError(f"stamps of images must increase, but that of {name} does not; check the file of times")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_poses(self) -> bool:
        """Whether any image has a pose in the map."""
        return any(pose is not None for pose in self.map_from_base)

    def image(self, i: int) -> RGB:
        """Image i, (H, W, 3) uint8 RGB.

        Raises:
            DataError: it can't be read, or is not of the camera's size.
        """
        image = self.load(range(len(self))[i])
        if image.shape[1::-1] != (self.camera.width, self.camera.height):
            size, expected = f"{image.shape[1]}x{image.shape[0]}", f"{self.camera.width}x{self.camera.height}"
            raise DataError(f"{self.names[i]}: is {size} where its camera says {expected}; keep images of one size in a sequence")
        return image

    def frame(self, i: int) -> Frame:
        """Image i as the record that perception works on; raises as `image`."""
        mask = None if self.load_mask is None else self.load_mask(range(len(self))[i])
        return Frame(int(self.stamps_ns[i]), self.image(i), self.camera, self.base_from_camera, self.odom_from_base[i], mask)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> ImageSequence:
        """The images at these indices, which must increase; fixes stay whole.

        Raises:
            DataError: no indices, or not in order.
        """
        kept = [range(len(self))[int(i)] for i in indices]
        load, load_mask = self.load, self.load_mask  # of this sequence: the subset's own count other images
        return ImageSequence(
            names=tuple(self.names[i] for i in kept),
            stamps_ns=self.stamps_ns[kept],
            camera=self.camera,
            base_from_camera=self.base_from_camera,
            map_from_base=tuple(self.map_from_base[i] for i in kept),
            odom_from_base=tuple(self.odom_from_base[i] for i in kept),
            fixes=self.fixes,
            load=lambda i: load(kept[i]),
            load_mask=None if load_mask is None else lambda i: load_mask(kept[i]),
        )
