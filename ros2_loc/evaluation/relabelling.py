"""Positions of query photos corrected by a person, one photo beside the database's images near it. Each word is on disk before the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.spatial import cKDTree

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.io.geotagged import GeotaggedImage, geotagged_name, read_geotagged

LABELS = "relabel.json"
Word = Literal["right", "moved", "dropped"]
_FORMAT = 1
_DROPPED = "_dropped"


@dataclass(frozen=True, slots=True)
class Label:
    """What was said of a photo, and the position and heading that it has since (those of its name where it is right)."""

    word: Word
    east_m: float
    north_m: float
    heading_deg: float | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image of the database: its number there, its offset from a photo (m east, north), its heading."""

    number: int
    east_m: float
    north_m: float
    heading_deg: float | None


class Relabelling:
    """The photos of a folder, what was said of them so far, and the database beside them.

    Labels lie in `folder`/relabel.json under the photos' names; the photos themselves stay as they are until `apply`.
    """

    def __init__(self, folder: str | Path, database: str | Path) -> None:
        """Reads both, and the labels of an earlier session.

        Raises:
            DataError: a folder without geo-tagged images, images of several UTM zones, or damaged labels.
        """
        self.folder = Path(folder)
        self.photos: Sequence[GeotaggedImage] = read_geotagged(folder)
        self.database: Sequence[GeotaggedImage] = read_geotagged(database)
        zones = {image.zone[:-1] for image in (*self.photos, *self.database) if image.zone}
        if len(zones) > 1:
            raise DataError(f"{folder} and {database} lie in the UTM zones {', '.join(sorted(zones))}; take those of one at a time")
        self._tree = cKDTree([(place.east_m, place.north_m) for place in self.database])
        self._file = self.folder / LABELS
        self.labels = self._read()

    @property
    def first_open(self) -> int:
        """Number of the first photo of which nothing was said; that of the last one when there is none."""
        return next((k for k, photo in enumerate(self.photos) if self._name(photo) not in self.labels), len(self.photos) - 1)

    @property
    def num_open(self) -> int:
        """How many photos nothing was said of."""
        return sum(self._name(photo) not in self.labels for photo in self.photos)

    def label_of(self, number: int) -> Label | None:
        """What was said of a photo."""
        return self.labels.get(self._name(self._photo(number)))

    def neighbours(self, east_m: float, north_m: float, count: int = 12) -> list[Neighbour]:
        """The database's images that are nearest to a place, and where they lie from there."""
        _, found = self._tree.query((east_m, north_m), k=min(count, len(self.database)))
        near = [(int(k), self.database[int(k)]) for k in np.atleast_1d(found)]
        return [Neighbour(k, place.east_m - east_m, place.north_m - north_m, place.heading_deg) for k, place in near]

    def say(
        self, number: int, word: str, east_m: float | None = None, north_m: float | None = None, heading_deg: float | None = None
    ) -> None:
        """Writes down what a photo is; what was said of it before is replaced.

        Raises:
            ConfigError: no such photo or word, or a move to nowhere.
            DataError: it can't be written.
        """
        photo = self._photo(number)
        if word == "moved":
            place = _finite(east_m), _finite(north_m)
            label = Label("moved", *place, None if heading_deg is None else _finite(heading_deg) % 360.0)
        elif word in get_args(Word):
            label = Label(word, photo.east_m, photo.north_m, photo.heading_deg)  # type: ignore[arg-type]
        else:
            raise ConfigError(f"{word!r} is no label; say one of {', '.join(get_args(Word))}")
        self._write({**self.labels, self._name(photo): label})

    def apply(self) -> dict[str, int]:
        """Renames the photos that were moved, and takes those that were dropped to a folder beside this one; how many of each kind.

        An interrupted call is finished by the next one. What nothing was said of stays.

        Raises:
            DataError: a name that is taken, or no photo is left.
        """
        counts = dict.fromkeys(get_args(Word), 0)
        left = {}
        for photo in self.photos:
            label = self.labels.get(self._name(photo))
            if label is None:
                continue
            counts[label.word] += 1
            path = photo.path
            if label.word == "dropped":
                _rename(path, self.folder.with_name(self.folder.name + _DROPPED) / path.relative_to(self.folder))
                continue
            if label.word == "moved":
                path = path.with_name(_moved_name(photo, label))
                _rename(photo.path, path)
            left[path.relative_to(self.folder).as_posix()] = replace(label, word="right")
        self._write(left)
        self.photos = read_geotagged(self.folder)
        return counts

    def _write(self, labels: dict[str, Label]) -> None:
        with atomic_path(self._file) as draft:
            text = {"format": _FORMAT, "labels": {name: asdict(label) for name, label in labels.items()}}
            draft.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        self.labels = labels

    def _photo(self, number: int) -> GeotaggedImage:
        if not 0 <= number < len(self.photos):
            raise ConfigError(f"there is no photo {number}; there are 0 to {len(self.photos) - 1}")
        return self.photos[number]

    def _name(self, photo: GeotaggedImage) -> str:
        return photo.path.relative_to(self.folder).as_posix()

    def _read(self) -> dict[str, Label]:
        if not self._file.exists():
            return {}
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']}")
            return {name: Label(**label) for name, label in stored["labels"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{self._file}: is damaged ({error}); restore it, or remove it to start again") from error


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ConfigError(f"a photo is moved to metres east and north and a heading in degrees, not to {value!r}")
    return float(value)


def _moved_name(photo: GeotaggedImage, label: Label) -> str:
    return geotagged_name(
        label.east_m, label.north_m, heading_deg=label.heading_deg, zone=photo.zone, stamp_ns=photo.stamp_ns, note=photo.note,
        suffix=photo.path.suffix,
    )  # fmt: skip


def _rename(source: Path, target: Path) -> None:
    if target == source:
        return
    if target.exists():
        raise DataError(f"{target}: exists already; move one of the two photos elsewhere")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
