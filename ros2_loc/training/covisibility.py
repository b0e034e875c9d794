"""Which places of a map show the same thing: labels that cost nobody any work, from the points that they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from ros2_loc.core.types import FloatArray, LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.features import read_features
from ros2_loc.mapping.sparse_map import Place, SparseMap
from ros2_loc.training.place_images import one_end

Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Covisibility:
    """What counts as the same place.

    Attributes:
        min_shared: points that two places must have in common.
        max_share: pairs that have more of their points in common are left out, as neighbours in a drive: they teach nothing; 1: none.
        far_m: places that have no point in common and lie at least so far apart are different ones. All other pairs count for nothing.
    """

    min_shared: int = 20
    max_share: float = 0.6
    far_m: float = 25.0

    def __post_init__(self) -> None:
        if self.min_shared < 1 or not 0 < self.max_share <= 1 or self.far_m < 0:
            raise ConfigError(f"{self}: min_shared from 1, max_share above 0 and up to 1, far_m not negative")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPlaces:
    """P places of one map.

    Attributes:
        names: of their images.
        mapped: their features that see a map point: what a re-ranker has of a place.
        found: all features of their images: what it has of a query.
        vectors: (P, D) global descriptors, of unit length.
        same, other: (P, P) symmetric, whether two are the same place, whether they are not; both are False where it is not clear.
    """

    names: tuple[str, ...]
    mapped: tuple[LocalFeatures, ...]
    found: tuple[LocalFeatures, ...]
    vectors: FloatArray
    same: Labels
    other: Labels

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, rows: NDArray[np.integer]) -> LabelledPlaces:
        """Those of these rows."""
        names, mapped, found = (tuple(values[i] for i in rows) for values in (self.names, self.mapped, self.found))
        return LabelledPlaces(names, mapped, found, self.vectors[rows], self.same[np.ix_(rows, rows)], self.other[np.ix_(rows, rows)])

    @property
    def askable(self) -> NDArray[np.int64]:
        """Rows of places that have another view of the same place, and a different place."""
        return np.flatnonzero(self.same.any(axis=1) & self.other.any(axis=1))


def labelled(folder: Path, config: Covisibility) -> LabelledPlaces:
    """The places of a map.

    Raises:
        DataError: no map, or one in which no two places have enough points in common.
    """
    sparse_map = SparseMap.load(folder)
    places, names = sparse_map.places, tuple(place.name for place in sparse_map.places)
    same, other = labels(places, config)
    found = tuple(read_features(folder / "features.h5", names))
    mapped, vectors = tuple(place.features for place in places), sparse_map.index.vectors(np.arange(len(places)))
    data = LabelledPlaces(names, mapped, found, vectors, same, other)
    if not len(data.askable):
        raise DataError(
            f"{folder}: none of its {len(places)} places has another view of the same place ({config.min_shared} common points) and a "
            f"different place {config.far_m:g} m away: map a longer drive, or lower covisibility.min_shared and covisibility.far_m"
        )
    return data


def labels(places: Sequence[Place], config: Covisibility) -> tuple[Labels, Labels]:
    """Which pairs of places are the same, and which are not: (P, P) each, symmetric, False on the diagonal."""
    shared = common_points(places)
    sizes = shared.diagonal()
    fewer = np.maximum(np.minimum(sizes[:, None], sizes[None]), 1)
    positions = np.array([place.map_from_camera.translation for place in places]).reshape(-1, 3)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    off = ~np.eye(len(places), dtype=bool)
    same = (shared >= config.min_shared) & (shared <= config.max_share * fewer) & off
    return same, (shared == 0) & (distance >= config.far_m) & off


def common_points(places: Sequence[Place]) -> NDArray[np.int64]:
    """(P, P) numbers of map points that two places both see; on the diagonal how many each sees."""
    seen = [np.unique(place.point_index) for place in places]
    rows = np.repeat(np.arange(len(places)), [len(points) for points in seen])
    columns = np.concatenate([np.zeros(0, np.int64), *seen]).astype(np.int64)
    shape = (len(places), int(columns.max(initial=0)) + 1)
    incidence = scipy.sparse.coo_matrix((np.ones(len(rows), np.int64), (rows, columns)), shape).tocsr()
    return np.asarray((incidence @ incidence.T).toarray(), np.int64)


def split(folder: Path, config: Covisibility, share: float) -> tuple[LabelledPlaces, LabelledPlaces]:
    """Places to train with, and those of one end of the map to validate with.

    Raises:
        DataError: as `labelled`, or too few places for both.
    """
    places, positions = labelled(folder, config), [place.map_from_camera.translation[:2] for place in SparseMap.load(folder).places]
    kept = one_end(np.array(positions), share)
    train, validation = places.subset(np.flatnonzero(~kept)), places.subset(np.flatnonzero(kept))
    if not len(train.askable) or not len(validation.askable):
        raise DataError(f"{folder}: is too short to hold {share:g} of it out: give another map by --validate-on")
    return train, validation
