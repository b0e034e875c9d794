"""`ros2-loc train cosplace`, `ros2-loc train rrt` and `ros2-loc train cvnet-rerank`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ros2_loc.cli.arguments import Parser, progress_wanted
from ros2_loc.cli.training_runs import check_recipe, finished, resume_command, source_name

if TYPE_CHECKING:
    from ros2_loc.training.place_images import PlaceData
    from ros2_loc.training.place_recipes import CosPlaceRecipe
    from ros2_loc.training.runs import Trained
    from ros2_loc.training.train_rerankers import MapImages

EXAMPLES = {
    "cosplace": "ros2-loc train cosplace --data geotagged my_city --validate-on my_city_test --out trained",
    "rrt": "ros2-loc train rrt --data map town_map --validate-on other_map --out trained",
    "cvnet-rerank": "ros2-loc train cvnet-rerank --data map town_map --images first_drive_bag --out trained",
}
SUMMARIES = {
    "cosplace": "train a place retriever: one vector for an image",
    "rrt": "train a re-ranker that compares local features, from a map's common points",
    "cvnet-rerank": "train a re-ranker that compares images, from a map's common points",
}
_KINDS = {"geotagged": "folders of images", "recordings": "recordings with poses", "map": "maps", "town": "nothing"}


def add_arguments(parser: Parser, name: str) -> None:
    """Data, and what to validate with; see `training_runs.add_common` for the rest."""
    if name == "cosplace":
        _add_cosplace(parser)
        return
    parser.add_argument("--data", nargs="+", required=True, metavar=("map", "MAP"), help="map MAP...: places with common points are one")
    said = "maps to validate with (default: places at one end of each map of --data, which are then not trained on)"
    parser.add_argument("--validate-on", type=Path, nargs="+", default=[], metavar="MAP", help=said)
    parser.add_argument("--begin-with", metavar="WEIGHTS", help="name or file of weights of the same network to begin with")
    if name == "cvnet-rerank":
        said = "the recordings that the maps were built from, in the order of --data (and then of --validate-on)"
        parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="SOURCE", help=said)


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    check_recipe(arguments)
    if arguments.action == "cosplace":
        options = ("images", "validate_on", "begin_with", "trunk", "cache")
        return finished(lambda: _train_cosplace(arguments), resume_command(arguments, "cosplace", options))
    options = ("validate_on", "begin_with", *(("images",) if arguments.action == "cvnet-rerank" else ()))
    return finished(lambda: _train_reranker(arguments), resume_command(arguments, arguments.action, options))


def _add_cosplace(parser: Parser) -> None:
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar=("KIND", "PATH"),
        help="geotagged DIR... (images named @east@north@...), recordings SOURCE... (with poses), map MAP... with --images, "
        "or town (synthetic, needs nothing)",
    )
    parser.add_argument("--images", type=Path, nargs="+", default=[], metavar="SOURCE", help="of maps: the recordings they were built from")
    said = "a folder with database/ and queries*/ of geotagged images (default: one end of the region of --data, not trained on then)"
    parser.add_argument("--validate-on", type=Path, metavar="DIR", help=said)
    parser.add_argument("--begin-with", metavar="WEIGHTS", help="name or file of weights of CosPlace to begin with")
    parser.add_argument("--trunk", type=Path, metavar="FILE", help="torchvision's ImageNet weights of the backbone to begin with")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where synthetic places are kept (default: ~/.cache/ros2_loc)")


def _train_cosplace(arguments: argparse.Namespace) -> Trained:
    from ros2_loc.training.place_recipes import CosPlaceRecipe
    from ros2_loc.training.recipes import load_recipe_of
    from ros2_loc.training.runs import resumed
    from ros2_loc.training.train_cosplace import train_cosplace

    _check(arguments)
    given = [("begin_with", arguments.begin_with), ("trunk", arguments.trunk)]
    changes = [*(f"{key}={value}" for key, value in given if value), *arguments.overrides]
    recipe = (
        resumed(CosPlaceRecipe, arguments.out, changes)
        if arguments.resume
        else load_recipe_of(CosPlaceRecipe, arguments.recipe or "small", changes)
    )
    return train_cosplace(
        recipe,
        _source(arguments, recipe),
        arguments.out,
        source_name=source_name(arguments),
        resume=arguments.resume,
        device=arguments.device,
        show_progress=progress_wanted(),
    )


def _train_reranker(arguments: argparse.Namespace) -> Trained:
    from ros2_loc.training.place_recipes import CvnetRerankRecipe, RrtRecipe
    from ros2_loc.training.recipes import load_recipe_of
    from ros2_loc.training.runs import resumed
    from ros2_loc.training.train_rerankers import train_reranker

    maps, validate_on = _maps(arguments)
    changes = [*([f"begin_with={arguments.begin_with}"] if arguments.begin_with else []), *arguments.overrides]
    schema: Any = RrtRecipe if arguments.action == "rrt" else CvnetRerankRecipe
    recipe = (
        resumed(schema, arguments.out, changes) if arguments.resume else load_recipe_of(schema, arguments.recipe or "small", changes)
    )
    return train_reranker(
        recipe,
        maps,
        arguments.out,
        validate_on=validate_on,
        source_name=source_name(arguments),
        resume=arguments.resume,
        device=arguments.device,
        show_progress=progress_wanted(),
    )


def _maps(arguments: argparse.Namespace) -> tuple[list[MapImages], list[MapImages]]:
    """Those to train and those to validate with."""
    from ros2_loc.errors import ConfigError
    from ros2_loc.training.train_rerankers import MapImages

    kind, paths = arguments.data[0], [Path(word) for word in arguments.data[1:]]
    if kind != "map" or not paths:
        raise ConfigError(f"--data {' '.join(arguments.data)}: give map and the folders of maps")
    folders = [*paths, *arguments.validate_on]
    images = getattr(arguments, "images", None) or [None] * len(folders)
    if len(images) != len(folders):
        raise ConfigError(f"--images: {len(images)} recordings for {len(folders)} maps: give one for each of --data and --validate-on")
    found = [MapImages(folder, where) for folder, where in zip(folders, images, strict=True)]
    return found[: len(paths)], found[len(paths) :]


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError

    kind, paths = arguments.data[0], arguments.data[1:]
    if kind not in _KINDS:
        raise ConfigError(f"--data {kind}: is none of {', '.join(_KINDS)}")
    if (kind == "town") != (not paths):
        raise ConfigError(f"--data {kind}: takes {_KINDS[kind]}, got {len(paths)} paths")
    if len(arguments.images) != (len(paths) if kind == "map" else 0):
        raise ConfigError("--images goes with --data map: the recording that each of the maps was built from, in their order")


def _source(arguments: argparse.Namespace, recipe: CosPlaceRecipe) -> Callable[[], PlaceData]:
    kind, paths = arguments.data[0], [Path(word) for word in arguments.data[1:]]

    def data() -> PlaceData:
        from ros2_loc.training import place_images

        if kind == "town":
            found = _town(arguments, recipe)
            images, validation = found.train, found.validation
        else:
            openers = {
                "geotagged": lambda: place_images.geotagged(paths),
                "recordings": lambda: place_images.recorded(paths),
                "map": lambda: place_images.mapped(paths, arguments.images),
            }
            images, validation = openers[kind](), None
        if arguments.validate_on:
            validation = place_images.geotagged_queries(arguments.validate_on)
        return place_images.PlaceData(images, validation) if validation else place_images.held_out(images, recipe.held_out)

    return data


def _town(arguments: argparse.Namespace, recipe: CosPlaceRecipe) -> PlaceData:
    from tqdm import tqdm

    from ros2_loc.training.place_towns import PlaceTowns

    cache = arguments.cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ros2_loc" / "places"
    with tqdm(desc="   places", disable=not progress_wanted(), leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return PlaceTowns(recipe.towns, cache).data(progress)
