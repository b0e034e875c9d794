"""`ros2-loc demo`: two drives, a map of the first, the second through the real nodes, and what that was worth."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser, add_pipeline, pipeline_of, progress_wanted

if TYPE_CHECKING:
    from ros2_loc.evaluation.records import Evaluation
    from ros2_loc.io.image_sequence import ImageSequence
    from ros2_loc.localization.pipeline import PipelineConfig
    from ros2_loc.mapping.sparse_map import SparseMap

EXAMPLE = "ros2-loc demo\n  ros2-loc demo --kitti dataset/sequences/03 --out kitti_demo"
_MARKER = ".ros2_loc_demo"
_MAP_EVERY = 5
_TOWN_SEED = 1


def add_arguments(parser: Parser) -> None:
    """Where to, what instead of the town, how."""
    parser.add_argument(
        "--out", type=Path, default=Path("ros2_loc_demo"), metavar="DIR", help="folder for all of it (default: ./ros2_loc_demo)"
    )
    parser.add_argument(
        "--kitti", type=Path, metavar="DIR", help="a folder of KITTI odometry: every 5th frame is mapped, the others are replayed"
    )
    parser.add_argument("--stop", type=int, metavar="N", help="only the first N frames of KITTI")
    parser.add_argument("--keep", action="store_true", help="use the bags and the map that an earlier demo left in the folder")
    parser.add_argument("--rate", type=float, default=1.0, metavar="X", help="replay X times as fast as recorded (default: 1)")
    parser.add_argument("--rviz", action="store_true", help="open RViz (needs rviz2 and a display)")
    parser.add_argument("--rerun", type=Path, metavar="OUT.rrd", help="also write a recording for the Rerun viewer (needs rerun-sdk)")
    parser.add_argument("--offline", action="store_true", help="without ROS: the same pipeline, no nodes")
    parser.add_argument("--seed", type=int, default=_TOWN_SEED, metavar="N", help=f"another town (default: {_TOWN_SEED})")
    parser.add_argument(
        "--map-pipeline", default="default", metavar="NAME", help="pipeline of the map; --pipeline is that of the nodes (default: default)"
    )
    add_pipeline(parser, default=None, said="default in the town, whose images come at 4 Hz, fast on KITTI, at 10 Hz")


@dataclass(frozen=True)
class Places:
    """Where everything lies."""

    out: Path

    @property
    def first_bag(self) -> Path:
        """The drive that is mapped."""
        return self.out / "first_drive"

    @property
    def second_bag(self) -> Path:
        """The drive that is localized."""
        return self.out / "second_drive"

    @property
    def map(self) -> Path:
        """The map of the first."""
        return self.out / "map"

    @property
    def recorded(self) -> Path:
        """What the nodes published."""
        return self.out / "recorded"

    @property
    def pipeline(self) -> Path:
        """The pipeline as the nodes read it, overrides included."""
        return self.out / "pipeline.yaml"


def run(arguments: argparse.Namespace) -> int:
    """All stages, each with a line."""
    begin = time.perf_counter()
    _check(arguments)
    arguments.pipeline = arguments.pipeline or ("fast" if arguments.kitti else "default")
    pipeline = pipeline_of(arguments)
    places = Places(arguments.out)
    _claim(places, pipeline)
    _record(arguments, places)
    sparse_map = _map(arguments, places)
    replayed = _replay_offline if arguments.offline else _replay
    if status := replayed(arguments, places, sparse_map, pipeline):
        return status
    return _evaluate(arguments, places, sparse_map, pipeline, time.perf_counter() - begin)


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.cli.ros_installation import has_package, require_ros
    from ros2_loc.errors import ConfigError, MissingDependencyError

    if not arguments.offline:
        try:
            require_ros()
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{error}; or go without nodes: ros2-loc demo --offline") from error
    if not arguments.rate > 0:
        raise ConfigError(f"--rate {arguments.rate}: give a number above 0")
    if arguments.rerun and not has_package("rerun"):
        raise ConfigError(f"--rerun needs rerun-sdk: {sys.executable} -m pip install rerun-sdk")


def _claim(places: Places, pipeline: PipelineConfig) -> None:
    """Make the folder; one that holds something else is left alone."""
    from omegaconf import OmegaConf

    from ros2_loc.config import to_dict
    from ros2_loc.errors import ConfigError

    marker = places.out / _MARKER
    if places.out.exists() and not marker.exists() and (not places.out.is_dir() or any(places.out.iterdir())):
        raise ConfigError(f"{places.out}: holds something that is no demo of ours; name another folder with --out")
    places.out.mkdir(parents=True, exist_ok=True)
    marker.touch()
    OmegaConf.save(OmegaConf.create(to_dict(pipeline)), places.pipeline)


def _say(text: str) -> None:
    print(text, flush=True)


def _record(arguments: argparse.Namespace, places: Places) -> None:
    """The bags: of the town, or of KITTI."""
    begin = time.perf_counter()
    if arguments.keep and places.second_bag.exists() and (arguments.kitti or places.first_bag.exists()):
        _say(f"1. the drives that lie in {places.out} already")
        return
    if arguments.kitti:
        from ros2_loc.io import convert

        others = _kitti(arguments)[1]
        _say(f"1. {len(others)} frames of {arguments.kitti}, which are not in the map, as a bag")
        notes = {"source": f"KITTI odometry, {arguments.kitti.resolve().name}, frames that are not in the map"}
        output = convert.BagOutput(overwrite=True, progress=progress_wanted())
        convert.write_sequence(others, places.second_bag, notes=notes, odometry_from_truth=convert.Drift(), output=output)
    else:
        _drive_through_town(arguments, places)
    _say(f"   {places.second_bag} ({time.perf_counter() - begin:.0f} s)")


def _drive_through_town(arguments: argparse.Namespace, places: Places) -> None:
    from tqdm import tqdm

    from ros2_loc.world.demo import demo_drives
    from ros2_loc.world.recording import write_bags
    from ros2_loc.world.town import Town

    drives = demo_drives(Town.generate(arguments.seed))
    first, second = drives.mapping, drives.localization
    _say(
        f"1. drive twice through a synthetic town: {len(first.stamps_ns)} images on {first.drive.length_m:.0f} m in the afternoon, "
        f"{len(second.stamps_ns)} on {second.drive.length_m:.0f} m in the morning, on the other side of the lane"
    )
    total = len(first.stamps_ns) + len(second.stamps_ns)
    with tqdm(total=total, desc="   render", disable=not progress_wanted(), leave=False, dynamic_ncols=True) as bar:
        recordings = {places.first_bag: first, places.second_bag: second}
        write_bags(recordings, overwrite=True, workers=min(os.cpu_count() or 1, 4), progress=lambda done, of: bar.update(done - bar.n))


def _kitti(arguments: argparse.Namespace) -> tuple[ImageSequence, ImageSequence]:
    """(frames for the map, the others)."""
    from ros2_loc.evaluation.split import split
    from ros2_loc.io.sequences import open_sequence

    parts = split(open_sequence(arguments.kitti, stop=arguments.stop), _MAP_EVERY)
    return parts.mapping, parts.queries


def _mapping_sequence(arguments: argparse.Namespace, places: Places) -> ImageSequence:
    from ros2_loc.io.sequences import open_sequence

    return _kitti(arguments)[0] if arguments.kitti else open_sequence(places.first_bag)


def _map(arguments: argparse.Namespace, places: Places) -> SparseMap:
    from ros2_loc.localization.build_map import build_map
    from ros2_loc.localization.pipeline import load_pipeline
    from ros2_loc.mapping.sparse_map import SparseMap

    if arguments.keep and places.map.exists():
        _say(f"2. the map that lies in {places.map} already")
        return SparseMap.load(places.map)
    pipeline, sequence = load_pipeline(arguments.map_pipeline), _mapping_sequence(arguments, places)
    _say(f"2. map {'every 5th frame' if arguments.kitti else 'the first drive'}: {len(sequence)} images")
    begin = time.perf_counter()
    source = str(arguments.kitti or places.first_bag)
    built = build_map(sequence, pipeline, places.map, overwrite=True, source=source, show_progress=progress_wanted())
    summary = built.provenance["summary"]
    _say(
        f"   {places.map}: {len(built.points_m)} points, {summary['mean_reprojection_error_px']:.2f} px mean reprojection error, "
        f"{summary['mean_track_length']:.1f} images a point ({time.perf_counter() - begin:.0f} s)"
    )
    return built


def _replay(arguments: argparse.Namespace, places: Places, sparse_map: SparseMap, pipeline: PipelineConfig) -> int:
    """The second drive through map_server, map_localizer, pose_fusion and bag_player as processes, and a recorder."""
    from ros2_loc import graph
    from ros2_loc.io.bag_reader import BagReader
    from ros2_loc.supervisor import supervise

    with BagReader(places.second_bag) as reader:
        length_s = (reader.end_ns - reader.start_ns) * 1e-9 / arguments.rate
    _say(f"3. replay the second drive through the ROS 2 nodes ({length_s:.0f} s)")
    given = {
        "map": str(places.map),
        "bag": str(places.second_bag),
        "pipeline": str(places.pipeline),
        "rate": str(arguments.rate),
        "record": str(places.recorded),
        "record_overlays": "true",
        "rviz": str(arguments.rviz).lower(),
    }
    processes = graph.processes(graph.LOCALIZE, given)
    # what the nodes of a demo say is for this machine alone
    environment = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        **graph.environment(),
        **({} if "RCUTILS_CONSOLE_OUTPUT_FORMAT" in os.environ else _LOG),
    }
    status = supervise(processes, environment, lambda line: print(f"   ros2-loc: {line}", file=sys.stderr, flush=True))
    if status:
        print(f"ros2-loc: error: the replay failed, see the lines above; `{_program()} doctor` may know why", file=sys.stderr)
    return status


_LOG = {"RCUTILS_CONSOLE_OUTPUT_FORMAT": "   [{name}] {message}", "RCUTILS_COLORIZED_OUTPUT": "0"}


def _replay_offline(arguments: argparse.Namespace, places: Places, sparse_map: SparseMap, pipeline: PipelineConfig) -> int:
    """The same without nodes: every image, however long it takes."""
    import numpy as np
    from tqdm import tqdm

    from ros2_loc.evaluation.records import Evaluation, FrameResult
    from ros2_loc.evaluation.split import frame_result
    from ros2_loc.io.sequences import open_sequence
    from ros2_loc.localization.fusion import PoseFusion
    from ros2_loc.localization.map_localizer import MapLocalizer
    from ros2_loc.localization.offline import localize_offline

    sequence = open_sequence(places.second_bag)
    _say(f"3. localize the {len(sequence)} images of the second drive offline, without ROS")
    names = [place.name for place in sparse_map.places]
    frames, fused = [], []
    steps = localize_offline(sequence, MapLocalizer(sparse_map, pipeline), PoseFusion(pipeline.fusion))
    for step in tqdm(steps, total=len(sequence), desc="   localize", disable=not progress_wanted(), leave=False, dynamic_ncols=True):
        name, stamp_ns = sequence.names[step.index], int(sequence.stamps_ns[step.index])
        frames.append(frame_result(name, stamp_ns, None, step.localization, names))
        fused += [FrameResult(name, stamp_ns, None, step.fused)] if step.fused is not None else []
    places.recorded.mkdir(exist_ok=True)
    for what, found in (("localized", frames), ("fused", fused)):
        Evaluation(f"{what} poses, offline", tuple(found), np.zeros((0, 3))).write_json(places.recorded / f"{what}.json")
    return 0


def _evaluate(arguments: argparse.Namespace, places: Places, sparse_map: SparseMap, pipeline: PipelineConfig, took_s: float) -> int:
    from ros2_loc.cli.console import seconds
    from ros2_loc.cli.results import comparison_table
    from ros2_loc.config import share_folder
    from ros2_loc.evaluation.report import write_report
    from ros2_loc.evaluation.split import matches_pictures
    from ros2_loc.io.sequences import open_sequence

    drive = f"{arguments.kitti or 'Synthetic town'}, {'offline' if arguments.offline else 'through the ROS 2 nodes'}"
    localized = _with_truth(places, sparse_map, "localized", f"{drive}: each image by itself")
    fused = _with_truth(places, sparse_map, "fused", f"{drive}: fused with odometry")
    if localized is None:
        command = f"{_program()} doctor --map {places.map} --bag {places.second_bag}"
        print(f"ros2-loc: error: not one image was localized; `{command}` may know why", file=sys.stderr)
        return 1
    begin = time.perf_counter()
    columns = {"each image (map_localizer)": localized.metrics}
    columns |= {"with odometry (pose_fusion)": fused.metrics} if fused is not None else {}
    _say(f"4. against the truth\n\n{comparison_table(columns)}\n")
    if not arguments.offline:
        _say("pose_fusion tells where the vehicle is now: its errors hold the odometry's noise since the last image that was localized,")
        _say("those of map_localizer are of the image's own time, which is over when its pose comes\n")
    if replaced := localized.settings.get("images that newer ones replaced"):
        _say(f"{replaced} of {localized.settings['images sent']} images were passed over: newer ones came while the localizer was busy\n")
    queries = open_sequence(places.second_bag)
    pictures = matches_pictures(queries, sparse_map, pipeline, _mapping_sequence(arguments, places))
    report = write_report(localized, places.out / "report.html", pictures)
    localized.write_json(places.out / "evaluation.json")
    if arguments.rerun:
        _write_rerun(arguments.rerun, places, queries, sparse_map, localized)
        _say(f"Rerun:   {arguments.rerun} (rerun {arguments.rerun})")
    _say(f"report:  {report}")
    _say(f"numbers: {places.out / 'evaluation.json'}")
    _say(f"again:   {_program()} run map:={places.map} bag:={places.second_bag} pipeline:={places.pipeline}")
    _say(f"RViz:    rviz2 -d {share_folder() / 'rviz' / 'localize.rviz'}")
    _say(f"done in {seconds(took_s + time.perf_counter() - begin)}")
    return 0


def _program() -> str:
    """How to call this command line from here: `make demo` runs it from a venv that is not on the user's PATH."""
    installed = Path(sys.executable).with_name("ros2-loc")
    return os.path.relpath(installed) if installed.exists() else "ros2-loc"


def _with_truth(places: Places, sparse_map: SparseMap, what: str, title: str) -> Evaluation | None:
    """What was recorded, with the truth of the bag and the places of the map; None when there is nothing."""
    from dataclasses import replace

    import numpy as np

    from ros2_loc.evaluation.against_truth import read_truth, with_truth
    from ros2_loc.evaluation.records import Evaluation
    from ros2_loc.evaluation.split import describe

    recorded = Evaluation.read_json(places.recorded / f"{what}.json")
    if not any(frame.estimate for frame in recorded.frames):
        return None
    known = with_truth(recorded, read_truth(places.second_bag), 200_000_000)
    frames = tuple(frame for frame in known.frames if frame.truth is not None)  # beyond the ends of the truth nothing can be said
    positions = np.array([place.map_from_base.translation for place in sparse_map.places])
    return replace(known, title=title, frames=frames, places_m=positions, settings={**describe(sparse_map), **known.settings})


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
