"""`ros2-loc localize`: a recording through the pipeline of the nodes, offline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import Parser, add_pipeline, add_source, open_source, pipeline_of, progress_wanted

EXAMPLE = (
    "ros2-loc localize town_map second_drive_bag --trajectory drive.tum --json drive.json\n"
    "  ros2-loc localize kitti_map kitti/03/image_0 --camera kitti/03/K.txt --prior none --report kitti.html"
)


def add_arguments(parser: Parser) -> None:
    """The map, the recording, what to write."""
    parser.add_argument("map", type=Path, help="folder of the map")
    parser.add_argument("source", type=Path, help="bag, image folder, KITTI or 7-Scenes folder")
    parser.add_argument("--trajectory", type=Path, metavar="OUT.tum", help="write the pose of each image; rejected ones are left out")
    parser.add_argument("--fused", type=Path, metavar="OUT.tum", help="write the pose fused with odometry at each image, while TRACKING")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write every image: pose, covariance, inliers, or why there is none")
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="write one HTML page with plots and matches")
    parser.add_argument("--rerun", type=Path, metavar="OUT.rrd", help="write a recording for the Rerun viewer (needs rerun-sdk)")
    parser.add_argument(
        "--prior",
        choices=("fusion", "none"),
        default="fusion",
        help="look first near the fused pose, as the node does (default), or always everywhere",
    )
    parser.add_argument("--truth", action="store_true", help="the recording's own poses are in the frame of this map: measure against them")
    add_source(parser)
    add_pipeline(parser)


def run(arguments: argparse.Namespace) -> int:
    """Localize every image, print a summary, write what was asked for."""
    from ros2_loc.cli.results import metrics_table
    from ros2_loc.errors import DataError
    from ros2_loc.localization.map_localizer import MapLocalizer
    from ros2_loc.mapping.sparse_map import SparseMap

    pipeline = pipeline_of(arguments)
    sparse_map = SparseMap.load(arguments.map)
    localizer = MapLocalizer(sparse_map, pipeline)
    sequence = open_source(arguments.source, arguments)
    if arguments.truth and not sequence.has_poses:
        raise DataError(f"{arguments.source}: has no poses for --truth; give --poses FILE, or leave --truth out")
    print(f"{arguments.source}: {len(sequence)} images, in {arguments.map}: {len(sparse_map.places)} places", flush=True)
    if differs := sparse_map.masked_otherwise(pipeline.detector):
        print(f"note: {differs}", flush=True)
    outcome = _localize(arguments, sequence, sparse_map, localizer, pipeline)
    print(metrics_table(outcome.evaluation.metrics))
    print(f"tracked {outcome.tracked} of {len(sequence)} images with a prior; at the end {outcome.state}")
    if pipeline.detector:
        print(f"{pipeline.detector['name']} saw {outcome.seen}")
    _write(arguments, outcome, sequence, sparse_map, pipeline)
    return 0


class _Outcome:
    """What came of all images."""

    def __init__(self, evaluation: Any, fused: list[Any], tracked: int, state: str, seen: str) -> None:
        self.evaluation, self.fused, self.tracked, self.state, self.seen = evaluation, fused, tracked, state, seen


def _localize(arguments: argparse.Namespace, sequence: Any, sparse_map: Any, localizer: Any, pipeline: Any) -> _Outcome:
    from contextlib import ExitStack

    import numpy as np
    from tqdm import tqdm

    from ros2_loc.evaluation.records import Evaluation
    from ros2_loc.evaluation.split import describe, frame_result
    from ros2_loc.localization.fusion import PoseFusion
    from ros2_loc.localization.offline import localize_offline

    names = [place.name for place in sparse_map.places]
    frames, fused, found, tracked, state = [], [], [], 0, ""
    with ExitStack() as stack:
        log = stack.enter_context(_RerunWriter(arguments.rerun, sequence, sparse_map)) if arguments.rerun else None
        steps = localize_offline(sequence, localizer, PoseFusion(pipeline.fusion), arguments.prior)
        for step in tqdm(steps, total=len(sequence), desc=" localize", disable=not progress_wanted(), leave=False, dynamic_ncols=True):
            i = step.index
            truth = sequence.map_from_base[i] if arguments.truth else None
            frames.append(frame_result(sequence.names[i], int(sequence.stamps_ns[i]), truth, step.localization, names))
            fused += [step.fused] if step.fused is not None else []
            found.append((step.localization.detections, step.localization.masked_share))
            tracked, state = tracked + step.tracked, step.state.name
            if log:
                log.add(step, truth)
    places_m = np.array([place.map_from_base.translation for place in sparse_map.places])
    settings = {**describe(sparse_map), "map": str(arguments.map), "prior": arguments.prior}
    return _Outcome(Evaluation(str(arguments.source), tuple(frames), places_m, settings), fused, tracked, state, _in_words(found))


def _in_words(found: list[tuple[Any, float]]) -> str:
    """What was detected in the images, and how much of them was masked for it."""
    from collections import Counter
    from statistics import median

    counts = Counter(detection.label for detections, _ in found for detection in detections)
    objects = ", ".join(f"{count} x {label}" for label, count in counts.most_common()) or "nothing"
    shares = [100 * share for _, share in found]
    return f"{objects} in {len(found)} images; masked are {median(shares):.1f} % of an image (median; at most {max(shares):.1f} %)"


def _write(arguments: argparse.Namespace, outcome: _Outcome, sequence: Any, sparse_map: Any, pipeline: Any) -> None:
    posed = [frame.estimate for frame in outcome.evaluation.frames if frame.estimate is not None]
    for path, estimates, what in ((arguments.trajectory, posed, "trajectory"), (arguments.fused, outcome.fused, "fused")):
        if path:
            write_estimates(path, estimates)
            print(f"{what}: {path} ({len(estimates)} poses)")
    if arguments.json:
        outcome.evaluation.write_json(arguments.json)
        print(f"frames: {arguments.json}")
    if arguments.report:
        from ros2_loc.evaluation.report import write_report
        from ros2_loc.evaluation.split import matches_pictures

        print(f"report: {write_report(outcome.evaluation, arguments.report, matches_pictures(sequence, sparse_map, pipeline))}")
    if arguments.rerun:
        print(f"rerun: {arguments.rerun} (open it with: rerun {arguments.rerun})")


def write_estimates(path: Path, estimates: list[Any]) -> None:
    """A TUM file of map_from_base; one without poses holds its comment alone."""
    import numpy as np

    from ros2_loc.io.trajectories import Trajectory, write_tum

    stamps = np.array([estimate.stamp_ns for estimate in estimates], dtype=np.int64)
    write_tum(path, Trajectory(stamps, tuple(estimate.map_from_base for estimate in estimates)))


class _RerunWriter:
    """Each image with its overlay, its pose and the map, for the Rerun viewer."""

    def __init__(self, path: Path, sequence: Any, sparse_map: Any) -> None:
        from ros2_loc.visualization.rerun_log import RerunLog

        self._log, self._sequence, self._map = RerunLog(path), sequence, sparse_map

    def __enter__(self) -> _RerunWriter:
        import numpy as np

        self._log.__enter__()
        places_m = np.array([place.map_from_base.translation for place in self._map.places])
        self._log.log_map(self._map.points_m, self._map.point_colors, places_m)
        return self

    def __exit__(self, *error: Any) -> None:
        self._log.__exit__(*error)

    def add(self, step: Any, truth: Any) -> None:
        """One image."""
        from ros2_loc.visualization.overlay import OverlayStatus, draw_overlay

        found, sequence, i = step.localization, self._sequence, step.index
        place = "" if found.best_place is None else self._map.places[found.best_place].name
        status = OverlayStatus(found.result, step.state.value, found.num_matches, place, found.stage_s)
        picture = draw_overlay(sequence.image(i), status, found.inlier_pixels_px, found.keypoints_px)
        self._log.log_frame(
            int(sequence.stamps_ns[i]), found.result, picture, truth, step.state.value, sequence.camera, sequence.base_from_camera
        )
