"""`ros2-loc evaluate retrieval`: retrievers and re-rankers side by side on sets of places."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import progress_wanted

EXAMPLE = (
    "ros2-loc evaluate retrieval tokyo247 --methods cosplace,superpoint_superglue,delg_ransac --out tokyo\n"
    "  ros2-loc evaluate retrieval kitti/03 --lights shifted dark --radius 5 --methods vlad,vlad_sift_ransac --out kitti\n"
    "  ros2-loc evaluate retrieval day.bag::night.bag --methods all --adaptive --out night"
)


def add_retrieval(parser: argparse.ArgumentParser) -> None:
    """All arguments of the verb."""
    text = (
        "folder with database/ and queries*/ (positions in the names, positives.txt, or a ground truth of VPR-Bench); recording with "
        "poses; or two recordings of one map as MAPPED::ASKED"
    )
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help=text)
    _add_methods(parser.add_argument_group("what"))
    _add_data(parser.add_argument_group("on what"))
    group = parser.add_argument_group("results")
    text = "folder for retrieval.json, retrieval.html, pictures/, and finished parts: a call that was interrupted goes on from them"
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    group.add_argument("--no-pictures", action="store_true", help="numbers alone")


def _add_methods(group: Any) -> None:
    text = "names in config/retrieval, `all` of them, or YAML files with an encoder, an extractor and a reranker; commas or blanks between"
    group.add_argument("--methods", nargs="+", required=True, metavar="NAME", help=text)
    text = "places that are retrieved and re-ranked (default: 100)"
    group.add_argument("--candidates", type=int, default=100, metavar="K", help=text)
    text = "a second row for each re-ranker, used as far as it is needed: what it saves, what it costs, whether it knows when it is wrong"
    group.add_argument("--adaptive", action="store_true", help=text)
    text = "do not tell R@1 for fewer re-ranked candidates (which costs time with re-rankers that compare candidates with each other only)"
    group.add_argument("--no-sweep", action="store_true", help=text)
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def _add_data(group: Any) -> None:
    text = "two images within it show one place, m (default: 25); not where the truth is a list"
    group.add_argument("--radius", type=float, default=25.0, metavar="M", help=text)
    group.add_argument("--limit", type=int, metavar="N", help="ask N queries of each domain only, evenly chosen")
    text = "leave out queries without a right place in the database (default: they count as failed, as the field does)"
    group.add_argument("--answerable", action="store_true", help=text)
    group.add_argument("--map-every", type=int, default=10, metavar="N", help="of a recording: every Nth image is a place (default: 10)")
    text = "of a recording: queries are N images after the places (default: halfway between two)"
    group.add_argument("--query-shift", type=int, metavar="N", help=text)
    text = "of a recording: each makes a domain of all queries: shifted (as it is), dark, bright, hazy, night (default: shifted dark)"
    group.add_argument("--lights", nargs="+", default=["shifted", "dark"], metavar="NAME", help=text)
    group.add_argument("--start", type=int, default=0, metavar="N", help="of a recording: first image, counted from 0")
    group.add_argument("--stop", type=int, metavar="N", help="of a recording: the image after the last")
    group.add_argument("--poses", type=Path, metavar="FILE", help="of a folder of images: poses in KITTI or TUM form")
    group.add_argument("--camera", type=Path, metavar="FILE", help="of a folder of images: ROS camera_info YAML, cameras.txt, calib.txt")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of noise (default: 0)")


def run_retrieval(arguments: argparse.Namespace) -> int:
    """Evaluate, print the tables, write the folder."""
    from ros2_loc.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
    from ros2_loc.evaluation.retrieval_methods import load_methods
    from ros2_loc.evaluation.retrieval_records import RetrievalEvaluation

    methods = load_methods(arguments.methods)
    options = RetrievalOptions(arguments.candidates, not arguments.no_sweep, arguments.adaptive)
    datasets = _datasets(arguments)
    for dataset in datasets:
        print(_told(dataset), flush=True)
    parts = arguments.out / "parts"
    cells = evaluate_retrieval(methods, datasets, options, parts, arguments.device, progress_wanted())
    settings = _settings(arguments, methods, datasets)
    evaluation = RetrievalEvaluation(f"Places: {', '.join(d.name for d in datasets)}", settings, tuple(cells))
    return _finish(arguments, evaluation, methods, datasets, options)


def _datasets(arguments: argparse.Namespace) -> list[Any]:
    from ros2_loc.errors import ConfigError
    from ros2_loc.io.place_datasets import PlaceOptions
    from ros2_loc.io.recorded_places import open_place_dataset

    options = PlaceOptions(
        radius_m=arguments.radius,
        map_every=arguments.map_every,
        query_shift=arguments.query_shift,
        lights=tuple(arguments.lights),
        start=arguments.start,
        stop=arguments.stop,
        seed=arguments.seed,
        poses=arguments.poses,
        camera=arguments.camera,
    )
    found = [open_place_dataset(path, options) for path in arguments.datasets]
    names = [dataset.name for dataset in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two data sets are called {twice!r}: rename one of the folders, or call the command for each")
    found = [dataset.answerable() if arguments.answerable and dataset.has_truth else dataset for dataset in found]
    return [dataset.limited(arguments.limit) for dataset in found]


def _told(dataset: Any) -> str:
    queries = ", ".join(f"{dataset.queries.domains.count(domain)} {domain}" for domain in dict.fromkeys(dataset.queries.domains))
    without = f"; {dataset.without_positives} without a right place" if dataset.has_truth and dataset.without_positives else ""
    return f"{dataset.name}: {len(dataset.database)} places, queries: {queries}; right: {dataset.rule}{without}"


def _settings(arguments: argparse.Namespace, methods: list[Any], datasets: list[Any]) -> dict[str, Any]:
    from ros2_loc.evaluation.machine import describe_machine

    asked = ("candidates", "radius", "limit", "answerable", "map_every", "query_shift", "lights", "start", "stop", "seed", "device")
    return {
        "methods": {method.label: method.settings for method in methods},
        "data": {dataset.name: {"path": dataset.source, "said": _told(dataset)} for dataset in datasets},
        "call": {key: getattr(arguments, key) for key in asked},
        **describe_machine(),
    }


def _finish(arguments: argparse.Namespace, evaluation: Any, methods: list[Any], datasets: list[Any], options: Any) -> int:
    from ros2_loc.cli.console import table
    from ros2_loc.evaluation.report.retrieval import write_retrieval_report
    from ros2_loc.evaluation.retrieval_tables import tables

    print()
    for t in tables(evaluation):
        print(f"{t.title}\n{table(t.rows, t.header)}\n{t.note}\n")
    evaluation.write_json(arguments.out / "retrieval.json")
    if arguments.adaptive:
        _confidences(evaluation, arguments.out / "confidence.yaml")
    drawn = {} if arguments.no_pictures else _pictures(arguments, evaluation, methods, datasets, options)
    print(f"numbers: {arguments.out / 'retrieval.json'}")
    print(f"report:  {write_retrieval_report(evaluation, arguments.out / 'retrieval.html', drawn)}")
    return 0


def _confidences(evaluation: Any, path: Path) -> None:
    from ros2_loc.evaluation.retrieval_confidence import fitted_confidences, write_confidences

    found = fitted_confidences(evaluation.cells)
    for one in found:
        print(one)
    if found:
        write_confidences(path, found)
        print(f"as sections for pipelines: {path}\n")


def _pictures(arguments: argparse.Namespace, evaluation: Any, methods: list[Any], datasets: list[Any], options: Any) -> dict[str, Any]:
    from ros2_loc.evaluation.retrieval_pictures import pictures_of
    from ros2_loc.evaluation.retrieval_tables import by_dataset
    from ros2_loc.io.images import write_image

    drawn = {}
    by_name = by_dataset(evaluation)
    for dataset in datasets:
        found = pictures_of(methods, dataset, by_name[dataset.name], options, arguments.out / "parts", arguments.device)
        for name, (caption, picture) in found.items():
            write_image(arguments.out / "pictures" / f"{dataset.name.replace('/', '_')}_{name}.png", picture)
            drawn[caption] = picture
    return drawn
