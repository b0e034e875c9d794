"""Sets of places and of queries for them, told apart by what lies at a path; images are decoded when they are asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.geotagged import GeotaggedImage, is_geotagged, read_geotagged
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.images import RGB, read_image
from ros2_loc.io.place_truth import Positives, positives_within, read_pairs, read_vprbench

RADIUS_M = 25.0  # the field's: two images within it show one place
PAIRS_FILE = "positives.txt"
_DATABASES, _QUERIES = ("database", "ref", "reference"), ("queries", "query")
_ZONE_M = 1e9  # positions of different UTM zones are told apart by a third coordinate


@dataclass(frozen=True, slots=True, eq=False)
class PlaceImages:
    """Images of places, or queries for them.

    Attributes:
        names: unique.
        load: reads image i as (H, W, 3) uint8 RGB.
        positions_m: (N, 2) east and north, or None where nobody knows them.
        domains: what each was taken under ("night"); "" for a database.
        fingerprint: differs when the images do.
        camera: intrinsics of all of them, or None.

    Raises:
        DataError: no images, or two of one name.
    """

    names: tuple[str, ...]
    load: Callable[[int], RGB]
    positions_m: NDArray[np.float64] | None
    domains: tuple[str, ...]
    fingerprint: str = ""
    camera: Camera | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError("a set of places needs at least one image in its database and one query")
        name, times = Counter(self.names).most_common(1)[0]
        if times > 1:
            raise DataError(f"{times} images are called {name!r}; rename all but one")
        if len(self.domains) != len(self.names) or (self.positions_m is not None and self.positions_m.shape != (len(self.names), 2)):
            raise DataError(f"{len(self.names)} images need as many domains and positions")

    def __len__(self) -> int:
        return len(self.names)

    def frame(self, i: int) -> Frame:
        """Image i as perception takes it; without known intrinsics the camera has the image's size and any focal length."""
        image = self.load(range(len(self))[i])
        height, width = image.shape[:2]
        guess = Camera.pinhole(width, height, float(max(width, height)), float(max(width, height)), width / 2, height / 2)
        return Frame(0, image, self.camera or guess, Pose.identity())

    def subset(self, indices: Sequence[int]) -> PlaceImages:
        """The images at these indices, in their order."""
        load, kept = self.load, list(indices)
        return replace(
            self,
            names=tuple(self.names[i] for i in kept),
            load=lambda i: load(kept[i]),
            positions_m=None if self.positions_m is None else self.positions_m[kept],
            domains=tuple(self.domains[i] for i in kept),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PlaceDataset:
    """Where to look, what to look for, and what is right.

    Attributes:
        name: for people.
        positives: of each query the database images that show its place; empty where there is none.
        rule: what makes one right, in words ("within 25 m").
        has_truth: False where nobody knows what is right; then all `positives` are empty.
        source: the path it was opened from.
    """

    name: str
    database: PlaceImages
    queries: PlaceImages
    positives: Positives
    rule: str
    has_truth: bool = True
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.positives) != len(self.queries):
            raise DataError(f"{self.source or self.name}: truth of {len(self.positives)} queries for {len(self.queries)} images")
        last = max((max(found) for found in self.positives if found), default=-1)
        if last >= len(self.database):
            raise DataError(f"{self.source or self.name}: its truth names database image {last}, and there are {len(self.database)}")

    @property
    def without_positives(self) -> int:
        """Queries whose place the database does not show: no method can answer them."""
        return sum(not found for found in self.positives)

    def with_queries(self, indices: Sequence[int]) -> PlaceDataset:
        """The same with these queries alone."""
        return replace(self, queries=self.queries.subset(indices), positives=[self.positives[i] for i in indices])

    def limited(self, per_domain: int | None) -> PlaceDataset:
        """At most so many queries of each domain, evenly chosen.

        Raises:
            ConfigError: less than one.
        """
        if per_domain is None:
            return self
        if per_domain < 1:
            raise ConfigError(f"--limit {per_domain}: at least 1 query of each domain is needed")
        kept: list[int] = []
        for domain in dict.fromkeys(self.queries.domains):
            rows = [i for i, d in enumerate(self.queries.domains) if d == domain]
            kept += [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(per_domain, len(rows))).round().astype(int))]
        return self.with_queries(kept)

    def answerable(self) -> PlaceDataset:
        """Without the queries that have no positives.

        Raises:
            DataError: none is left.
        """
        kept = [i for i, found in enumerate(self.positives) if found]
        if not kept:
            raise DataError(f"{self.source or self.name}: no query has a positive ({self.rule}); look at the radius")
        return self.with_queries(kept)


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """What a path does not say itself.

    Attributes:
        radius_m: how far apart two images of one place are at most.
        map_every: of a recording: every Nth image is a place.
        query_shift: of a recording: queries are so many images after the places; None: halfway between two of them.
        lights: of a recording: names in `place_lights.LIGHTS`; each makes a domain of all its queries.
        start, stop: of a recording: first image, and the image after the last.
        seed: of noise.
    """

    radius_m: float = RADIUS_M
    map_every: int = 10
    query_shift: int | None = None
    lights: tuple[str, ...] = ("shifted", "dark")
    start: int = 0
    stop: int | None = None
    seed: int = 0
    poses: Path | None = field(default=None)
    camera: Path | None = field(default=None)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.radius_m) and self.radius_m > 0):
            raise ConfigError(f"--radius {self.radius_m}: metres above 0 are needed")
        if self.map_every < 2:
            raise ConfigError(f"--map-every {self.map_every}: 2 is the least, every image in the map leaves nothing to ask for")
        if self.query_shift is not None and not 0 <= self.query_shift < self.map_every:
            raise ConfigError(f"--query-shift {self.query_shift}: from 0 to --map-every - 1, which is {self.map_every - 1}")


