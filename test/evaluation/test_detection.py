"""Detectors side by side: what they find is stored image by image, scored again without asking, and drawn."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.types import Detection
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import detection as ev
from ros2_loc.evaluation.detection_methods import DetectionMethod, parse_detectors
from ros2_loc.evaluation.detection_pictures import pictures_of, telling_images
from ros2_loc.evaluation.detection_records import DetectionEvaluation
from ros2_loc.evaluation.detection_store import DetectionStore
from ros2_loc.evaluation.detection_tables import tables
from ros2_loc.evaluation.report.detection import told, write_detection_report
from ros2_loc.io import uavdt
from ros2_loc.io.coco_results import read_coco_results
from ros2_loc.io.detection_datasets import open_detection_dataset
from ros2_loc.io.images import write_image
from ros2_loc.io.labelled_images import DetectionDataset

sys.path.insert(0, str(Path(__file__).parent))
from detection_cases import LABELS, blobs, found, image_of, register_oracle, set_of


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionDataset:
    """Blobs, and an oracle that knows them."""
    register_oracle(monkeypatch)
    return blobs(tmp_path / "blobs", 5)


def oracle(dataset: DetectionDataset, label: str = "oracle", **settings: Any) -> DetectionMethod:
    """As a section."""
    return DetectionMethod(label, {"name": "oracle", "truth": str(dataset.root.parent), "min_score": 0.01, **settings})


def evaluate(tmp_path: Path, dataset: DetectionDataset, *methods: DetectionMethod, **options: Any) -> ev.Measured:
    """Without a progress bar."""
    return ev.evaluate_detection(methods, dataset, ev.DetectionOptions(**options), tmp_path / "out", show_progress=False)


def asked() -> int:
    """Images that any oracle has been shown."""
    import detection_cases

    return detection_cases.Oracle.asked


def test_a_perfect_detector_and_a_poor_one(tmp_path: Path, dataset: DetectionDataset) -> None:
    poor = oracle(dataset, "poor", miss=0.3, shift=0.1, made_up=3, masks=False)
    measured = evaluate(tmp_path, dataset, oracle(dataset), poor)
    best, worst = (cell.scores for cell in measured.cells)
    assert best is not None and worst is not None
    assert best.box.ap == pytest.approx(1.0) and best.mask is not None and best.mask.ap == pytest.approx(1.0)
    assert worst.mask is None and worst.box.ap is not None and worst.box.ap < 0.7
    assert worst.errors.counts["background"] > 0 and worst.errors.counts["missed"] > 0
    assert best.median_s is not None and best.median_s > 0 and best.operating is not None and best.operating.f1 == 1.0
    assert (measured.judged_on.images, measured.judged_on.objects) == (5, dataset.num_objects)
    written = read_coco_results(tmp_path / "out" / "detections" / "poor.json", dataset)
    assert sum(map(len, written)) == worst.detections


def test_detections_are_scored_again_without_the_detector(tmp_path: Path, dataset: DetectionDataset) -> None:
    method = oracle(dataset, miss=0.2)
    first = evaluate(tmp_path, dataset, method)
    count = asked()
    again = evaluate(tmp_path, dataset, method, as_one="thing")
    assert asked() == count and again.judged_on.labels == ("thing",)
    assert evaluate(tmp_path, dataset, method).cells == first.cells
    evaluate(tmp_path, dataset, oracle(dataset, miss=0.3))
    assert asked() > count  # other settings


def test_an_interrupted_call_goes_on(tmp_path: Path, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import detection_cases

    method, count = oracle(dataset, batch_size=2), asked()
    detect = detection_cases.Oracle.detect_many

    def interrupted(self: Any, frames: Any) -> Any:
        if asked() - count >= 3:  # one to warm up, a batch of two
            raise KeyboardInterrupt
        return detect(self, frames)

    monkeypatch.setattr(detection_cases.Oracle, "detect_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, dataset, method)
    store = next((tmp_path / "out" / "parts").glob("*.jsonl"))
    assert len(store.read_text().splitlines()) == 3  # the head and two images
    monkeypatch.setattr(detection_cases.Oracle, "detect_many", detect)
    with store.open("a") as file:
        file.write('{"image": "002.png", "seco')  # the third was being written
    count = asked()
    scores = evaluate(tmp_path, dataset, method).cells[0].scores
    assert asked() - count == 1 + 3 and scores is not None and scores.box.ap == pytest.approx(1.0)
    assert len(store.read_text().splitlines()) == 6


def test_more_images_use_what_fewer_left(tmp_path: Path, dataset: DetectionDataset) -> None:
    evaluate(tmp_path, dataset, oracle(dataset), limit=2)
    count = asked()
    measured = evaluate(tmp_path, dataset, oracle(dataset))
    assert asked() - count == 1 + 3 and measured.judged_on.images == 5


def test_changed_images_are_looked_at_again(tmp_path: Path, dataset: DetectionDataset) -> None:
    evaluate(tmp_path, dataset, oracle(dataset))
    write_image(dataset.images[0].path, dataset.image(0)[::-1].copy())
    count = asked()
    evaluate(tmp_path, dataset, oracle(dataset))
    assert asked() - count == 1 + 5


def test_labels_that_do_not_fit_are_one_line_before_anything_runs(tmp_path: Path, dataset: DetectionDataset) -> None:
    count = asked()
    with pytest.raises(ConfigError, match=r"blobs has car, truck, person, oracle knows tree, house, lamp: no label in common"):
        evaluate(tmp_path, dataset, oracle(dataset, labels=("tree", "house", "lamp")))
    with pytest.raises(ConfigError, match="has no label 'lorry'"):
        evaluate(tmp_path, dataset, oracle(dataset), same={"lorry": "truck"})
    assert asked() == count


def test_only_common_labels_are_judged(tmp_path: Path, dataset: DetectionDataset) -> None:
    """The oracle calls trucks `tree`: neither these nor the objects that it can't name are judged."""
    measured = evaluate(tmp_path, dataset, oracle(dataset, labels=("Car", "tree", "person")))
    assert measured.judged_on.labels == ("car", "person") and measured.judged_on.unjudged == ("truck",)
    scores = measured.cells[0].scores
    assert scores is not None and scores.box.ap == pytest.approx(1.0)
    assert "not judged: truck" in told(measured.judged_on)
    same = evaluate(tmp_path, dataset, oracle(dataset, labels=("auto", "auto 2", "person")), same={"car": "auto", "truck": "auto"})
    assert same.judged_on.labels == ("auto", "person") and same.judged_on.objects == dataset.num_objects


