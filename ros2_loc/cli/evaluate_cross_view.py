"""`ros2-loc evaluate cross-view`: videos against satellite tiles, single shots, the paper's ablations, and runs of the filter."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ros2_loc.cli.arguments import progress_wanted

EXAMPLE = (
    "ros2-loc evaluate cross-view --drives town:900 --frames 1 4 8 16 --report cross_view.html\n"
    "  ros2-loc evaluate cross-view --drives monday_bag --tiles campus_tiles --filter --runs 20\n"
    "  ros2-loc evaluate cross-view --drives town:900 town:901 --ablation views fusion ssm --models trained"
)
_TABLES = ("parts", "views", "fusion", "backbone", "ssm", "length", "single")  # evaluation.cross_view_paper, not imported for a help text


def add_cross_view(parser: argparse.ArgumentParser) -> None:
    """All arguments of the verb."""
    group = parser.add_argument_group("where and what")
    text = "town:SEED (a synthetic district), bags or folders with true poses, or lists of KITTI-CVL (.txt)"
    group.add_argument("--drives", nargs="+", required=True, metavar="DRIVE", help=text)
    group.add_argument("--tiles", type=Path, metavar="DIR", help="tiles of the place of recordings (`ros2-loc tiles build`)")
    group.add_argument("--kitti-raw", type=Path, metavar="DIR", help="KITTI raw, for lists")
    group.add_argument("--weights", metavar="NAME", help="name or file of weights (default: those of the pipeline)")
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    _add_queries(parser.add_argument_group("queries"))
    group = parser.add_argument_group("ablations")
    text = f"tables of the paper: {', '.join(_TABLES)}"
    group.add_argument("--ablation", nargs="+", choices=_TABLES, default=[], metavar="TABLE", help=text)
    group.add_argument("--models", type=Path, metavar="DIR", help="folder with a .safetensors file for each variant")
    _add_filter(parser.add_argument_group("filter"))
    _add_towns(parser.add_argument_group("towns"))
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="OUT", help="write settings, metrics and every query")
    group.add_argument("--report", type=Path, metavar="OUT.html", help="write one HTML page with everything in it")
    group.add_argument("--pictures", type=Path, metavar="DIR", help="write the pictures of the report as PNG files, too")


def _add_queries(group: Any) -> None:
    group.add_argument("--frames", type=int, nargs="+", default=[4], metavar="N", help="images in a video; or several numbers (default: 4)")
    group.add_argument("--frame-spacing", type=float, default=4.0, metavar="M", help="way between them (default: 4 m)")
    group.add_argument("--queries", type=int, default=500, metavar="N", help="videos, evenly along all drives (default: 500)")
    group.add_argument(
        "--relative-poses", choices=("odometry", "truth"), default="odometry", help="how the images hang together (default: odometry)"
    )
    group.add_argument("--heading-sigma", type=float, default=0.0, metavar="DEG", help="error of the given heading (default: 0)")
    group.add_argument("--search-heading", type=float, default=0.0, metavar="DEG", help="try headings up to this far off (default: 0)")
    group.add_argument("--search-step", type=float, default=2.0, metavar="DEG", help="between them (default: 2)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of errors that are drawn, of towns' drives, of runs (default: 0)")


def _add_filter(group: Any) -> None:
    group.add_argument("--filter", action="store_true", help="run the Bayes filter from anywhere in the area, instead of single shots")
    text = "print the pipeline lines that fit the scores of these drives, instead of measuring; take drives of other places"
    group.add_argument("--fit-filter", action="store_true", help=text)
    group.add_argument("--runs", type=int, default=20, metavar="N", help="for each condition (default: 20)")
    group.add_argument("--run-length", type=float, default=205.0, metavar="M", help="way of a run (default: 205 m)")
    group.add_argument("--only-measured", action="store_true", help="leave out the runs with wrong odometry scale and heading bias")
    text = "name in config/pipelines, or a YAML file (default: cross_view)"
    group.add_argument("--pipeline", default="cross_view", metavar="NAME", help=text)
    text = "override, for instance filter.min_mass=0.9"
    group.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)


def _add_towns(group: Any) -> None:
    group.add_argument("--town-extent", type=float, default=840.0, metavar="M", help="side of the district (default: 840 m, 0.7 km2)")
    group.add_argument("--town-drives", type=int, default=4, metavar="N", help="random drives through it (default: 4)")
    group.add_argument("--town-length", type=float, default=1000.0, metavar="M", help="of each (default: 1000 m)")
    group.add_argument("--cache", type=Path, metavar="DIR", help="where rendered pictures are kept (default: ~/.cache/ros2_loc/towns)")


def run_cross_view(arguments: argparse.Namespace) -> int:
    """Evaluate, print the tables, write what was asked for."""
    _check(arguments)
    from ros2_loc.evaluation.cross_view_queries import QueryConfig
    from ros2_loc.localization.cross_view_pipeline import load_cross_view_pipeline

    pipeline = load_cross_view_pipeline(arguments.pipeline, arguments.overrides)
    section = {**pipeline.encoder, "weights": arguments.weights} if arguments.weights else dict(pipeline.encoder)
    queries = QueryConfig(
        frames=arguments.frames[0],
        frame_spacing_m=arguments.frame_spacing,
        queries=arguments.queries,
        most_frames=max(16, *arguments.frames),
        relative_poses=arguments.relative_poses,
        heading_sigma_deg=arguments.heading_sigma,
        search_heading_deg=arguments.search_heading,
        search_step_deg=arguments.search_step,
        seed=arguments.seed,
    )
    if arguments.ablation:
        return _ablations(arguments, queries)
    if arguments.fit_filter:
        return _fit_filter(arguments, pipeline, section)
    if arguments.filter:
        return _filter(arguments, pipeline, section)
    return _single(arguments, queries, section)


def _single(arguments: argparse.Namespace, queries: Any, section: dict[str, Any]) -> int:
    from dataclasses import replace

    from ros2_loc.evaluation.cross_view import single_shot
    from ros2_loc.evaluation.cross_view_pictures import query_pictures
    from ros2_loc.evaluation.cross_view_records import CrossViewEvaluation

    encoder, areas = _encoder(section, arguments.device), _areas(arguments)
    model = {**section, "fingerprint": encoder.fingerprint}
    asked = [replace(queries, frames=n) for n in arguments.frames]
    results = tuple(single_shot(areas, encoder, q, model, show_progress=progress_wanted()) for q in asked)
    evaluation = CrossViewEvaluation(_title(arguments), _settings(arguments, queries, model), results)
    return _finish(arguments, evaluation, lambda: query_pictures(areas, encoder, asked[-1], results[-1]))


def _filter(arguments: argparse.Namespace, pipeline: Any, section: dict[str, Any]) -> int:
    from ros2_loc.evaluation.cross_view_filter import CONDITIONS, FilterRunsConfig, filter_runs
    from ros2_loc.evaluation.cross_view_pictures import BeliefRecorder
    from ros2_loc.evaluation.cross_view_records import CrossViewEvaluation

    config = FilterRunsConfig(arguments.runs, arguments.run_length, seed=arguments.seed)
    encoder, areas = _encoder(section, arguments.device), _areas(arguments)
    conditions = CONDITIONS[:1] if arguments.only_measured else CONDITIONS
    recorder = BeliefRecorder()
    found = filter_runs(areas, encoder, pipeline, config, conditions, recorder, progress_wanted())
    model = {**section, "fingerprint": encoder.fingerprint}
    evaluation = CrossViewEvaluation(_title(arguments), _settings(arguments, config, model, pipeline), filters=found)
    caption = "What the first run believed on its way. Circle: truth; line: the way; cross and ellipse: the pose and three sigma."
    return _finish(arguments, evaluation, lambda: {caption: recorder.picture(areas[0])} if recorder.moments else {})


def _fit_filter(arguments: argparse.Namespace, pipeline: Any, section: dict[str, Any]) -> int:
    from ros2_loc.evaluation.cross_view_filter import fitted_filter

    fitted, samples = fitted_filter(_areas(arguments), _encoder(section, arguments.device), pipeline, progress_wanted())
    likelihood = fitted.likelihood
    said = {"temperature": likelihood.temperature, "neutral": likelihood.neutral, "outlier_share": likelihood.outlier_share}
    print(f"from {sum(len(s.at_truth) for s in samples)} queries of {len(samples)} drives; lines for the pipeline:")
    print(f"filter:\n  independent_m: {fitted.independent_m:.3g}")
    print(f"  likelihood: {{{', '.join(f'{name}: {value:.3g}' for name, value in said.items())}}}")
    return 0


def _ablations(arguments: argparse.Namespace, queries: Any) -> int:
    from ros2_loc.evaluation.cross_view_ablation import find_models, run_ablation
    from ros2_loc.evaluation.cross_view_records import CrossViewEvaluation

    models = find_models(arguments.models)
    areas = _areas(arguments)
    known: dict[tuple[Path, int], Any] = {}
    for table in arguments.ablation:
        found, missing = run_ablation(
            table, areas, models, lambda m: _encoder_of(m, arguments.device), queries, known, progress_wanted()
        )
        settings = _settings(arguments, queries, {"folder": str(arguments.models)})
        evaluation = CrossViewEvaluation(f"{table}: {_title(arguments)}", settings, found, ablation=table, missing=missing)
        _finish(arguments, evaluation, dict, f"_{table}" if len(arguments.ablation) > 1 else "")
        if missing:
            print(f"no network for: {', '.join(missing)}; benchmark/cross_view_ablation.py trains them")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from ros2_loc.errors import ConfigError

    towns = [word for word in arguments.drives if word.startswith("town:")]
    for word in towns:
        if not word.removeprefix("town:").isdigit():
            raise ConfigError(f"--drives {word}: give a seed, for instance town:900")
    if len(towns) < len(arguments.drives) and arguments.tiles is None:
        raise ConfigError("--drives: recordings and lists need --tiles DIR, made by `ros2-loc tiles build`")
    if any(word.endswith(".txt") for word in arguments.drives) and arguments.kitti_raw is None:
        raise ConfigError("--drives: a list of KITTI-CVL needs --kitti-raw DIR, where its drives are")
    if bool(arguments.ablation) != (arguments.models is not None):
        raise ConfigError("--ablation and --models belong together: the tables and the folder with the networks")
    if sum([bool(arguments.ablation), arguments.filter, arguments.fit_filter]) > 1:
        raise ConfigError("--filter, --fit-filter and --ablation are three things: call them one after the other")


def _areas(arguments: argparse.Namespace) -> list[Any]:
    from ros2_loc.evaluation.cross_view_areas import TownConfig, kitti_list_area, recorded_area, town_area

    config = TownConfig(arguments.town_extent, arguments.town_drives, arguments.town_length, seed=arguments.seed)
    cache = arguments.cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ros2_loc" / "towns"
    towns = [word for word in arguments.drives if word.startswith("town:")]
    lists = [Path(word) for word in arguments.drives if word.endswith(".txt")]
    recordings = [Path(word) for word in arguments.drives if word not in towns and not word.endswith(".txt")]
    areas = [town_area(int(word.removeprefix("town:")), config, cache) for word in towns]
    areas += [kitti_list_area(arguments.kitti_raw, path, arguments.tiles) for path in lists]
    return areas + ([recorded_area(recordings, arguments.tiles)] if recordings else [])


def _encoder(section: dict[str, Any], device: str) -> Any:
    from ros2_loc.registry import create

    return create("cross_view", section, device)


def _encoder_of(model: Any, device: str) -> Any:
    """SAFA is a baseline and no plugin."""
    if model.architecture == "safa":
        from ros2_loc.perception.cross_view.safa import SafaEncoder

        return SafaEncoder(SafaEncoder.Config(str(model.path)), device)
    return _encoder({"name": "cvlnet", "weights": str(model.path)}, device)


def _title(arguments: argparse.Namespace) -> str:
    return f"Cross-view localization: {', '.join(arguments.drives)}"


def _settings(arguments: argparse.Namespace, config: Any, model: dict[str, Any], pipeline: Any = None) -> dict[str, Any]:
    from dataclasses import asdict

    from ros2_loc.config import to_dict
    from ros2_loc.evaluation.machine import describe_machine

    towns = {"extent_m": arguments.town_extent, "drives": arguments.town_drives, "length_m": arguments.town_length}
    settings = {"drives": arguments.drives, "towns": towns, "model": model, type(config).__name__: asdict(config), **describe_machine()}
    return settings if pipeline is None else {**settings, "pipeline": to_dict(pipeline)}


def _finish(arguments: argparse.Namespace, evaluation: Any, pictures: Any, suffix: str = "") -> int:
    from ros2_loc.cli.console import table
    from ros2_loc.evaluation.cross_view_tables import tables

    for t in tables(evaluation):
        print(f"{t.title}\n{table(t.rows, t.header)}\n{t.note}\n")
    if arguments.json:
        path = arguments.json.with_stem(arguments.json.stem + suffix)
        evaluation.write_json(path)
        print(f"numbers: {path}")
    drawn = pictures() if arguments.report or arguments.pictures else {}
    if arguments.pictures:
        _write_pictures(arguments.pictures, drawn)
    if arguments.report:
        from ros2_loc.evaluation.report.cross_view import write_cross_view_report

        path = arguments.report.with_stem(arguments.report.stem + suffix)
        print(f"report:  {write_cross_view_report(evaluation, path, drawn)}")
    return 0


def _write_pictures(folder: Path, drawn: dict[str, Any]) -> None:
    from ros2_loc.io.images import write_image

    for k, (words, picture) in enumerate(drawn.items()):
        write_image(folder / f"{k}.png", picture)
        print(f"{folder / f'{k}.png'}: {words}")
