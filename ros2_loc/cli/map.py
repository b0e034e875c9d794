"""`ros2-loc map`: build a map, say what is in it, check it, give it to other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import Parser, add_pipeline, add_source, open_source, pipeline_of, progress_wanted

EXAMPLE = "ros2-loc map build first_drive_bag town_map\n  ros2-loc map check town_map"
_BUILD = (
    "ros2-loc map build first_drive_bag town_map\n"
    "  ros2-loc map build kitti/03/image_0 kitti_map --poses kitti/03/poses.txt --camera kitti/03/K.txt --every 5\n"
    "  ros2-loc map build photos photos_map --camera camera_info.yaml --method incremental"
)


def add_arguments(parser: Parser) -> None:
    """`build`, `info`, `check`, `export`."""
    verbs = parser.add_verbs(
        {
            "build": ("build a map from a recording with poses, or from images alone", _BUILD),
            "info": ("say what is in a map", "ros2-loc map info town_map"),
            "check": (
                "compare a map with its checksums and with a pipeline, and find its weak places",
                "ros2-loc map check town_map --pipeline fast",
            ),
            "export": ("write a map as a COLMAP model or as a coloured point cloud", "ros2-loc map export town_map --ply town.ply"),
        }
    )
    build = verbs["build"]
    build.add_argument("source", type=Path, help="bag, image folder, KITTI or 7-Scenes folder")
    build.add_argument("out", type=Path, help="folder to write; an interrupted build is taken up where it was")
    build.add_argument(
        "--method",
        choices=("known", "incremental", "global"),
        default="known",
        help="known: with the recording's poses (default); incremental, global: structure from motion, scaled by GNSS or odometry",
    )
    build.add_argument("--overwrite", action="store_true", help="replace a map that is there, once the new one is whole")
    add_source(build)
    add_pipeline(build)
    for name in ("info", "check", "export"):
        verbs[name].add_argument("map", type=Path, help="folder of the map")
    add_pipeline(verbs["check"])
    verbs["check"].add_argument("--min-points", type=int, default=100, metavar="N", help="a place that sees fewer is weak (default: 100)")
    verbs["export"].add_argument("--colmap", type=Path, metavar="DIR", help="write cameras, images and points3D as COLMAP reads them")
    verbs["export"].add_argument("--text", action="store_true", help="COLMAP model as text instead of binary")
    verbs["export"].add_argument("--ply", type=Path, metavar="FILE", help="write the points with their colours")


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen one."""
    return {"build": _build, "info": _info, "check": _check, "export": _export}[arguments.action](arguments)


def _build(arguments: argparse.Namespace) -> int:
    import time

    from ros2_loc.io.files import require_absent
    from ros2_loc.localization.build_map import build_map

    begin = time.perf_counter()
    if not arguments.overwrite:
        require_absent(arguments.out)
    pipeline = pipeline_of(arguments)
    sequence = open_source(arguments.source, arguments)
    print(f"{arguments.source}: {len(sequence)} images of {sequence.camera.width}x{sequence.camera.height}", flush=True)
    built = build_map(
        sequence,
        pipeline,
        arguments.out,
        poses=arguments.method,
        overwrite=arguments.overwrite,
        source=str(arguments.source.resolve()),
        show_progress=progress_wanted(),
    )
    _print_info(built, time.perf_counter() - begin)
    if not built.metric:
        print("the scale of this map is arbitrary: nothing in the recording (poses, GNSS, odometry) says how long a metre is")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from ros2_loc.mapping.sparse_map import SparseMap

    _print_info(SparseMap.load(arguments.map, verify=False), None)
    return 0


