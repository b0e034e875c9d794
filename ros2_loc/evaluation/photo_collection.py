"""Queries out of a folder of geo-tagged photos, by the recipe of the SF-XL night set (Reranking for Visual Geo-localization, section 3.1).

Photos of rooms and of the wrong time of day go, so do those that show the same as another one, and those without a place of the database
within 25 m. What became of each photo is written down. Correcting positions by hand comes after this: `evaluation.relabelling`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.relabelling import LABELS
from ros2_loc.io.files import atomic_path
from ros2_loc.io.geotagged import GeotaggedImage, geotagged_name, is_geotagged, parse_geotagged
from ros2_loc.io.images import RGB, resize_image
from ros2_loc.io.photos import Photo, copy_upright, read_photo, read_upright
from ros2_loc.perception.photo_classifiers import DAY, NIGHT, PhotoClassifier, Verdict

Progress = Callable[[int, int], None]

_SEEN, _SUMMARY = "seen.jsonl", "photos.json"
_HASH_PX = 32


class Fate(str, Enum):
    """What became of a photo."""

    KEPT = "kept"
    UNREADABLE = "can't be read"
    NO_POSITION = "no position"
    INDOOR = "indoor"
    OTHER_TIME = "another time of day"
    OTHER_ZONE = "another UTM zone than the database"
    NO_PLACE = "no place of the database near"
    DUPLICATE = "shows the same as another one"


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """What is kept.

    Attributes:
        time: day, night, or any.
        radius_m: within which a place of the database must lie (the field's 25 m).
        hash_bits: of 64; images whose perceptual hashes differ in no more show the same.
        apart_m: photos nearer to each other than this show the same as well, unless both say that they look into directions that differ by
            more than 45 degrees; 0 switches this off.
    """

    time: str = NIGHT
    radius_m: float = 25.0
    hash_bits: int = 8
    apart_m: float = 0.0

    def __post_init__(self) -> None:
        if self.time not in (DAY, NIGHT, "any"):
            raise ConfigError(f"time {self.time!r}: give {DAY}, {NIGHT} or any")
        if not self.radius_m > 0 or not 0 <= self.hash_bits <= 32 or self.apart_m < 0:
            raise ConfigError(f"{self}: needs a positive radius, 0 to 32 bits and no negative distance")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out about one photo without looking at the others; None where there is nothing to say."""

    file: str
    version: str
    problem: str = ""
    east_m: float | None = None
    north_m: float | None = None
    zone: str | None = None
    heading_deg: float | None = None
    stamp_ns: int | None = None
    time: str = ""
    time_score: float | None = None
    room: str = ""
    room_score: float | None = None
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A photo, its fate, why in words, the place of the database that is nearest, m to it, and the name that it got."""

    seen: Seen
    fate: Fate
    why: str = ""
    nearest: str = ""
    distance_m: float | None = None
    name: str = ""


def look_at_photos(
    paths: Sequence[Path],
    folder: Path,
    day_night: PhotoClassifier,
    indoor: PhotoClassifier | None,
    work: Path | None,
    progress: Progress | None = None,
) -> list[Seen]:
    """Reads and classifies photos of `folder`, in the order of their paths.

    Args:
        day_night: its labels begin with day or night.
        indoor: its labels begin with indoor or pano for what is not taken outdoors; None does not ask.
        work: folder in which what was found is noted line by line, so that another call goes on; None writes nothing.
        progress: called with (photos done, photos in all).
    """
    known = _known(work)
    out = []
    for number, path in enumerate(paths, 1):
        status = path.stat()
        version = f"{status.st_size} {status.st_mtime_ns} {day_night.name} {indoor.name if indoor else ''}"
        file = path.relative_to(folder).as_posix()
        found = known.get(file)
        if found is None or found.version != version:
            found = _look_at(path, file, version, day_night, indoor)
            if work is not None:
                with (work / _SEEN).open("a", encoding="utf-8") as notes:
                    notes.write(json.dumps(asdict(found)) + "\n")
        out.append(found)
        if progress is not None:
            progress(number, len(paths))
    return out


def decide(seen: Sequence[Seen], database: Sequence[GeotaggedImage], rules: CollectionRules) -> list[Decision]:
    """The fate of each photo, in their order; of photos that show the same the first one stays.

    Raises:
        DataError: a database of several UTM zones, whose distances mean nothing.
    """
    zones = {place.zone for place in database}
    if len(zones) != 1:
        raise DataError(f"the database lies in {len(zones)} UTM zones ({', '.join(sorted(map(str, zones)))}); give one of a single zone")
    zone = zones.pop()
    tree = cKDTree([(place.east_m, place.north_m) for place in database])
    kept: list[Seen] = []
    names: set[str] = set()
    decisions = []
    for photo in seen:
        decision = _alone(photo, rules)
        if decision is None:
            decision = _against_database(photo, database, tree, zone, rules)
        if decision.fate is Fate.KEPT:
            twin = next((other for other in kept if _show_the_same(photo, other, rules)), None)
            if twin is None:
                kept.append(photo)
                decision = _with_own_name(decision, names)
            else:
                decision = Decision(photo, Fate.DUPLICATE, twin.file, decision.nearest, decision.distance_m)
        decisions.append(decision)
    return decisions


def write_collection(decisions: Sequence[Decision], photos: Path, out: Path, queries: str, settings: dict[str, Any]) -> None:
    """Copies what is kept to `out`/`queries` under names of the field, and writes `out`/photos.csv and photos.json.

    What an earlier call with other rules copied and this one does not keep is removed again.

    Raises:
        DataError: a photo that can't be copied, or a folder whose photos have been relabelled by hand since.
    """
    if (out / queries / LABELS).exists():
        raise DataError(f"{out / queries}: was relabelled by hand, which this would undo; name another folder")
    before = _copied_before(out)
    for decision in decisions:
        target = out / queries / decision.name
        if decision.fate is Fate.KEPT and not target.is_file():
            copy_upright(photos / decision.seen.file, target)
    kept = [f"{queries}/{decision.name}" for decision in decisions if decision.fate is Fate.KEPT]
    for stale in before - set(kept):
        (out / stale).unlink(missing_ok=True)
    summary = {**settings, "photos": len(decisions), "fates": count_fates(decisions), "kept": kept}
    with atomic_path(out / _SUMMARY) as draft:
        draft.write_text(json.dumps(summary, indent=2) + "\n")
    with atomic_path(out / "photos.csv") as draft, draft.open("w", newline="", encoding="utf-8") as stream:
        columns = [f.name for f in fields(Seen) if f.name != "version"]
        writer = csv.writer(stream)
        writer.writerow([*columns, "fate", "why", "nearest", "distance_m", "name"])
        for d in decisions:
            row = asdict(d.seen)
            distance = "" if d.distance_m is None else f"{d.distance_m:.2f}"
            writer.writerow([*(row[c] for c in columns), d.fate.value, d.why, d.nearest, distance, d.name])


def count_fates(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many photos had each fate, all fates in the order of `Fate`."""
    counts = Counter(decision.fate for decision in decisions)
    return {fate.value: counts[fate] for fate in Fate}


def perceptual_hash(image: RGB) -> int:
    """64 bits: which of the 8 x 8 lowest coefficients of the cosine transform of the 32 x 32 px grey image lie above their median.

    Compression, scaling and small changes of brightness change few of them. As pHash (Zauner 2010) and the package imagehash define it.
    """
    grey = cv2.cvtColor(resize_image(image, _HASH_PX, _HASH_PX), cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = np.asarray(cv2.dct(grey))[:8, :8].ravel()
    return int("".join("1" if value else "0" for value in low > np.median(low)), 2)


def _copied_before(out: Path) -> set[str]:
    try:
        kept = json.loads((out / _SUMMARY).read_text())["kept"]
        return {name for name in kept if ".." not in Path(name).parts and not Path(name).is_absolute()}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _known(work: Path | None) -> dict[str, Seen]:
    path = None if work is None else work / _SEEN
    if path is None or not path.is_file():
        return {}
    return {found.file: found for found in _lines(path)}


def _lines(path: Path) -> Iterator[Seen]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Seen(**json.loads(line))
        except (ValueError, TypeError):
            continue  # cut short when the call was interrupted: that photo is looked at again


def _look_at(path: Path, file: str, version: str, day_night: PhotoClassifier, indoor: PhotoClassifier | None) -> Seen:
    try:
        photo, image = read_photo(path), read_upright(path)
    except DataError as error:
        return Seen(file, version, " ".join(str(error).split()))
    return _described(photo, image, file, version, day_night, indoor)


def _described(photo: Photo, image: RGB, file: str, version: str, day_night: PhotoClassifier, indoor: PhotoClassifier | None) -> Seen:
    time = day_night.classify(image, photo.light_value)
    room = Verdict("", 0.0) if indoor is None else indoor.classify(image, photo.light_value)
    east, north, zone = photo.utm or (None, None, None)
    return Seen(
        file, version, "", east, north, zone, photo.heading_deg, photo.stamp_ns, time.label, round(time.score, 4), room.label,
        round(room.score, 4), f"{perceptual_hash(image):016x}",
    )  # fmt: skip


def _alone(photo: Seen, rules: CollectionRules) -> Decision | None:
    """The fate that a photo has whatever the others and the database are."""
    if photo.problem:
        return Decision(photo, Fate.UNREADABLE, photo.problem)
    if photo.east_m is None or photo.north_m is None:
        return Decision(photo, Fate.NO_POSITION, "neither its EXIF nor its name says one")
    if photo.room.startswith(("indoor", "pano")):
        return Decision(photo, Fate.INDOOR, f"{photo.room}, {photo.room_score}")
    if rules.time != "any" and not photo.time.startswith(rules.time):
        return Decision(photo, Fate.OTHER_TIME, f"{photo.time}, {photo.time_score}")
    return None


def _against_database(
    photo: Seen, database: Sequence[GeotaggedImage], tree: cKDTree, zone: str | None, rules: CollectionRules
) -> Decision:
    assert photo.east_m is not None and photo.north_m is not None
    # the letter is a band of latitude: a set may cross its border
    if photo.zone and zone and photo.zone[:-1] != zone[:-1]:
        return Decision(photo, Fate.OTHER_ZONE, f"{photo.zone}, not {zone}")
    distance, place = tree.query((photo.east_m, photo.north_m))
    nearest = database[int(place)].path.name
    if distance > rules.radius_m:
        return Decision(photo, Fate.NO_PLACE, f"the nearest is {distance:.0f} m away", nearest, float(distance))
    name = geotagged_name(
        photo.east_m, photo.north_m, heading_deg=photo.heading_deg, zone=photo.zone, stamp_ns=photo.stamp_ns,
        note=_note(photo.file), suffix=_suffix(photo.file),
    )  # fmt: skip
    return Decision(photo, Fate.KEPT, "", nearest, float(distance), name)


def _with_own_name(decision: Decision, names: set[str]) -> Decision:
    """Under a name that no other photo has, which joins `names`."""
    stem, _, suffix = decision.name.rpartition("@")
    name, number = decision.name, 1
    while name in names:
        number += 1
        name = f"{stem}_{number}@{suffix}"
    names.add(name)
    return replace(decision, name=name)


def _show_the_same(one: Seen, other: Seen, rules: CollectionRules) -> bool:
    if (int(one.hash, 16) ^ int(other.hash, 16)).bit_count() <= rules.hash_bits:
        return True
    assert one.east_m is not None and one.north_m is not None and other.east_m is not None and other.north_m is not None
    if np.hypot(one.east_m - other.east_m, one.north_m - other.north_m) >= rules.apart_m:
        return False
    if one.heading_deg is None or other.heading_deg is None:
        return True
    return abs((one.heading_deg - other.heading_deg + 180) % 360 - 180) <= 45


def _note(file: str) -> str:
    """The photo's own note or name, as far as a name of the field can hold it."""
    if is_geotagged(file) and (own := parse_geotagged(file).note):
        return own
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(file).with_suffix("").as_posix())[-80:]


def _suffix(file: str) -> str:
    suffix = Path(file).suffix.lower()
    return suffix if suffix in (".jpg", ".png") else ".jpg"
