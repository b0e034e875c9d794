"""Queries out of photos: every photo has a fate and a reason, twins go, an interrupted call is taken up."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.photo_collection import (
    CollectionRules,
    Decision,
    Fate,
    Seen,
    count_fates,
    decide,
    look_at_photos,
    perceptual_hash,
    write_collection,
)
from ros2_loc.io.geotagged import GeotaggedImage, geotagged_name, read_geotagged
from ros2_loc.io.images import encode_image, write_image
from ros2_loc.io.photos import find_photos
from ros2_loc.perception.photo_classifiers import BrightnessDayNight, Verdict

DATABASE = [GeotaggedImage(Path(f"db{k}.jpg"), 500_000.0 + 30 * k, 5_000_000.0, 0.0, "32U", None, "") for k in range(4)]


def _seen(number: int, **changes: object) -> Seen:
    hash_ = f"{int(np.random.default_rng(number).integers(0, 2**63)):016x}"
    photo = Seen(f"p{number}.jpg", "v", "", 500_000.0 + 7 * number, 5_000_003.0, "32U", 10.0, None, "night", 0.9, "", 0.0, hash_)
    return replace(photo, **changes)  # type: ignore[arg-type]


def _scene(seed: int, dark: bool = True) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 110 if dark else 255, (7, 9, 3)).astype(np.uint8)
    image = np.asarray(cv2.resize(coarse, (180, 140), interpolation=cv2.INTER_CUBIC), np.uint8)
    image[:50] = image[:50] // 4 if dark else 240
    return image


@pytest.mark.parametrize(
    ("changes", "fate", "why"),
    [
        ({}, Fate.KEPT, ""),
        ({"problem": "is damaged"}, Fate.UNREADABLE, "is damaged"),
        ({"east_m": None}, Fate.NO_POSITION, "neither its EXIF"),
        ({"room": "indoor_3", "room_score": 0.8}, Fate.INDOOR, "indoor_3, 0.8"),
        ({"time": "day"}, Fate.OTHER_TIME, "day, 0.9"),
        ({"zone": "33U"}, Fate.OTHER_ZONE, "33U, not 32U"),
        ({"zone": "32T"}, Fate.KEPT, ""),  # another band of the same zone
        ({"zone": None}, Fate.KEPT, ""),
        ({"north_m": 5_000_026.0}, Fate.NO_PLACE, "26 m away"),
        ({"north_m": 5_000_024.0, "east_m": 500_000.0}, Fate.KEPT, ""),
    ],
)
def test_fates(changes: dict, fate: Fate, why: str) -> None:
    (decision,) = decide([_seen(0, **changes)], DATABASE, CollectionRules())
    assert decision.fate is fate and why in decision.why
    assert bool(decision.name) == (fate is Fate.KEPT)
    if fate is Fate.KEPT:
        assert decision.nearest == "db0.jpg" and decision.distance_m is not None and decision.distance_m <= 25


def test_what_shows_the_same_stays_once() -> None:
    first = _seen(1)
    near = f"{int(first.hash, 16) ^ 0b10110011:016x}"  # 5 bits of 64
    far = f"{int(first.hash, 16) ^ 0xFFFF:016x}"
    photos = [first, _seen(2, hash=near), _seen(3, hash=far), _seen(4, hash=near, time="day")]
    decisions = decide(photos, DATABASE, CollectionRules())
    assert [d.fate for d in decisions] == [Fate.KEPT, Fate.DUPLICATE, Fate.KEPT, Fate.OTHER_TIME]
    assert decisions[1].why == "p1.jpg"
    assert decide(photos[:2], DATABASE, CollectionRules(hash_bits=4))[1].fate is Fate.KEPT


def test_photos_of_one_spot_stay_once_unless_they_look_elsewhere() -> None:
    photos = [_seen(1), _seen(2, heading_deg=350.0), _seen(3, heading_deg=190.0), _seen(4, heading_deg=None)]
    photos = [replace(photo, east_m=500_001.0) for photo in photos]
    fates = [d.fate for d in decide(photos, DATABASE, CollectionRules(apart_m=5.0))]
    assert fates == [Fate.KEPT, Fate.DUPLICATE, Fate.KEPT, Fate.DUPLICATE]
    assert {d.fate for d in decide(photos, DATABASE, CollectionRules())} == {Fate.KEPT}


def test_two_photos_never_share_a_name() -> None:
    twins = [replace(_seen(k), east_m=500_000.0, file=file) for k, file in enumerate(("a b.jpg", "a_b.jpg"))]
    names = [d.name for d in decide(twins, DATABASE, CollectionRules())]
    assert len(set(names)) == 2


def test_a_database_of_two_zones_is_refused() -> None:
    with pytest.raises(DataError, match="2 UTM zones"):
        decide([_seen(0)], [*DATABASE, replace(DATABASE[0], zone="33U")], CollectionRules())


@given(st.integers(0, 200), st.floats(0.6, 1.3))
def test_the_hash_survives_what_people_do_to_copies(seed: int, gain: float) -> None:
    image, other = _scene(seed), _scene(seed + 1000)
    small = cv2.resize(image, (97, 75), interpolation=cv2.INTER_AREA)
    stored = cv2.imdecode(np.frombuffer(encode_image(np.asarray(small, np.uint8), ".jpg", 60), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    copy = np.clip(stored * gain, 0, 255).astype(np.uint8)
    assert (perceptual_hash(image) ^ perceptual_hash(copy)).bit_count() <= 8
    assert (perceptual_hash(image) ^ perceptual_hash(other)).bit_count() > 8


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three nights of which two are one, a day, one without a position, a damaged one."""
    folder = tmp_path / "photos"
    for k, (scene, dark) in enumerate(((1, True), (2, True), (1, True), (4, False))):
        name = geotagged_name(500_000.0 + 20 * k, 5_000_004.0, zone="32U", note=f"n{k}")
        write_image(folder / f"day{k}" / name, _scene(scene, dark))
    write_image(folder / "lost.png", _scene(9))
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 no image \xff\xd9")
    return folder


