"""`ros2-loc evaluate features`: extractors and matchers side by side on homographies, relative poses and registered queries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import progress_wanted

EXAMPLE = (
    "ros2-loc evaluate features --extractors sift orb --homographies hpatches-sequences-release --report features.html\n"
    "  ros2-loc evaluate features --extractors sift:max_keypoints=4000 r2d2:weights=r2d2_wasf_n16 --two-view fountain-P11 kitti/03\n"
    "  ros2-loc evaluate features --ablation r2d2.safetensors lg.safetensors lgma.safetensors --localization aachen --submissions out"
)


def add_features(parser: argparse.ArgumentParser) -> None:
    """All arguments of the verb."""
    _add_methods(parser.add_argument_group("what"))
    _add_data(parser.add_argument_group("on what"))
    _add_localization(parser.add_argument_group("localization"))
    group = parser.add_argument_group("results")
    text = "keep finished parts there; a call that was interrupted goes on from them"
    group.add_argument("--keep", type=Path, metavar="DIR", help=text)
    group.add_argument("--json", type=Path, metavar="OUT", help="write settings, metrics and every pair")
    group.add_argument("--report", type=Path, metavar="OUT.html", help="write one HTML page with everything in it")
    group.add_argument("--pictures", type=Path, metavar="DIR", help="write the pictures of matches as PNG files, too")


def _add_methods(group: Any) -> None:
    text = "name, or name:key=value,key=value, or a YAML file with a section for each name"
    group.add_argument("--extractors", nargs="+", default=[], metavar="SECTION", help=text)
    text = "one for all extractors, or one for each (default: mutual_nearest)"
    group.add_argument("--matcher", nargs="+", default=[], metavar="SECTION", help=text)
    text = "R2D2, +LG and +LG+MA of the paper, by their three files of weights; beside --extractors"
    group.add_argument("--ablation", nargs=3, default=[], metavar="WEIGHTS", help=text)
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def _add_data(group: Any) -> None:
    text = "HPatches, a folder with images and H_1_k, or any images, of which pairs are made"
    group.add_argument("--homographies", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    text = "scenes of Strecha, lists of pairs (.txt), COLMAP models, recordings with poses; plain images: without truth"
    group.add_argument("--two-view", type=Path, nargs="+", default=[], metavar="PATH", help=text)
    group.add_argument("--images", type=Path, metavar="DIR", help="images of a list or a model, where they do not lie beside it")
    group.add_argument("--pairs", type=int, metavar="N", help="at most N pairs of each data set, evenly chosen (default: all)")
    group.add_argument("--per-image", type=int, default=2, metavar="N", help="homography pairs made of each image (default: 2)")
    text = "images between the two of a pair of a recording (default: 2 5 10)"
    group.add_argument("--apart", type=int, nargs="+", default=[2, 5, 10], metavar="N", help=text)
    group.add_argument("--per-distance", type=int, default=40, metavar="N", help="pairs of a recording for each of these (default: 40)")
    text = "partners of an image of a COLMAP model: those that share most points with it (default: 4)"
    group.add_argument("--neighbours", type=int, default=4, metavar="N", help=text)
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of homographies and lights (default: 0)")


def _add_localization(group: Any) -> None:
    text = "folder as that of Aachen Day-Night: a COLMAP model, its images, lists of queries with intrinsics"
    group.add_argument("--localization", type=Path, metavar="DIR", help=text)
    group.add_argument("--model", type=Path, metavar="DIR", help="the COLMAP model, where it is not in a usual place of the folder")
    text = "lists `name MODEL width height params...` (default: queries/*with_intrinsics.txt)"
    group.add_argument("--queries", type=Path, nargs="+", default=[], metavar="FILE", help=text)
    text = "pairs of images to match (default: image_pairs_to_match.txt; without it: by shared points and by retrieval)"
    group.add_argument("--match-pairs", type=Path, metavar="FILE", help=text)
    group.add_argument("--truth", type=Path, metavar="FILE", help="poses of queries `name qw qx qy qz tx ty tz` (default: truth.txt)")
    group.add_argument("--retrieved", type=int, default=20, metavar="N", help="model images matched with each query (default: 20)")
    group.add_argument("--submissions", type=Path, metavar="DIR", help="write the poses of each method as the benchmark takes them")


def run_features(arguments: argparse.Namespace) -> int:
    """Evaluate, print the tables, write what was asked for."""
    _check(arguments)
    from ros2_loc.evaluation.features import evaluate_features
    from ros2_loc.evaluation.features_methods import ablation_methods, parse_methods
    from ros2_loc.evaluation.features_records import FeaturesEvaluation

    methods = parse_methods(arguments.extractors, arguments.matcher)
    methods += ablation_methods(arguments.ablation) if arguments.ablation else []
    datasets = _datasets(arguments)
    cells = evaluate_features(methods, datasets, arguments.device, arguments.keep, progress_wanted()) if datasets else []
    cells += _localized(arguments, methods) if arguments.localization else []
    evaluation = FeaturesEvaluation(_title(arguments), _settings(arguments, methods, datasets), tuple(cells))
    return _finish(arguments, evaluation, methods, datasets)


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError

    if not arguments.extractors and not arguments.ablation:
        raise ConfigError("give --extractors, for instance --extractors sift orb, or --ablation with three files of weights")
    if not (arguments.homographies or arguments.two_view or arguments.localization):
        raise ConfigError("give data: --homographies DIR, --two-view PATH or --localization DIR")
    if arguments.submissions and not arguments.localization:
        raise ConfigError("--submissions needs --localization DIR, whose queries are to be registered")


def _datasets(arguments: argparse.Namespace) -> list[Any]:
    from ros2_loc.errors import ConfigError
    from ros2_loc.evaluation.features_datasets import PairOptions, homography_dataset, two_view_dataset

    options = PairOptions(
        limit=arguments.pairs,
        per_image=arguments.per_image,
        distances=tuple(arguments.apart),
        per_distance=arguments.per_distance,
        neighbours=arguments.neighbours,
        images=arguments.images,
        seed=arguments.seed,
    )
    found = [homography_dataset(path, options) for path in arguments.homographies]
    found += [two_view_dataset(path, options) for path in arguments.two_view]
    titles = [dataset.title for dataset in found]
    for title in titles:
        if titles.count(title) > 1:
            raise ConfigError(f"two data sets are called {title!r}: rename one of the folders, or call the command for each")
    return found


def _localized(arguments: argparse.Namespace, methods: list[Any]) -> list[Any]:
    from ros2_loc.evaluation.features_localization import LocalizationOptions, evaluate_localization, open_benchmark

    benchmark = open_benchmark(
        arguments.localization, arguments.model, arguments.images, arguments.queries, arguments.match_pairs, arguments.truth
    )
    options = LocalizationOptions(retrieved=arguments.retrieved)
    return evaluate_localization(
        methods, benchmark, options, arguments.device, arguments.keep, arguments.submissions, progress_wanted()
    )


def _title(arguments: argparse.Namespace) -> str:
    places = [*arguments.homographies, *arguments.two_view, *([arguments.localization] if arguments.localization else [])]
    return f"Local features: {', '.join(path.resolve().name for path in places)}"


def _settings(arguments: argparse.Namespace, methods: list[Any], datasets: list[Any]) -> dict[str, Any]:
    from ros2_loc.evaluation.machine import describe_machine

    return {
        "methods": {method.label: method.settings for method in methods},
        "data": {dataset.title: dataset.settings for dataset in datasets},
        "localization": str(arguments.localization or ""),
        "device": arguments.device,
        **describe_machine(),
    }


def _finish(arguments: argparse.Namespace, evaluation: Any, methods: list[Any], datasets: list[Any]) -> int:
    from ros2_loc.cli.console import table
    from ros2_loc.evaluation.features_tables import tables

    for t in tables(evaluation):
        print(f"{t.title}\n{table(t.rows, t.header)}\n{t.note}\n")
    if arguments.json:
        evaluation.write_json(arguments.json)
        print(f"numbers: {arguments.json}")
    drawn = _pictures(arguments, evaluation, methods, datasets) if arguments.report or arguments.pictures else {}
    if arguments.report:
        from ros2_loc.evaluation.report.features import write_features_report

        print(f"report:  {write_features_report(evaluation, arguments.report, drawn)}")
    return 0


def _pictures(arguments: argparse.Namespace, evaluation: Any, methods: list[Any], datasets: list[Any]) -> dict[str, Any]:
    from ros2_loc.evaluation.features_pictures import matches_pictures
    from ros2_loc.io.images import write_image

    drawn = matches_pictures(methods, datasets, evaluation.cells, arguments.device)
    for k, (words, picture) in enumerate(drawn.items()):
        if arguments.pictures:
            write_image(arguments.pictures / f"{k}.png", picture)
            print(f"{arguments.pictures / f'{k}.png'}: {words}")
    return drawn
