"""`ros2-loc evaluate`: how good is it, against the truth?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ros2_loc.cli import evaluate_cross_view, evaluate_detection, evaluate_features, evaluate_retrieval
from ros2_loc.cli.arguments import Parser, add_pipeline, add_source, open_source, pipeline_of, progress_wanted

EXAMPLE = "ros2-loc evaluate split --images sequences/03 --map-every 5 --report split.html"
_SPLIT = (
    "ros2-loc evaluate split --images kitti/03/image_0 --poses kitti/03/poses.txt --camera kitti/03/K.txt --map-every 5 --json split.json"
)
_TRAJECTORY = "ros2-loc evaluate trajectory recorded/localized.json --truth second_drive_bag --report drive.html"


def add_arguments(parser: Parser) -> None:
    """`split`, `trajectory`, `cross-view`, `features`, `retrieval` and `detection`."""
    verbs = parser.add_verbs(
        {
            "split": ("map every Nth image of a recording, localize the others from the image alone, score", _SPLIT),
            "trajectory": ("score a trajectory that was recorded or estimated", _TRAJECTORY),
            "cross-view": ("videos against satellite tiles: recall, displacement, ablations, the filter", evaluate_cross_view.EXAMPLE),
            "features": ("extractors and matchers side by side: HPatches, relative poses, registered queries", evaluate_features.EXAMPLE),
            "retrieval": ("retrievers and re-rankers side by side: recall, time, memory of places", evaluate_retrieval.EXAMPLE),
            "detection": ("detectors side by side: AP, false discovery, kinds of mistakes, time", evaluate_detection.EXAMPLE),
        }
    )
    _add_split(verbs["split"])
    _add_trajectory(verbs["trajectory"])
    evaluate_cross_view.add_cross_view(verbs["cross-view"])
    evaluate_features.add_features(verbs["features"])
    evaluate_retrieval.add_retrieval(verbs["retrieval"])
    evaluate_detection.add_detection(verbs["detection"])


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="image folder, KITTI or 7-Scenes folder, or bag, with poses"
    )
    parser.add_argument("--map-every", type=int, required=True, metavar="N", help="every Nth image goes into the map")
    parser.add_argument("--limit", type=int, metavar="N", help="ask for N queries only, evenly chosen")
    parser.add_argument(
        "--queries-of", type=Path, metavar="DIR", help="ask for the images of another place instead: all should be rejected"
    )
    parser.add_argument("--queries-camera", type=Path, metavar="FILE", help="camera of those images, where they are no KITTI folder")
    parser.add_argument("--map", type=Path, metavar="DIR", help="keep the map there; it must not exist")
    _add_results(parser)
    add_source(parser)
    add_pipeline(parser)


def _add_trajectory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("estimated", type=Path, help="JSON of localize, record:= or evaluate (with covariances), or a TUM file (without)")
    parser.add_argument(
        "--truth", type=Path, required=True, metavar="FILE", help="bag with truth, KITTI folder, or poses of base_link in TUM form"
    )
    parser.add_argument("--truth-topic", metavar="TOPIC", help="of a bag, default /ground_truth/odometry")
    parser.add_argument(
        "--max-gap-s", type=float, default=0.5, metavar="S", help="true poses further apart are not interpolated (default: 0.5)"
    )
    _add_results(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write metrics and every frame")
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="write one HTML page with everything in it")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen evaluation."""
    runs = {
        "split": _split,
        "trajectory": _trajectory,
        "cross-view": evaluate_cross_view.run_cross_view,
        "features": evaluate_features.run_features,
        "retrieval": evaluate_retrieval.run_retrieval,
        "detection": evaluate_detection.run_detection,
    }
    return runs[arguments.action](arguments)


def _split(arguments: argparse.Namespace) -> int:
    from ros2_loc.io.files import require_absent

    pipeline = pipeline_of(arguments)
    if arguments.map is not None:
        require_absent(arguments.map)
    with tempfile.TemporaryDirectory(prefix="ros2_loc_split_") as scratch:
        return _split_in(arguments, pipeline, arguments.map or Path(scratch) / "map")


