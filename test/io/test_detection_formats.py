"""YOLO's labels, KITTI, UAVDT, iSAID: read as their authors mean them; errors name file and row."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.core.labels import COCO, ISAID, KITTI, UAVDT
from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.io import uavdt
from ros2_loc.io.detection_datasets import ANY_LABEL, open_detection_dataset
from ros2_loc.io.kitti_object import difficulty_of

sys.path.insert(0, str(Path(__file__).parent))
from labelled_folders import coco_folder, instances, picture

KITTI_ROW = "{} {} {} -1.57 {} {} {} {} 2.85 2.63 12.34 0.47 1.49 69.44 -1.56"
SIDE = st.integers(1, 50)
BOXES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 60), SIDE, SIDE).filter(lambda b: b[0] < 60 and b[1] < 40), max_size=5)


def yolo_folder(folder: Path, rows: str, names: str = "names: [car, person]\n", labels: str = "labels") -> Path:
    """Two images, labels of one."""
    for name in ("a", "b"):
        picture(folder / "images" / "val" / f"{name}.png")
    (folder / labels / "val").mkdir(parents=True)
    (folder / labels / "val" / "a.txt").write_text(rows)
    (folder / "data.yaml").write_text(names)
    return folder


@pytest.mark.parametrize("names", ["names: [car, person]\n", "names: {0: car, 1: person}\n"])
def test_yolo_is_read(tmp_path: Path, names: str) -> None:
    folder = yolo_folder(tmp_path / "set", "1 0.5 0.5 0.2 0.5\n\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n", names, "labels_yolo")
    for path in (folder, folder / "images" / "val"):
        dataset = open_detection_dataset(path)
        assert (dataset.kind, dataset.labels, dataset.name) == ("coco_yolo", ("car", "person"), "set")
        first, empty = dataset.images
        np.testing.assert_allclose(first.boxes, [[24, 10, 36, 30], [6, 8, 18, 24]], atol=1e-4)
        assert (first.name, len(empty), first.labels.tolist()) == ("val/a.png", 0, [1, 0])
        assert first.masks[0] is None and abs(int(dataset.mask(0, 1).sum()) - 12 * 16) <= 12


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("0 0.5 0.5 0.2 0.5\n2 0.5 0.5 0.2 0.5", r"a.txt: row 2: label 2, and there are 2"),
        ("0 0.5 0.5 x 0.5", r"a.txt: row 1: is not numbers"),
        ("0 0.5 0.5 0.5", r"a.txt: row 1: 3 numbers after the label"),
        ("0 0.5 0.5 nan 0.5", r"a.txt: row 1: box .* is not finite"),
    ],
)
def test_wrong_rows_of_yolo_are_named(tmp_path: Path, rows: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        open_detection_dataset(yolo_folder(tmp_path, rows))


def test_yolo_labels_of_other_images_or_gaps_in_names(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "set", "", "names: {0: car, 2: person}\n")
    with pytest.raises(DataError, match="data.yaml: names: numbers 0 to 1 are needed"):
        open_detection_dataset(folder)
    (folder / "data.yaml").unlink()
    assert open_detection_dataset(folder).labels == COCO
    (folder / "labels" / "val" / "a.txt").rename(folder / "labels" / "val" / "c.txt")
    with pytest.raises(DataError, match="has no file for any of the 2 images"):
        open_detection_dataset(folder)


def kitti_folder(folder: Path, *rows: str) -> Path:
    """One image with these rows, one with none."""
    for k in range(2):
        picture(folder / "training" / "image_2" / f"{k:06d}.png", 120, 80)
    (folder / "training" / "label_2").mkdir(parents=True)
    (folder / "training" / "label_2" / "000000.txt").write_text("\n".join(rows))
    (folder / "training" / "label_2" / "000001.txt").write_text("")
    return folder


def test_kitti_is_read(tmp_path: Path) -> None:
    rows = [
        KITTI_ROW.format("Car", "0.00", 0, 10, 20, 60, 70),
        KITTI_ROW.format("Cyclist", "0.20", 1, 10, 20, 30, 50),
        KITTI_ROW.format("DontCare", -1, -1, 80, 10, 90, 20),
    ]
    dataset = open_detection_dataset(kitti_folder(tmp_path, *rows))
    first, empty = dataset.images
    assert (dataset.kind, dataset.labels, len(empty)) == ("kitti", KITTI, 0)
    np.testing.assert_array_equal(first.boxes[0], [10.5, 20.5, 60.5, 70.5])  # pixel centres there are at whole numbers
    assert first.labels.tolist() == [0, 5, ANY_LABEL] and first.ignored.tolist() == [False, False, True]
    assert first.difficulty is not None and first.difficulty.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("height", "occlusion", "truncation", "grade"),
    [(41, 0, 0.15, 0), (41, 0, 0.16, 1), (41, 1, 0.0, 1), (39, 0, 0.0, 1), (26, 2, 0.5, 2), (26, 3, 0.0, 3), (25, 0, 0.0, 3)],
)
def test_difficulties_of_kitti(height: float, occlusion: int, truncation: float, grade: int) -> None:
    assert difficulty_of(height, occlusion, truncation) == grade


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("Car 0 0 0 1 2 3", "000000.txt: row 1: has 7 columns"),
        (KITTI_ROW.format("Ship", 0, 0, 1, 2, 3, 4), "000000.txt: row 1: type 'Ship'; there are Car, Van"),
        (KITTI_ROW.format("Car", 0, "x", 1, 2, 3, 4), "000000.txt: row 1: is not numbers"),
        (KITTI_ROW.format("Car", 0, 0, 1, "nan", 3, 4), "000000.txt: row 1: box .* is not finite"),
    ],
)
def test_wrong_rows_of_kitti_are_named(tmp_path: Path, row: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        open_detection_dataset(kitti_folder(tmp_path, row))


def test_kitti_without_some_labels(tmp_path: Path) -> None:
    folder = kitti_folder(tmp_path)
    (folder / "training" / "label_2" / "000001.txt").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no labels, the first: 000001.txt"):
        open_detection_dataset(folder)


def uavdt_folder(
    folder: Path, whole: str | None, plain: str | None = None, ignored: str | None = None, size: tuple[int, int] = (100, 60)
) -> Path:
    """A sequence of two frames as the benchmark is unpacked."""
    for k in (1, 2):
        picture(folder / "UAV-benchmark-M" / "M0203" / f"img{k:06d}.jpg", *size)
    lists = folder / "UAV-benchmark-MOTD_v1.0" / "GT"
    lists.mkdir(parents=True)
    for suffix, rows in (("gt_whole", whole), ("gt", plain), ("gt_ignore", ignored)):
        if rows is not None:
            (lists / f"M0203_{suffix}.txt").write_text(rows)
    return folder


def test_uavdt_is_read(tmp_path: Path) -> None:
    whole, plain = "2,1,10,20,30,20,1,1,2\n1,1,5,5,10,10,1,1,1\n2,2,50,30,10,10,1,2,3\n", "1,1,5,5,10,10,1,-1,-1\n"
    dataset = open_detection_dataset(uavdt_folder(tmp_path / "a", whole, plain, "2,1,60,0,40,20,1,-1,-1\n"))
    assert (dataset.kind, dataset.labels, len(dataset)) == ("uavdt", UAVDT, 2)
    first, second = dataset.images
    assert first.name == "UAV-benchmark-M/M0203/img000001.jpg" and first.labels.tolist() == [0]
    np.testing.assert_array_equal(second.boxes, [[10, 20, 40, 40], [50, 30, 60, 40], [60, 0, 100, 20]])
    assert second.labels.tolist() == [1, 2, ANY_LABEL] and second.ignored.tolist() == [False, False, True]
    assert dataset.as_one("vehicle").images[1].labels.tolist() == [0, 0, ANY_LABEL]
    without = open_detection_dataset(uavdt_folder(tmp_path / "b", None, plain))
    assert without.labels == ("vehicle",) and without.num_objects == 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("1,1,5,5,10,10,1,1", "M0203_gt_whole.txt: row 1: has 8 columns, 9 are needed"),
        ("1,1,5,5,10,10,1,1,4", "M0203_gt_whole.txt: row 1: category 4"),
        ("1,1,5,5,10,10,1,1,1\n9,1,5,5,10,10,1,1,1", "M0203_gt_whole.txt: row 2: is of frame 9, and .*M0203 has 2 images"),
        ("1,1,5,5,a,10,1,1,1", "M0203_gt_whole.txt: row 1: is not numbers"),
        ("1,1,5,5,inf,10,1,1,1", "M0203_gt_whole.txt: row 1: box .* is not finite"),
    ],
)
def test_wrong_rows_of_uavdt_are_named(tmp_path: Path, rows: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        open_detection_dataset(uavdt_folder(tmp_path, rows))


def test_uavdt_lists_without_images(tmp_path: Path) -> None:
    folder = uavdt_folder(tmp_path, "1,1,5,5,10,10,1,1,1")
    (folder / "UAV-benchmark-MOTD_v1.0" / "GT" / "M0999_gt_whole.txt").write_text("1,1,5,5,10,10,1,1,1")
    with pytest.raises(DataError, match="there is no folder M0999/"):
        open_detection_dataset(folder)


def test_uavdt_detections_come_back(tmp_path: Path) -> None:
    dataset = open_detection_dataset(uavdt_folder(tmp_path, "1,1,5,5,10,10,1,1,1"))
    given_ = [[Detection(np.array([1, 2, 11, 22.5], np.float32), "car", 0.75)], []]
    uavdt.write_uavdt_detections(tmp_path / "lists", dataset, given_)
    back = uavdt.read_uavdt_detections(tmp_path / "lists", dataset)
    assert [len(f) for f in back] == [1, 0] and back[0][0].score == pytest.approx(0.75) and back[0][0].label == "vehicle"
    np.testing.assert_allclose(back[0][0].box, [1, 2, 11, 22.5])
    (tmp_path / "lists" / "M0203.txt").write_text("1,-1,0,0,5,5,40\n1,-1,9,9,5,5,80\n")  # scores of any scale
    assert [d.score for d in uavdt.read_uavdt_detections(tmp_path / "lists", dataset)[0]] == [1.0, 0.5]
    (tmp_path / "lists" / "M0203.txt").unlink()
    with pytest.raises(DataError, match="has no detections M0203.txt"):
        uavdt.read_uavdt_detections(tmp_path / "lists", dataset)


def test_isaid_is_read(tmp_path: Path) -> None:
    categories = [{"id": k, "name": name} for k, name in enumerate(("store_tank", *ISAID[:1], *ISAID[2:]), 1)]
    folder = coco_folder(tmp_path, instances(categories=categories))
    (folder / "annotations.json").rename(folder / "instancesonly_filtered_val.json")
    for kind in ("auto", "isaid"):
        dataset = open_detection_dataset(folder, kind)
        assert dataset.kind == "isaid" and len(dataset.labels) == 15
    assert dataset.labels[0] == "storage_tank"
    with pytest.raises(DataError, match=r"annotations.json: category 'person' is none of iSAID's"):
        open_detection_dataset(coco_folder(tmp_path / "people", instances()), "isaid")


@settings(max_examples=6)
@given(BOXES)
def test_boxes_come_back_from_every_list(tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[int, int, int, int]]) -> None:
    """x, y, width, height in an image of 120 x 80 px as each format writes them."""
    folder = tmp_path_factory.mktemp("sets")
    corners = np.array([(x, y, min(x + w, 120), min(y + h, 80)) for x, y, w, h in boxes], dtype=np.float64).reshape(-1, 4)
    size = np.array([120, 80])
    middles, sides = (corners[:, :2] + corners[:, 2:]) / 2 / size, (corners[:, 2:] - corners[:, :2]) / size
    shares = [f"1 {m[0]:.8f} {m[1]:.8f} {s[0]:.8f} {s[1]:.8f}" for m, s in zip(middles, sides, strict=True)]
    picture(folder / "yolo" / "images" / "a.png", 120, 80)
    (folder / "yolo" / "labels").mkdir()
    (folder / "yolo" / "labels" / "a.txt").write_text("\n".join(shares))
    kitti_folder(folder / "kitti", *(KITTI_ROW.format("Car", 0, 0, *(c - 0.5)) for c in corners))
    rows = "".join(f"1,{k},{x0},{y0},{x1 - x0},{y1 - y0},1,1,2\n" for k, (x0, y0, x1, y1) in enumerate(corners))
    uavdt_folder(folder / "uavdt", rows, size=(120, 80))
    for kind in ("yolo", "kitti", "uavdt"):
        np.testing.assert_allclose(open_detection_dataset(folder / kind, strict=True).images[0].boxes, corners, atol=1e-3)


def test_real_coco_and_kitti(shared_data: Path) -> None:
    if not (shared_data / "coco64_val").is_dir():
        pytest.skip("coco64_val is not among the shared data")
    dataset = open_detection_dataset(shared_data / "coco64_val")
    assert (len(dataset), dataset.num_objects, dataset.labels, dataset.kind) == (64, 440, COCO, "coco_yolo")
    cars = open_detection_dataset(shared_data / "kitti_object")
    assert (len(cars), cars.num_objects) == (3, 6)
    np.testing.assert_allclose(cars.images[0].boxes, [[712.9, 143.5, 811.23, 308.42]], atol=0.01)
