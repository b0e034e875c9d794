"""What an evaluation of retrieval found: one result per query, grouped into cells (a method on a data set), and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ros2_loc.errors import DataError
from ros2_loc.evaluation import retrieval_metrics as rm
from ros2_loc.evaluation.records import finite
from ros2_loc.io.files import atomic_path, read_text

FORMAT = "ros2_loc retrieval evaluation"
VERSION = 2
RETRIEVE = ("encode features", "encode", "search")  # stages of the retriever
EXTRACT = ("features", "describe")  # of the re-ranker, for the query
STAGES = (*RETRIEVE, *EXTRACT, "matching", "scoring")


@dataclass(frozen=True, slots=True)
class PlaceResult:
    """One query.

    Attributes:
        domain: what it was taken under ("night").
        positives: how many images of the database show its place.
        places: numbers in the database, best first.
        right: of each of these, whether it shows the query's place.
        scores: of each of these: the re-ranker's, or the retriever's without one.
        inliers: of each of these; None where the method has no such thing.
        first_right: whether the first would be right, were only so many re-ranked as `retrieval_metrics.sweep_counts` says.
        num_scored: candidates that the re-ranker compared.
        stage_s: seconds; names in STAGES.
        why: of an adaptive re-ranking, why it ended.
        confidence: of an adaptive re-ranking, that the first place is right.
        signs: what that was made of, in the order of `retrieval.confidence.Signs`.
    """

    name: str
    domain: str
    positives: int
    places: tuple[int, ...]
    right: tuple[bool, ...]
    scores: tuple[float, ...]
    inliers: tuple[int, ...] | None
    first_right: tuple[bool, ...]
    num_scored: int
    stage_s: dict[str, float]
    why: str = ""
    confidence: float | None = None
    signs: tuple[float | None, ...] | None = None


@dataclass(frozen=True)
class RetrievalCell:
    """One method on one data set.

    Attributes:
        method: its label.
        retriever: label of what it re-ranks; the same as `method` for a retriever alone.
        dataset: its name.
        rule: what is right, in words; "no truth" where nobody knows.
        candidates: how many the retriever gives.
        results: one a query; none where it was not run.
        facts: "places", "descriptor_bytes" and "evidence_bytes" of a database image, "candidate_s": description of a database image.
        not_run: why it has no results; "" where it has.
    """

    method: str
    retriever: str
    dataset: str
    rule: str
    candidates: int
    results: tuple[PlaceResult, ...]
    facts: dict[str, float] = field(default_factory=dict)
    not_run: str = ""

    @property
    def has_truth(self) -> bool:
        """Whether anybody knows what is right."""
        return any(r.positives for r in self.results)

    @property
    def domains(self) -> list[str]:
        """In the order of their first query."""
        return list(dict.fromkeys(r.domain for r in self.results))

    def of(self, domain: str = "") -> list[PlaceResult]:
        """Results of one domain, or all."""
        return [r for r in self.results if domain in ("", r.domain)]


@dataclass(frozen=True)
class RetrievalEvaluation:
    """All of one call: what it takes to do it again, and a cell for each method on each data set."""

    title: str
    settings: dict[str, Any]
    cells: tuple[RetrievalCell, ...]

    def write_json(self, path: Path | str) -> None:
        """Writes cells with their summaries for whoever reads the file; whole or not at all."""
        cells = [{**asdict(cell), "summary": {d or "all": summary(cell, d) for d in ("", *cell.domains)}} for cell in self.cells]
        content = {"format": FORMAT, "version": VERSION, "title": self.title, "settings": self.settings, "cells": cells}
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(json.dumps(finite(content)) + "\n", encoding="utf-8")

    @staticmethod
    def read_json(path: Path | str) -> RetrievalEvaluation:
        """Reads what `write_json` wrote; summaries are computed anew.

        Raises:
            DataError: no such file, not JSON, another format or version, or damaged.
        """
        again = "write it again with `ros2-loc evaluate retrieval`"
        try:
            content = json.loads(read_text(path, "evaluation of retrieval"))
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}): {again}") from error
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise DataError(f"{path}: not a {FORMAT} of version {VERSION}: {again}")
        try:
            cells = tuple(_cell(cell) for cell in content["cells"])
            return RetrievalEvaluation(str(content["title"]), dict(content["settings"]), cells)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged evaluation: {type(error).__name__} {error}") from error


def _cell(content: Mapping[str, Any]) -> RetrievalCell:
    kept = {k: v for k, v in content.items() if k not in ("results", "summary")}
    return RetrievalCell(**{**kept, "results": tuple(_result(row) for row in content["results"])})


def _result(row: dict[str, Any]) -> PlaceResult:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return PlaceResult(**values)


def summary(cell: RetrievalCell, domain: str = "") -> dict[str, Any]:
    """The numbers of a cell, or of one domain; None where there was nothing to compute them from.

    "recall" has R@N for RECALL_AT (N beyond the number of candidates: all of them), "upper_bound" the best that re-ranking could reach,
    "interval" the 95 % interval of R@1, "sweep" R@1 by the number of re-ranked candidates, "seconds" medians of the stages.
    """
    results = cell.of(domain)
    right = [r.right for r in results] if cell.has_truth else []
    recall = {n: rm.recall_at(right, n) for n in rm.RECALL_AT}
    counts = rm.sweep_counts(cell.candidates) if right and results[0].first_right else ()
    return {
        "queries": len(results),
        "without_positives": sum(not r.positives for r in results) if cell.has_truth else None,
        "recall": recall,
        "interval": rm.wilson_interval(recall[1], len(right)),
        "upper_bound": rm.recall_at(right, cell.candidates),
        "sweep": {k: float(np.mean([r.first_right[i] for r in results])) for i, k in enumerate(counts)},
        "scored": float(np.mean([r.num_scored for r in results])) if results else None,
        "seconds": _medians([r.stage_s for r in results]),
    }


def rerank_s(seconds: Mapping[str, float]) -> float:
    """Of a query: description, matching and scoring of all candidates, whose descriptions are stored."""
    return sum(seconds.get(stage, 0.0) for stage in (*EXTRACT, "matching", "scoring"))


def retrieve_s(seconds: Mapping[str, float]) -> float:
    """Of a query: global descriptor (with the local features that it is made of) and search."""
    return sum(seconds.get(stage, 0.0) for stage in RETRIEVE)


def parts_s(seconds: Mapping[str, float]) -> dict[str, float]:
    """Of a query: "retrieve", and of the re-ranker "extraction", "matching" and "scoring"."""
    extraction = sum(seconds.get(stage, 0.0) for stage in EXTRACT)
    return {
        "retrieve": retrieve_s(seconds),
        "extraction": extraction,
        "matching": seconds.get("matching", 0.0),
        "scoring": seconds.get("scoring", 0.0),
    }


def _medians(times: list[dict[str, float]]) -> dict[str, float]:
    named = [stage for stage in STAGES if any(stage in t for t in times)]
    return {stage: float(np.median([t.get(stage, 0.0) for t in times])) for stage in named}
