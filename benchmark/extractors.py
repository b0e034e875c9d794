"""Extractors side by side in the main job: maps of KITTI 03 and 7-Scenes asked for poses, and relative poses of image pairs.

    python benchmark/extractors.py ../shared/data --weights ../shared/weights --out extractors
    python benchmark/extractors.py ../shared/data --out extractors --sections mine.yaml --only kitti kitchen

One process and one JSON file for each extractor and data set: interrupted, the same call goes on where it was; remove a file to measure it
again. Queries are asked in an order that is spread evenly at every moment, until `--seconds` are over: slow extractors are asked for fewer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ros2_loc.cli.console import length, percent, table
from ros2_loc.evaluation import split as splits
from ros2_loc.evaluation.features import evaluate_features
from ros2_loc.evaluation.features_datasets import PairOptions, two_view_dataset
from ros2_loc.evaluation.features_methods import Method, parse_methods
from ros2_loc.evaluation.features_records import FeaturesEvaluation, summary
from ros2_loc.evaluation.machine import describe_machine
from ros2_loc.evaluation.records import Evaluation, Metrics
from ros2_loc.io.files import atomic_path
from ros2_loc.io.sequences import open_sequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.map_localizer import MapLocalizer
from ros2_loc.localization.pipeline import PipelineConfig, load_pipeline

MAPS = {"kitti": ("kitti/03", 20), "kitchen": ("7scenes_redkitchen", 2)}  # folder, every Nth image in the map
PAIRS = {"fountain": "strecha_half/fountain-P11", "herzjesu": "strecha_half/Herz-Jesus-P8", "sacre_coeur": "matching/sacre_coeur"}
RECALLS = {"kitti": ((0.1, 0.5), (0.25, 2.0)), "kitchen": ((0.05, 5.0), (0.25, 2.0))}
_OF_MAPS = ("extract ms", "frame ms", "keypoints", "map MB", "points", "built s")
FEWEST = 12  # queries, however slow


def main() -> int:
    arguments = parse()
    if arguments.weights:
        folders = [arguments.weights, *(p for p in sorted(arguments.weights.iterdir()) if p.is_dir())]
        os.environ["ROS2_LOC_WEIGHTS"] = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("ROS2_LOC_WEIGHTS")])])
    methods = {method.label: method for method in parse_methods([str(arguments.sections)])}
    if arguments.cell:
        label, dataset = arguments.cell
        return measure(methods[label], dataset, arguments)
    chosen = {label: m for label, m in methods.items() if not arguments.extractors or label in arguments.extractors}
    stopped = False
    try:
        for label, dataset in [] if arguments.table else [(label, dataset) for dataset in arguments.only for label in chosen]:
            run_cell(label, dataset, arguments)
    except KeyboardInterrupt:
        stopped = True
    print("\n".join(report(list(chosen), arguments)))
    return 130 if stopped else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with kitti/03, 7scenes_redkitchen, strecha_half, matching")
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--sections", type=Path, default=Path(__file__).with_suffix(".yaml"), help="YAML: a section for each name")
    parser.add_argument("--weights", type=Path, help="folder with files of weights, or with folders of them")
    parser.add_argument("--extractors", nargs="+", help="names of these sections (default: all)")
    parser.add_argument("--only", nargs="+", choices=(*MAPS, *PAIRS), default=(*MAPS, *PAIRS), help="data sets (default: all)")
    for dataset, (_, every) in MAPS.items():
        text = f"every Nth image of {dataset} goes into the map (default: {every})"
        parser.add_argument(f"--{dataset}-every", type=int, default=every, metavar="N", help=text)
    parser.add_argument("--queries", type=int, default=100, help="of a map, at most (default: 100)")
    parser.add_argument("--pairs", type=int, default=40, help="of image pairs, at most (default: 40)")
    parser.add_argument("--seconds", type=float, default=200.0, help="for map and queries together (default: 200)")
    parser.add_argument("--timeout", type=float, default=900.0, help="s, after which a cell is given up (default: 900)")
    parser.add_argument("--table", action="store_true", help="print what is there, measure nothing")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def cell_path(arguments: argparse.Namespace, label: str, dataset: str) -> Path:
    every = f"_{every_of(arguments, dataset)}" if dataset in MAPS else ""
    return arguments.out / label.replace(" ", "_").replace("/", "_") / f"{dataset}{every}.json"


def every_of(arguments: argparse.Namespace, dataset: str) -> int:
    return int(getattr(arguments, f"{dataset}_every"))


def run_cell(label: str, dataset: str, arguments: argparse.Namespace) -> None:
    """In a process of its own: what fails, or takes all memory, spoils one cell."""
    path = cell_path(arguments, label, dataset)
    if path.is_file():
        return
    begin = time.perf_counter()
    print(f"{label}, {dataset} ...", flush=True)
    try:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--cell", label, dataset],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=arguments.timeout,
            check=False,
        )
        failed = ([f"ended with code {done.returncode}", *done.stderr.strip().splitlines()])[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        failed = [f"given up after {arguments.timeout:g} s"]
    words = f"failed: {failed[0][:200]}" if failed else "done"
    print(f"{label}, {dataset}: {words}, {time.perf_counter() - begin:.0f} s", flush=True)
    error = path.with_suffix(".error")
    if failed:
        error.parent.mkdir(parents=True, exist_ok=True)
        error.write_text(failed[0] + "\n")
    else:
        error.unlink(missing_ok=True)


def measure(method: Method, dataset: str, arguments: argparse.Namespace) -> int:
    path = cell_path(arguments, method.label, dataset)
    if dataset in MAPS:
        evaluation, facts = map_and_ask(method, dataset, arguments)
        evaluation = replace(evaluation, settings={**evaluation.settings, **facts, "commit": describe_machine()["commit"]})
        evaluation.write_json(path)
    else:
        pairs = two_view_dataset(arguments.data / PAIRS[dataset], PairOptions(limit=arguments.pairs))
        cells = evaluate_features([method], [pairs], show_progress=False)
        FeaturesEvaluation(f"{method.label}, {dataset}", {**method.settings, **describe_machine()}, tuple(cells)).write_json(path)
    return 0


def map_and_ask(method: Method, dataset: str, arguments: argparse.Namespace) -> tuple[Evaluation, dict[str, float]]:
    """As `ros2-loc evaluate split`, with a limit in time and the size of the map."""
    folder, _ = MAPS[dataset]
    parts = splits.split(open_sequence(arguments.data / folder), every_of(arguments, dataset), arguments.queries)
    pipeline = pipeline_of(method)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ros2_loc_extractors_") as scratch:
        sparse_map = build_map(parts.mapping, pipeline, Path(scratch) / "map", source=folder, show_progress=False)
        built_s = time.perf_counter() - begin
        size_mb = sum(p.stat().st_size for p in (Path(scratch) / "map").rglob("*") if p.is_file()) / 1e6
        localizer, names = MapLocalizer(sparse_map, pipeline), [place.name for place in sparse_map.places]
        frames = {}
        for i in spread(len(parts.queries)):
            if len(frames) >= FEWEST and time.perf_counter() - begin > arguments.seconds:
                break
            queries = parts.queries
            found = localizer.localize(queries.frame(i))
            frames[i] = splits.frame_result(queries.names[i], int(queries.stamps_ns[i]), queries.map_from_base[i], found, names)
        ordered = tuple(frames[i] for i in sorted(frames))
        evaluation = Evaluation(f"{method.label}, {dataset}", ordered, settings=splits.describe(sparse_map))
    return evaluation, {"map_mb": round(size_mb, 2), "map_built_s": round(built_s, 1)}


def pipeline_of(method: Method) -> PipelineConfig:
    """The default with another extractor and, where one is named, another matcher."""
    default = load_pipeline("default")
    given = dict(method.matcher)
    matcher = default.matcher if given == {"name": default.matcher["name"]} else given
    return replace(default, extractor=dict(method.extractor), matcher=matcher)


def spread(count: int) -> Iterator[int]:
    """All of range(count), so ordered that each beginning is spread evenly: by reversed bits."""
    bits = max(count - 1, 1).bit_length()
    yield from (i for i in (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)) if i < count)


def report(labels: list[str], arguments: argparse.Namespace) -> list[str]:
    """A table for each kind of data, and a JSON file with what is in them."""
    lines: list[str] = []
    content: dict[str, Any] = {}
    for dataset in (d for d in arguments.only if d in MAPS):
        rows = [map_row(label, dataset, arguments, content) for label in labels]
        recalls = (f"within {length(m)}, {deg:g} deg" for m, deg in RECALLS[dataset])
        header = ("", "queries", *recalls, "rejected", "median", "wrong+sure", *_OF_MAPS)
        title = f"{dataset}: every {every_of(arguments, dataset)}. image in the map"
        lines += ["", title, table(rows, header), *failures(labels, dataset, arguments)]
    for dataset in (d for d in arguments.only if d in PAIRS):
        rows = [pair_row(label, dataset, arguments, content) for label in labels]
        header = ("", "pairs", "AUC 5", "AUC 10", "AUC 20", "precision", "matches", "inliers", "keypoints", "extract ms", "match ms")
        lines += ["", dataset, table(rows, header), *failures(labels, dataset, arguments)]
    with atomic_path(arguments.out / "summary.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return lines


def map_row(label: str, dataset: str, arguments: argparse.Namespace, content: dict[str, Any]) -> tuple[str, ...]:
    path = cell_path(arguments, label, dataset)
    if not path.is_file():
        return label, missing(path)
    evaluation = Evaluation.read_json(path)
    m, said = evaluation.metrics, evaluation.settings
    known = m.translation_m is not None and m.rotation_deg is not None
    median = f"{length(m.translation_m.median)}, {m.rotation_deg.median:.2f} deg" if known else "-"
    keypoints = sum(f.num_keypoints for f in evaluation.frames) / max(len(evaluation.frames), 1)
    recalls = [m.recall(*limits).of_all for limits in RECALLS[dataset]]
    content.setdefault(dataset, {})[label] = {
        "queries": m.queries,
        "recalls": recalls,
        "rejected": m.rejected,
        "median_m": m.translation_m.median if m.translation_m else None,
        "latency_s": {name: asdict(t) for name, t in m.latency_s.items()},
        "keypoints": keypoints,
        **{key: said[key] for key in ("map_mb", "map_built_s", "map points")},
    }
    return (
        label,
        str(m.queries),
        *(percent(value) for value in recalls),
        str(m.rejected),
        median,
        str(len(m.wrong_and_confident)),
        stage_ms(m, "extract"),
        stage_ms(m, "total"),
        f"{keypoints:.0f}",
        str(said["map_mb"]),
        str(said["map points"]),
        str(said["map_built_s"]),
    )


def pair_row(label: str, dataset: str, arguments: argparse.Namespace, content: dict[str, Any]) -> tuple[str, ...]:
    path = cell_path(arguments, label, dataset)
    if not path.is_file():
        return label, missing(path)
    (cell,) = FeaturesEvaluation.read_json(path).cells
    s = summary(cell)
    content.setdefault(dataset, {})[label] = {**s, "keypoints": cell.keypoints, "seconds": cell.seconds}
    auc = [percent(v) for v in s["auc"] or (None,) * 3]
    shown = (percent(s["precision"]), f"{s['matches']:.0f}", f"{s['inliers']:.0f}", f"{cell.keypoints:.0f}")
    return label, str(s["pairs"]), *auc, *shown, *(f"{1000 * cell.seconds.get(k, 0.0):.0f}" for k in ("extract", "match"))


def stage_ms(m: Metrics, stage: str) -> str:
    return f"{1000 * m.latency_s[stage].median_s:.0f}" if stage in m.latency_s else "-"


def missing(path: Path) -> str:
    return "failed" if path.with_suffix(".error").is_file() else "not measured"


def failures(labels: list[str], dataset: str, arguments: argparse.Namespace) -> list[str]:
    paths = {label: cell_path(arguments, label, dataset) for label in labels}
    errors = {label: path.with_suffix(".error") for label, path in paths.items() if not path.is_file()}
    return [f"{label}: {error.read_text().strip()}" for label, error in errors.items() if error.is_file()]


if __name__ == "__main__":
    raise SystemExit(main())
