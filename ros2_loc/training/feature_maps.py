"""Pairs of images of a map of our own: its points seen by both, and between neighbouring ones a warp that fits them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

from ros2_loc.errors import DataError
from ros2_loc.io.images import RGB, read_image
from ros2_loc.io.sequences import open_sequence
from ros2_loc.mapping.sparse_map import Place, SparseMap
from ros2_loc.training.feature_pair_sources import split_at_the_end
from ros2_loc.training.feature_pairs import DensePair, PairData
from ros2_loc.training.feature_warps import pixel_centres

Points = NDArray[np.float32]

_MIN_COMMON = 30  # map points
_FILL_PX = 48.0  # longest side of a triangle that is filled: wider ones bridge different things
_MAX_STRETCH = 2.0  # of a triangle, in any direction: more is the edge of something


class MapPairs:
    """Pairs of places that see common points."""

    def __init__(self, places: Sequence[Place], load: Callable[[str], RGB]) -> None:
        """`load` reads the image of a place's name; nothing is read yet.

        Raises:
            DataError: no two places have enough points in common.
        """
        self._places, self._load = tuple(places), load
        self._pairs = _common(self._places)
        if not len(self._pairs):
            raise DataError(f"no two of {len(places)} places of the map have {_MIN_COMMON} points in common; map images that overlap")

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, index: int, rng: np.random.Generator) -> DensePair:
        """Pair `index`, in the order or against it."""
        i, j = self._pairs[index] if rng.random() < 0.5 else self._pairs[index][::-1]
        first, second = self._places[i], self._places[j]
        common = np.intersect1d(first.point_index, second.point_index)
        image, image2 = self._load(first.name), self._load(second.name)
        if image.shape[1::-1] != first.features.size:
            size, mapped = image.shape[1::-1], first.features.size
            raise DataError(f"{first.name}: is {size[0]}x{size[1]}, in the map {mapped[0]}x{mapped[1]}; give the images it was built from")
        points, valid = filled(first.keypoints_of(common), second.keypoints_of(common), first.features.size)
        inside = valid & ((points >= 0) & (points < image2.shape[1::-1])).all(axis=2)
        return DensePair(image, image2, points, inside)


def map_pairs(folder: Path, images: Path, held_out: float) -> PairData:
    """The pairs of a map; the last places are held out.

    Args:
        folder: of the map.
        images: folder with images of the places' names, or the recording that the map was built from.

    Raises:
        DataError: no map, or images that are not the map's.
    """
    sparse_map = SparseMap.load(folder)
    load = image_loader(images, [place.name for place in sparse_map.places])
    train, kept = split_at_the_end(sparse_map.places, held_out)
    return PairData(MapPairs(train, load), [partial(load, place.name) for place in kept])


def image_loader(images: Path, names: Sequence[str]) -> Callable[[str], RGB]:
    """Reads images of a map by their names.

    Args:
        images: folder with images of these names, or the recording that the map was built from.

    Raises:
        DataError: an image is not there.
    """
    if images.is_dir() and all((images / name).is_file() for name in names):
        return lambda name: read_image(images / name)
    sequence = open_sequence(images)
    at = {name: i for i, name in enumerate(sequence.names)}
    missing = next((name for name in names if name not in at), None)
    if missing is not None:
        raise DataError(f"{images}: has no image {missing}, which the map has; give the recording that the map was built from")
    return lambda name: sequence.image(at[name])


def filled(first_px: Points, second_px: Points, size: tuple[int, int]) -> tuple[Points, NDArray[np.bool_]]:
    """Correspondences at the pixels of sparse ones, and inside of small triangles of them that are alike in both images.

    Args:
        first_px, second_px: (N, 2) px of the same points in two images.
        size: width and height of the first.

    Returns:
        (H, W, 2) px in the second image, (H, W) bool where they are known.
    """
    width, height = size
    centres = pixel_centres(width, height)
    points, valid = np.zeros((height, width, 2), np.float32), np.zeros((height, width), bool)
    column, row = np.clip(first_px.astype(int), 0, [width - 1, height - 1]).T
    points[row, column] = second_px + (centres[row, column] - first_px)
    valid[row, column] = True
    triangles = _triangles(first_px)
    if triangles is None:
        return points, valid
    maps = _affine(first_px[triangles.simplices], second_px[triangles.simplices])  # (T, 2, 3)
    alike = _alike(first_px[triangles.simplices], maps)
    of_pixel = triangles.find_simplex(centres.reshape(-1, 2))
    chosen = np.flatnonzero((of_pixel >= 0) & alike[of_pixel])
    homogeneous = np.column_stack([centres.reshape(-1, 2)[chosen], np.ones(len(chosen))])
    points.reshape(-1, 2)[chosen] = np.einsum("nij,nj->ni", maps[of_pixel[chosen]], homogeneous)
    valid.reshape(-1)[chosen] = True
    return points, valid


def _triangles(points_px: Points) -> Delaunay | None:
    try:
        return Delaunay(points_px) if len(points_px) >= 3 else None
    except QhullError:  # all on a line
        return None


def _affine(first: Points, second: Points) -> NDArray[np.float64]:
    """(T, 2, 3) maps of the triangles (T, 3, 2) of the first image to those of the second; of one without area NaN."""
    corners = np.concatenate([first, np.ones((*first.shape[:2], 1))], axis=2).astype(np.float64)
    flat = np.abs(np.linalg.det(corners)) < 1e-6
    corners[flat] = np.eye(3)
    maps = np.linalg.solve(corners, second.astype(np.float64)).transpose(0, 2, 1)
    maps[flat] = np.nan
    return np.asarray(maps, np.float64)


def _alike(first: Points, maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    sides = np.linalg.norm(first - np.roll(first, 1, axis=1), axis=2).max(axis=1)
    known = np.isfinite(maps).all(axis=(1, 2))
    linear = np.where(known[:, None, None], maps[..., :2], 0.0)
    stretch = np.linalg.svd(linear, compute_uv=False)
    mild = (stretch[:, 0] <= _MAX_STRETCH) & (stretch[:, 1] >= 1.0 / _MAX_STRETCH) & (np.linalg.det(linear) > 0)
    return np.asarray((sides <= _FILL_PX) & known & mild)


def _common(places: tuple[Place, ...]) -> list[tuple[int, int]]:
    rows = np.repeat(np.arange(len(places)), [len(place.point_index) for place in places])
    columns = np.concatenate([place.point_index for place in places]) if len(places) else np.zeros(0, int)
    seen = scipy.sparse.coo_matrix((np.ones(len(rows), np.int32), (rows, columns))).tocsr()
    together = scipy.sparse.triu(seen @ seen.T, k=1).tocoo()
    return sorted((int(i), int(j)) for i, j, n in zip(together.row, together.col, together.data, strict=True) if n >= _MIN_COMMON)
