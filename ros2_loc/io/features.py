"""Local features, and what re-rankers compare, of many images in one HDF5 file each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from ros2_loc.core.types import LocalFeatures, PlaceEvidence
from ros2_loc.errors import DataError

Record = TypeVar("Record")


def append_features(path: Path, name: str, features: LocalFeatures) -> None:
    """Add one image's features; descriptors are kept as float16 (their error of 1e-3 is far below the distance of a false match).

    Raises:
        DataError: descriptors too large for that: they are not of unit length.
    """
    if np.abs(features.descriptors).max(initial=0.0) > np.finfo(np.float16).max:
        raise DataError(f"{name}: descriptors of {features.extractor} exceed what float16 holds; an extractor gives unit vectors")
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        group = file.create_group(name)
        group.attrs["extractor"], group.attrs["size"] = features.extractor, features.size
        for key, dtype in (("keypoints", np.float32), ("descriptors", np.float16), ("scores", np.float32), ("scales", np.float32)):
            group.create_dataset(key, data=getattr(features, key).astype(dtype))
        group.attrs["complete"] = True


def append_evidence(path: Path, name: str, evidence: PlaceEvidence) -> None:
    """Add what a re-ranker compares of one image, as it is."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        group = file.create_group(name)
        group.attrs["reranker"] = evidence.reranker
        for key, array in evidence.arrays.items():
            group.create_dataset(key, data=array)
        group.attrs["complete"] = True


def stored_names(path: Path) -> set[str]:
    """Images whose features (or evidence) are whole in the file; none when it is missing or damaged (a run was killed while writing)."""
    if not path.exists():
        return set()
    try:
        with h5py.File(path, "r") as file:
            return {name for name in file if file[name].attrs.get("complete", False)}
    except OSError:
        path.unlink()
        return set()


def read_features(path: Path, names: Iterable[str]) -> list[LocalFeatures]:
    """Features of the images `names`, descriptors as float32.

    Raises:
        DataError: not such a file, or an image is missing in it.
    """
    return _read_all(path, names, _read)


def read_evidence(path: Path, names: Iterable[str]) -> list[PlaceEvidence]:
    """What the re-ranker stored of the images `names`, in memory.

    Raises:
        DataError: not such a file, or an image is missing in it.
    """
    return _read_all(path, names, _read_evidence)


def _read_all(path: Path, names: Iterable[str], read: Callable[[h5py.File, str], Record]) -> list[Record]:
    try:
        with h5py.File(path, "r") as file:
            return [read(file, name) for name in names]
    except KeyError as error:
        raise DataError(f"{path}: does not have an image of this map ({error}): build the map again") from error
    except OSError as error:
        raise DataError(f"{path}: missing, damaged or cut short: build the map again") from error


def _read(file: h5py.File, name: str) -> LocalFeatures:
    group = file[name]
    width, height = group.attrs["size"]
    return LocalFeatures(
        keypoints=group["keypoints"][()].astype(np.float32),
        descriptors=group["descriptors"][()].astype(np.float32),
        scores=group["scores"][()].astype(np.float32),
        scales=group["scales"][()].astype(np.float32),
        extractor=str(group.attrs["extractor"]),
        size=(int(width), int(height)),
    )


def _read_evidence(file: h5py.File, name: str) -> PlaceEvidence:
    group = file[name]
    return PlaceEvidence(str(group.attrs["reranker"]), {key: group[key][()] for key in group})
