"""The stages of `ros2-loc demo` up to the results: drives, map, tiles, and the second drive through the pipelines."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import progress_wanted
from ros2_loc.cli.demo_places import Places, program, say

if TYPE_CHECKING:
    from ros2_loc.io.image_sequence import ImageSequence
    from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig
    from ros2_loc.localization.offline import OverTiles
    from ros2_loc.localization.pipeline import PipelineConfig
    from ros2_loc.mapping.mosaic import StoredMosaic
    from ros2_loc.mapping.sparse_map import SparseMap
    from ros2_loc.world.town import Town

_MAP_EVERY = 5
_MOSAIC_M_PER_PX = 0.4
_MOSAIC_MARGIN_M = 20.0
_LOG = {"RCUTILS_CONSOLE_OUTPUT_FORMAT": "   [{name}] {message}", "RCUTILS_COLORIZED_OUTPUT": "0"}


def record(arguments: argparse.Namespace, places: Places) -> None:
    """The bags: of the town, or of KITTI."""
    begin = time.perf_counter()
    if arguments.keep and places.second_bag.exists() and (arguments.kitti or places.first_bag.exists()):
        say(f"1. the drives that lie in {places.out} already")
        return
    if arguments.kitti:
        from ros2_loc.io import convert

        others = _kitti(arguments)[1]
        say(f"1. {len(others)} frames of {arguments.kitti}, which are not in the map, as a bag")
        notes = {"source": f"KITTI odometry, {arguments.kitti.resolve().name}, frames that are not in the map"}
        output = convert.BagOutput(overwrite=True, progress=progress_wanted())
        convert.write_sequence(others, places.second_bag, notes=notes, odometry_from_truth=convert.Drift(), output=output)
    else:
        _drive_through_town(arguments, places)
    say(f"   {places.second_bag} ({time.perf_counter() - begin:.0f} s)")


def _drive_through_town(arguments: argparse.Namespace, places: Places) -> None:
    from tqdm import tqdm

    from ros2_loc.world.demo import demo_drives, demo_town
    from ros2_loc.world.recording import write_bags

    drives = demo_drives(demo_town(arguments.seed), arguments.domain, arguments.traffic)
    first, second = drives.mapping, drives.localization
    leaves_m, back_m = drives.around_m
    say(
        f"1. drive twice through a synthetic town: {len(first.stamps_ns)} images on {first.drive.length_m:.0f} m in the afternoon, "
        f"{len(second.stamps_ns)} on {second.drive.length_m:.0f} m\n   in another light ({arguments.domain}), in another lane and from "
        f"{leaves_m:.0f} to {back_m:.0f} m by streets that the first drive never saw"
        + (f", both amid {len(second.traffic.tracks)} others on wheels and on foot" if second.traffic else "")
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


def mapping_sequence(arguments: argparse.Namespace, places: Places) -> ImageSequence:
    """The images of the map."""
    from ros2_loc.io.sequences import open_sequence

    return _kitti(arguments)[0] if arguments.kitti else open_sequence(places.first_bag)


def build_the_map(arguments: argparse.Namespace, places: Places) -> SparseMap:
    """The map of the first drive."""
    from ros2_loc.localization.build_map import build_map
    from ros2_loc.localization.pipeline import load_pipeline
    from ros2_loc.mapping.sparse_map import SparseMap

    if arguments.keep and places.map.exists():
        say(f"2. the map that lies in {places.map} already")
        return SparseMap.load(places.map)
    pipeline, sequence = load_pipeline(arguments.map_pipeline), mapping_sequence(arguments, places)
    say(f"2. map {'every 5th frame' if arguments.kitti else 'the first drive'}: {len(sequence)} images")
    begin = time.perf_counter()
    source = str(arguments.kitti or places.first_bag)
    built = build_map(sequence, pipeline, places.map, overwrite=True, source=source, show_progress=progress_wanted())
    summary = built.provenance["summary"]
    say(
        f"   {places.map}: {len(built.points_m)} points, {summary['mean_reprojection_error_px']:.2f} px mean reprojection error, "
        f"{summary['mean_track_length']:.1f} images a point ({time.perf_counter() - begin:.0f} s)"
    )
    return built


def build_the_tiles(arguments: argparse.Namespace, places: Places, pipeline: CrossViewPipelineConfig) -> None:
    """The town from above, taken on another day, cut and described."""
    from ros2_loc import __version__, registry
    from ros2_loc.mapping.tile_build import build_tiles
    from ros2_loc.mapping.tile_database import TileDatabase
    from ros2_loc.mapping.tile_layout import TileLayout
    from ros2_loc.world.demo import demo_town

    encoder = registry.create("cross_view", pipeline.encoder)
    if arguments.keep and places.tiles.exists():
        TileDatabase.load(places.tiles).require_encoder(encoder)
        say(f"   tiles: those that lie in {places.tiles} already")
        return
    begin = time.perf_counter()
    layout = TileLayout(encoder.grid.coverage_m / encoder.tile_px, encoder.tile_px, pipeline.tiles.spacing_m, pipeline.tiles.min_valid)
    town = demo_town(arguments.seed)
    provenance = {
        "ros2_loc": __version__,
        "sources": [{"kind": "synthetic town", "name": f"ros2-loc demo, seed {arguments.seed}", "attribution": "made by ros2_loc"}],
        "origin": "of the sources",
    }
    draw = partial(_draw, town)
    built = build_tiles(
        places.tiles, draw, town.origin, layout, provenance, encoder, overwrite=True, show_progress=progress_wanted()
    )
    west, south, east, north = built.bounds_m
    say(
        f"   {places.tiles}: {len(built)} satellite tiles every {layout.spacing_m:g} m on {east - west:.0f} x {north - south:.0f} m "
        f"({time.perf_counter() - begin:.0f} s)"
    )


def _draw(town: Town, path: Path) -> StoredMosaic:
    from ros2_loc.mapping.mosaic import store
    from ros2_loc.world.imagery import town_mosaic

    west, south, east, north = town.bounds_m
    around = (west - _MOSAIC_MARGIN_M, south - _MOSAIC_MARGIN_M, east + _MOSAIC_MARGIN_M, north + _MOSAIC_MARGIN_M)
    return store(town_mosaic(town, _MOSAIC_M_PER_PX, bounds_m=around), path, town.origin)


def replay(arguments: argparse.Namespace, places: Places, with_tiles: bool) -> int:
    """The second drive through map_server, the localizers, pose_fusion and bag_player as processes, and a recorder."""
    from ros2_loc import graph
    from ros2_loc.io.bag_reader import BagReader
    from ros2_loc.supervisor import supervise

    with BagReader(places.second_bag) as reader:
        length_s = (reader.end_ns - reader.start_ns) * 1e-9 / arguments.rate
    say(f"3. replay the second drive through the ROS 2 nodes ({length_s:.0f} s)")
    given = {
        "map": str(places.map),
        "bag": str(places.second_bag),
        "pipeline": str(places.pipeline),
        "rate": str(arguments.rate),
        "record": str(places.recorded),
        "record_overlays": "true",
        "rviz": str(arguments.rviz).lower(),
        **({"tiles": str(places.tiles), "cross_view_pipeline": str(places.cross_view_pipeline)} if with_tiles else {}),
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
        print(f"ros2-loc: error: the replay failed, see the lines above; `{program()} doctor` may know why", file=sys.stderr)
    return status


def replay_offline(
    arguments: argparse.Namespace,
    places: Places,
    sparse_map: SparseMap,
    pipeline: PipelineConfig,
    cross_view: CrossViewPipelineConfig | None,
) -> None:
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
    say(f"3. localize the {len(sequence)} images of the second drive offline, without ROS")
    names = [place.name for place in sparse_map.places]
    found: dict[str, list[FrameResult]] = {"localized": [], "fused": [], "cross_view": []}
    tiles = None if cross_view is None else _over_tiles(arguments, places, cross_view)
    steps = localize_offline(sequence, MapLocalizer(sparse_map, pipeline), PoseFusion(pipeline.fusion), over_tiles=tiles)
    for step in tqdm(steps, total=len(sequence), desc="   localize", disable=not progress_wanted(), leave=False, dynamic_ncols=True):
        name, stamp_ns = sequence.names[step.index], int(sequence.stamps_ns[step.index])
        found["localized"].append(frame_result(name, stamp_ns, None, step.localization, names))
        for part, result in (("fused", step.fused), ("cross_view", step.over_tiles)):
            found[part] += [FrameResult(name, stamp_ns, None, result)] if result is not None else []
    places.recorded.mkdir(exist_ok=True)
    for part, frames in found.items():
        Evaluation(f"{part} poses, offline", tuple(frames), np.zeros((0, 3))).write_json(places.recorded / f"{part}.json")


def _over_tiles(arguments: argparse.Namespace, places: Places, pipeline: CrossViewPipelineConfig) -> OverTiles:
    """Cross-view localization with the compass of the second drive."""
    from ros2_loc import registry
    from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer
    from ros2_loc.localization.offline import OverTiles
    from ros2_loc.mapping.shared_frame import map_from_tiles
    from ros2_loc.mapping.sparse_map import MapFrame
    from ros2_loc.mapping.tile_database import TileDatabase
    from ros2_loc.world.demo import demo_drives, demo_town

    tiles = TileDatabase.load(places.tiles)
    measured = replace(pipeline, localizer=replace(pipeline.localizer, heading="measured"))
    localizer = CrossViewLocalizer(measured, tiles, registry.create("cross_view", pipeline.encoder))
    compass = demo_drives(demo_town(arguments.seed)).localization.imu()
    headings = [(s.stamp_ns, s.enu_from_base.yaw_rad, float(s.covariance[2, 2]) ** 0.5) for s in compass]
    return OverTiles(localizer, headings, map_from_tiles(MapFrame.load(places.map), tiles))
