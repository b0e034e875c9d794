"""Sets of labelled images: every format is read as its authors mean it, what is written comes back, errors name file and annotation."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ros2_loc.core.labels import COCO, COCO_IDS, ISAID, KITTI, MOVERS, UAVDT, plain_label, same_label
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io import coco
from ros2_loc.io.coco_results import FoundObjects, read_coco_results, write_coco_results
from ros2_loc.io.detection_datasets import ANY_LABEL, open_detection_dataset
from ros2_loc.io.images import image_size, write_image
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage, filled_box

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
sys.path.insert(0, str(Path(__file__).parent))
from detection_cases import LABELS, blobs, image_of, set_of
from labelled_folders import coco_folder, instances, picture

NUMBER = st.floats(-20, 90, allow_nan=False, width=32)


def annotation(**changed: Any) -> dict[str, Any]:
    """The instances with one annotation, 11, changed."""
    first = {**instances()["annotations"][0], **changed}
    return instances(annotations=[{k: v for k, v in first.items() if v is not None}])


def test_names_of_labels() -> None:
    assert (len(COCO), len(KITTI), len(UAVDT), len(ISAID)) == (80, 8, 3, 15)
    assert dict(zip(COCO, COCO_IDS, strict=True)) | {"person": 1} == dict(zip(COCO, COCO_IDS, strict=True))
    assert {n: k for k, n in zip(COCO_IDS, COCO, strict=True)}["toothbrush"] == 90  # as instances_val2017.json numbers it
    assert {n: k for k, n in zip(COCO_IDS, COCO, strict=True)}["stop sign"] == 13
    assert {"car", "Pedestrian", "Large_Vehicle", "person", "cyclist", "truck"} <= MOVERS
    assert not MOVERS & {"traffic light", "stop sign", "Bridge", "bench", "Harbor"}
    known = {*COCO, *KITTI, *UAVDT, *ISAID, "cyclist", "rider", "pedestrian", "vehicle", "van", "tram"}
    assert known >= MOVERS
    assert same_label("Large_Vehicle", "large vehicle") and not same_label("car", "cart") and plain_label(" A-b__C ") == "a b c"


def test_coco_is_read(tmp_path: Path) -> None:
    dataset = open_detection_dataset(coco_folder(tmp_path / "set", instances()))
    assert (dataset.name, dataset.kind, dataset.labels, dataset.category_ids) == ("set", "coco", ("person", "car"), (1, 3))
    first, empty = dataset.images
    assert (first.name, first.id, first.size, len(empty), dataset.num_objects) == ("7.png", 7, (60, 40), 0, 1)
    np.testing.assert_array_equal(first.boxes, [[5, 6, 25, 16], [1.5, 2, 4.5, 6]])
    assert first.labels.tolist() == [1, 0] and first.ignored.tolist() == [False, True]
    np.testing.assert_allclose(first.object_areas, [90.0, 12.0])  # of the file, else of the box
    assert dataset.image(0).shape == (40, 60, 3) and dataset.frame(1).camera.width == 60
    assert dataset.mask(0, 0).sum() == 200 and not dataset.has_masks  # the box, filled


@pytest.mark.parametrize("layout", ["annotations/instances_val2017.json", "annotations.json", "instances_x.json"])
def test_layouts_of_coco(tmp_path: Path, layout: str) -> None:
    for k in (7, 9):
        picture(tmp_path / ("val2017" if "val2017" in layout else "images") / f"{k}.png")
    file = tmp_path / layout
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(instances()))
    assert len(open_detection_dataset(tmp_path)) == len(open_detection_dataset(file, "coco")) == 2


def test_masks_of_every_form(tmp_path: Path) -> None:
    polygon = [[10, 5, 30, 5, 30, 15, 10, 15]]
    counts = coco.coco_mask.decode(coco.coco_mask.frPyObjects(polygon, 40, 60)[0]).ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], counts, [2]]))).tolist()
    runs = np.diff([0, *edges]).tolist()
    told = [polygon, {"size": [40, 60], "counts": runs}, coco.rle_of_mask(filled_box(np.array([10, 5, 30, 15]), (60, 40)))]
    rows = [{"id": k, "image_id": 7, "category_id": 1, "bbox": [10, 5, 20, 10], "segmentation": s} for k, s in enumerate(told, 1)]
    dataset = open_detection_dataset(coco_folder(tmp_path, instances(annotations=rows)))
    masks = [dataset.mask(0, k) for k in range(3)]
    assert dataset.has_masks and all(m.sum() == 200 and m[5:15, 10:30].all() for m in masks)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "annotations.json: not JSON"),
        ("[]", "has no list 'images'"),
        (instances(categories=[]), "names no categories"),
        (instances(categories=[{"id": 1}]), "needs an id and a name"),
        (instances(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "two categories have the id 1: 'a' and 'b'"),
        (instances(images=[]), "annotation 11: is of image 7, which the file does not list"),
        (instances(images=[], annotations=[]), "lists no images"),
        (instances(images=[{"id": 7, "file_name": "7.png", "width": 0, "height": 4}]), "image 7 (7.png) is 0x4 px"),
        (instances(images=[{"id": 7, "width": 60, "height": 40}]), "needs id, file_name, width, height"),
        (instances(images=[{"id": 7, "file_name": n, "width": 60, "height": 40} for n in "ab"]), "two images have the id 7: a and b"),
        (instances(images=[{"id": 7, "file_name": "x.png", "width": 60, "height": 40}]), "its first image x.png is neither"),
        (
            instances(images=[{"id": k, "file_name": n, "width": 60, "height": 40} for k, n in ((7, "7.png"), (9, "x.png"))]),
            "1 of 2 images are not in",
        ),
        (annotation(category_id=2), "annotation 11: has category 2; there are 1, 3"),
        (annotation(bbox=[1, 2, 3]), "annotation 11: needs image_id, category_id and a bbox of 4 numbers"),
        (annotation(bbox=None), "annotation 11: needs"),
        (annotation(bbox=[1, 2, float("nan"), 4]), "annotation 11: box (1.0, 2.0, nan, 6.0) is not finite"),
        (annotation(segmentation={"size": [40, 50], "counts": "abc"}), "annotation 11: a mask of [40, 50] (height, width) in an image of"),
        (annotation(segmentation=[["a", 1, 2, 3, 4, 5]]), "annotation 11: its segmentation is neither polygons nor RLE"),
        (annotation(segmentation={"counts": [1, 2]}), "annotation 11: its segmentation is neither"),
        (instances(annotations=[*instances()["annotations"], instances()["annotations"][0]]), "annotation 11: comes twice"),
        (instances(annotations=["x"]), "annotation number 0 in the list: needs"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, content: Any, expected: str) -> None:
    with pytest.raises(DataError) as error:
        open_detection_dataset(coco_folder(tmp_path, content))
    assert expected in str(error.value) and "annotations.json" in str(error.value)


@pytest.mark.parametrize("box", [[5, 6, 0, 10], [5, 6, 10, -2], [70, 6, 10, 10], [-8, 2, 8, 3]])
def test_boxes_without_an_area_are_left_out_or_refused(tmp_path: Path, box: list[float], caplog: pytest.LogCaptureFixture) -> None:
    content = instances(annotations=[*instances()["annotations"], {"id": 13, "image_id": 9, "category_id": 1, "bbox": box}])
    folder = coco_folder(tmp_path, content)
    with caplog.at_level(logging.WARNING):
        dataset = open_detection_dataset(folder)
    assert dataset.left_out == 1 and len(dataset.images[1]) == 0
    assert len(caplog.records) == 1 and "left out 1 objects" in caplog.text and "annotation 13" in caplog.text
    with pytest.raises(DataError, match="annotation 13: box .* has no area in an image of 60x40 px"):
        open_detection_dataset(folder, strict=True)


def test_boxes_are_clipped_to_the_image(tmp_path: Path) -> None:
    dataset = open_detection_dataset(coco_folder(tmp_path, annotation(bbox=[-5, 30, 80, 30])))
    np.testing.assert_array_equal(dataset.images[0].boxes, [[0, 30, 60, 40]])


def test_nothing_known_and_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no set of labelled images"):
        open_detection_dataset(tmp_path)
    with pytest.raises(DataError, match="no such folder or file"):
        open_detection_dataset(tmp_path / "absent")
    with pytest.raises(ConfigError, match="kind 'voc': there are auto, coco"):
        open_detection_dataset(tmp_path, "voc")
    (tmp_path / "annotations").mkdir()
    for name in ("instances_a.json", "instances_b.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    with pytest.raises(DataError, match="holds 2 files of annotations"):
        open_detection_dataset(tmp_path)


def test_images_of_another_size_than_annotated(tmp_path: Path) -> None:
    dataset = open_detection_dataset(coco_folder(tmp_path, instances()))
    picture(tmp_path / "images" / "7.png", 30, 20)
    with pytest.raises(DataError, match=r"7.png: is 30x20 px, and its annotations are of 60x40"):
        dataset.image(0)
    (tmp_path / "images" / "7.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"7.png: is empty"):
        dataset.image(0)


@settings(max_examples=15)
@given(
    corners=st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), max_size=6),
    labels=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    ignored=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, corners: list, labels: list, ignored: list) -> None:
    folder = tmp_path_factory.mktemp("set")
    picture(folder / "images" / "a.png")
    boxes = [[max(min(a, c), 0), max(min(b, d), 0), min(max(a, c), 60), min(max(b, d), 40)] for a, b, c, d in corners]
    kept = [k for k, b in enumerate(boxes) if b[2] - b[0] > 1e-3 and b[3] - b[1] > 1e-3]
    image = image_of([boxes[k] for k in kept], [labels[k] for k in kept], [ignored[k] for k in kept], (60, 40))
    coco.write_coco(folder, set_of(image))
    back = open_detection_dataset(folder)
    assert back.labels == LABELS and back.left_out == 0
    np.testing.assert_allclose(back.images[0].boxes, image.boxes, atol=1e-5)
    assert back.images[0].labels.tolist() == image.labels.tolist() and back.images[0].ignored.tolist() == image.ignored.tolist()


@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_masks_come_back(mask: np.ndarray) -> None:
    rle = json.loads(json.dumps(coco.rle_of_mask(mask)))
    np.testing.assert_array_equal(coco.mask_of_rle(rle), mask)


def test_written_with_masks_areas_and_numbers(tmp_path: Path) -> None:
    dataset = blobs(tmp_path / "blobs", 3)
    coco.write_coco(tmp_path / "again.json", dataset)
    (tmp_path / "images").symlink_to(tmp_path / "blobs" / "images")
    back = open_detection_dataset(tmp_path / "again.json")
    for a, b in zip(dataset.images, back.images, strict=True):
        assert (a.name, a.id, a.size, a.masks) == (b.name, b.id, b.size, b.masks)
        np.testing.assert_array_equal(a.object_areas, b.object_areas)
    assert back.has_masks and back.category_ids == dataset.category_ids


def test_a_region_for_all_labels_is_written_as_a_crowd_of_each(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    coco.write_coco(tmp_path, set_of(image_of([[1, 2, 9, 8]], [ANY_LABEL], [True], (60, 40))))
    image = open_detection_dataset(tmp_path).images[0]
    assert image.labels.tolist() == [0, 1, 2] and image.ignored.all()


def test_another_list_of_labels() -> None:
    dataset = set_of(image_of([[0, 0, 5, 5]] * 4, [0, 1, 2, ANY_LABEL], [False, False, False, True]))
    renamed = dataset.renamed(("Person", "CAR"), {"truck": "car"})
    image = renamed.images[0]
    assert renamed.labels == ("Person", "CAR") and image.labels.tolist() == [1, 1, 0, ANY_LABEL] and renamed.num_objects == 3
    only = dataset.renamed(("car",))
    assert only.images[0].ignored.tolist() == [False, True, True, True]  # what is not judged is no mistake either
    with pytest.raises(ConfigError, match="no label in common: cases has car, truck, person; asked for are tree, house"):
        dataset.renamed(("tree", "house"))
    with pytest.raises(ConfigError, match="has no label 'lorry'"):
        dataset.renamed(("car",), {"lorry": "car"})


def test_some_of_the_images() -> None:
    dataset = set_of(*(image_of([], [], name=f"{k}.png") for k in range(10)))
    assert [i.name for i in dataset.limited(4).images] == ["0.png", "3.png", "6.png", "9.png"]
    assert len(dataset.limited(99)) == len(dataset.limited(None)) == 10
    with pytest.raises(ConfigError, match="--limit 0"):
        dataset.limited(0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images": ()}, "has no images"),
        ({"labels": ("car", "car")}, "two labels called 'car'"),
        ({"labels": ("car",)}, "an object has label 1, and there are 1: car"),
        ({"category_ids": (1, 1)}, "each needs its own"),
        ({"images": (image_of([], []), image_of([], []))}, "two images called 'a.png'"),
    ],
)
def test_contradictory_sets_are_refused(change: dict[str, Any], expected: str) -> None:
    held: dict[str, Any] = {"name": "x", "labels": ("car", "bus"), "images": (image_of([[0, 0, 1, 1]], [1]),), "root": Path("x")}
    with pytest.raises(DataError, match=expected):
        DetectionDataset(**{**held, **change})
    with pytest.raises(DataError, match="each box needs one"):
        LabelledImage("a", Path("a"), (4, 4), np.zeros((2, 4), np.float32), np.zeros(1, np.int64), np.zeros(2, bool), (None, None))


def test_results_come_back(tmp_path: Path) -> None:
    dataset = blobs(tmp_path / "blobs", 3)
    made = [FoundObjects(i.boxes, i.labels, np.linspace(0.9, 0.2, len(i)).astype(np.float32), i.masks) for i in dataset.images]
    write_coco_results(tmp_path / "results.json", dataset, made)
    for a, b in zip(made, read_coco_results(tmp_path / "results.json", dataset), strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.scores, b.scores)
        assert a.labels.tolist() == b.labels.tolist() and a.masks == b.masks


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "is no list of results"),
        ("[", "not JSON"),
        ([{"image_id": 7}], "result 0: needs image_id, category_id, score and a bbox"),
        ([{"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "result 0: is of image 8, which the data set has not"),
        ([{"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 1}], "result 0: has category 2; the data set has 1, 3"),
        ([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, float("inf")], "score": 1}], "result 0: holds a number that is not finite"),
    ],
)
def test_wrong_results_are_named(tmp_path: Path, content: Any, expected: str) -> None:
    dataset = open_detection_dataset(coco_folder(tmp_path, instances()))
    file = tmp_path / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=expected) as error:
        read_coco_results(file, dataset)
    assert "results.json" in str(error.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".pgm"])
def test_size_of_an_image_file(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    write_image(file, np.full((17, 31), 9, np.uint8))
    assert image_size(file) == (31, 17)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="is not an image"):
        image_size(file)


def test_the_kind_is_told_by_names_before_other_files_of_json(tmp_path: Path) -> None:
    """A file of somebody's notes does not make COCO of YOLO's labels; alone it would be tried."""
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.5")
    (tmp_path / "notes.json").write_text("{}")
    assert open_detection_dataset(tmp_path).kind == "coco_yolo"
    (tmp_path / "labels" / "a.txt").unlink()
    (tmp_path / "labels").rmdir()
    with pytest.raises(DataError, match="notes.json: has no list 'images'"):
        open_detection_dataset(tmp_path)


def test_numbers_of_labels_stay_those_of_the_file(tmp_path: Path) -> None:
    rows = [{**row, "category_id": 0} for row in instances()["annotations"]]
    categories = [{"id": 0, "name": "car"}, {"id": 5, "name": "bus"}]
    dataset = open_detection_dataset(coco_folder(tmp_path, instances(annotations=rows, categories=categories)))
    assert dataset.renamed(("bus", "Car")).category_ids == (5, 0)
    assert dataset.renamed(("tram", "car")).category_ids == (1, 2)