def _print_info(sparse_map: Any, took_s: float | None) -> None:
    from ros2_loc.cli.console import seconds, table

    summary = sparse_map.provenance.get("summary", {})
    stages = summary.get("seconds", {})
    given = summary.get("images_given", len(sparse_map.places))
    rows = [
        ("map", str(sparse_map.folder)),
        ("images", f"{len(sparse_map.places)}" + (f" of {given}" if given != len(sparse_map.places) else "")),
        ("points", f"{len(sparse_map.points_m)}"),
        ("mean track length", f"{summary.get('mean_track_length', 0):.2f} images"),
        ("mean reprojection error", f"{summary.get('mean_reprojection_error_px', 0):.3f} px"),
        ("mounting error found", f"{_degrees(summary.get('mount_error_deg', []))} (about the camera's x, y, z axes)"),
        ("error model", _error_model(sparse_map.error_model)),
        ("origin", _origin(sparse_map)),
        ("camera", f"{sparse_map.camera.model} {sparse_map.camera.width}x{sparse_map.camera.height}"),
        ("index of places", _index(summary)),
        ("made by", _made_by(sparse_map.provenance)),
        *([("masked", _masked(sparse_map.provenance))] if sparse_map.provenance.get("detector") else []),
        ("stages", ", ".join(f"{name} {value:.1f} s" for name, value in stages.items())),
    ]
    print(table(rows + ([("time", seconds(took_s))] if took_s is not None else [])))


def _degrees(values: list[float]) -> str:
    return " ".join(f"{value:+.3f}" for value in values) + " deg" if values else "unknown"


def _error_model(model: Any) -> str:
    import numpy as np

    if not model.num_trials:
        return "assumed, not measured: too few images with poses"
    sigma = np.sqrt(np.diag(model.floor))
    right, down, ahead = 100.0 * sigma[:3]
    turn = np.degrees(sigma[3:].max())
    return (
        f"solver's covariance x {model.scale:.2f} + ({right:.1f} right, {down:.1f} down, {ahead:.1f} ahead) cm, "
        f"{turn:.3f} deg; measured on {model.num_trials} trials"
    )


def _origin(sparse_map: Any) -> str:
    if sparse_map.origin is None:
        return "not georeferenced" + ("" if sparse_map.metric else ", scale arbitrary")
    return f"{sparse_map.origin.lat_deg:.7f} {sparse_map.origin.lon_deg:.7f} {sparse_map.origin.alt_m:.1f} m"


def _index(summary: dict[str, Any]) -> str:
    recall = summary.get("index_recall_of_flat", 1.0)
    found = "exact" if recall == 1.0 else f"finds {100 * recall:.1f} % of the ten nearest"
    return f"{summary.get('index', 'unknown')}, {summary.get('index_mb', 0):.1f} MB, {found}"


def _made_by(provenance: dict[str, Any]) -> str:
    pipeline = provenance["pipeline"]
    features = f"{pipeline['extractor']['name']} + {pipeline['encoder']['name']}"
    method = f"ros2_loc {provenance.get('ros2_loc', '?')}, method {provenance.get('method', '?')}"
    return f"{method}, {features}, from {provenance.get('source') or 'unknown'}"


def _masked(provenance: dict[str, Any]) -> str:
    detector = provenance["detector"]
    weights = f" with {detector['weights']} ({detector['sha256'][:12]}...)" if detector.get("sha256") else ""
    share = 100 * provenance["summary"].get("masked_share", 0.0)
    return f"{share:.1f} % of the images, by {detector['name']}{weights}: {', '.join(detector['labels'])}"


def _check(arguments: argparse.Namespace) -> int:
    from ros2_loc.cli.checks import Mark, check_map, report

    findings = check_map(arguments.map, pipeline_of(arguments), arguments.min_points)
    print(report(findings))
    return 1 if any(finding.mark is Mark.BAD for finding in findings) else 0


def _export(arguments: argparse.Namespace) -> int:
    from ros2_loc.errors import ConfigError
    from ros2_loc.mapping import export

    if arguments.colmap is None and arguments.ply is None:
        raise ConfigError("nothing to export: give --colmap DIR or --ply FILE")
    if arguments.colmap is not None:
        export.export_colmap(arguments.map, arguments.colmap, as_text=arguments.text)
        print(f"COLMAP model: {arguments.colmap}")
    if arguments.ply is not None:
        print(f"points: {arguments.ply} ({export.export_ply(arguments.map, arguments.ply)} points)")
    return 0
