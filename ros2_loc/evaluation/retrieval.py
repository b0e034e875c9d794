"""Retrievers and re-rankers side by side: every method on every set of places, each cell kept when it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ros2_loc.core.types import Candidate
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.retrieval_adaptive import AdaptiveWork
from ros2_loc.evaluation.retrieval_methods import Plugins, RetrievalMethod, make_plugins
from ros2_loc.evaluation.retrieval_metrics import reranked, sweep_counts
from ros2_loc.evaluation.retrieval_records import PlaceResult, RetrievalCell, RetrievalEvaluation
from ros2_loc.evaluation.retrieval_work import LocalFeaturesOf, Reranking, Retrieved, Retriever, folder_of, identity
from ros2_loc.io.place_datasets import PlaceDataset

ADAPTIVE = ", adaptive"


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """How methods are measured.

    Attributes:
        candidates: places that the retriever gives and the re-ranker orders (paper: 100).
        sweep: whether R@1 is told for fewer re-ranked candidates, too; a re-ranker that looks at the list as a whole is asked again for
            each number.
        adaptive: a second row for each re-ranker that is used only as far as it is needed (`retrieval.reranking`).
    """

    candidates: int = 100
    sweep: bool = True
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ConfigError(f"--candidates {self.candidates}: at least 1 is needed")


def evaluate_retrieval(
    methods: Sequence[RetrievalMethod],
    datasets: Sequence[PlaceDataset],
    options: RetrievalOptions,
    folder: Path,
    device: str = "cpu",
    show_progress: bool = True,
) -> list[RetrievalCell]:
    """Cells in the order of the data sets: before the first method with a retriever the retriever alone, then each method.

    Args:
        folder: for finished cells and for descriptions of images; those of an interrupted call are taken from there.

    Raises:
        ConfigError: a method that no machine could run, before anything is measured.
        DataError: an image that can't be read, or no method can be run on this machine.
    """
    asked = _with_retrievers(methods)
    missing = {method.label: made for method in asked if isinstance(made := make_plugins(method, device), str)}
    if len(missing) == len(asked):
        raise DataError(f"no method can be run on this machine: {'; '.join(f'{label}: {why}' for label, why in missing.items())}")
    cells = []
    for dataset in datasets:
        work = DatasetWork(dataset, options, folder, device, show_progress)
        for method in asked:
            cells += _cells_of(method, work, dataset, options, missing)
    return cells


def _cells_of(
    method: RetrievalMethod, work: DatasetWork, dataset: PlaceDataset, options: RetrievalOptions, missing: Mapping[str, str]
) -> list[RetrievalCell]:
    if method.label in missing:
        return _not_run(method, dataset, options, missing[method.label])
    try:
        return work.cells(method)
    except ConfigError as error:  # parts that do not fit each other show it at the first image
        return _not_run(method, dataset, options, str(error))


def _with_retrievers(methods: Sequence[RetrievalMethod]) -> list[RetrievalMethod]:
    """Each retriever once, before the first method that re-ranks its candidates; under the user's name where it was asked for alone."""
    alone = {_told(method.retriever): method for method in reversed(methods) if not method.reranker}
    found: dict[str, RetrievalMethod] = {}
    for method in methods:
        retriever = alone.get(_told(method.retriever), method.retriever)
        if retriever.label in found and _told(found[retriever.label]) != _told(retriever):
            retriever = replace(retriever, label=f"{retriever.label} (of {method.label})")
        if not any(_told(known) == _told(retriever) for known in found.values()):
            found[retriever.label] = retriever
        if method.reranker:
            found[method.label] = method
    return list(found.values())


def _told(method: RetrievalMethod) -> str:
    return json.dumps(method.settings, sort_keys=True, default=str)


def _not_run(method: RetrievalMethod, dataset: PlaceDataset, options: RetrievalOptions, why: str) -> list[RetrievalCell]:
    count = min(options.candidates, len(dataset.database))
    return [RetrievalCell(method.label, method.retriever.label, dataset.name, dataset.rule, count, (), {}, why)]