def _split_in(arguments: argparse.Namespace, pipeline, map_folder: Path) -> int:  # type: ignore[no-untyped-def]
    from ros2_loc.evaluation import split as splits
    from ros2_loc.io.sequences import open_sequence
    from ros2_loc.localization.build_map import build_map

    parts = splits.split(open_source(arguments.images, arguments), arguments.map_every, arguments.limit)
    queries, title = parts.queries, f"{arguments.images}, every {arguments.map_every}. image in the map"
    if arguments.queries_of is not None:
        camera = arguments.queries_camera or (None if _knows_its_camera(arguments.queries_of) else arguments.camera)
        other = open_sequence(arguments.queries_of, camera=camera)
        queries = splits.thinned(splits.without_truth(other), arguments.limit)
        title = f"{arguments.queries_of} in the map of {arguments.images}"
    print(f"mapping {len(parts.mapping)} images, then asking for {len(queries)}", flush=True)
    sparse_map = build_map(parts.mapping, pipeline, map_folder, source=str(arguments.images), show_progress=progress_wanted())
    evaluation = splits.evaluate_queries(queries, sparse_map, pipeline, title, progress_wanted())
    pictures = splits.matches_pictures(queries, sparse_map, pipeline, parts.mapping)
    if arguments.queries_of is not None:
        taken, verdict = evaluation.metrics.accepted, "none should be"
        print(
            f"{taken} of {len(queries)} images of another place were taken for one of the map: {verdict if taken else 'right, ' + verdict}"
        )
    return _finish(arguments, evaluation, pictures)


def _knows_its_camera(folder: Path) -> bool:
    from ros2_loc.io.kitti import is_odometry_folder

    return folder.is_dir() and is_odometry_folder(folder)


def _trajectory(arguments: argparse.Namespace) -> int:
    from ros2_loc.evaluation import against_truth

    truth = against_truth.read_truth(arguments.truth, arguments.truth_topic)
    max_gap_ns = round(arguments.max_gap_s * 1e9)
    if arguments.estimated.suffix.lower() == ".json":
        evaluation = against_truth.with_truth(arguments.estimated, truth, max_gap_ns)
        return _finish(arguments, evaluation, None)
    return _bare_trajectory(arguments, truth, max_gap_ns)


def _bare_trajectory(arguments: argparse.Namespace, truth, max_gap_ns: int) -> int:  # type: ignore[no-untyped-def]
    """Without covariances there is no consistency to measure, and no page to fill."""
    import json
    from dataclasses import asdict

    from ros2_loc.cli.console import table
    from ros2_loc.cli.results import error_rows
    from ros2_loc.errors import ConfigError
    from ros2_loc.evaluation import against_truth
    from ros2_loc.io.files import atomic_path

    if arguments.report:
        raise ConfigError("--report needs covariances, which a TUM file has not: give the JSON of `ros2-loc localize` or of record:=")
    errors = against_truth.trajectory_errors(arguments.estimated, truth, max_gap_ns)
    rows = [("poses", f"{errors.compared} compared, {errors.without_truth} without truth")]
    rows += error_rows(errors.translation_m, errors.rotation_deg, "error")
    rows += error_rows(errors.relative_translation_m, errors.relative_rotation_deg, "pose to pose")
    print(table(rows))
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(asdict(errors), indent=1) + "\n")
        print(f"numbers: {arguments.json}")
    return 0


def _finish(arguments: argparse.Namespace, evaluation, pictures) -> int:  # type: ignore[no-untyped-def]
    from ros2_loc.cli.results import metrics_table

    print(metrics_table(evaluation.metrics))
    if arguments.json:
        evaluation.write_json(arguments.json)
        print(f"numbers: {arguments.json}")
    if arguments.report:
        from ros2_loc.evaluation.report import write_report

        print(f"report:  {write_report(evaluation, arguments.report, pictures)}")
    return 0
