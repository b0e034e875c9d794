"""Re-ranking of 100 candidates side by side: all at once, and one after another as the public re-ranking code does it with OpenCV.

    python benchmark/reranking.py ../shared/data --weights ../shared/weights
    python benchmark/reranking.py ../shared/data --extractors sift --keypoints 1000 --queries 20

Both get the same features of the same images: places are described before, the query once. The loop takes, of each candidate, mutual
nearest neighbours by dot product and `cv2.findHomography(RANSAC, 24 px, 2000 iterations, 0.995)`, and scores inliers by keypoints of the
query.
Each query goes to all methods in turn, so that whatever else the machine does hits all of them; the ratio of medians is what to compare.
Every image of the map is a candidate of every query: no retrieval helps either of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ros2_loc import registry
from ros2_loc.cli.console import percent, table
from ros2_loc.core.types import Candidate, Frame, LocalFeatures, PlaceEvidence
from ros2_loc.io.place_datasets import open_place_folder
from ros2_loc.io.sequences import open_sequence
from ros2_loc.retrieval.rerankers.local_features import LocalFeatureReranker, Scoring

THRESHOLD_PX = 24.0
DATASETS = ("kitti", "corridor")


@dataclass(frozen=True)
class Places:
    """Images of places, queries, and for each rule the places that are right for each query."""

    name: str
    places: Sequence[Frame]
    queries: Sequence[Frame]
    right: dict[str, list[set[int]]]


@dataclass
class Tally:
    """Of one method: seconds of each query, and its first place."""

    matching_s: list[float] = field(default_factory=list)
    scoring_s: list[float] = field(default_factory=list)
    first: list[int] = field(default_factory=list)

    def add(self, matching_s: float, scoring_s: float, first: int) -> None:
        self.matching_s.append(matching_s)
        self.scoring_s.append(scoring_s)
        self.first.append(first)

    @property
    def median_s(self) -> float:
        return float(np.median(np.add(self.matching_s, self.scoring_s)))


def main() -> int:
    arguments = parse()
    if arguments.weights:
        folders = [arguments.weights, *(p for p in sorted(arguments.weights.iterdir()) if p.is_dir())]
        os.environ["ROS2_LOC_WEIGHTS"] = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("ROS2_LOC_WEIGHTS")])])
    openers: dict[str, Callable[[], Places]] = {"kitti": lambda: kitti(arguments), "corridor": lambda: corridor(arguments)}
    for name in arguments.only:
        data = openers[name]()
        print(f"\n{data.name}: {len(data.queries)} queries, {len(data.places)} candidates each, {os.cpu_count()} cores", flush=True)
        rows = [row for extractor in arguments.extractors for row in compare(data, extractor, arguments)]
        header = ("", "method", "matching ms", "scoring ms", "query ms", "faster", *(f"R@1 {rule}" for rule in data.right))
        print(table(rows, header), flush=True)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with kitti/03 and vpr/corridor")
    parser.add_argument("--extractors", nargs="+", default=["xfeat", "sift", "orb"])
    parser.add_argument("--keypoints", nargs="+", type=int, default=[1000, 500], help="of ours; the loop always has the first number")
    parser.add_argument("--queries", type=int, default=25, help="of a data set, spread evenly (default: 25)")
    parser.add_argument("--weights", type=Path, help="folder with files of weights, or with folders of them")
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=DATASETS)
    return parser.parse_args()


def kitti(arguments: argparse.Namespace) -> Places:
    """Places are frames 0, 5, 10 …, queries in between."""
    sequence = open_sequence(arguments.data / "kitti" / "03", stop=500)
    positions = np.array([pose.translation for pose in sequence.map_from_base])
    places = np.arange(0, len(positions), 5)
    asked = spread(places[:-1] + 2, arguments.queries)
    distance = np.linalg.norm(positions[asked][:, None] - positions[places], axis=2)
    right = {f"within {radius} m": [set(np.flatnonzero(row < radius)) for row in distance] for radius in (25, 5)}
    return Places("KITTI 03", [sequence.frame(i) for i in places], [sequence.frame(i) for i in asked], right)


def corridor(arguments: argparse.Namespace) -> Places:
    """A robot's corridor, 160 x 120 px; right by frames, as its truth says."""
    data = open_place_folder(arguments.data / "vpr" / "corridor")
    asked = spread(np.arange(len(data.queries)), arguments.queries)
    places, queries = [data.database.frame(i) for i in range(len(data.database))], [data.queries.frame(int(i)) for i in asked]
    return Places("corridor", places, queries, {"by frames": [set(data.positives[i]) for i in asked]})