def test_two_methods_are_judged_on_what_both_know(tmp_path: Path, dataset: DetectionDataset) -> None:
    few = oracle(dataset, "few", labels=("car", "tree", "lamp"))
    measured = evaluate(tmp_path, dataset, oracle(dataset), few)
    assert measured.judged_on.labels == ("car",)
    assert all(cell.scores is not None and cell.scores.box.ap == pytest.approx(1.0) for cell in measured.cells)


def test_a_detector_that_names_what_it_does_not_know(tmp_path: Path, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import detection_cases

    strange = [Detection(np.array([0, 0, 5, 5], np.float32), "ghost", 0.9)]
    monkeypatch.setattr(detection_cases.Oracle, "detect_many", lambda self, frames: [strange for _ in frames])
    with pytest.raises(DataError, match="found a 'ghost', which is none of its labels: car, truck, person"):
        evaluate(tmp_path, dataset, oracle(dataset))


def test_detections_of_others(tmp_path: Path, dataset: DetectionDataset) -> None:
    evaluate(tmp_path, dataset, oracle(dataset, shift=0.05))
    theirs = tmp_path / "theirs.json"
    theirs.write_text((tmp_path / "out" / "detections" / "oracle.json").read_text())
    measured = evaluate(tmp_path, dataset, oracle(dataset, shift=0.05), DetectionMethod("theirs", {}, theirs), limit=3)
    ours, others = (cell.scores for cell in measured.cells)
    assert ours is not None and others is not None
    assert ours.box == others.box and ours.mask == others.mask and others.median_s is None and measured.judged_on.images == 3


def test_lists_of_uavdt_are_judged_as_one_label(tmp_path: Path) -> None:
    for k in (1, 2):
        write_image(tmp_path / "set" / "M0203" / f"img{k:06d}.jpg", np.full((60, 100, 3), 99, np.uint8))
    (tmp_path / "set" / "GT").mkdir()
    (tmp_path / "set" / "GT" / "M0203_gt_whole.txt").write_text("1,1,5,5,20,20,1,1,1\n2,1,50,10,20,20,1,1,3\n")
    (tmp_path / "set" / "GT" / "M0203_gt_ignore.txt").write_text("1,1,60,0,40,60,1,-1,-1\n")
    dataset = open_detection_dataset(tmp_path / "set")
    boxes = [[(5, 5, 25, 25), (70, 10, 90, 30)], [(50, 10, 70, 30), (0, 40, 10, 50)]]  # right, ignored; right, wrong
    made = [[Detection(np.array(b, np.float32), "car", 0.9 - 0.1 * k) for k, b in enumerate(rows)] for rows in boxes]
    uavdt.write_uavdt_detections(tmp_path / "lists", dataset, made)
    method = DetectionMethod("lists", {}, tmp_path / "lists")
    scores = evaluate(tmp_path, dataset, method, as_one="vehicle").cells[0].scores
    assert scores is not None and scores.pascal["vehicle"]["all"] == pytest.approx(1.0)
    assert scores.errors.counts["background"] == 1
    with pytest.raises(ConfigError, match="lists of UAVDT tell no labels: give --as-one vehicle"):
        evaluate(tmp_path, dataset, method)


def test_what_can_not_run_is_named_and_the_others_go_on(tmp_path: Path, dataset: DetectionDataset) -> None:
    broken = oracle(dataset, "broken", truth=str(tmp_path / "absent"))
    measured = evaluate(tmp_path, dataset, broken, oracle(dataset))
    assert "no such folder" in measured.cells[0].not_run and measured.cells[1].scores is not None
    evaluation = DetectionEvaluation("x", {}, measured.judged_on, measured.cells)
    assert any("not run" in cell for t in tables(evaluation) for row in t.rows for cell in row)
    with pytest.raises(DataError, match="no method can be run on this machine: broken: "):
        evaluate(tmp_path, dataset, broken)


def test_images_without_objects_and_detections(tmp_path: Path, dataset: DetectionDataset) -> None:
    empty = replace(dataset, images=dataset.images[-1:])
    measured = evaluate(tmp_path, empty, oracle(dataset))
    scores = measured.cells[0].scores
    assert scores is not None and scores.box.ap is None and scores.operating is None
    evaluation = DetectionEvaluation("nothing", {}, measured.judged_on, measured.cells)
    page = write_detection_report(evaluation, tmp_path / "page.html", pictures_of(measured)).read_text()
    assert "There are no objects to find" in page


def test_a_damaged_image_keeps_what_was_before_it(tmp_path: Path, dataset: DetectionDataset) -> None:
    method = oracle(dataset, batch_size=1)
    held = DetectionStore(tmp_path / "parts", dataset, method.settings)
    import detection_cases

    detector = detection_cases.Oracle(detection_cases.Oracle.Config(truth=str(dataset.root.parent), batch_size=1))
    held.begin(detector.labels)
    dataset.images[2].path.write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(DataError, match=r"002.png: the image is cut short"):
        held.fill(dataset, detector, "", False)
    assert held.missing(dataset) == [2, 3, 4]


def test_json_comes_back(tmp_path: Path, dataset: DetectionDataset) -> None:
    measured = evaluate(tmp_path, dataset, oracle(dataset, miss=0.2), oracle(dataset, "bad", truth=str(tmp_path / "absent")))
    evaluation = DetectionEvaluation("title", {"a": 1}, measured.judged_on, measured.cells)
    evaluation.write_json(tmp_path / "a.json")
    assert DetectionEvaluation.read_json(tmp_path / "a.json") == evaluation
    for content, expected in (("[", "not JSON"), ("{}", "not a ros2_loc detection"), (_damaged(tmp_path / "a.json"), "damaged")):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(DataError, match=expected):
            DetectionEvaluation.read_json(tmp_path / "b.json")


def _damaged(path: Path) -> str:
    content = json.loads(path.read_text())
    content["cells"][0]["scores"].pop("box")
    return json.dumps(content)


def test_pictures_show_what_is_right_wrong_and_missed(tmp_path: Path, dataset: DetectionDataset) -> None:
    poor = oracle(dataset, "poor", miss=0.4, made_up=3)
    shown = pictures_of(evaluate(tmp_path, dataset, oracle(dataset), poor), 2)
    assert [s.method for s in shown] == ["oracle", "poor"] * 2 and len({s.file for s in shown}) == 4
    assert "0 wrong, 0 missed" in shown[0].caption and "0 missed" not in shown[1].caption
    green, amber = (52, 211, 110), (255, 176, 32)
    assert _has(shown[0].picture, green) and not _has(shown[0].picture, amber) and _has(shown[1].picture, amber)


def _has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def test_images_that_tell_most() -> None:
    held = set_of(*(image_of([(0, 0, 10, 10)], [0], name=f"{k}.png") for k in range(3)), image_of([], [], name="empty.png"))
    one, none = found(((0, 0, 10, 10), 0, 0.9)), found()
    assert telling_images(held, [[one, one, one, none], [one, none, one, none]], 1) == [1]
    assert telling_images(held, [[one, none, one, none]], 2) == [1, 2]  # from the worst to the best
    assert telling_images(set_of(image_of([], [])), [[none]], 2) == []


def test_words_of_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_oracle(monkeypatch)
    (tmp_path / "two.yaml").write_text("a: {name: oracle, miss: 0.1}\nb: {name: oracle, min_score: 0.5}\n")
    (tmp_path / "r.json").write_text("[]")
    methods = parse_detectors([str(tmp_path / "two.yaml"), "oracle:miss=0.2"], [], [f"r={tmp_path / 'r.json'}"], 0.02)
    assert [m.label for m in methods] == ["a", "b", "oracle", "r"]
    assert [m.section.get("min_score") for m in methods] == [0.02, 0.5, 0.02, None]
    assert [m.label for m in parse_detectors(["oracle", "oracle"], ["x/one.pt", "two"], [], 0.1)] == ["oracle one", "oracle two"]
    alike = ["oracle:truth=/a/long/path,miss=0.1", "oracle:truth=/a/long/path,miss=0.2,made_up=1"]  # named by what differs
    assert [m.label for m in parse_detectors(alike, [], [], 0.1)] == ["oracle miss=0.1", "oracle made_up=1 miss=0.2"]


@pytest.mark.parametrize(
    ("words", "weights", "files", "expected"),
    [
        ([], [], [], "nothing to evaluate"),
        (["oracle"], ["a", "b"], [], "--weights: give one for each of the 1 detectors, not 2"),
        (["oracle", "oracle"], [], [], "'oracle' comes twice"),
        (["oracle:miss"], [], [], "give name:key=value"),
        (["orakel"], [], [], "orakel"),
        ([], [], ["x=absent.json"], "there is no absent.json"),
    ],
)
def test_wrong_words_of_methods(words: list, weights: list, files: list, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register_oracle(monkeypatch)
    with pytest.raises(ConfigError, match=expected):
        parse_detectors(words, weights, files, 0.01)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="--max-detections 0"):
        ev.DetectionOptions(max_detections=0)
    assert ev.judged_labels(set_of(image_of([], [])), {"a": LABELS, "b": ("Person", "car")}, {}) == ("car", "person")