def _run(photos: Path, out: Path, rules: CollectionRules = CollectionRules()) -> list[Decision]:  # noqa: B008
    out.mkdir(exist_ok=True)
    decisions = decide(look_at_photos(find_photos(photos), photos, BrightnessDayNight(), None, out), DATABASE, rules)
    write_collection(decisions, photos, out, "queries_night", {"time": "night"})
    return decisions


def test_a_folder_becomes_queries(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    decisions = _run(photos, out)
    counts = count_fates(decisions)
    assert counts == {**dict.fromkeys((f.value for f in Fate), 0), **json.loads((out / "photos.json").read_text())["fates"]}
    assert (counts["kept"], counts["shows the same as another one"], counts["another time of day"]) == (2, 1, 1)
    assert (counts["no position"], counts["can't be read"]) == (1, 1)
    kept = read_geotagged(out / "queries_night")
    assert sorted(image.east_m for image in kept) == [500_000.0, 500_020.0] and {image.zone for image in kept} == {"32U"}
    rows = list(csv.DictReader((out / "photos.csv").open()))
    assert len(rows) == 6 and {row["fate"] for row in rows} == {d.fate.value for d in decisions}


def test_an_interrupted_call_goes_on(photos: Path, tmp_path: Path) -> None:
    class Counting(BrightnessDayNight):
        asked = 0

        def classify(self, image: np.ndarray, light_value: float | None) -> Verdict:
            Counting.asked += 1
            return super().classify(image, light_value)

    paths, work = find_photos(photos), tmp_path
    first = look_at_photos(paths[:3], photos, Counting(), None, work)
    with (work / "seen.jsonl").open("a") as notes:
        notes.write('{"file": "cut sho')
    again = look_at_photos(paths, photos, Counting(), None, work)
    readable = len(paths) - 1
    assert again[:3] == first and Counting.asked == readable
    assert look_at_photos(paths, photos, Counting(), None, None) == again and Counting.asked == 2 * readable  # None: nothing is noted


def test_other_rules_take_away_what_they_do_not_keep(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(photos, out)
    mine = out / "queries_night" / "notes.txt"
    mine.write_text("mine")
    _run(photos, out, CollectionRules(apart_m=24.0))
    assert len(read_geotagged(out / "queries_night")) == 1 and mine.exists()


def test_what_was_relabelled_by_hand_is_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(photos, out)
    (out / "queries_night" / "relabel.json").write_text("{}")
    with pytest.raises(DataError, match="relabelled by hand"):
        _run(photos, out)


@pytest.mark.parametrize("values", [{"time": "noon"}, {"radius_m": 0.0}, {"hash_bits": 65}, {"apart_m": -1.0}])
def test_rules_that_can_not_be(values: dict) -> None:
    with pytest.raises(ConfigError):
        CollectionRules(**values)
