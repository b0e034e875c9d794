"""Scores of detections against hand-computed cases and against pycocotools, called on files as anybody would."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ros2_loc.evaluation import detection_matching as dm
from ros2_loc.evaluation import detection_metrics as metrics
from ros2_loc.evaluation.detection_errors import KINDS, error_breakdown
from ros2_loc.io.coco import write_coco
from ros2_loc.io.coco_results import FoundObjects, write_coco_results
from ros2_loc.io.labelled_images import ANY_LABEL, DetectionDataset

sys.path.insert(0, str(Path(__file__).parent))
from detection_cases import blobs, found, image_of, set_of

CAR, TRUCK, PERSON = range(3)
A, B, FAR = (0, 0, 10, 10), (20, 20, 30, 30), (60, 60, 70, 70)


def noisy(dataset: DetectionDataset, seed: int = 0) -> list[FoundObjects]:
    """Most objects, shifted and some mislabelled, and what is not there; masks are those of the objects."""
    rng = np.random.default_rng(seed)
    everything = []
    for image in dataset.images:
        rows = []
        for box, label, mask in zip(image.boxes, image.labels, image.masks, strict=True):
            for _ in range(int(rng.integers(0, 3))):
                shifted = box + rng.normal(0, 0.08, 4) * np.tile(box[2:] - box[:2], 2)
                wrong = rng.uniform() < 0.2
                rows.append((shifted.tolist(), int((label + wrong) % len(dataset.labels)), float(rng.uniform()), mask))
        x, y = rng.uniform(0, 60, 2)
        rows.append(((x, y, x + 30, y + 25), int(rng.integers(len(dataset.labels))), float(rng.uniform()), None))
        everything.append(FoundObjects.of_rows(rows))
    return everything


def reference(dataset: DetectionDataset, results: Path, annotations: Path, what: str) -> np.ndarray:
    """The twelve numbers of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        run = COCOeval(truth, truth.loadRes(str(results)), what)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.array(run.stats)


@pytest.mark.parametrize("what", ["bbox", "segm"])
def test_numbers_are_those_of_pycocotools(tmp_path: Path, what: str) -> None:
    dataset = blobs(tmp_path / "set", 8, 3)
    crowd = replace(dataset.images[0], ignored=np.arange(len(dataset.images[0])) == 0)
    dataset = replace(dataset, images=(crowd, *dataset.images[1:]))
    made = noisy(dataset)
    write_coco(tmp_path / "truth.json", dataset)
    write_coco_results(tmp_path / "results.json", dataset, made)
    if what == "segm":
        rows = json.loads((tmp_path / "results.json").read_text())
        told = [{k: v for k, v in row.items() if k != "bbox"} for row in rows if "segmentation" in row]
        (tmp_path / "results.json").write_text(json.dumps(told))
    expected = reference(dataset, tmp_path / "results.json", tmp_path / "truth.json", what)
    s = metrics.coco_scores(dataset, made, what)
    ours = [s.ap, s.ap_at["0.5"], s.ap_at["0.75"], *s.by_size.values(), *s.recall.values()]
    np.testing.assert_allclose([-1.0 if v is None else v for v in ours], expected, atol=1e-12)
    assert 0.1 < expected[0] < 0.9


def test_false_discovery_is_one_minus_average_precision(tmp_path: Path) -> None:
    dataset = blobs(tmp_path, 6, 1)
    made = noisy(dataset, 1)
    fd, ap = metrics.false_discovery(dataset, made), metrics.coco_scores(dataset, made)
    assert fd.at["0.5"] == pytest.approx(1 - ap.ap_at["0.5"])
    assert list(fd.at) == ["0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.35", "0.4", "0.45", "0.5"]
    assert metrics.box_scores(dataset, made) == (ap, fd)
    rates = np.array(list(fd.at.values()))
    assert fd.mean == pytest.approx(rates.mean()) and (np.diff(rates) >= 0).all()
    assert fd.by_size["large"] is None and fd.by_size["small"] is not None


