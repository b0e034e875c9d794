"""`ros2-loc evaluate detection`: detectors side by side on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import progress_wanted

EXAMPLE = (
    "ros2-loc evaluate detection --dataset coco/annotations/instances_val2017.json --detector centernet d2det --out coco\n"
    "  ros2-loc evaluate detection --dataset kitti --detector d2det --weights d2det_coco --same Car=car Pedestrian=person --out kitti\n"
    "  ros2-loc evaluate detection --dataset UAVDT --as-one vehicle --detections theirs=lists/ --out uavdt"
)


def add_detection(parser: argparse.ArgumentParser) -> None:
    """All arguments of the verb."""
    _add_methods(parser.add_argument_group("what"))
    _add_data(parser.add_argument_group("on what"))
    group = parser.add_argument_group("results")
    text = "folder for detection.json, detection.html, pictures/, detections/, and finished parts: an interrupted call goes on from them"
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    group.add_argument("--pictures", type=int, default=4, metavar="N", help="images that are shown, by all methods (default: 4; 0: none)")


def _add_methods(group: Any) -> None:
    text = "name, name:key=value,key=value, or a YAML file with a section for each name; several are compared"
    group.add_argument("--detector", nargs="+", default=[], metavar="NAME", help=text)
    group.add_argument("--weights", nargs="+", default=[], metavar="NAME", help="of each detector: name or path (default: its own)")
    text = "found by others: JSON in COCO's form of results, or a folder with UAVDT's lists; LABEL=FILE names it"
    group.add_argument("--detections", nargs="+", default=[], metavar="FILE", help=text)
    text = "least score of detectors whose section says none (default: 0.01); an average precision needs the doubtful ones"
    group.add_argument("--min-score", type=float, default=0.01, metavar="S", help=text)
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def _add_data(group: Any) -> None:
    text = "folder or annotation file of COCO, folder with images/ and labels/ (YOLO), KITTI's object folder, UAVDT, iSAID's patches"
    group.add_argument("--dataset", type=Path, required=True, metavar="DIR", help=text)
    group.add_argument("--kind", default="auto", metavar="NAME", help="coco, coco_yolo, kitti, uavdt, isaid (default: by what is there)")
    group.add_argument("--strict", action="store_true", help="refuse boxes without an area (default: leave them out, say how many)")
    group.add_argument("--limit", type=int, metavar="N", help="N images only, evenly chosen")
    text = "labels that are written differently: of the data set = of the detectors, for instance Pedestrian=person"
    group.add_argument("--same", nargs="+", default=[], metavar="A=B", help=text)
    group.add_argument("--as-one", default="", metavar="LABEL", help="take all labels for one of this name, as UAVDT's are for vehicle")
    group.add_argument("--max-detections", type=int, default=100, metavar="N", help="of an image and label, best first (default: 100)")


def run_detection(arguments: argparse.Namespace) -> int:
    """Evaluate, print the tables, write the folder."""
    from ros2_loc.evaluation.detection import DetectionOptions, evaluate_detection
    from ros2_loc.evaluation.detection_methods import parse_detectors
    from ros2_loc.evaluation.detection_records import DetectionEvaluation
    from ros2_loc.io.detection_datasets import open_detection_dataset

    methods = parse_detectors(arguments.detector, arguments.weights, arguments.detections, arguments.min_score)
    options = DetectionOptions(arguments.limit, _same(arguments.same), arguments.as_one, arguments.max_detections)
    dataset = open_detection_dataset(arguments.dataset, arguments.kind, arguments.strict)
    measured = evaluate_detection(methods, dataset, options, arguments.out, arguments.device, progress_wanted())
    title = f"Objects: {measured.judged_on.dataset}"
    evaluation = DetectionEvaluation(title, _settings(arguments, methods), measured.judged_on, measured.cells)
    return _finish(arguments, evaluation, measured)


def _same(words: list[str]) -> dict[str, str]:
    from ros2_loc.errors import ConfigError

    pairs = [word.partition("=") for word in words]
    wrong = next((word for word, (a, equals, b) in zip(words, pairs, strict=True) if not (a and equals and b)), None)
    if wrong is not None:
        raise ConfigError(f"--same {wrong}: give A=B, a label of the data set and one of the detectors, for instance Car=car")
    return {a: b for a, _, b in pairs}


def _settings(arguments: argparse.Namespace, methods: list[Any]) -> dict[str, Any]:
    from ros2_loc.evaluation.detection import settings_of
    from ros2_loc.evaluation.machine import describe_machine

    asked = ("dataset", "kind", "strict", "limit", "same", "as_one", "max_detections", "device")
    call = {key: str(value) if isinstance(value := getattr(arguments, key), Path) else value for key in asked}
    return {"methods": settings_of(methods), "call": call, **describe_machine()}


def _finish(arguments: argparse.Namespace, evaluation: Any, measured: Any) -> int:
    from ros2_loc.cli.console import table
    from ros2_loc.evaluation.detection_tables import tables
    from ros2_loc.evaluation.report.detection import told, write_detection_report

    print(f"{evaluation.judged_on.dataset}: {told(evaluation.judged_on)}\n")
    for t in tables(evaluation):
        print(f"{t.title}\n{table(t.rows, t.header)}\n{t.note}\n")
    evaluation.write_json(arguments.out / "detection.json")
    drawn = _pictures(arguments, measured) if arguments.pictures > 0 else []
    print(f"numbers: {arguments.out / 'detection.json'}")
    print(f"report:  {write_detection_report(evaluation, arguments.out / 'detection.html', drawn)}")
    return 0


def _pictures(arguments: argparse.Namespace, measured: Any) -> list[Any]:
    from ros2_loc.evaluation.detection_pictures import pictures_of
    from ros2_loc.io.images import write_image

    drawn = pictures_of(measured, arguments.pictures)
    for shown in drawn:
        write_image(arguments.out / "pictures" / f"{shown.file}.png", shown.picture)
    return drawn
