"""`ros2-loc train r2d2` and `ros2-loc train context-r2d2`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser, progress_wanted
from ros2_loc.cli.training_runs import check_recipe, finished, resume_command, source_name

if TYPE_CHECKING:
    from ros2_loc.training.feature_pairs import PairData
    from ros2_loc.training.recipes import FeatureRecipe

EXAMPLES = {
    "r2d2": "ros2-loc train r2d2 --data folder my_images other_images --validate-on holiday_images --out trained",
    "context-r2d2": (
        "ros2-loc train context-r2d2 --recipe paper --data map town_map --images first_drive_bag --semantic hrnet_w48_cityscapes.pth "
        "--begin-with r2d2_wasf_n16 --out trained"
    ),
}
SUMMARIES = {
    "r2d2": "train local features: keypoints that repeat, where descriptors are reliable",
    "context-r2d2": "train local features with context from a semantic network",
}
_KINDS = {
    "folder": "images",
    "pairs-flow": "a folder of pairs with optical flow",
    "seven-scenes": "folders with colour, depth and poses",
    "town": "nothing",
    "map": "a map",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Data, weights to begin with, and images to validate with."""
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar=("KIND", "PATH"),
        help="folder DIR... (any images), pairs-flow DIR, seven-scenes DIR..., town (synthetic, needs nothing), or map MAP with --images",
    )
    parser.add_argument("--images", type=Path, metavar="SOURCE", help="of a map: the recording that it was built from")
    said = "folders of images to validate with (default: some images of --data, which are then not trained on)"
    parser.add_argument("--validate-on", type=Path, nargs="+", default=[], metavar="DIR", help=said)
    parser.add_argument("--begin-with", metavar="WEIGHTS", help="name or file of weights of R2D2 to begin with")
    if name == "context-r2d2":
        parser.add_argument("--semantic", metavar="WEIGHTS", help="name or file of weights of HRNet, of Cityscapes or ImageNet")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where synthetic scenes are kept (default: ~/.cache/ros2_loc)")


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    _check(arguments)
    check_recipe(arguments)
    from ros2_loc.training.feature_pair_sources import folder_images
    from ros2_loc.training.train_r2d2 import train_features

    recipe = _recipe(arguments)
    validate_on = [image for folder in arguments.validate_on for image in folder_images(folder)]
    options = ("images", "validate_on", "cache")
    return finished(
        lambda: train_features(
            recipe,
            _source(arguments, recipe),
            arguments.out,
            validate_on=validate_on,
            source_name=source_name(arguments),
            resume=arguments.resume,
            device=arguments.device,
            show_progress=progress_wanted(),
        ),
        resume_command(arguments, arguments.action, options),
    )


def _recipe(arguments: argparse.Namespace) -> FeatureRecipe:
    from ros2_loc.training.recipes import ContextR2d2Recipe, R2d2Recipe, load_recipe_of
    from ros2_loc.training.runs import resumed

    given = [("begin_with", arguments.begin_with), ("semantic", getattr(arguments, "semantic", None))]
    changes = [*(f"{key}={value}" for key, value in given if value), *arguments.overrides]
    name, folder = arguments.recipe or "small", arguments.out
    if arguments.action == "r2d2":
        return resumed(R2d2Recipe, folder, changes) if arguments.resume else load_recipe_of(R2d2Recipe, name, changes)
    return resumed(ContextR2d2Recipe, folder, changes) if arguments.resume else load_recipe_of(ContextR2d2Recipe, name, changes)


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError

    kind, paths = arguments.data[0], arguments.data[1:]
    if kind not in _KINDS:
        raise ConfigError(f"--data {kind}: is none of {', '.join(_KINDS)}")
    fits = {"town": not paths, "map": len(paths) == 1, "pairs-flow": len(paths) == 1}.get(kind, bool(paths))
    if not fits:
        raise ConfigError(f"--data {kind}: takes {_KINDS[kind]}, got {len(paths)} paths")
    if (kind == "map") != (arguments.images is not None):
        raise ConfigError("--images goes with --data map, which needs it: the recording or folder that the map was built from")


def _source(arguments: argparse.Namespace, recipe: FeatureRecipe) -> Callable[[], PairData]:
    kind, paths = arguments.data[0], [Path(word) for word in arguments.data[1:]]
    held_out = 0.0 if arguments.validate_on else recipe.held_out
    if kind == "folder":
        from ros2_loc.training.feature_pair_sources import folder_pairs

        return lambda: folder_pairs(paths, recipe.warp, recipe.samples.crop_px, held_out)
    if kind == "pairs-flow":
        from ros2_loc.training.feature_pair_sources import flow_pairs

        return lambda: flow_pairs(paths[0], held_out)
    if kind == "seven-scenes":
        from ros2_loc.training.feature_scenes import scene_pairs

        return lambda: scene_pairs(paths, held_out)
    if kind == "map":
        from ros2_loc.training.feature_maps import map_pairs

        return lambda: map_pairs(paths[0], arguments.images, held_out)
    return lambda: _town(arguments, recipe)


def _town(arguments: argparse.Namespace, recipe: FeatureRecipe) -> PairData:
    from tqdm import tqdm

    from ros2_loc.training.feature_towns import TownScenes

    cache = arguments.cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ros2_loc" / "scenes"
    with tqdm(desc="   scenes", disable=not progress_wanted(), leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return TownScenes(recipe.town, cache).pairs(progress)
