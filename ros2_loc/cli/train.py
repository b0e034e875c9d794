"""`ros2-loc train`: networks from recipes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import Parser, progress_wanted

EXAMPLE = "ros2-loc train cvlnet --data town --out trained --set towns.count=4 --set loop.epochs=10"
_KITTI = (
    "ros2-loc train cvlnet --recipe paper --data kitti-cvl kitti_raw --lists cvl_lists --tiles karlsruhe_tiles --out trained\n"
    "  ros2-loc train cvlnet --data drives monday_bag tuesday_bag --validate-on friday_bag --tiles campus_tiles --out trained"
)
_KINDS = ("town", "kitti-cvl", "drives")


def add_arguments(parser: Parser) -> None:
    """One verb for each network."""
    verbs = parser.add_verbs({"cvlnet": ("train cross-view localization: ground video against satellite tiles", f"{EXAMPLE}\n  {_KITTI}")})
    cvlnet = verbs["cvlnet"]
    cvlnet.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar=("KIND", "PATH"),
        help="town (synthetic, needs nothing), kitti-cvl RAW_FOLDER, or drives RECORDING... (bags or folders with poses and fixes)",
    )
    cvlnet.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for weights, checkpoint, recipe, history")
    cvlnet.add_argument("--recipe", metavar="NAME", help="small, paper, or a YAML file (default: small; with --resume: the one in --out)")
    cvlnet.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override, such as loop.epochs=5")
    cvlnet.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    cvlnet.add_argument("--tiles", type=Path, metavar="DIR", help="tile database of kitti-cvl or drives (`ros2-loc tiles build`)")
    cvlnet.add_argument("--lists", type=Path, metavar="DIR", help="folder with the lists of KITTI-CVL")
    cvlnet.add_argument("--validate-on", type=Path, nargs="+", default=[], metavar="RECORDING", help="of drives: those to validate with")
    cvlnet.add_argument("--cache", type=Path, metavar="DIR", help="where drives are kept, made small (default: ~/.cache/ros2_loc)")
    cvlnet.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda; under torchrun a GPU for each process")
    cvlnet.add_argument("--render-workers", type=int, default=1, metavar="N", help="processes that render towns (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    source = _source(arguments)
    first = os.environ.get("RANK", "0") == "0"
    from ros2_loc.training.recipes import load_recipe
    from ros2_loc.training.train_cvlnet import resumed_recipe, train_cvlnet

    _check(arguments)
    recipe = (
        resumed_recipe(arguments.out, arguments.overrides)
        if arguments.resume
        else load_recipe(arguments.recipe or "small", arguments.overrides)
    )
    try:
        trained = train_cvlnet(
            recipe,
            source,
            arguments.out,
            source_name=" ".join(Path(word).name for word in arguments.data),
            resume=arguments.resume,
            device=arguments.device,
            render_workers=arguments.render_workers,
            show_progress=progress_wanted(),
        )
    except KeyboardInterrupt:
        if first:
            print(f"\nros2-loc: stopped; go on with: {_resume_command(arguments)}", file=sys.stderr)
        return 130
    if first:
        print(f"{trained.weights}: best after step {trained.best_step}, {trained.monitor} {trained.best:.4g}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError

    if arguments.resume and arguments.recipe:
        raise ConfigError("--resume goes on with the recipe in --out: leave --recipe out, and change single values by --set")
    for override in arguments.overrides:
        if "=" not in override:
            raise ConfigError(f"--set {override}: give KEY=VALUE, for instance loop.epochs=5")


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


def _resume_command(arguments: argparse.Namespace) -> str:
    words = ["ros2-loc", "train", "cvlnet", "--data", *arguments.data, "--out", str(arguments.out), "--resume"]
    for name in ("tiles", "lists", "cache"):
        value = getattr(arguments, name)
        words += [f"--{name}", str(value)] if value is not None else []
    words += ["--validate-on", *map(str, arguments.validate_on)] if arguments.validate_on else []
    words += [] if arguments.device == "auto" else ["--device", arguments.device]
    return shlex.join(words)
