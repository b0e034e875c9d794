"""How fast, and how exact at that speed: pipelines side by side, each stage, cold and with a prior, and through the real nodes.

    python benchmark/throughput.py --images kitti/03 --stop 200 --pipelines default fast --ros

Every query is given to each pipeline in turn, cold and tracking, so that whatever else the machine does hits all of them alike; the ratios
are what to compare. "Tracking" has a prior off by 0.3 m and 1 degree (one standard deviation), as odometry carries it between images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ros2_loc import graph
from ros2_loc.cli.console import length, milliseconds, percent, table
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import PoseEstimate
from ros2_loc.evaluation.against_truth import read_truth, with_truth
from ros2_loc.evaluation.records import Evaluation
from ros2_loc.evaluation.split import Split, split
from ros2_loc.io.convert import BagOutput, Drift, write_sequence
from ros2_loc.io.sequences import open_sequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.map_localizer import Localization, MapLocalizer
from ros2_loc.localization.pipeline import load_pipeline
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.supervisor import supervise

_PRIOR = np.diag([0.3**2] * 3 + [np.radians(1.0) ** 2] * 3)


@dataclass
class Tally:
    """What one pipeline took in one mode."""

    stage_s: list[dict[str, float]] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)
    error_m: list[float] = field(default_factory=list)

    def add(self, found: Localization, seconds: float, truth: Pose) -> None:
        self.stage_s.append(found.stage_s)
        self.total_s.append(seconds)
        if isinstance(found.result, PoseEstimate):
            self.error_m.append(float(np.linalg.norm(found.result.map_from_base.translation - truth.translation)))

    def median_s(self, stage: str) -> float:
        return statistics.median(times.get(stage, 0.0) for times in self.stage_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", type=Path, required=True, help="KITTI odometry folder, bag or 7-Scenes folder with poses")
    parser.add_argument("--pipelines", nargs="+", default=["default"], help="the first is what the others are compared with")
    parser.add_argument("--map-pipeline", default="default", help="the map's; the others must have its extractor and encoder")
    parser.add_argument("--map-every", type=int, default=5)
    parser.add_argument("--stop", type=int, default=200, help="images of the recording that are used")
    parser.add_argument("--limit", type=int, default=60, help="queries offline")
    parser.add_argument("--ros", action="store_true", help="also through the nodes: bag -> pose")
    parser.add_argument("--rate", type=float, default=1.0, help="of the bag")
    arguments = parser.parse_args()
    parts = split(open_sequence(arguments.images, stop=arguments.stop), arguments.map_every)
    print(f"{arguments.images}: {len(parts.mapping)} images in the map, {len(parts.queries)} queries, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory(prefix="ros2_loc_throughput_") as scratch:
        folder = Path(scratch) / "map"
        build_map(parts.mapping, load_pipeline(arguments.map_pipeline), folder, show_progress=sys.stderr.isatty())
        maps = dict.fromkeys(arguments.pipelines, folder)
        print(f"\noffline, one image at a time\n{offline(parts, maps, arguments.limit)}", flush=True)
        if arguments.ros:
            print(f"\nthrough ROS 2, bag at {arguments.rate:g} x\n{through_ros(parts, maps, Path(scratch), arguments.rate)}")
    return 0


def offline(parts: Split, maps: dict[str, Path], limit: int) -> str:
    """Medians of each stage, and ratios to the first pipeline, cold."""
    localizers = {name: MapLocalizer(SparseMap.load(folder), load_pipeline(name)) for name, folder in maps.items()}
    tallies = {(name, mode): Tally() for name in maps for mode in ("cold", "tracking")}
    rng = np.random.default_rng(0)
    for i in np.unique(np.linspace(0, len(parts.queries) - 1, limit).astype(int)).tolist():
        frame, truth = parts.queries.frame(i), parts.queries.map_from_base[i]
        assert truth is not None
        prior = PoseEstimate(frame.stamp_ns, truth.perturbed(rng.multivariate_normal(np.zeros(6), _PRIOR)), _PRIOR, 0, "benchmark")
        for (name, mode), tally in tallies.items():
            begin = time.perf_counter()
            found = localizers[name].localize(frame, prior if mode == "tracking" else None)
            tally.add(found, time.perf_counter() - begin, truth)
    return table(offline_rows(tallies), ("", *(f"{Path(name).stem} {mode}" for name, mode in tallies)))


def offline_rows(tallies: dict[tuple[str, str], Tally]) -> Iterator[tuple[str, ...]]:
    columns = list(tallies.values())
    stages = dict.fromkeys(stage for tally in columns for times in tally.stage_s for stage in times)
    for stage in stages:
        yield stage, *(milliseconds(tally.median_s(stage)) for tally in columns)
    totals = [statistics.median(tally.total_s) for tally in columns]
    yield "total", *(milliseconds(total) for total in totals)
    yield "95 % of totals", *(milliseconds(float(np.percentile(tally.total_s, 95))) for tally in columns)
    yield "images per second", *(f"{1.0 / total:.1f}" for total in totals)
    yield "ratio of totals", *(f"{total / totals[0]:.2f}" for total in totals)
    yield "localized", *(percent(len(tally.error_m) / len(tally.total_s)) for tally in columns)
    yield "median error", *(length(statistics.median(tally.error_m)) if tally.error_m else "-" for tally in columns)
    yield "largest error", *(length(max(tally.error_m)) if tally.error_m else "-" for tally in columns)


def through_ros(parts: Split, maps: dict[str, Path], scratch: Path, rate: float) -> str:
    """Poses per second and the time from the image's arrival to its pose, with each node a process and in one container."""
    bag = scratch / "bag"
    write_sequence(parts.queries, bag, notes={"source": "benchmark"}, odometry_from_truth=Drift(), output=BagOutput(progress=False))
    columns = {}
    for name, folder in maps.items():
        for container in ("false", "true"):
            out = scratch / f"{Path(name).stem}_{container}"
            given = {"map": str(folder), "bag": str(bag), "pipeline": name, "rate": str(rate), "record": str(out), "container": container}
            environment = {**graph.environment(), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
            processes = graph.processes(graph.LOCALIZE, {**given, "log_level": "warn"})
            if supervise(processes, environment, lambda line: print(line, file=sys.stderr)):
                raise SystemExit(f"{name}: the nodes did not run")
            label = f"{Path(name).stem}, {'one process' if container == 'true' else 'processes'}"
            columns[label] = with_truth(Evaluation.read_json(out / "localized.json"), read_truth(bag), 200_000_000)
    return table(ros_rows(list(columns.values()), rate), ("", *columns))


def ros_rows(evaluations: list[Evaluation], rate: float) -> Iterator[tuple[str, ...]]:
    rates = [poses_per_second(evaluation, rate) for evaluation in evaluations]
    yield "images", *(f"{len(e.frames)} of {e.settings['images sent']}" for e in evaluations)
    yield "poses per second", *(f"{poses:.1f}" for poses in rates)
    yield "ratio", *(f"{poses / rates[0]:.2f}" for poses in rates)
    for what in dict.fromkeys(stage for e in evaluations for stage in e.metrics.latency_s):
        found = [e.metrics.latency_s.get(what) for e in evaluations]
        yield what, *("-" if t is None else f"{milliseconds(t.median_s)} (95 %: {milliseconds(t.p95_s)}, in {t.count})" for t in found)
    errors = [e.metrics.translation_m for e in evaluations]
    yield "median error", *("-" if error is None else length(error.median) for error in errors)


def poses_per_second(evaluation: Evaluation, rate: float) -> float:
    """From the first localized image to the last, in seconds of the wall clock."""
    stamps = [frame.stamp_ns for frame in evaluation.frames if frame.estimate is not None]
    return (len(stamps) - 1) * 1e9 * rate / (stamps[-1] - stamps[0]) if len(stamps) > 1 else 0.0


if __name__ == "__main__":
    raise SystemExit(main())
