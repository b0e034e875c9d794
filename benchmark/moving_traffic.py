"""Localization in towns full of vehicles, with and without masks of what moves: errors, claims and rejections side by side.

    python benchmark/moving_traffic.py /tmp/moving_traffic                                  # no masks, exact ones, exact boxes
    python benchmark/moving_traffic.py /tmp/moving_traffic --detector centernet d2det       # and those of detectors
    python benchmark/moving_traffic.py /tmp/moving_traffic --towns 3 8 --scenes queue --set context.margin_px=8

One drive builds the map, another one, on another day, in another light, another lane and among other vehicles, asks for poses, every image
by itself. `moving_scenes.py` says what is on the streets. Masks are used at mapping and at localization; `map only` and `queries only` are
exact ones at one of them. Renderings and results stay in the folder: interrupted, or with another detector, the same call goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from moving_scenes import KINDS, PARTS, Recorded, Scene, Seen, cancel, render_all, workers_of
from numpy.typing import NDArray

from ros2_loc.cli.console import length, milliseconds, percent, table
from ros2_loc.config import to_dict
from ros2_loc.evaluation.metrics import Consistency
from ros2_loc.evaluation.records import Evaluation, FrameResult
from ros2_loc.evaluation.split import evaluate_queries
from ros2_loc.io.files import atomic_path
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.pipeline import PipelineConfig, load_pipeline
from ros2_loc.perception.scene_context import SceneContext, SceneContextConfig, provenance_of, static_mask

_VERSION = 1  # of the results
EXACT = ("none", "exact", "boxes", "map only", "queries only")
_OFF_M, _OFF_SIGMAS = 0.5, 3.0


@dataclass(frozen=True)
class Job:
    """One way to mask in one scene.

    Attributes:
        masks: of EXACT, or the name of a detector.
        pipeline: with that detector's section, without one for EXACT.
    """

    scene: Scene
    masks: str
    pipeline: PipelineConfig
    cache: Path

    @property
    def result(self) -> Path:
        """Where its evaluation is, or will be."""
        drives = [Recorded(self.scene, part, self.cache).folder.name for part in PARTS]
        weights = provenance_of(self.pipeline.detector) if self.pipeline.detector else {}
        made_of = [_VERSION, drives, self.masks, to_dict(self.pipeline), weights]
        key = sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
        return self.cache / "results" / f"{self.scene.kind}_{self.scene.seed}_{self.masks.replace(' ', '_')}_{key}.json"


def main() -> int:
    arguments = parse()
    scenes = [Scene(seed, kind) for kind in arguments.scenes for seed in arguments.towns]
    begin = time.perf_counter()
    render_all(scenes, arguments.folder, arguments.workers, lambda done, total: said("rendered", done, total, begin))
    jobs = [job for scene in scenes for job in jobs_of(scene, arguments)]
    run_all(jobs, arguments.workers)
    columns = dict.fromkeys(job.masks for job in jobs)
    found = {(job.scene, job.masks): Outcome.read(job.result) for job in jobs}
    for kind in [*arguments.scenes, *(["all"] if len(arguments.scenes) > 1 else [])]:
        chosen = {masks: [found[s, masks] for s in scenes if kind in (s.kind, "all")] for masks in columns}
        print(f"\n{kind}: towns {', '.join(map(str, arguments.towns))}\n{comparison(chosen)}", flush=True)
    if arguments.json:
        summary = {f"{scene}, {masks}": outcome.summary for (scene, masks), outcome in found.items()}
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(summary, indent=1))
    if arguments.pictures:
        draw(scenes, jobs, arguments.pictures)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="renderings (50 MB a scene) and results are kept here")
    parser.add_argument("--towns", type=int, nargs="+", default=[3], metavar="SEED", help="default: 3; each takes its time again")
    parser.add_argument("--scenes", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--masks", nargs="+", choices=EXACT, default=["none", "exact", "boxes"], help="the first is what ratios refer to")
    parser.add_argument("--detector", nargs="+", default=[], metavar="NAME", help="as well; NAME=WEIGHTS for others than NAME_town")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of the pipeline, for all")
    parser.add_argument("--pipeline", default="default")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of every scene")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write pictures with masks")
    return parser.parse_args()


def jobs_of(scene: Scene, arguments: argparse.Namespace) -> Iterator[Job]:
    # a map's own errors are measured on fewer images than usual: they are a third of the time
    pipeline = load_pipeline(arguments.pipeline, ["mapping.calibration_images=40", *arguments.overrides])
    for masks in arguments.masks:
        yield Job(scene, masks, replace(pipeline, detector={}), arguments.folder)
    for word in arguments.detector:
        name, _, weights = word.partition("=")
        section = {"weights": weights or f"{name}_town", **pipeline.detector, "name": name}
        yield Job(scene, name, replace(pipeline, detector=section), arguments.folder)


def run_all(jobs: Sequence[Job], workers: int) -> None:
    """Those that have no result yet."""
    waiting = [job for job in jobs if not job.result.is_file()]
    if not waiting:
        return
    begin = time.perf_counter()
    with workers_of(min(workers, len(waiting))) as pool:
        futures = [pool.submit(run_one, job) for job in waiting]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                said(f"mapped and localized ({future.result()})", done, len(waiting), begin)
        except BaseException:
            cancel(futures)
            raise


def said(what: str, done: int, total: int, begin: float) -> None:
    print(f"{what}: {done} of {total}, {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)


def run_one(job: Job) -> str:
    """Build the map, ask for poses, write the result."""
    _one_thread_of_torch(job)
    mapping, localization = (Recorded(job.scene, part, job.cache) for part in PARTS)
    folder = job.result.with_suffix(".map")
    mask = _mask_of(job.masks, job.pipeline.context)
    built = build_map(
        mapping.sequence(None if job.masks == "queries only" else mask), job.pipeline, folder, overwrite=True, source=str(job.scene),
        show_progress=False,
    )  # fmt: skip
    queries = localization.sequence(None if job.masks == "map only" else mask)
    evaluation = evaluate_queries(queries, built, job.pipeline, f"{job.scene}, {job.masks}", show_progress=False)
    evaluation = replace(evaluation, settings={**evaluation.settings, **pixels_masked(job, localization)})
    evaluation.write_json(job.result)
    return f"{job.scene}, {job.masks}"


def _one_thread_of_torch(job: Job) -> None:
    if job.pipeline.detector:
        import torch

        torch.set_num_threads(1)


def _mask_of(masks: str, config: SceneContextConfig) -> Callable[[Seen], NDArray[np.bool_]] | None:
    """What makes a mask of what a rendering knows, None for no masks."""
    if masks not in ("exact", "boxes", "map only", "queries only"):
        return None

    def mask(seen: Seen) -> NDArray[np.bool_]:
        height, width = seen.objects.shape
        return static_mask(seen.detections(masks != "boxes"), (height, width), config)

    return mask


def pixels_masked(job: Job, drive: Recorded) -> dict[str, float]:
    """Which share of the pixels of vehicles and people, and of all others, is masked in every third query."""
    make = _mask_of(job.masks, job.pipeline.context)
    context, queries = SceneContext.open(job.pipeline.detector, job.pipeline.context), drive.sequence()
    pixels = np.zeros((2, 2))
    for i in range(0, len(drive), 3):
        seen = drive.seen(i)
        static = np.ones(seen.objects.shape, dtype=bool)
        if context is not None:
            static = mask_by(context, queries.frame(i))
        elif make is not None and job.masks != "map only":
            static = make(seen)
        movers = seen.objects > 0
        pixels += [[(movers & ~static).sum(), movers.sum()], [(~movers & ~static).sum(), (~movers).sum()]]
    shares = pixels[:, 0] / np.maximum(pixels[:, 1], 1)
    filled = pixels[0, 1] / pixels[:, 1].sum()
    return {"image filled by movers": round(filled, 4), "of movers masked": round(shares[0], 4), "of the rest masked": round(shares[1], 4)}


def mask_by(context: SceneContext, frame: Any) -> NDArray[np.bool_]:
    mask = context.masked(frame, context.detect(frame)).mask
    assert mask is not None
    return mask


@dataclass(frozen=True)
class Outcome:
    """An evaluation, and the points of its map."""

    evaluation: Evaluation

    @staticmethod
    def read(path: Path) -> Outcome:
        return Outcome(Evaluation.read_json(path))

    @property
    def summary(self) -> dict[str, Any]:
        metrics = self.evaluation.metrics
        named = {key: value for key, value in asdict(metrics).items() if key not in ("recalls", "latency_s")}
        return {**named, "off": [frame.name for frame in off(self.evaluation.frames)], "settings": self.evaluation.settings}


def off(frames: Sequence[FrameResult]) -> list[FrameResult]:
    """Poses that are off by over half a metre and over three of their own standard deviations."""
    posed = [(frame, frame.error_m, frame.estimate) for frame in frames]
    return [f for f, e, p in posed if e is not None and p is not None and e > _OFF_M and e > _OFF_SIGMAS * p.sigma_m]


def comparison(columns: dict[str, list[Outcome]]) -> str:
    """Columns side by side; the first is what ratios refer to."""
    pooled = {name: Evaluation(name, tuple(f for o in outcomes for f in o.evaluation.frames)) for name, outcomes in columns.items()}
    rows: dict[str, list[str]] = {}
    base = _errors(next(iter(pooled.values())))
    for name, evaluation in pooled.items():
        for what, value in column(evaluation, columns[name], base):
            rows.setdefault(what, []).append(value)
    return table([(what, *values) for what, values in rows.items()], ("", *pooled))


def _errors(evaluation: Evaluation) -> NDArray[np.float64]:
    """(N,) m of all queries; a rejected one is off by infinity."""
    return np.array([np.inf if frame.error_m is None else frame.error_m for frame in evaluation.frames])


def column(evaluation: Evaluation, outcomes: Sequence[Outcome], base: NDArray[np.float64]) -> Iterator[tuple[str, str]]:
    metrics, errors = evaluation.metrics, _errors(evaluation)
    found = errors[np.isfinite(errors)]
    settings = [outcome.evaluation.settings for outcome in outcomes]
    for key in ("image filled by movers", "of movers masked", "of the rest masked"):
        yield key, percent(float(np.mean([float(s[key]) for s in settings])))
    yield "points in the map", f"{np.mean([float(s['map points']) for s in settings]):.0f}"
    yield "localized", f"{metrics.accepted} of {metrics.queries} ({percent(metrics.accepted / metrics.queries)})"
    for quantile, name in ((50, "median error"), (90, "90 % of errors below")):
        yield name, f"{length(float(np.percentile(found, quantile)))}" if len(found) else "-"
        yield f"  ratio, {name.split()[0]}", _ratio(base[np.isfinite(base)], found, quantile)
    yield "largest error", length(float(found.max())) if len(found) else "-"
    yield "median angle", "-" if metrics.rotation_deg is None else f"{metrics.rotation_deg.median:.3f} deg"
    for limit_m in (0.1, 0.25):
        yield f"within {length(limit_m)}, of all", percent(float((errors < limit_m).mean()))
    # the same queries for both: what easy ones add to one of them does not count
    yield "median, where first localized", _paired(base, errors)
    yield f"off by > {length(_OFF_M)} and > {_OFF_SIGMAS:g} sigma", str(len(off(evaluation.frames)))
    yield "off by > 1 m, sigma < 0.3 m", str(len(metrics.wrong_and_confident))
    yield "NEES, pose (6)", "-" if metrics.nees_pose is None else f"{metrics.nees_pose.mean:.1f}{_mark(metrics.nees_pose.verdict)}"
    yield "NEES, position (3)", "-" if metrics.nees_position is None else f"{metrics.nees_position.mean:.1f}"
    yield "inliers, median", f"{np.median([f.num_inliers for f in evaluation.frames if f.estimate is not None] or [0]):.0f}"
    yield "rejected", _reasons(evaluation)
    yield "time, detect", milliseconds(metrics.latency_s["detect"].median_s) if "detect" in metrics.latency_s else "-"


def _ratio(base: NDArray[np.float64], errors: NDArray[np.float64], quantile: int) -> str:
    return f"{np.percentile(errors, quantile) / np.percentile(base, quantile):.2f}" if len(base) and len(errors) else "-"


def _paired(base: NDArray[np.float64], errors: NDArray[np.float64]) -> str:
    both = np.isfinite(base) & np.isfinite(errors)
    return f"{length(float(np.median(errors[both])))} ({np.median(errors[both]) / np.median(base[both]):.2f})" if both.any() else "-"


def _mark(verdict: Consistency) -> str:
    return {Consistency.OVERCONFIDENT: " (claims too much)", Consistency.CONSERVATIVE: " (careful)"}.get(verdict, "")


def _reasons(evaluation: Evaluation) -> str:
    counts = Counter(evaluation.metrics.rejections)
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.most_common()) or "-"


def draw(scenes: Sequence[Scene], jobs: Sequence[Job], folder: Path) -> None:
    """Of each scene some queries, masked as each job does."""
    folder.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        rows = [np.hstack(list(_pictures(job))) for job in jobs if job.scene == scene]
        cv2.imwrite(str(folder / f"{scene.kind}_{scene.seed}.png"), np.vstack(rows)[..., ::-1])


def _pictures(job: Job) -> Iterator[NDArray[np.uint8]]:
    drive = Recorded(job.scene, "localization", job.cache)
    context, make = SceneContext.open(job.pipeline.detector, job.pipeline.context), _mask_of(job.masks, job.pipeline.context)
    queries = drive.sequence()
    for i in np.linspace(2, len(drive) - 3, 4).astype(int).tolist():
        frame, seen = queries.frame(i), drive.seen(i)
        picture = frame.image[::2, ::2].copy()
        if context is not None or make is not None:
            static = mask_by(context, frame) if context is not None else make(seen)  # type: ignore[misc]
            static = static[::2, ::2]
            picture[~static] = picture[~static] // 3 + np.array([150, 0, 90], np.uint8)
        yield picture


if __name__ == "__main__":
    raise SystemExit(main())
