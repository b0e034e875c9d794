"""Sets of places: what lies at a path, what is right for a query, what is wrong with a folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.geotagged import geotagged_name, short_geotagged_name
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import write_image
from ros2_loc.io.place_datasets import PlaceImages, PlaceOptions, open_place_folder
from ros2_loc.io.place_lights import LIGHTS, PlaceLight, in_other_light
from ros2_loc.io.place_truth import positives_within, read_pairs, read_vprbench
from ros2_loc.io.recorded_places import open_place_dataset, recorded_places, two_recordings

GREY = np.full((6, 8, 3), 90, np.uint8)


def tagged_folder(folder: Path) -> Path:
    """Places 20 m apart towards east; queries 3 m beside the first two and one far away, two of them at night."""
    for k in range(4):
        write_image(folder / "database" / geotagged_name(500_000 + 20 * k, 4_000_000, zone="10S"), GREY + np.uint8(k))
    write_image(folder / "queries" / short_geotagged_name(500_000, 4_000_003), GREY)
    write_image(folder / "queries_night" / "deeper" / geotagged_name(500_020, 4_000_003, zone="10S"), GREY)
    write_image(folder / "queries_night" / geotagged_name(900_000, 4_000_003, zone="10S"), GREY)
    return folder


def plain_folder(folder: Path, places: int = 3, queries: int = 2) -> Path:
    for k in range(places):
        write_image(folder / "ref" / f"{k}.png", GREY)
    for k in range(queries):
        write_image(folder / "query" / f"q{k}.png", GREY)
    return folder


def write_vprbench(path: Path, rows: list[list[object]]) -> None:
    array = np.empty((len(rows), 2), dtype=object)
    for k, row in enumerate(rows):
        array[k, 0], array[k, 1] = row
    np.save(path, array, allow_pickle=True)


@given(st.integers(0, 1000), st.floats(0.5, 40))
def test_positives_are_those_within_the_radius(seed: int, radius_m: float) -> None:
    rng = np.random.default_rng(seed)
    database, queries = rng.uniform(0, 100, (30, 2)), rng.uniform(0, 100, (10, 2))
    apart = np.linalg.norm(queries[:, None] - database, axis=2)
    assert positives_within(database, queries, radius_m) == [set(np.flatnonzero(row <= radius_m).tolist()) for row in apart]


def test_geotagged_folder_with_domains(tmp_path: Path) -> None:
    for path in tagged_folder(tmp_path).glob("queries/*"):  # the zone must be that of the places
        path.rename(path.with_name(geotagged_name(500_000, 4_000_003, zone="10S")))
    dataset = open_place_dataset(tmp_path)
    assert len(dataset.database) == 4 and dataset.queries.domains == ("queries", "night", "night") and dataset.rule == "within 25 m"
    assert dataset.positives == [{0, 1}, set(), {0, 1, 2}] and dataset.without_positives == 1
    assert open_place_dataset(tmp_path, PlaceOptions(radius_m=10)).positives == [{0}, set(), {1}]
    np.testing.assert_array_equal(dataset.database.load(2), GREY + np.uint8(2))
    assert dataset.queries.frame(1).image.shape == (6, 8, 3)
    assert [len(dataset.answerable().queries), len(dataset.limited(1).queries)] == [2, 2]
    with pytest.raises(DataError, match="no query has a positive"):
        dataset.with_queries([1]).answerable()
    with pytest.raises(ConfigError, match="at least 1 query"):
        dataset.limited(0)


def test_utm_zones_are_different_places(tmp_path: Path) -> None:
    write_image(tmp_path / "database" / geotagged_name(500_000, 4_000_000, zone="10S"), GREY)
    write_image(tmp_path / "database" / geotagged_name(500_000, 4_000_000, zone="11S"), GREY)
    write_image(tmp_path / "queries" / geotagged_name(500_001, 4_000_000, zone="11S"), GREY)
    dataset = open_place_folder(tmp_path)
    assert [dataset.database.names[i][-1:] and "@11@" in dataset.database.names[i] for i in dataset.positives[0]] == [True]


def test_a_fingerprint_knows_its_images(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    before = open_place_folder(folder)
    assert before.database.fingerprint == open_place_folder(folder).database.fingerprint != before.queries.fingerprint
    write_image(folder / "ref" / "1.png", np.zeros((9, 9, 3), np.uint8))
    assert open_place_folder(folder).database.fingerprint != before.database.fingerprint


def test_frames_listed_by_vprbench(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    write_vprbench(folder / "ground_truth_new.npy", [[0, [0, 2]], [1, [-1]]])
    dataset = open_place_dataset(folder)
    assert dataset.positives == [{0, 2}, set()] and dataset.has_truth and "ground_truth_new.npy" in dataset.rule
    write_vprbench(folder / "ground_truth_new.npy", [[0, [0, 3]], [1, [1]]])
    with pytest.raises(DataError, match="names database image 3, and there are 3"):
        open_place_dataset(folder)
    write_vprbench(folder / "ground_truth_new.npy", [[0, [0]]])
    with pytest.raises(DataError, match="truth of 1 queries for 2 images"):
        open_place_dataset(folder)
    write_vprbench(folder / "other.npy", [[0, [0]]])
    with pytest.raises(DataError, match="2 files of truth"):
        open_place_dataset(folder)


def test_pairs_listed_by_hand(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    assert not open_place_dataset(folder).has_truth
    (folder / "positives.txt").write_text("# by eye\nq0.png 1.png\nq0.png 2.png\n")
    dataset = open_place_dataset(folder)
    assert dataset.positives == [{1, 2}, set()] and dataset.rule == "listed in positives.txt"
    for text, wrong in (("q0.png\n", "line 1 is not `query database`"), ("q0.png q1.png\n", "there is no image 'q1.png'")):
        (folder / "positives.txt").write_text(text)
        with pytest.raises(DataError, match=wrong):
            read_pairs(folder / "positives.txt", ["0.png"], ["q0.png"])


def test_all_truth_files_of_vprbench(shared_data: Path) -> None:
    found = {path.stem: read_vprbench(path) for path in sorted((shared_data / "vpr" / "vprbench_gt").glob("*.npy"))}
    assert len(found) == 14 and [len(found[name]) for name in ("17places", "Nordland", "Tokyo247")] == [406, 2760, 315]
    assert found["GardensPointWalking"][1] == {0, 1, 2, 3} and max(found["Nordland"][-1]) == 27591
    assert sum(not positives for positives in found["GardensPoint_TN"]) == 200
    assert open_place_dataset(shared_data / "vpr" / "corridor").positives == found["corridor"]


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("/tmp/ros2_loc_was_here"),)  # type: ignore[return-value]


def test_a_truth_file_can_not_call_anything(tmp_path: Path) -> None:
    array = np.empty((1, 2), dtype=object)
    array[0, 0], array[0, 1] = 0, Evil()
    np.save(tmp_path / "evil.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=r"is no ground truth of VPR-Bench \(it names pathlib"):
        read_vprbench(tmp_path / "evil.npy")
    assert not Path("/tmp/ros2_loc_was_here").exists()
    for data in (b"\x93NUMPY", b"nothing", pickle.dumps([1]), (tmp_path / "evil.npy").read_bytes()[:90]):
        (tmp_path / "bad.npy").write_bytes(data)
        with pytest.raises(DataError, match="is no ground truth of VPR-Bench"):
            read_vprbench(tmp_path / "bad.npy")
    write_vprbench(tmp_path / "order.npy", [[1, [0]], [0, [0]]])
    with pytest.raises(DataError, match="are not numbered 0 to 1"):
        read_vprbench(tmp_path / "order.npy")


def test_recordings_as_places(town_sequence: ImageSequence) -> None:
    dataset = recorded_places(town_sequence, PlaceOptions(radius_m=4.0, map_every=4, lights=("shifted", "dark")), "street")
    assert (len(dataset.database), len(dataset.queries)) == (5, 10)
    assert dataset.queries.domains == ("shifted",) * 5 + ("dark",) * 5 and dataset.positives[:5] == dataset.positives[5:]
    assert all(i in dataset.positives[i] for i in range(5)) and dataset.rule == "within 4 m"
    shifted, dark, again = (dataset.queries.load(i) for i in (1, 6, 6))
    np.testing.assert_array_equal(shifted, town_sequence.image(6))
    np.testing.assert_array_equal(dark, again)
    assert dark.mean() < 0.5 * shifted.mean() and dataset.queries.names[6] == f"dark/{town_sequence.names[6]}"
    both = two_recordings(town_sequence, town_sequence.subset(range(3)), PlaceOptions(map_every=5), "day by day")
    assert (len(both.database), len(both.queries)) == (4, 3) and both.without_positives == 0
    for options, wrong in (({"lights": ("noon",)}, "no light 'noon'"), ({"lights": ()}, "at least one")):
        with pytest.raises(ConfigError, match=wrong):
            recorded_places(town_sequence, PlaceOptions(**options), "street")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="too few for every 30th"):
        recorded_places(town_sequence, PlaceOptions(map_every=30), "street")


def test_two_recordings_by_their_paths(shared_data: Path) -> None:
    path = shared_data / "kitti" / "03"
    dataset = open_place_dataset(f"{path}::{path}", PlaceOptions(map_every=100, stop=200))
    assert (dataset.name, len(dataset.database), len(dataset.queries)) == ("kitti/03 asked by kitti/03", 2, 200)


@given(st.sampled_from(sorted(LIGHTS)), st.integers(0, 2**32 - 1))
def test_lights_keep_form_and_repeat(name: str, seed: int) -> None:
    image = np.tile(np.linspace(0, 255, 16).astype(np.uint8)[:, None], (12, 1, 3))
    lit = in_other_light(image, LIGHTS[name], seed)
    assert lit.shape == image.shape and lit.dtype == np.uint8
    np.testing.assert_array_equal(lit, in_other_light(image, LIGHTS[name], seed))
    assert np.corrcoef(lit.ravel(), image.ravel())[0, 1] > 0.5


def test_light_does_what_it_says() -> None:
    image = np.full((4, 4, 3), 128, np.uint8)
    assert in_other_light(image, PlaceLight(exposure=0.5), 0).tolist() == np.full((4, 4, 3), 64).tolist()
    assert (in_other_light(image, PlaceLight(gamma=2.0), 0) == round(255 * (128 / 255) ** 2)).all()


def test_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_place_dataset(tmp_path / "absent")
    (tmp_path / "database").mkdir()
    with pytest.raises(DataError, match="has only one of database/ and queries/"):
        open_place_dataset(tmp_path)
    (tmp_path / "queries").mkdir()
    with pytest.raises(DataError, match="database: holds no images"):
        open_place_dataset(tmp_path)
    write_image(tmp_path / "database" / geotagged_name(1, 2), GREY)
    with pytest.raises(DataError, match="queries: holds no images"):
        open_place_dataset(tmp_path)
    write_image(tmp_path / "queries" / geotagged_name(1, 2), GREY)
    write_image(tmp_path / "queries" / "q.png", GREY)
    with pytest.raises(DataError, match="q.png: its name says no position"):
        open_place_dataset(tmp_path)
    with pytest.raises(DataError, match="2 images are called 'a'"):
        PlaceImages(("a", "a"), lambda i: GREY, None, ("", ""))
    with pytest.raises(ConfigError, match="--radius 0"):
        PlaceOptions(radius_m=0)
    with pytest.raises(ConfigError, match="--query-shift 10"):
        PlaceOptions(query_shift=10)
