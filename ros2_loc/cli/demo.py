"""`ros2-loc demo`: two drives, a map of the first, the second through the real nodes, and what that was worth."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser, add_pipeline, pipeline_of
from ros2_loc.cli.demo_places import Places

if TYPE_CHECKING:
    from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig

EXAMPLE = "ros2-loc demo\n  ros2-loc demo --kitti dataset/sequences/03 --out kitti_demo"
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
    parser.add_argument("--keep", action="store_true", help="use the bags, the map and the tiles that an earlier demo left in the folder")
    parser.add_argument("--rate", type=float, default=1.0, metavar="X", help="replay X times as fast as recorded (default: 1)")
    parser.add_argument("--rviz", action="store_true", help="open RViz (needs rviz2 and a display)")
    parser.add_argument("--rerun", type=Path, metavar="OUT.rrd", help="also write a recording for the Rerun viewer (needs rerun-sdk)")
    parser.add_argument("--offline", action="store_true", help="without ROS: the same pipelines, no nodes")
    parser.add_argument("--seed", type=int, default=_TOWN_SEED, metavar="N", help=f"another town (default: {_TOWN_SEED})")
    words = "of the second drive in the town: night, night_rain, dusk, fog, rain, winter, autumn, ... (default: morning)"
    parser.add_argument("--domain", default="morning", metavar="NAME", help=words)
    words = "vehicles and people on the town's streets in both drives: 1 is busy, 3 is full (default: none; without a number: 1)"
    parser.add_argument("--traffic", type=float, nargs="?", const=1.0, default=0.0, metavar="DENSITY", help=words)
    parser.add_argument(
        "--map-pipeline", default="default", metavar="NAME", help="pipeline of the map; --pipeline is that of the nodes (default: default)"
    )
    words = "pipeline of cross_view_localizer, in the town: a name in config/pipelines, or a YAML file (default: cross_view)"
    parser.add_argument("--cross-view-pipeline", default="cross_view", metavar="NAME", help=words)
    add_pipeline(parser, default=None, said="default in the town, whose images come at 3 Hz, fast on KITTI, at 10 Hz")


def run(arguments: argparse.Namespace) -> int:
    """All stages, each with a line."""
    from ros2_loc.cli import demo_results, demo_stages

    begin = time.perf_counter()
    _check(arguments)
    arguments.pipeline = arguments.pipeline or ("fast" if arguments.kitti else "default")
    pipeline, cross_view = pipeline_of(arguments), _cross_view_of(arguments)
    places = Places(arguments.out)
    places.claim(pipeline, cross_view)
    demo_stages.record(arguments, places)
    sparse_map = demo_stages.build_the_map(arguments, places)
    if cross_view is not None:
        demo_stages.build_the_tiles(arguments, places, cross_view)
    if arguments.offline:
        demo_stages.replay_offline(arguments, places, sparse_map, pipeline, cross_view)
    elif status := demo_stages.replay(arguments, places, cross_view is not None):
        return status
    demo = demo_results.Demo(arguments, places, sparse_map, pipeline, cross_view is not None)
    return demo_results.evaluate(demo, time.perf_counter() - begin)


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.cli.ros_installation import has_package, require_ros
    from ros2_loc.errors import ConfigError, MissingDependencyError
    from ros2_loc.world.domains import domain_light

    if not arguments.offline:
        try:
            require_ros()
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{error}; or go without nodes: ros2-loc demo --offline") from error
    if not arguments.kitti:
        domain_light(arguments.domain)
    if not arguments.traffic >= 0:
        raise ConfigError(f"--traffic {arguments.traffic}: give a number above 0, or leave it out")
    if not arguments.rate > 0:
        raise ConfigError(f"--rate {arguments.rate}: give a number above 0")
    if arguments.rerun and not has_package("rerun"):
        raise ConfigError(f"--rerun needs rerun-sdk: {sys.executable} -m pip install rerun-sdk")


def _cross_view_of(arguments: argparse.Namespace) -> CrossViewPipelineConfig | None:
    """The cross-view pipeline; None on KITTI, which has no imagery, and where the packages of networks are missing, which is said."""
    from ros2_loc.cli.demo_places import say
    from ros2_loc.cli.ros_installation import has_package
    from ros2_loc.localization.cross_view_pipeline import load_cross_view_pipeline
    from ros2_loc.registry import install_command

    if arguments.kitti:
        return None
    if lacking := [package for package in ("torch", "safetensors") if not has_package(package)]:
        say(f"without cross_view_localizer, which needs {', '.join(lacking)}: {sys.executable} -m {install_command('torch')}")
        return None
    return load_cross_view_pipeline(arguments.cross_view_pipeline)