def spread(numbers: np.ndarray, count: int) -> np.ndarray:
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int))]


def compare(data: Places, name: str, arguments: argparse.Namespace) -> list[tuple[str, ...]]:
    """A row for the loop, and one for each number of keypoints."""
    most, *_ = arguments.keypoints
    extractor = registry.create("extractor", {"name": name, "max_keypoints": max(arguments.keypoints)})
    places, queries = ([extractor.extract(f) for f in tqdm(frames, f"{data.name}, {name}", disable=not sys.stderr.isatty())]
                       for frames in (data.places, data.queries))  # fmt: skip
    ours = {n: LocalFeatureReranker(LocalFeatureReranker.Config(max_keypoints=n, scoring=Scoring(threshold_px=THRESHOLD_PX)))
            for n in arguments.keypoints}  # fmt: skip
    stored = {n: one.describe_many(None, places) for n, one in ours.items()}
    held = [one.select(slice(0, most)) for one in places]  # type: ignore[arg-type]
    loop, tallies = Tally(), {n: Tally() for n in ours}
    for query in tqdm(queries, f"{data.name}, {name}", disable=not sys.stderr.isatty()):
        loop.add(*one_after_another(query.select(slice(0, most)), held))  # type: ignore[arg-type]
        for n, reranker in ours.items():
            tallies[n].add(*all_at_once(reranker, reranker.describe(None, query), stored[n]))
    rows = [row(name, f"loop, {most}", loop, loop, data)]
    return rows + [row("", f"ours, {n}", tally, loop, data) for n, tally in tallies.items()]


def one_after_another(query: LocalFeatures, places: Sequence[LocalFeatures]) -> tuple[float, float, int]:
    """Seconds of matching and of scoring, and the best place, as the public code goes through its candidates."""
    matching_s, scoring_s, scores = 0.0, 0.0, []
    for place in places:
        started = time.perf_counter()
        products = query.descriptors @ place.descriptors.T
        forward, backward = products.argmax(axis=1), products.argmax(axis=0)
        rows = np.flatnonzero(backward[forward] == np.arange(len(forward)))
        rows = rows[products[rows, forward[rows]] >= 0.0]
        matched = time.perf_counter()
        inliers = len(rows)
        if inliers > 3:
            pairs = place.keypoints[forward[rows]], query.keypoints[rows]
            _, mask = cv2.findHomography(*pairs, cv2.RANSAC, THRESHOLD_PX, maxIters=2000, confidence=0.995)
            inliers = 0 if mask is None else int(mask.sum())
        scores.append(inliers / len(query))
        matching_s, scoring_s = matching_s + matched - started, scoring_s + time.perf_counter() - matched
    return matching_s, scoring_s, int(np.argmax(scores))


def all_at_once(reranker: LocalFeatureReranker, query: PlaceEvidence, places: Sequence[PlaceEvidence]) -> tuple[float, float, int]:
    found = reranker.score(query, [Candidate(index, 0.0) for index in range(len(places))], places)
    return found.stage_s["matching"], found.stage_s["scoring"], int(found.scores.argmax())


def row(extractor: str, method: str, tally: Tally, loop: Tally, data: Places) -> tuple[str, ...]:
    times = (np.median(tally.matching_s), np.median(tally.scoring_s), tally.median_s)
    recalls = [sum(first in good for first, good in zip(tally.first, right, strict=True)) for right in data.right.values()]
    shown = [percent(count / len(tally.first)) for count in recalls]
    return extractor, method, *(f"{1000 * t:.0f}" for t in times), f"{loop.median_s / tally.median_s:.1f} x", *shown


if __name__ == "__main__":
    raise SystemExit(main())
