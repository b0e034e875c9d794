"""Pairs of images of scenes with known depth and poses: folders as of 7-Scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Array, Pose
from ros2_loc.errors import DataError
from ros2_loc.io.depth import read_depth
from ros2_loc.io.image_folders import FolderOptions
from ros2_loc.io.images import read_image
from ros2_loc.io.seven_scenes import depth_camera, open_seven_scenes
from ros2_loc.training.feature_pair_sources import split_at_the_end
from ros2_loc.training.feature_pairs import DensePair, PairData
from ros2_loc.training.feature_warps import pixel_centres

_TOLERANCE = 0.04  # of depth: what differs by more is hidden by something, or hides something
_MIN_OVERLAP = 0.3  # share of one image seen in the other
_PARTNERS = 40  # images that each is compared with
_GRID = 12  # points along each side for that


@dataclass(frozen=True, slots=True, eq=False)
class DepthView:
    """One image with its depth and pose.

    Attributes:
        image, depth: files.
        camera, depth_camera: at one place; a depth image of another size than its camera's shows the same, coarser or finer.
        scene_from_camera: pose of the optical frame.
        scene: views of different ones have nothing in common.
    """

    image: Path
    depth: Path
    camera: Camera
    depth_camera: Camera
    scene_from_camera: Pose
    scene: str


class DepthPairs:
    """Pairs of views that have something in common; what is hidden in one of them is left out."""

    def __init__(self, views: Sequence[DepthView]) -> None:
        """Reads the depth of all views once, to find the pairs.

        Raises:
            DataError: a damaged depth image, or no two views have enough in common.
        """
        self._views = tuple(views)
        self._pairs = _overlapping(self._views)
        if not len(self._pairs):
            raise DataError(f"no two of {len(views)} views have {_MIN_OVERLAP:.0%} of their pixels in common; check poses and depth")

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, index: int, rng: np.random.Generator) -> DensePair:
        """Pair `index`, in the order or against it."""
        i, j = self._pairs[index] if rng.random() < 0.5 else self._pairs[index][::-1]
        first, second = self._views[i], self._views[j]
        points, valid = correspondences(first, second)
        return DensePair(read_image(first.image), read_image(second.image), points, valid)


def scene_pairs(folders: Sequence[Path], held_out: float) -> PairData:
    """The pairs of 7-Scenes folders, each a scene of its own; of each the last images are held out.

    Raises:
        DataError: a folder without poses or depth; as `DepthPairs`.
    """
    parts = [split_at_the_end(scene_views(folder), held_out) for folder in folders]
    held = [view for _, kept in parts for view in kept]
    return PairData(DepthPairs([view for train, _ in parts for view in train]), [partial(read_image, view.image) for view in held])


def scene_views(folder: Path, scene: str = "") -> list[DepthView]:
    """Images with pose and depth (`frame-*.depth.png`) of a 7-Scenes folder; `scene` is the folder unless said.

    Raises:
        DataError: not such a folder, or one without depth.
    """
    folder = Path(folder)
    if not folder.is_dir() or not any(folder.glob("frame-*.color.*")):
        raise DataError(f"{folder}: is no folder of 7-Scenes (frame-000000.color.png, .depth.png, .pose.txt)")
    sequence = open_seven_scenes(folder, FolderOptions())
    views: list[DepthView] = []
    own: Camera | None = None
    for name, pose in zip(sequence.names, sequence.map_from_base, strict=True):
        depth = folder / f"{name.partition('.')[0]}.depth.png"
        if pose is not None and depth.is_file():
            own = own or depth_camera(folder, *read_depth(depth).shape[::-1])
            views.append(DepthView(folder / name, depth, sequence.camera, own, pose @ sequence.base_from_camera, scene or str(folder)))
    if not views:
        raise DataError(f"{folder}: has no frame-*.depth.png beside its images; copy them from the data set")
    return views


def correspondences(first: DepthView, second: DepthView) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where each pixel of a view is in another: (H, W, 2) px and (H, W) bool where it is seen there, by the depth of both."""
    width, height = first.camera.width, first.camera.height
    depth = _depth(first)
    seen_m = _rays(first.camera) * depth.reshape(-1, 1)
    points, ahead = _projected(seen_m, first, second)
    valid = second.camera.contains(points)
    other = _depth(second)
    column, row = np.where(valid[:, None], points, 0.0).astype(int).T
    with np.errstate(invalid="ignore"):
        valid &= np.abs(other[row, column] - ahead) < _TOLERANCE * ahead
    return np.where(valid[:, None], points, 0.0).astype(np.float32).reshape(height, width, 2), valid.reshape(height, width)


def _projected(seen_m: Array, first: DepthView, second: DepthView) -> tuple[Array, Array]:
    """(N, 2) px and (N,) depth m in the second view of points in the first's optical frame; NaN where unknown or behind."""
    moved = (second.scene_from_camera.inverse() @ first.scene_from_camera).apply(np.nan_to_num(seen_m, nan=-1.0))
    unknown = ~np.isfinite(seen_m[:, 2]) | (moved[:, 2] <= 0)
    points = second.camera.project(np.where(unknown[:, None], -1.0, moved))
    return points, np.where(unknown, np.nan, moved[:, 2])


def _depth(view: DepthView) -> NDArray[np.float32]:
    """(H, W) m at each pixel of the image, NaN where the depth camera saw nothing."""
    depth, shape = read_depth(view.depth), (view.camera.height, view.camera.width)
    at = view.depth_camera.resized(*depth.shape[::-1])
    points = at.project(_rays(view.camera))
    seen = at.contains(points)
    column, row = np.where(seen[:, None], points, 0.0).astype(int).T
    return np.where(seen, depth[row, column], np.nan).astype(np.float32).reshape(shape)


@lru_cache(maxsize=4)
def _rays(camera: Camera) -> Array:
    """(H * W, 3) points at a depth of 1."""
    xy = camera.unproject(pixel_centres(camera.width, camera.height).reshape(-1, 2))
    return np.column_stack([xy, np.ones(len(xy))])


def _overlapping(views: tuple[DepthView, ...]) -> list[tuple[int, int]]:
    rng, pairs = np.random.default_rng(0), set()
    for i, view in enumerate(views):
        others = [j for j, other in enumerate(views) if other.scene == view.scene and j != i]
        seen_m = _few_points(view)
        for j in rng.permutation(others)[:_PARTNERS]:
            points, _ = _projected(seen_m, view, views[j])
            if views[j].camera.contains(points).mean() >= _MIN_OVERLAP:
                pairs.add((min(i, int(j)), max(i, int(j))))
    return sorted(pairs)


def _few_points(view: DepthView) -> Array:
    rows, columns = (np.linspace(0, n - 1, _GRID).astype(int) for n in (view.camera.height, view.camera.width))
    at = (rows[:, None] * view.camera.width + columns[None, :]).ravel()
    return _rays(view.camera)[at] * _depth(view).ravel()[at, None]
