"""`ros2-loc train centernet` and `ros2-loc train d2det`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ros2_loc.cli.arguments import Parser, progress_wanted
from ros2_loc.cli.training_runs import check_recipe, finished, resume_command, source_name

if TYPE_CHECKING:
    from ros2_loc.training.detection_sets import DetectionData
    from ros2_loc.training.runs import Trained

EXAMPLES = {
    "centernet": "ros2-loc train centernet --data coco my_objects --validate-on more_objects --out trained",
    "d2det": "ros2-loc train d2det --data coco my_objects --validate-on more_objects --out trained",
}
SUMMARIES = {
    "centernet": "train an object detector: triplets of keypoints",
    "d2det": "train an object detector in two stages, with masks",
}
_KINDS = ("auto", "coco", "coco_yolo", "kitti", "uavdt", "isaid")


def add_arguments(parser: Parser, name: str) -> None:
    """Data, and what to validate with; see `training_runs.add_common` for the rest."""
    said = f"folders of labelled images ({', '.join(_KINDS)}), or town (synthetic, needs nothing)"
    parser.add_argument("--data", nargs="+", required=True, metavar=("KIND", "DIR"), help=said)
    said = "folders of the same kind to validate with (default: some of the images of --data, not trained on then)"
    parser.add_argument("--validate-on", type=Path, nargs="+", default=[], metavar="DIR", help=said)
    parser.add_argument("--begin-with", metavar="WEIGHTS", help=f"name or file of weights of {name} to begin with, of any labels")
    if name == "d2det":
        parser.add_argument("--trunk", type=Path, metavar="FILE", help="torchvision's ImageNet weights of the backbone to begin with")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where synthetic images are kept (default: ~/.cache/ros2_loc)")


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    check_recipe(arguments)
    options = ("validate_on", "begin_with", *(("trunk",) if arguments.action == "d2det" else ()), "cache")
    return finished(lambda: _train(arguments), resume_command(arguments, arguments.action, options))


def _train(arguments: argparse.Namespace) -> Trained:
    from ros2_loc.training.detection_recipes import CenterNetRecipe, D2DetRecipe
    from ros2_loc.training.recipes import load_recipe_of
    from ros2_loc.training.runs import resumed
    from ros2_loc.training.train_detection import train_detector

    _check(arguments)
    given = [("begin_with", arguments.begin_with), ("trunk", getattr(arguments, "trunk", None))]
    changes = [*(f"{key}={value}" for key, value in given if value), *arguments.overrides]
    schema: Any = CenterNetRecipe if arguments.action == "centernet" else D2DetRecipe
    recipe = (
        resumed(schema, arguments.out, changes) if arguments.resume else load_recipe_of(schema, arguments.recipe or "small", changes)
    )
    return train_detector(
        recipe,
        _source(arguments, recipe),
        arguments.out,
        source_name=source_name(arguments),
        resume=arguments.resume,
        device=arguments.device,
        show_progress=progress_wanted(),
    )


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError

    kind, paths = arguments.data[0], arguments.data[1:]
    if kind not in (*_KINDS, "town"):
        raise ConfigError(f"--data {kind}: is none of {', '.join((*_KINDS, 'town'))}")
    if (kind == "town") != (not paths):
        raise ConfigError(f"--data {kind}: takes {'nothing' if kind == 'town' else 'folders'}, got {len(paths)} paths")
    if kind == "town" and arguments.validate_on:
        raise ConfigError("--data town: validates with towns of its own: leave --validate-on out")


def _source(arguments: argparse.Namespace, recipe: Any) -> Callable[[], DetectionData]:
    kind, paths = arguments.data[0], [Path(word) for word in arguments.data[1:]]
    if kind == "town":
        return lambda: _town(arguments, recipe)

    def data() -> DetectionData:
        from ros2_loc.training.detection_sets import DetectionData, held_out, opened

        train = opened(paths, kind)
        return DetectionData(train, opened(arguments.validate_on, kind)) if arguments.validate_on else held_out(train, recipe.held_out)

    return data


def _town(arguments: argparse.Namespace, recipe: Any) -> DetectionData:
    from tqdm import tqdm

    from ros2_loc.training.detection_towns import ObjectTowns

    cache = arguments.cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ros2_loc" / "objects"
    with tqdm(desc="   towns", disable=not progress_wanted(), leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return ObjectTowns(recipe.towns, cache).data(progress)
