"""What methods look at and what they find, of the queries on which they differ most (as figures 4.9 to 4.13 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ros2_loc.core.types import PlaceMatches
from ros2_loc.evaluation.report.retrieval_pictures import Prediction, Seen, draw_keypoints, draw_matches_of, draw_predictions
from ros2_loc.evaluation.retrieval import DatasetWork, RetrievalOptions
from ros2_loc.evaluation.retrieval_methods import RetrievalMethod
from ros2_loc.evaluation.retrieval_records import RetrievalCell
from ros2_loc.evaluation.retrieval_tables import is_adaptive
from ros2_loc.evaluation.retrieval_work import Reranking
from ros2_loc.io.images import RGB
from ros2_loc.io.place_datasets import PlaceDataset

_SHOWN_PLACES = 5
_SHOWN_QUERIES = 4


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, a place that shows the same and one that does not but was found."""

    query: int
    right: int
    wrong: int


def pictures_of(
    methods: Sequence[RetrievalMethod],
    dataset: PlaceDataset,
    cells: Sequence[RetrievalCell],
    options: RetrievalOptions,
    folder: Path,
    device: str = "cpu",
) -> dict[str, tuple[str, RGB]]:
    """File name -> (caption, picture): predictions of several queries, and for one query of each domain keypoints and matches.

    Args:
        cells: of this data set.
        folder: the one that `evaluate_retrieval` was given.
    """
    measured = [cell for cell in cells if cell.results and not is_adaptive(cell)]
    if not measured:
        return {}
    drawn = {}
    order = hardest(measured)
    for k, query in enumerate(_spread(order, measured[0], _SHOWN_QUERIES)):
        r = measured[0].results[query]
        caption = f"{dataset.name}, {r.domain}: the first places of each method for {Path(r.name).name}"
        drawn[f"predictions_{k}"] = (caption, _predictions(dataset, measured, query))
    work = DatasetWork(dataset, options, folder, device, show_progress=False)
    ran = {cell.method for cell in measured}
    able = [method for method in methods if method.reranker and method.label in ran]
    pairs = {measured[0].results[pair.query].domain: pair for pair in _pairs(order, measured[0])}
    seen: dict[str, list[Seen]] = {domain: [] for domain in pairs}
    for method in able:
        reranking = work.reranking(method)
        for domain, pair in pairs.items():
            seen[domain].append(_seen(method.label, reranking, pair))
    for domain, pair in pairs.items():
        if not seen[domain]:
            continue
        images = (dataset.queries.load(pair.query), dataset.database.load(pair.right), dataset.database.load(pair.wrong))
        name = Path(dataset.queries.names[pair.query]).name
        drawn[f"keypoints_{domain}"] = (f"{dataset.name}, {domain}: where methods look, {name}", draw_keypoints(images, seen[domain]))
        drawn[f"matches_{domain}"] = (f"{dataset.name}, {domain}: what agrees, {name}", draw_matches_of(images, seen[domain]))
    return drawn


def hardest(cells: Sequence[RetrievalCell]) -> list[int]:
    """Queries of one data set, first those on which the methods differ most; all cells have the same queries."""
    right = np.array([[r.right[:1] == (True,) for r in cell.results] for cell in cells])
    return [int(i) for i in np.argsort(np.abs(right.mean(axis=0) - 0.5), kind="stable")]


def _spread(order: Sequence[int], cell: RetrievalCell, count: int) -> list[int]:
    """The first of the order, in turns of each domain."""
    by_domain: dict[str, list[int]] = {domain: [] for domain in cell.domains}
    for query in order:
        by_domain[cell.results[query].domain].append(query)
    turns = [queries[k] for k in range(count) for queries in by_domain.values() if k < len(queries)]
    return turns[:count]


def _pairs(order: Sequence[int], retriever: RetrievalCell) -> list[Pair]:
    """Of each domain the first query with a right place and a wrong one among the candidates."""
    found: dict[str, Pair] = {}
    for query in order:
        r = retriever.results[query]
        if r.domain not in found and any(r.right) and not all(r.right):
            found[r.domain] = Pair(query, r.places[r.right.index(True)], r.places[r.right.index(False)])
    return list(found.values())


def _seen(label: str, reranking: Reranking, pair: Pair) -> Seen:
    asked, _ = reranking.describe(pair.query)
    places = [reranking.places.get(i) for i in (pair.right, pair.wrong)]
    points = tuple(reranking.reranker.keypoints(evidence) for evidence in (asked, *places))
    return Seen(label, points, tuple(_matches(reranking.reranker.matches(asked, place)) for place in places))


def _predictions(dataset: PlaceDataset, cells: Sequence[RetrievalCell], query: int) -> RGB:
    rows = []
    for cell in cells:
        r = cell.results[query]
        places = [dataset.database.load(i) for i in r.places[:_SHOWN_PLACES]]
        judged: list[bool | None] = [bool(x) for x in r.right[:_SHOWN_PLACES]] if cell.has_truth else [None] * len(places)
        inliers = r.inliers[:_SHOWN_PLACES] if r.inliers is not None else (None,) * len(places)
        rows.append(Prediction(cell.method, places, judged, list(inliers)))
    return draw_predictions(dataset.queries.load(query), rows)


def _matches(found: PlaceMatches) -> PlaceMatches:
    """Inliers last: on top."""
    order = np.argsort(found.inliers, kind="stable")
    return PlaceMatches(found.query_px[order], found.place_px[order], found.inliers[order])