def test_a_box_with_little_overlap_is_discovered_at_a_low_iou_alone() -> None:
    dataset = set_of(image_of([A], [CAR]))
    rates = metrics.false_discovery(dataset, [found(((0, 0, 10, 3), CAR, 0.9))]).at  # IoU 0.3
    assert [iou for iou, rate in rates.items() if rate < 0.01] == ["0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]
    assert rates["0.35"] == 1.0


@pytest.mark.parametrize("what", ["bbox", "segm"])
def test_without_detections_or_objects(what: str) -> None:
    some, none = set_of(image_of([A], [CAR])), set_of(image_of([], []))
    assert metrics.coco_scores(some, [found()], what).ap == 0.0
    assert metrics.coco_scores(none, [found((A, CAR, 0.9))], what).ap is None
    assert metrics.coco_scores(none, [found()], what).curves == {"0.5": (), "0.75": ()}
    assert metrics.false_discovery(none, [found()]).mean is None and metrics.false_discovery(some, [found()]).mean == 1.0
    assert metrics.pascal_scores(none, [found((A, CAR, 0.9))])["car"] == {"all": None, "11": None}
    assert error_breakdown(none, [found()]).ap is None and error_breakdown(some, [found()]).counts["missed"] == 1


def test_no_more_detections_than_allowed_count() -> None:
    dataset = set_of(image_of([A, B], [CAR, CAR]))
    two = [found((A, CAR, 0.9), (B, CAR, 0.8))]
    assert metrics.coco_scores(dataset, two).ap == pytest.approx(1.0)
    assert metrics.coco_scores(dataset, two, max_detections=1).ap == pytest.approx(51 / 101)


def test_average_precision_by_hand() -> None:
    """Right, wrong, right of three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    judged = dm.Judged(np.array([0.9, 0.8, 0.7]), np.array([dm.RIGHT, dm.WRONG, dm.RIGHT]), 3)
    _, precision, recall = judged.curve()
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 2 / 3])
    assert judged.average_precision("all") == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert judged.average_precision(11) == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # 0, .1, .2, .3 | .4, .5, .6
    assert judged.average_precision(40) == pytest.approx((13 * 1 + 13 * 2 / 3) / 40)
    with_ignored = dm.Judged(np.array([0.95, 0.9, 0.8, 0.7]), np.array([dm.IGNORED, dm.RIGHT, dm.WRONG, dm.RIGHT]), 3)
    assert with_ignored.average_precision("all") == judged.average_precision("all")


def test_best_f1_by_hand() -> None:
    judged = dm.Judged(np.array([0.9, 0.8, 0.8, 0.2]), np.array([dm.RIGHT, dm.WRONG, dm.RIGHT, dm.WRONG]), 2)
    point = metrics.best_operating_point(judged)
    assert point == metrics.OperatingPoint(0.8, pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert metrics.best_operating_point(dm.Judged(np.zeros(0), np.zeros(0, dtype=np.int64), 2)) is None


def test_pascal_looks_at_the_nearest_object_alone() -> None:
    """The second box of an object is wrong, even where another object overlaps enough: unlike COCO."""
    near = (0, 0, 10, 11)
    image = image_of([A, near], [CAR, CAR])
    twice = found((A, CAR, 0.9), (A, CAR, 0.8))
    assert dm.match_pascal(image, twice, CAR, 0.7).verdicts.tolist() == [dm.RIGHT, dm.WRONG]
    assert dm.match_coco(image, twice, 0.7).verdicts.tolist() == [dm.RIGHT, dm.RIGHT]
    assert dm.match_pascal(image, twice, TRUCK, 0.7).objects == 0


def test_uavdt_leaves_out_what_lies_in_ignored_regions() -> None:
    image = image_of([A, B, FAR, (58, 50, 72, 64), (58, 64, 72, 72)], [CAR, CAR, CAR, ANY_LABEL, ANY_LABEL], [0, 0, 0, 1, 1])
    made = found((A, CAR, 0.9), (FAR, CAR, 0.8), ((61, 61, 71, 71), CAR, 0.7), ((52, 52, 62, 62), CAR, 0.6))
    kept, left = dm.without_ignored(image, made, 0.5)
    assert kept.boxes.tolist() == [list(A), list(B)]  # FAR is covered by the two regions together
    assert left.scores.tolist() == pytest.approx([0.9, 0.6])  # covered to 4 x 10 of 100
    assert metrics.pascal_scores(set_of(image), [made])["car"]["all"] == pytest.approx(0.5)
    assert metrics.pascal_scores(set_of(image.subset(~image.ignored)), [made])["car"]["all"] == pytest.approx(2 / 3)


def test_iou_of_pascal_is_a_limit() -> None:
    image = image_of([(0, 0, 10, 10)], [CAR])
    assert dm.match_pascal(image, found(((0, 0, 10, 7), CAR, 1.0)), CAR, 0.7).verdicts.tolist() == [dm.RIGHT]
    assert dm.match_pascal(image, found(((0, 0, 10, 6.9), CAR, 1.0)), CAR, 0.7).verdicts.tolist() == [dm.WRONG]


def kitti_image() -> DetectionDataset:
    """An easy car, a hard one, a van, a region that nobody cares for."""
    boxes = [(0, 0, 60, 50), (100, 0, 140, 28), (200, 0, 260, 50), (300, 0, 400, 50)]
    image = image_of(boxes, [0, 0, 1, ANY_LABEL], [0, 0, 0, 1], (500, 100))
    image = replace(image, difficulty=np.array([0, 2, 0, 3], np.int8))
    return replace(set_of(image, labels=("Car", "Van", "Pedestrian")), kind="kitti")


def test_kitti_counts_what_a_difficulty_asks_for() -> None:
    dataset = kitti_image()
    boxes = dataset.images[0].boxes
    on_van, in_region, low = (boxes[2], 0, 0.9), ((310, 0, 360, 45), 0, 0.95), ((450, 0, 480, 20), 0, 0.99)
    made = [found((boxes[0], 0, 0.8), (boxes[1], 0, 0.7), on_van, in_region, low)]
    assert metrics.kitti_scores(dataset, made)["Car"] == {"easy": 1.0, "moderate": 1.0, "hard": 1.0}
    easy_alone = metrics.kitti_scores(dataset, [found((boxes[0], 0, 0.8))])["Car"]
    assert (easy_alone["easy"], easy_alone["hard"]) == (1.0, pytest.approx(0.5))
    false_one = [found((boxes[0], 0, 0.8), ((420, 0, 490, 60), 0, 0.9))]
    assert metrics.kitti_scores(dataset, false_one)["Car"]["easy"] == pytest.approx(0.5)
    assert metrics.kitti_scores(dataset, made)["Pedestrian"]["easy"] is None
    shifted = [found((boxes[0] + np.array([0, 0, 0, 20]), 0, 0.8))]  # IoU 5/7
    assert metrics.kitti_scores(dataset, shifted)["Car"]["easy"] == 1.0


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (((0, 0, 10, 10), TRUCK, 0.9), "class"),
        (((0, 0, 10, 3), CAR, 0.9), "localization"),
        (((0, 0, 10, 3), TRUCK, 0.9), "both"),
        (((40, 40, 50, 50), CAR, 0.9), "background"),
        (((0, 0, 10, 0.9), CAR, 0.9), "background"),
    ],
)
def test_kinds_of_mistakes(made: tuple, kind: str) -> None:
    told = error_breakdown(set_of(image_of([A], [CAR])), [found(made)])
    missed = 1 if kind in ("both", "background") else 0  # TIDE: what a corrected detection would find is not missed besides
    assert told.counts == {**dict.fromkeys(KINDS, 0), kind: 1, "missed": missed} and told.ap == 0.0


def test_gains_of_corrected_mistakes_by_hand() -> None:
    """Two cars, one found; the other has a box too low, of less score. AP 51/101 (101 points, half of the recall)."""
    dataset = set_of(image_of([A, B], [CAR, CAR]))
    told = error_breakdown(dataset, [found((A, CAR, 0.9), ((20, 20, 30, 24), CAR, 0.8))])
    assert told.ap == pytest.approx(51 / 101)
    assert told.counts == {**dict.fromkeys(KINDS, 0), "localization": 1}
    assert told.gains["localization"] == pytest.approx(50 / 101) and told.gains["missed"] == 0.0
    assert told.false_positive == 0.0 and told.false_negative == pytest.approx(50 / 101)


def test_a_duplicate_costs_precision() -> None:
    """Both cars are found, with a second box of the first between them: precision 1, 1/2, 2/3."""
    dataset = set_of(image_of([A, B], [CAR, CAR]))
    told = error_breakdown(dataset, [found((A, CAR, 0.9), ((0, 0, 10, 9), CAR, 0.8), (B, CAR, 0.7))])
    assert told.counts == {**dict.fromkeys(KINDS, 0), "duplicate": 1}
    assert told.ap == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert told.gains["duplicate"] == pytest.approx(told.false_positive) == pytest.approx(50 / 3 / 101)


def test_a_corrected_class_counts_for_the_right_label() -> None:
    dataset = set_of(image_of([A, B], [CAR, TRUCK]))
    told = error_breakdown(dataset, [found((A, TRUCK, 0.9), (B, TRUCK, 0.8))])
    assert told.ap == pytest.approx((0 + 0.5) / 2)  # the car is missed; of the truck the better one is wrong
    assert told.gains["class"] == pytest.approx(1 - 0.25) and told.counts["class"] == 1


def test_corrected_twice_is_a_duplicate() -> None:
    """Two boxes too low on one car: only the better one becomes right."""
    dataset = set_of(image_of([A, B], [CAR, CAR]))
    told = error_breakdown(dataset, [found(((0, 0, 10, 3), CAR, 0.9), ((0, 0, 10, 4), CAR, 0.8))])
    assert told.counts["localization"] == 2 and told.counts["missed"] == 1 and told.ap == 0.0
    assert told.gains["localization"] == pytest.approx(51 / 101)


def test_forgiven_objects_leave_what_is_made_up() -> None:
    dataset = set_of(image_of([A, B], [CAR, TRUCK]))
    told = error_breakdown(dataset, [found((FAR, CAR, 0.9))])
    assert told.gains["missed"] == pytest.approx(0.5)  # nothing is wrong with trucks then, but a car is made up
    assert error_breakdown(dataset, [found()]).gains["missed"] == 1.0


def test_what_is_ignored_is_no_mistake() -> None:
    image = image_of([A, (50, 50, 90, 90)], [CAR, ANY_LABEL], [False, True])
    told = error_breakdown(set_of(image), [found((A, CAR, 0.5), (FAR, CAR, 0.9), (FAR, PERSON, 0.8))])
    assert sum(told.counts.values()) == 0 and told.ap == 1.0


BOX = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(3, 40), st.integers(3, 40)).map(
    lambda v: (float(v[0]), float(v[1]), float(v[0] + v[2]), float(v[1] + v[3]))
)
OBJECTS = st.lists(st.tuples(BOX, st.integers(0, 2)), max_size=5)
FOUND = st.lists(st.tuples(BOX, st.integers(0, 2), st.integers(1, 99)), max_size=8, unique_by=lambda row: row[2])


@given(st.lists(BOX, max_size=5), st.lists(BOX, max_size=5))
def test_overlaps_are_those_of_pycocotools(a: list, b: list) -> None:
    def left_top_size(boxes: list) -> np.ndarray:
        boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])

    if a and b:
        np.testing.assert_allclose(dm.box_iou(a, b), coco_mask.iou(left_top_size(a), left_top_size(b), [0] * len(b)), atol=1e-12)
        np.testing.assert_allclose(dm.share_inside(a, b), coco_mask.iou(left_top_size(a), left_top_size(b), [1] * len(b)), atol=1e-12)
    assert dm.box_iou(a, b).shape == (len(a), len(b))


@given(OBJECTS, FOUND)
def test_average_precision_of_the_breakdown_is_that_of_coco(objects: list, made: list) -> None:
    dataset = set_of(image_of([box for box, _ in objects], [label for _, label in objects]))
    detections = [found(*((box, label, score / 100) for box, label, score in made))]
    told, expected = error_breakdown(dataset, detections), metrics.coco_scores(dataset, detections).ap_at["0.5"]
    assert told.ap == (None if expected is None else pytest.approx(expected))
    gains = [*told.gains.values(), told.false_positive, told.false_negative]
    assert all(gain is None if expected is None else -1e-9 <= gain <= 1 - expected + 1e-9 for gain in gains)
    wrong = sum(told.counts[kind] for kind in KINDS[:-1])
    verdicts = dm.match_coco(dataset.images[0], detections[0]).verdicts
    assert wrong == int((verdicts == dm.WRONG).sum())


@given(st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=12), st.integers(1, 20))
def test_average_precision_keeps_its_bounds(rows: list, more: int) -> None:
    scores, right = np.array([s / 100 for s, _ in rows]), np.array([r for _, r in rows])
    judged = dm.Judged(scores, right.astype(np.int64), int(right.sum()) + more)
    for points in ("all", 11, 40, 101):
        ap = judged.average_precision(points)
        assert ap is not None and 0.0 <= ap <= 1.0
        worse = dm.Judged(np.append(scores, -1.0), np.append(judged.verdicts, dm.WRONG), judged.objects)
        assert worse.average_precision(points) == pytest.approx(ap)  # the last wrong one costs nothing
        without = dm.Judged(scores[right], judged.verdicts[right], judged.objects).average_precision(points)
        assert without is not None and without >= ap - 1e-12


@given(OBJECTS)
def test_the_truth_is_perfect(objects: list) -> None:
    dataset = set_of(image_of([box for box, _ in objects], [label for _, label in objects]))
    image = dataset.images[0]
    truth = [FoundObjects(image.boxes, image.labels, np.linspace(0.9, 0.1, len(image)).astype(np.float32), image.masks)]
    ap = metrics.coco_scores(dataset, truth).ap
    assert ap is None if not objects else ap == pytest.approx(1.0)
    assert sum(error_breakdown(dataset, truth).counts.values()) == 0
