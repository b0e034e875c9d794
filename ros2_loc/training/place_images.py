"""Images that know where they were taken: what places are learned from, whatever they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io.geotagged import GeotaggedImage, read_geotagged
from ros2_loc.io.images import RGB, read_image
from ros2_loc.io.sequences import ImageSequence, open_sequence
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.training.feature_maps import image_loader

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PlaceImages:
    """N images.

    Attributes:
        positions_m: (N, 2) east, north.
        headings_deg: (N,) clockwise from north; NaN where it is not known.
        areas: (N,) int64; positions are compared within an area only.
        load: reads image i, (H, W, 3) uint8 RGB.
    """

    positions_m: Array
    headings_deg: Array
    areas: NDArray[np.int64]
    load: Callable[[int], RGB]

    def __len__(self) -> int:
        return len(self.positions_m)

    def subset(self, rows: NDArray[np.integer]) -> PlaceImages:
        """Those of these rows."""
        rows, load = np.asarray(rows), self.load
        return PlaceImages(self.positions_m[rows], self.headings_deg[rows], self.areas[rows], lambda i: load(int(rows[i])))


@dataclass(frozen=True, slots=True, eq=False)
class PlaceQueries:
    """What a training is validated with: queries that are looked for in a database of other images."""

    database: PlaceImages
    queries: PlaceImages


@dataclass(frozen=True, slots=True, eq=False)
class PlaceData:
    """Images to learn from, and a question about places that are not among them."""

    train: PlaceImages
    validation: PlaceQueries


def joined(parts: Sequence[PlaceImages]) -> PlaceImages:
    """All images of several, areas as they are; raises DataError where there is no image."""
    parts = [part for part in parts if len(part)]
    if not parts:
        raise DataError("there is no image with a position")
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def load(i: int) -> RGB:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return parts[k].load(i - int(starts[k]))

    positions, headings, areas = ([getattr(part, name) for part in parts] for name in ("positions_m", "headings_deg", "areas"))
    return PlaceImages(np.concatenate(positions), np.concatenate(headings), np.concatenate(areas), load)


def geotagged(folders: Sequence[Path]) -> PlaceImages:
    """Images of folders whose names tell where they were taken; each UTM zone is an area.

    Raises:
        DataError: a folder without such images.
    """
    images = [image for folder in folders for image in read_geotagged(folder)]
    zones = sorted({image.zone or "" for image in images})
    return PlaceImages(
        np.array([(image.east_m, image.north_m) for image in images], np.float64).reshape(-1, 2),
        np.array([np.nan if image.heading_deg is None else image.heading_deg for image in images], np.float64),
        np.array([zones.index(image.zone or "") for image in images], np.int64),
        partial(_read, images),
    )


def geotagged_queries(folder: Path) -> PlaceQueries:
    """`database/` and all `queries*/` of a folder, as the field lays its data sets out.

    Raises:
        DataError: one of them is missing, or without images.
    """
    queries = sorted(path for path in folder.glob("queries*") if path.is_dir())
    if not (folder / "database").is_dir() or not queries:
        raise DataError(f"{folder}: has no database/ and queries*/ to validate with")
    return PlaceQueries(geotagged([folder / "database"]), geotagged(queries))


def recorded(paths: Sequence[Path], one_frame: bool = False) -> PlaceImages:
    """Images of recordings with poses: a KITTI folder, a folder of images with a file of poses, a bag.

    Args:
        one_frame: their poses are of one map; else each is an area of its own.

    Raises:
        DataError: no recording, or one without poses.
    """
    return joined([_of_sequence(open_sequence(path), path, 0 if one_frame else k) for k, path in enumerate(paths)])


def mapped(folders: Sequence[Path], recordings: Sequence[Path]) -> PlaceImages:
    """Images of maps at the poses that these gave them; each map is an area.

    Args:
        folders: of the maps.
        recordings: of each, the folder with its images or the recording that it was built from.

    Raises:
        DataError: no map, or images that are not the map's.
    """
    return joined([_of_map(folder, images, k) for k, (folder, images) in enumerate(zip(folders, recordings, strict=True))])


def of_poses(poses: Sequence[Pose], base_from_camera: Pose, load: Callable[[int], RGB], area: int = 0) -> PlaceImages:
    """Images with poses of base_link in an ENU frame; the heading is that of the camera's axis."""
    cameras = [pose @ base_from_camera for pose in poses]
    axes = np.array([camera.rotation[:, 2] for camera in cameras]).reshape(-1, 3)
    positions = np.array([camera.translation[:2] for camera in cameras], np.float64).reshape(-1, 2)
    headings = np.degrees(np.arctan2(axes[:, 0], axes[:, 1])) % 360.0
    return PlaceImages(positions, headings, np.full(len(positions), area, np.int64), load)


def held_out(images: PlaceImages, share: float, query_every: int = 2) -> PlaceData:
    """The images of one end of each area to validate with, every so many of them as a query; the rest to train with.

    Raises:
        DataError: too few images.
    """
    kept = np.zeros(len(images), bool)
    for area in np.unique(images.areas):
        rows = np.flatnonzero(images.areas == area)
        kept[rows] = one_end(images.positions_m[rows], share)
    chosen, rest = np.flatnonzero(kept), np.flatnonzero(~kept)
    if len(chosen) < 2 * query_every or not len(rest):
        raise DataError(f"{len(images)} images are too few to hold out {share:g} of them: give --validate-on, or more images")
    asks = np.arange(len(chosen)) % query_every == 1
    return PlaceData(images.subset(rest), PlaceQueries(images.subset(chosen[~asks]), images.subset(chosen[asks])))


def one_end(positions_m: Array, share: float) -> NDArray[np.bool_]:
    """(N, 2) -> (N,): which lie in the last `share` of the longest extent, so that no place is on both sides."""
    along = positions_m[:, int(np.argmax(np.ptp(positions_m, axis=0)))]
    return np.asarray(along > np.quantile(along, 1.0 - share))


def _of_map(folder: Path, images: Path, area: int) -> PlaceImages:
    places = SparseMap.load(folder).places
    load = image_loader(images, [place.name for place in places])
    return of_poses([place.map_from_camera for place in places], Pose.identity(), lambda i: load(places[i].name), area)


def _of_sequence(sequence: ImageSequence, path: Path, area: int) -> PlaceImages:
    known = [i for i, pose in enumerate(sequence.map_from_base) if pose is not None]
    if not known:
        raise DataError(f"{path}: has no poses, which places are made of")
    poses = [pose for pose in sequence.map_from_base if pose is not None]
    return of_poses(poses, sequence.base_from_camera, lambda i: sequence.image(known[i]), area)


def _read(images: Sequence[GeotaggedImage], i: int) -> RGB:
    return read_image(images[i].path)
