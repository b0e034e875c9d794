"""`ros2-loc train cvlnet`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import Parser, progress_wanted
from ros2_loc.cli.training_runs import check_recipe, finished, resume_command, source_name

EXAMPLE = "ros2-loc train cvlnet --data town --out trained --set towns.count=4 --set loop.epochs=10"
SUMMARY = "train cross-view localization: ground video against satellite tiles"
MORE = (
    "ros2-loc train cvlnet --recipe paper --data kitti-cvl kitti_raw --lists cvl_lists --tiles karlsruhe_tiles --out trained\n"
    "  ros2-loc train cvlnet --data drives monday_bag tuesday_bag --validate-on friday_bag --tiles campus_tiles --out trained"
)
_KINDS = ("town", "kitti-cvl", "drives")


def add_arguments(cvlnet: Parser) -> None:
    """Data, and what the source of data needs; see `train.add_common` for the rest."""
    cvlnet.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar=("KIND", "PATH"),
        help="town (synthetic, needs nothing), kitti-cvl RAW_FOLDER, or drives RECORDING... (bags or folders with poses and fixes)",
    )
    cvlnet.add_argument("--tiles", type=Path, metavar="DIR", help="tile database of kitti-cvl or drives (`ros2-loc tiles build`)")
    cvlnet.add_argument("--lists", type=Path, metavar="DIR", help="folder with the lists of KITTI-CVL")
    cvlnet.add_argument("--validate-on", type=Path, nargs="+", default=[], metavar="RECORDING", help="of drives: those to validate with")
    cvlnet.add_argument("--cache", type=Path, metavar="DIR", help="where drives are kept, made small (default: ~/.cache/ros2_loc)")
    cvlnet.add_argument("--render-workers", type=int, default=1, metavar="N", help="processes that render towns (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    source = _source(arguments)
    from ros2_loc.training.recipes import CvlnetRecipe, load_recipe
    from ros2_loc.training.runs import resumed
    from ros2_loc.training.train_cvlnet import train_cvlnet

    check_recipe(arguments)
    recipe = (
        resumed(CvlnetRecipe, arguments.out, arguments.overrides)
        if arguments.resume
        else load_recipe(arguments.recipe or "small", arguments.overrides)
    )
    return finished(
        lambda: train_cvlnet(
            recipe,
            source,
            arguments.out,
            source_name=source_name(arguments),
            resume=arguments.resume,
            device=arguments.device,
            render_workers=arguments.render_workers,
            show_progress=progress_wanted(),
        ),
        resume_command(arguments, "cvlnet", ("tiles", "lists", "cache", "validate_on")),
    )


def _source(arguments: argparse.Namespace) -> Callable[[Any], Any]:
    """From a recipe to its drives; refuses at once what can't work."""
    from ros2_loc.errors import ConfigError

    kind, paths = arguments.data[0], [Path(word) for word in arguments.data[1:]]
    if kind not in _KINDS:
        raise ConfigError(f"--data {kind}: is none of {', '.join(_KINDS)}")
    wanted = {"town": 0, "kitti-cvl": 1, "drives": None}[kind]
    if (wanted is not None and len(paths) != wanted) or (kind == "drives" and not (paths and arguments.validate_on)):
        raise ConfigError("give --data town, --data kitti-cvl RAW_FOLDER, or --data drives RECORDING... with --validate-on RECORDING...")
    if (kind != "town" and arguments.tiles is None) or (kind == "kitti-cvl" and arguments.lists is None):
        raise ConfigError(f"--data {kind}: needs --tiles{' and --lists' if kind == 'kitti-cvl' else ''}")
    cache = arguments.cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ros2_loc" / "drives"
    return lambda recipe: _drives(kind, paths, arguments, recipe, cache)


def _drives(kind: str, paths: list[Path], arguments: argparse.Namespace, recipe: Any, cache: Path) -> Any:
    from ros2_loc.mapping.tile_database import TileDatabase
    from ros2_loc.training import recorded_drives
    from ros2_loc.training.towns import Towns

    if kind == "town":
        return Towns(recipe.towns, recipe.network, cache)
    tiles = TileDatabase.load(arguments.tiles)
    if kind == "kitti-cvl":
        return recorded_drives.kitti_cvl(paths[0], arguments.lists, tiles, recipe.network, cache)
    return recorded_drives.recorded(paths, arguments.validate_on, tiles, recipe.network, cache)