class DatasetWork:
    """All methods on one data set; what they share is made once, and only when a cell is not there yet."""

    def __init__(self, dataset: PlaceDataset, options: RetrievalOptions, folder: Path, device: str, show_progress: bool) -> None:
        self._dataset, self._options, self._folder = dataset, options, folder
        self._device, self._show_progress = device, show_progress
        self._count = min(options.candidates, len(dataset.database))
        self._features: dict[str, LocalFeaturesOf] = {}
        self._retrieved: dict[str, tuple[list[Retrieved], int]] = {}

    def cells(self, method: RetrievalMethod) -> list[RetrievalCell]:
        """The method's cell; with `adaptive` a second one, where it re-ranks."""
        works: dict[str, Callable[[], RetrievalCell]] = {method.label: lambda: self._measured(method)}
        if self._options.adaptive and method.reranker:
            works[method.label + ADAPTIVE] = lambda: self._adaptive(method)
        return [self._kept(method, label, work) for label, work in works.items()]

    def _kept(self, method: RetrievalMethod, label: str, work: Callable[[], RetrievalCell]) -> RetrievalCell:
        """The cell that an earlier call left for the same settings, else a new one, which is left there."""
        settings = {**method.settings, **self._settings(), "label": label, "options": asdict(self._options)}
        path = folder_of(self._folder / "cells", settings).with_suffix(".json")
        if path.is_file():
            try:
                return RetrievalEvaluation.read_json(path).cells[0]
            except (DataError, IndexError):  # of another version, or of a killed call: measured anew
                path.unlink()
        cell = work()
        RetrievalEvaluation(f"{cell.method}, {cell.dataset}", settings, (cell,)).write_json(path)
        return cell

    def _settings(self) -> dict[str, Any]:
        positives = [sorted(found) for found in self._dataset.positives]
        return {
            "database": identity(self._dataset.database),
            "queries": identity(self._dataset.queries),
            "dataset": self._dataset.name,
            "rule": self._dataset.rule,
            "positives": json.dumps(positives),
            "device": self._device,
        }

    def _measured(self, method: RetrievalMethod) -> RetrievalCell:
        retrieved, facts = self._retrieve(method)
        if not method.reranker:
            results = tuple(self._result(i, found) for i, found in enumerate(retrieved))
            return self._cell(method, method.label, results, facts)
        work = self.reranking(method)
        self._warm_up(work, retrieved)
        results = tuple(self._reranked_result(method, work, i, retrieved[i]) for i in self._bar(method.label))
        return self._cell(method, method.label, results, {**facts, **work.facts()})

    def _adaptive(self, method: RetrievalMethod) -> RetrievalCell:
        retrieved, facts = self._retrieve(method)
        work = self.reranking(method)
        self._warm_up(work, retrieved)
        adaptive = AdaptiveWork(work, self._dataset.database)
        results = []
        for i in self._bar(method.label + ADAPTIVE):
            found = adaptive.rerank(i, retrieved[i].candidates)
            features_s = self._features_s(method, work, i) if found.num_scored else {}
            result = self._result(i, Retrieved(found.candidates, {**retrieved[i].stage_s, **features_s, **found.stage_s}), found.inliers)
            results.append(replace(result, num_scored=found.num_scored, why=found.why, confidence=found.confidence, signs=found.signs))
        return self._cell(method, method.label + ADAPTIVE, tuple(results), {**facts, **work.facts()})

    def _cell(
        self, method: RetrievalMethod, label: str, results: tuple[PlaceResult, ...], facts: Mapping[str, float]
    ) -> RetrievalCell:
        dataset = self._dataset
        return RetrievalCell(label, method.retriever.label, dataset.name, dataset.rule, self._count, results, dict(facts))

    def _reranked_result(self, method: RetrievalMethod, work: Reranking, i: int, retrieved: Retrieved) -> PlaceResult:
        evidence, stage_s = work.describe(i)
        scores, inliers, more_s = work.scores(evidence, retrieved.candidates)
        order = reranked(scores)
        ordered = tuple(Candidate(retrieved.candidates[k].source, float(scores[k])) for k in order)
        features_s = self._features_s(method, work, i)
        result = self._result(i, Retrieved(ordered, {**retrieved.stage_s, **features_s, **stage_s, **more_s}))
        first = []
        for k in sweep_counts(len(retrieved.candidates)) if self._options.sweep else ():
            whole = k == len(retrieved.candidates) or not work.reranker.listwise
            some = scores if whole else work.scores(evidence, retrieved.candidates[:k])[0]
            first.append(retrieved.candidates[int(reranked(some, k)[0])].source in self._dataset.positives[i])
        told = None if inliers is None else tuple(inliers[k] for k in order)
        return replace(result, inliers=told, first_right=tuple(first), num_scored=len(scores))

    def _result(self, i: int, found: Retrieved, inliers: tuple[int, ...] | None = None) -> PlaceResult:
        """Of places in their final order."""
        positives = self._dataset.positives[i]
        right = tuple(c.source in positives for c in found.candidates)
        counts = sweep_counts(len(right)) if self._options.sweep else ()
        return PlaceResult(
            name=self._dataset.queries.names[i],
            domain=self._dataset.queries.domains[i],
            positives=len(positives),
            places=tuple(c.source for c in found.candidates),
            right=right,
            scores=tuple(float(c.score) for c in found.candidates),
            inliers=inliers,
            first_right=right[:1] * len(counts),
            num_scored=0,
            stage_s=found.stage_s,
        )

    def _features_s(self, method: RetrievalMethod, work: Reranking, query: int) -> dict[str, float]:
        """Local features that only the re-ranker needs are part of its costs."""
        only = work.reranker.needs_features and not method.encoder_needs_features
        return {"features": work.features_s(query)} if only else {}

    def _retrieve(self, method: RetrievalMethod) -> tuple[list[Retrieved], dict[str, float]]:
        """Candidates of each query, shared by all methods with the same retriever."""
        key = _told(method.retriever)
        if key not in self._retrieved:
            plugins = self._plugins(method.retriever)
            settings = {"encoder": dict(method.encoder), "extractor": dict(method.retriever.extractor), "device": self._device}
            features = self._local_features(method.retriever, plugins)
            retriever = Retriever(self._dataset, plugins.encoder, features, settings, self._images, self._show_progress)
            found = [retriever.of(i, self._count) for i in range(len(self._dataset.queries))]
            self._retrieved[key] = (found, retriever.descriptor_bytes)
        found, descriptor_bytes = self._retrieved[key]
        return found, {"places": float(len(self._dataset.database)), "descriptor_bytes": float(descriptor_bytes)}

    def reranking(self, method: RetrievalMethod) -> Reranking:
        """The method's re-ranker with the descriptions of all places.

        Raises:
            DataError: it can't be run on this machine.
        """
        plugins = self._plugins(method)
        assert plugins.reranker is not None, "a method without re-ranker has nothing to re-rank with"
        needed = plugins.reranker.needs_features
        features = self._local_features(method, plugins) if needed else None
        settings = {"reranker": dict(method.reranker), "extractor": dict(method.extractor) if needed else {}, "device": self._device}
        return Reranking(self._dataset, plugins.reranker, features, settings, self._images, self._show_progress)

    def _local_features(self, method: RetrievalMethod, plugins: Plugins) -> LocalFeaturesOf | None:
        if plugins.extractor is None:
            return None
        section = dict(method.extractor)
        key = json.dumps(section, sort_keys=True, default=str)
        if key not in self._features:
            self._features[key] = LocalFeaturesOf(self._dataset, plugins.extractor, section, self._images, self._show_progress)
        return self._features[key]

    def _plugins(self, method: RetrievalMethod) -> Plugins:
        made = make_plugins(method, self._device)
        if isinstance(made, str):
            raise DataError(f"{method.label}: {made}")
        return made

    def _warm_up(self, work: Reranking, retrieved: Sequence[Retrieved]) -> None:
        """The first call of a network is slow: not the first query's fault."""
        work.scores(work.describe(0)[0], retrieved[0].candidates[:2])

    def _bar(self, words: str) -> Any:
        count = len(self._dataset.queries)
        shown = f" {words}, {self._dataset.name}"
        return tqdm(range(count), desc=shown, disable=not self._show_progress, leave=False, dynamic_ncols=True, unit="query")

    @property
    def _images(self) -> Path:
        return self._folder / "images"
