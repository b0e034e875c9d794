"""What a demo was worth: tables of each localizer on mapped streets and off them, a report, pictures."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.demo_places import Places, program, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ros2_loc.evaluation.records import Evaluation
    from ros2_loc.evaluation.stretches import Intervals
    from ros2_loc.io.image_sequence import ImageSequence
    from ros2_loc.io.trajectories import Trajectory
    from ros2_loc.localization.pipeline import PipelineConfig
    from ros2_loc.mapping.sparse_map import SparseMap

_GAP_NS = 200_000_000
_AT_IMAGE_NS = 60_000_000
_PARTS = {"map_localizer": "localized", "cross_view_localizer": "cross_view", "pose_fusion": "fused"}


@dataclass(frozen=True, eq=False)
class Demo:
    """A demo that has run."""

    arguments: argparse.Namespace
    places: Places
    sparse_map: SparseMap
    pipeline: PipelineConfig
    with_tiles: bool


def evaluate(demo: Demo, took_s: float) -> int:
    """Print and write everything."""
    from ros2_loc.cli.console import seconds
    from ros2_loc.cli.results import comparison_table
    from ros2_loc.config import share_folder
    from ros2_loc.evaluation.report import write_report
    from ros2_loc.evaluation.split import matches_pictures
    from ros2_loc.io.sequences import open_sequence

    begin, arguments, places = time.perf_counter(), demo.arguments, demo.places
    found = _read(demo)
    if "map_localizer" not in found:
        command = f"{program()} doctor --map {places.map} --bag {places.second_bag}"
        print(f"ros2-loc: error: not one image was localized; `{command}` may know why", file=sys.stderr)
        return 1
    localized = found["map_localizer"]
    queries = open_sequence(places.second_bag)
    columns = {"each image (map_localizer)": localized.metrics}
    columns |= {"with odometry (pose_fusion)": found["pose_fusion"].metrics} if "pose_fusion" in found else {}
    say(f"4. against the truth\n\n{comparison_table(columns)}\n")
    if not arguments.offline:
        say("pose_fusion tells where the vehicle is now: its errors hold the odometry's noise since the last image that was localized,")
        say("those of map_localizer are of the image's own time, which is over when its pose comes\n")
    if replaced := localized.settings.get("images that newer ones replaced"):
        say(f"{replaced} of {localized.settings['images sent']} images were passed over: newer ones came while the localizer was busy\n")
    if not arguments.kitti:
        _compare(demo, found, queries)
    from ros2_loc.cli.demo_stages import mapping_sequence

    pictures = matches_pictures(queries, demo.sparse_map, demo.pipeline, mapping_sequence(arguments, places))
    report = write_report(localized, places.out / "report.html", pictures)
    localized.write_json(places.out / "evaluation.json")
    if arguments.rerun:
        _write_rerun(arguments.rerun, places, queries, demo.sparse_map, localized)
        say(f"Rerun:   {arguments.rerun} (rerun {arguments.rerun})")
    tiles = f" tiles:={places.tiles} cross_view_pipeline:={places.cross_view_pipeline}" if demo.with_tiles else ""
    say(f"report:  {report}")
    say(f"numbers: {places.out / 'evaluation.json'}")
    say(f"again:   {program()} run map:={places.map}{tiles} bag:={places.second_bag} pipeline:={places.pipeline}")
    say(f"RViz:    rviz2 -d {share_folder() / 'rviz' / 'localize.rviz'}")
    say(f"done in {seconds(took_s + time.perf_counter() - begin)}")
    return 0


def _read(demo: Demo) -> dict[str, Evaluation]:
    """What was recorded, with the truth of the bag and the places of the map, by the node; those that gave no pose are left out."""
    import numpy as np

    from ros2_loc.evaluation.against_truth import read_truth, with_truth
    from ros2_loc.evaluation.records import Evaluation
    from ros2_loc.evaluation.split import describe

    truth = read_truth(demo.places.second_bag)
    drive = f"{demo.arguments.kitti or 'Synthetic town'}, {'offline' if demo.arguments.offline else 'through the ROS 2 nodes'}"
    positions = np.array([place.map_from_base.translation for place in demo.sparse_map.places])
    found = {}
    for node, part in _PARTS.items():
        path = demo.places.recorded / f"{part}.json"
        if node == "cross_view_localizer" and not (demo.with_tiles and path.is_file()):
            continue
        recorded = Evaluation.read_json(path)
        if node != "cross_view_localizer" and not any(frame.estimate for frame in recorded.frames):
            continue
        known = with_truth(recorded, truth, _GAP_NS)
        frames = tuple(frame for frame in known.frames if frame.truth is not None)  # beyond the ends of the truth nothing can be said
        settings = {**describe(demo.sparse_map), **known.settings}
        found[node] = replace(known, title=f"{drive}: {node}", frames=frames, places_m=positions, settings=settings)
    return found


def _compare(demo: Demo, found: Mapping[str, Evaluation], queries: ImageSequence) -> None:
    """The localizers side by side, on mapped streets and off them: a table, JSON, and a picture where there are tiles."""
    import json

    from ros2_loc.cli.results import worth_table
    from ros2_loc.evaluation.against_truth import read_truth
    from ros2_loc.evaluation.records import finite
    from ros2_loc.evaluation.stretches import Answers, off_the_map, worth
    from ros2_loc.io.files import atomic_path

    truth = read_truth(demo.places.second_bag)
    off = off_the_map(truth, [place.map_from_base for place in demo.sparse_map.places])
    answers = {node: Answers.of_localizer(of.frames, node == "cross_view_localizer") for node, of in found.items()}
    if "pose_fusion" in found:
        answers["pose_fusion"] = Answers.at(found["pose_fusion"].frames, queries.stamps_ns, _AT_IMAGE_NS)
    rows = {
        "on mapped streets": {node: worth(said.outside(off)) for node, said in answers.items()},
        "on streets that are not in the map": {node: worth(said.inside(off)) for node, said in answers.items()},
    }
    say(worth_table(rows) + "\n")
    say("NEES is 3 where covariances are true. cross_view_localizer and pose_fusion are filters: their errors on a stretch are one draw,")
    say("and its bounds are wide\n")
    with atomic_path(demo.places.out / "localizers.json") as temporary:
        content = {stretch: {node: asdict(of) for node, of in worths.items()} for stretch, worths in rows.items()}
        temporary.write_text(json.dumps(finite(content), indent=1), encoding="utf-8")
    if demo.with_tiles:
        say(f"picture: {_draw(demo, found, truth, off)}")


def _draw(demo: Demo, found: Mapping[str, Evaluation], truth: Trajectory, off: Intervals) -> Path:
    from ros2_loc.evaluation.localizers import localizers_view
    from ros2_loc.mapping.sparse_map import MapFrame
    from ros2_loc.mapping.tile_database import TileDatabase
    from ros2_loc.visualization.localizers import write_localizers

    path, places = demo.places.out / "localizers.png", demo.places
    tiles = TileDatabase.load(places.tiles, verify=False)
    view = localizers_view(tiles, MapFrame.load(places.map), {node: of.frames for node, of in found.items()}, truth, off)
    write_localizers(path, view, "the second drive: in the map of the first, and over satellite tiles")
    return path


def _write_rerun(path: Path, places: Places, queries: ImageSequence, sparse_map: SparseMap, localized: Evaluation) -> None:
    """The pictures that the localizer published where they were recorded, else the camera's."""
    from ros2_loc.io.images import read_image
    from ros2_loc.visualization.rerun_log import RerunLog

    index = {int(stamp): i for i, stamp in enumerate(queries.stamps_ns)}
    with RerunLog(path) as log:
        log.log_map(sparse_map.points_m, sparse_map.point_colors, localized.places_m)
        for frame in localized.frames:
            overlay = places.recorded / "overlays" / f"{frame.stamp_ns}.jpg"
            image = read_image(overlay) if overlay.is_file() else queries.image(index[frame.stamp_ns])
            log.log_frame(frame.stamp_ns, frame.result, image, frame.truth, "", queries.camera, queries.base_from_camera)