def is_place_folder(path: Path) -> bool:
    """Whether a folder has a folder of places and at least one of queries."""
    return path.is_dir() and database_folder(path) is not None and bool(query_folders(path))


def database_folder(path: Path) -> Path | None:
    """`database/` or `ref/`."""
    return next((path / name for name in _DATABASES if (path / name).is_dir()), None)


def query_folders(path: Path) -> dict[str, Path]:
    """Domain -> folder: "night" of `queries_night/`, "" of `queries/`."""
    found = {}
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        begin = next((word for word in _QUERIES if folder.name == word or folder.name.startswith(f"{word}_")), None)
        if begin is not None:
            found[folder.name[len(begin) :].lstrip("_")] = folder
    return found


def open_place_folder(path: str | Path, options: PlaceOptions | None = None) -> PlaceDataset:
    """A folder with `database/` (or `ref/`) and `queries*/` (or `query/`): what follows `queries_` is the domain.

    What is right is told by the first of these that is there: `positives.txt` (rows `query database` of names), one ground truth of
    VPR-Bench (`*.npy`), positions in the names of all images. Without any, places are retrieved and shown but not judged.

    Raises:
        DataError: a folder is missing or empty, images are named twice, or the truth does not fit, in one line.
    """
    path, options = Path(path), options or PlaceOptions()
    database, queries = database_folder(path), query_folders(path)
    if database is None or not queries:
        raise DataError(f"{path}: needs folders {_DATABASES[0]}/ and {_QUERIES[0]}*/ with images in them")
    geotagged = _tagged(database) and all(map(_tagged, queries.values()))
    listed = path / PAIRS_FILE
    truth = sorted(path.glob("*.npy"))
    if geotagged and not listed.is_file() and not truth:
        return _by_position(path, database, queries, options)
    places = _file_images(database, {"": image_files(database)})
    asked = _file_images(path, {domain: image_files(folder) for domain, folder in queries.items()})
    if len(queries) == 1:
        asked = replace(asked, names=tuple(Path(name).name for name in asked.names))
    if listed.is_file():
        positives, rule = read_pairs(listed, list(places.names), list(asked.names)), f"listed in {PAIRS_FILE}"
        return PlaceDataset(path.resolve().name, places, asked, positives, rule, True, str(path))
    if len(truth) > 1:
        raise DataError(f"{path}: holds {len(truth)} files of truth ({', '.join(p.name for p in truth)}); leave one there")
    if truth:
        return PlaceDataset(path.resolve().name, places, asked, read_vprbench(truth[0]), f"frames of {truth[0].name}", True, str(path))
    return PlaceDataset(path.resolve().name, places, asked, [set() for _ in asked.names], "no truth", False, str(path))


def file_fingerprint(files: Sequence[Path]) -> str:
    """Of names, sizes and times of change: cheap, and other when a file is."""
    told = "\n".join(f"{p} {(s := p.stat()).st_size} {s.st_mtime_ns}" for p in files)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _tagged(folder: Path) -> bool:
    """By the first image alone: a name that is wrong among many is then an error that says which."""
    first = next(iter(sorted(p for p in folder.rglob("@*"))), None)
    return first is not None and is_geotagged(first)


def _by_position(path: Path, database: Path, queries: dict[str, Path], options: PlaceOptions) -> PlaceDataset:
    places = read_geotagged(database)
    asked = {domain: read_geotagged(folder) for domain, folder in queries.items()}
    every = [image for images in asked.values() for image in images]
    zones = {zone: k for k, zone in enumerate(dict.fromkeys(image.zone for image in (*places, *every)))}
    positives = positives_within(_apart(places, zones), _apart(every, zones), options.radius_m)
    domains = tuple(domain or "queries" for domain, images in asked.items() for _ in images)
    return PlaceDataset(
        name=path.resolve().name,
        database=_geotagged_images(path, places, ("",) * len(places)),
        queries=_geotagged_images(path, every, domains),
        positives=positives,
        rule=f"within {options.radius_m:g} m",
        source=str(path),
    )


def _apart(images: Sequence[GeotaggedImage], zones: dict[str | None, int]) -> NDArray[np.float64]:
    return np.array([[image.east_m, image.north_m, _ZONE_M * zones[image.zone]] for image in images])


def _geotagged_images(path: Path, images: Sequence[GeotaggedImage], domains: tuple[str, ...]) -> PlaceImages:
    files = [image.path for image in images]
    return PlaceImages(
        names=tuple(str(file.relative_to(path)) for file in files),
        load=lambda i: read_image(files[i]),
        positions_m=np.array([[image.east_m, image.north_m] for image in images]),
        domains=domains,
        fingerprint=file_fingerprint(files),
    )


def _file_images(root: Path, by_domain: dict[str, list[Path]]) -> PlaceImages:
    files = [file for images in by_domain.values() for file in images]
    is_database = list(by_domain) == [""] and root.name in _DATABASES
    return PlaceImages(
        names=tuple(str(file.relative_to(root)) for file in files),
        load=lambda i: read_image(files[i]),
        positions_m=None,
        domains=tuple("" if is_database else domain or "queries" for domain, images in by_domain.items() for _ in images),
        fingerprint=file_fingerprint(files),
    )
