"""Recordings with poses as sets of places: every Nth image is a place, images between them ask for it, also in another light.

And two recordings of one map: the places of the first, the queries of the second.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import RGB
from ros2_loc.io.place_datasets import PlaceDataset, PlaceImages, PlaceOptions, is_place_folder, open_place_folder
from ros2_loc.io.place_lights import LIGHTS, in_other_light
from ros2_loc.io.place_truth import positives_within
from ros2_loc.io.sequences import open_sequence

BETWEEN = "::"  # MAPPED::ASKED


def open_place_dataset(path: str | Path, options: PlaceOptions | None = None) -> PlaceDataset:
    """Whatever lies at the path.

    Args:
        path: folder with `database/` and `queries*/` (see `open_place_folder`), a recording with poses (`open_sequence`), or two
            recordings of one map as `MAPPED::ASKED`.

    Raises:
        ConfigError, DataError: anything missing, damaged or contradictory, in one line.
    """
    options = options or PlaceOptions()
    first, between, second = str(path).partition(BETWEEN)
    if between:
        mapped, asked = (_posed(_opened(Path(word), options), word) for word in (first, second))
        return two_recordings(mapped, asked, options, f"{_title(first)} asked by {_title(second)}", str(path))
    path = Path(path)
    if is_place_folder(path):
        return open_place_folder(path, options)
    if path.is_dir() and any((path / name).is_dir() for name in ("database", "queries")):
        raise DataError(f"{path}: has only one of database/ and queries/; places and queries are needed")
    return recorded_places(_posed(_opened(path, options), str(path)), options, _title(path), str(path))


def recorded_places(sequence: ImageSequence, options: PlaceOptions, name: str, source: str = "") -> PlaceDataset:
    """Places are images 0, N, 2 N, ... of a recording; queries those `query_shift` after them, once in each light.

    Raises:
        ConfigError: a light that there is not.
        DataError: too few images.
    """
    shift = options.map_every // 2 if options.query_shift is None else options.query_shift
    places, asked = (range(len(sequence))[first :: options.map_every] for first in (0, shift))
    if len(places) < 2 or not asked:
        raise DataError(f"{source or name}: {len(sequence)} images are too few for every {options.map_every}th as a place")
    return _dataset(sequence.subset(places), sequence.subset(asked), options, options.lights, name, source)


def two_recordings(mapped: ImageSequence, asked: ImageSequence, options: PlaceOptions, name: str, source: str = "") -> PlaceDataset:
    """Places are every Nth image of the first recording; all of the second ask, as they are and in no other light.

    Raises:
        DataError: no images.
    """
    return _dataset(mapped.subset(range(0, len(mapped), options.map_every)), asked, options, ("shifted",), name, source)


def _dataset(
    places: ImageSequence, asked: ImageSequence, options: PlaceOptions, lights: Sequence[str], name: str, source: str
) -> PlaceDataset:
    unknown = next((light for light in lights if light not in LIGHTS), None)
    if unknown is not None:
        raise ConfigError(f"--lights: there is no light {unknown!r}; there are: {', '.join(LIGHTS)}")
    if not lights:
        raise ConfigError("--lights: give at least one, for instance shifted")
    positions = _positions(asked)
    database = PlaceImages(places.names, places.image, _positions(places)[:, :2], ("",) * len(places), _fingerprint(places), places.camera)
    queries = PlaceImages(
        names=tuple(f"{light}/{n}" for light in lights for n in asked.names),
        load=lambda i: _lit(asked, i % len(asked), lights[i // len(asked)], options.seed),
        positions_m=np.tile(positions[:, :2], (len(lights), 1)),
        domains=tuple(light for light in lights for _ in asked.names),
        fingerprint=f"{_fingerprint(asked)} {options.seed} {[LIGHTS[light] for light in lights]}",
        camera=asked.camera,
    )
    positives = positives_within(_positions(places), positions, options.radius_m) * len(lights)
    return PlaceDataset(name, database, queries, [set(found) for found in positives], f"within {options.radius_m:g} m", True, source)


def _lit(sequence: ImageSequence, i: int, light: str, seed: int) -> RGB:
    return in_other_light(sequence.image(i), LIGHTS[light], zlib.crc32(f"{sequence.names[i]} {light} {seed}".encode()))


def _positions(sequence: ImageSequence) -> NDArray[np.float64]:
    """(N, 3) m: heights count, so that floors of a house are different places."""
    return np.array([pose.translation for pose in sequence.map_from_base if pose is not None])


def _fingerprint(sequence: ImageSequence) -> str:
    told = "\n".join(f"{name} {stamp}" for name, stamp in zip(sequence.names, sequence.stamps_ns, strict=True))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _opened(path: Path, options: PlaceOptions) -> ImageSequence:
    return open_sequence(path, poses=options.poses, camera=options.camera, start=options.start, stop=options.stop)


def _posed(sequence: ImageSequence, where: str) -> ImageSequence:
    """The images that have poses."""
    known = [i for i, pose in enumerate(sequence.map_from_base) if pose is not None]
    if not known:
        raise DataError(f"{where}: its images have no poses, so nobody knows which show one place: give --poses FILE")
    return sequence if len(known) == len(sequence) else sequence.subset(known)


def _title(path: str | Path) -> str:
    path = Path(path).resolve()
    return f"{path.parent.name}/{path.name}" if path.name.isdigit() else path.name
