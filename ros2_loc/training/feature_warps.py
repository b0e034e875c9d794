"""Pairs made of single images: the second is the first as a picture on a wall, seen from another side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ros2_loc.core.pose import Array, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import resize_image
from ros2_loc.training.feature_pairs import DensePair, Loader

_HALF_PX = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])  # from OpenCV's pixels to ours


@dataclass(frozen=True)
class Warp:
    """How the second image is seen.

    Attributes:
        tilt_deg: most that the picture leans away, in any direction.
        roll_deg: most that it is turned.
        scale: it is up to so many times larger or smaller.
        edge_px: range of the image's long edge before; images are never enlarged, but to `min_short_px` of `WarpedPairs`.
    """

    tilt_deg: float = 40.0
    roll_deg: float = 20.0
    scale: float = 1.2
    edge_px: tuple[int, int] = (256, 1024)

    def __post_init__(self) -> None:
        object.__setattr__(self, "edge_px", tuple(self.edge_px))
        if not (0 <= self.tilt_deg <= 60 and 0 <= self.roll_deg <= 180 and self.scale >= 1 and 32 <= self.edge_px[0] <= self.edge_px[1]):
            raise ConfigError(f"{self}: needs tilt_deg in 0..60, roll_deg in 0..180, scale from 1, edge_px as [least, most] from 32")

    def draw(self, width: int, height: int, rng: np.random.Generator) -> Array:
        """(3, 3) homography from pixels of an image to pixels of the second, of the same size, both with (0.5, 0.5) at the first centre."""
        leans, turns = np.radians(self.tilt_deg) * rng.uniform(-1, 1), np.radians(self.roll_deg) * rng.uniform(-1, 1)
        towards, focal = rng.uniform(0, np.pi), float(max(width, height))
        rotation = so3_exp([leans * np.cos(towards), leans * np.sin(towards), 0.0]) @ so3_exp([0.0, 0.0, turns])
        zoom = self.scale ** rng.uniform(-1, 1)
        seen = np.diag([focal * zoom, focal * zoom, 1.0]) @ np.column_stack([rotation[:, 0], rotation[:, 1], [0.0, 0.0, focal]])
        centred = np.array([[1.0, 0.0, -width / 2], [0.0, 1.0, -height / 2], [0.0, 0.0, 1.0]])
        homography: Array = np.linalg.inv(centred) @ seen @ centred
        return homography / homography[2, 2]


class WarpedPairs:
    """Pairs of single images and a random homography."""

    def __init__(self, images: Sequence[Loader], warp: Warp, min_short_px: int) -> None:
        """Nothing is read yet.

        Args:
            images: each reads one.
            min_short_px: a smaller image is enlarged until its short edge has so much.
        """
        self._images, self._warp, self._min_short_px = images, warp, min_short_px

    def __len__(self) -> int:
        return len(self._images)

    def pair(self, index: int, rng: np.random.Generator) -> DensePair:
        """Image `index` at a random size, warped at random."""
        image = self._images[index]()
        height, width = image.shape[:2]
        if min(height, width) < 8:
            raise DataError(f"an image of {width}x{height} px has nothing to learn from: take it out of the folder")
        edge = max(height, width)
        least, most = min(self._warp.edge_px[0], edge), min(self._warp.edge_px[1], edge)
        scale = max(float(rng.uniform(least, most)) / edge, self._min_short_px / min(height, width))
        image = resize_image(image, max(self._min_short_px, round(width * scale)), max(self._min_short_px, round(height * scale)))
        return warped_pair(image, self._warp.draw(image.shape[1], image.shape[0], rng))


def warped_pair(image: np.ndarray, homography: Array) -> DensePair:
    """An image and itself under a homography between pixels with (0.5, 0.5) at the first centre; beyond its border it is mirrored.

    `points2_px` holds outside the second image too, for measuring; `valid` tells the inside.
    """
    height, width = image.shape[:2]
    in_opencv = np.linalg.inv(_HALF_PX) @ homography @ _HALF_PX
    image2 = cv2.warpPerspective(image, in_opencv, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    points = cv2.perspectiveTransform(pixel_centres(width, height).reshape(1, -1, 2), homography).reshape(height, width, 2)
    valid = ((points >= 0) & (points < [width, height])).all(axis=2)
    return DensePair(image, np.asarray(image2, np.uint8), points.astype(np.float32), valid)


def pixel_centres(width: int, height: int) -> Array:
    """(H, W, 2) px: (0.5, 0.5) for the first."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], axis=2)
