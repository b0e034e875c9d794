"""Detectors side by side on one set of labelled images: what they find is stored once, and scored again as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ros2_loc.core.interfaces import Detector
from ros2_loc.core.labels import plain_label
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import detection_matching as dm
from ros2_loc.evaluation import detection_metrics as metrics
from ros2_loc.evaluation.detection_errors import error_breakdown
from ros2_loc.evaluation.detection_methods import DetectionMethod, make_detector
from ros2_loc.evaluation.detection_records import DetectionCell, DetectionScores, JudgedOn
from ros2_loc.evaluation.detection_store import DetectionStore
from ros2_loc.io import uavdt
from ros2_loc.io.coco_results import FoundObjects, read_coco_results, write_coco_results
from ros2_loc.io.labelled_images import ANY_LABEL, DetectionDataset

_LISTED = 8  # labels in a line


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How methods are measured.

    Attributes:
        limit: images at most, evenly chosen; None: all.
        same: label of the data set -> label of the detectors that means it.
        as_one: take all labels that are judged for one of this name; "" each for itself.
        max_detections: an image and label, best first.
    """

    limit: int | None = None
    same: Mapping[str, str] = field(default_factory=dict)
    as_one: str = ""
    max_detections: int = metrics.MAX_DETECTIONS

    def __post_init__(self) -> None:
        if self.max_detections < 1:
            raise ConfigError(f"--max-detections {self.max_detections}: at least 1 is needed")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The judged data set, and of each method its cell, and what it found in each image (None where it was not run)."""

    dataset: DetectionDataset
    judged_on: JudgedOn
    cells: tuple[DetectionCell, ...]
    found: tuple[list[FoundObjects] | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Export:
    """What a method found: in its own labels, or why it can't be run."""

    method: DetectionMethod
    labels: tuple[str, ...]
    found: list[FoundObjects]
    seconds: list[float]
    not_run: str = ""


def evaluate_detection(
    methods: Sequence[DetectionMethod],
    dataset: DetectionDataset,
    options: DetectionOptions,
    folder: Path,
    device: str = "cpu",
    show_progress: bool = True,
) -> Measured:
    """All methods on the images of a data set, judged on the labels that the data set and every method know.

    Args:
        folder: detections are kept in its `parts/`, from where an interrupted call goes on, and are written to `detections/` as COCO's
            results under the numbers of the data set.

    Raises:
        ConfigError: labels that don't fit, before anything is measured; the line has both lists.
        DataError: an image or a file of detections that can't be read, or no method can be run on this machine.
    """
    chosen = dataset.limited(options.limit)
    lists = next((m.results for m in methods if m.results is not None and m.results.is_dir()), None)
    if lists is not None and len(dataset.labels) > 1 and not options.as_one:
        raise ConfigError(f"{lists}: lists of UAVDT tell no labels: give --as-one {uavdt.VEHICLE}, or results in COCO's form")
    works = [_Work(method, dataset, chosen, folder / "parts", device) for method in methods]
    runnable = [work for work in works if not work.not_run]
    if not runnable:
        raise DataError(f"no method can be run on this machine: {'; '.join(f'{w.method.label}: {w.not_run}' for w in works)}")
    labels = judged_labels(dataset, {w.method.label: w.labels for w in runnable}, options.same)
    judged = chosen.renamed(labels, dict(options.same))
    judged = judged.as_one(options.as_one) if options.as_one else judged
    cells: list[DetectionCell] = []
    everything: list[list[FoundObjects] | None] = []
    for work in works:
        if work.not_run:
            cells.append(DetectionCell(work.method.label, None, work.not_run))
            everything.append(None)
            continue
        export = work.export(show_progress)
        found = [_in_labels(f, export.labels, labels, bool(options.as_one)) for f in export.found]
        write_coco_results(folder / "detections" / f"{_file_name(work.method.label)}.json", judged, found)
        words = f"{work.method.label}, scores" if show_progress else ""
        cells.append(DetectionCell(work.method.label, score(judged, found, export.seconds, options.max_detections, words)))
        everything.append(found)
    told = _judged_on(dataset, judged, labels, options)
    return Measured(judged, told, tuple(cells), tuple(everything))


def judged_labels(
    dataset: DetectionDataset, known: Mapping[str, Sequence[str]], same: Mapping[str, str]
) -> tuple[str, ...]:
    """The data set's labels, renamed by `same`, that every method knows.

    Args:
        known: method -> its labels.

    Raises:
        ConfigError: none; the line has the lists.
    """
    told = {plain_label(a): b for a, b in same.items()}
    renamed = list(dict.fromkeys(told.get(plain_label(name), name) for name in dataset.labels))
    by_method = {method: set(map(plain_label, labels)) for method, labels in known.items()}
    kept = tuple(name for name in renamed if all(plain_label(name) in labels for labels in by_method.values()))
    if kept:
        return kept
    lists = "; ".join(f"{method} knows {_listed(labels)}" for method, labels in known.items())
    raise ConfigError(
        f"{dataset.name} has {_listed(renamed)}, {lists}: no label in common; say which are the same, for instance --same Car=car"
    )


def score(
    dataset: DetectionDataset,
    found: Sequence[FoundObjects],
    seconds: Sequence[float] = (),
    max_detections: int = metrics.MAX_DETECTIONS,
    words: str = "",
) -> DetectionScores:
    """All numbers of one method.

    Args:
        found: of each image, labels as indices of the data set's.
        seconds: of each image; none where nobody knows.
        words: of a progress bar; none without.
    """
    has_masks = dataset.has_masks and any(mask is not None for f in found for mask in f.masks)
    pairs = [dm.match_coco(image, f) for image, f in zip(dataset.images, found, strict=True)]
    judged = dm.Judged(
        np.concatenate([f.scores for f in found]).astype(np.float64), np.concatenate([p.verdicts for p in pairs]), dataset.num_objects
    )
    with tqdm(total=4, desc=f" {words}", disable=not words, leave=False, dynamic_ncols=True, unit="score") as bar:
        box, false_discovery = metrics.box_scores(dataset, found, max_detections)
        bar.update()
        mask = metrics.coco_scores(dataset, found, "segm", max_detections) if has_masks else None
        bar.update()
        errors = error_breakdown(dataset, found)
        bar.update()
        pascal = metrics.pascal_scores(dataset, found)
    return DetectionScores(
        box=box,
        mask=mask,
        false_discovery=false_discovery,
        errors=errors,
        pascal=pascal,
        kitti=metrics.kitti_scores(dataset, found) if dataset.kind == "kitti" else {},
        operating=metrics.best_operating_point(judged),
        detections=sum(map(len, found)),
        median_s=float(np.median(seconds)) if len(seconds) else None,
        p95_s=float(np.percentile(seconds, 95)) if len(seconds) else None,
    )


class _Work:
    """One method on one data set: its labels before it has run, what it found after."""

    def __init__(self, method: DetectionMethod, dataset: DetectionDataset, chosen: DetectionDataset, folder: Path, device: str) -> None:
        self.method, self._dataset, self._chosen, self._device = method, dataset, chosen, device
        self.not_run = ""
        self.labels: tuple[str, ...] = dataset.labels
        self._store: DetectionStore | None = None
        self._detector: Detector | None = None
        if method.results is not None:
            return
        self._store = DetectionStore(folder, dataset, {**method.settings, "device": device})
        if self._store.missing(chosen):
            made = make_detector(method, device)
            if isinstance(made, str):
                self.not_run = made
                return
            self._detector = made
            self._store.begin(tuple(made.labels))
        self.labels = self._store.labels or ()

    def export(self, show_progress: bool) -> _Export:
        """Run the detector where it has not been, or read the file; its networks are let go."""
        if self._store is None:
            return _Export(self.method, self.labels, self._read(), [])
        if self._detector is not None:
            detector, self._detector = self._detector, None
            self._store.fill(self._chosen, detector, f"{self.method.label}, {self._dataset.name}", show_progress)
        stored = [self._store.image(self._chosen, k) for k in range(len(self._chosen))]
        return _Export(self.method, self.labels, [s.found for s in stored], [s.seconds for s in stored])

    def _read(self) -> list[FoundObjects]:
        path = self.method.results
        assert path is not None, "a method is a detector or a file"
        whole = _read_uavdt(path, self._dataset) if path.is_dir() else read_coco_results(path, self._dataset)
        kept = {image.name for image in self._chosen.images}
        return [f for image, f in zip(self._dataset.images, whole, strict=True) if image.name in kept]


def _read_uavdt(path: Path, dataset: DetectionDataset) -> list[FoundObjects]:
    """They tell no labels and are judged with all taken for one: the first stands for it."""
    return [FoundObjects.of_detections(f, {uavdt.VEHICLE: 0}) for f in uavdt.read_uavdt_detections(path, dataset)]


def _in_labels(found: FoundObjects, own: Sequence[str], judged: Sequence[str], as_one: bool) -> FoundObjects:
    """Detections in the numbers of the labels that are judged, those of others left out."""
    wanted = {plain_label(name): k for k, name in enumerate(judged)}
    index = np.array([wanted.get(plain_label(name), ANY_LABEL) for name in own], dtype=np.int64)
    labels = index[found.labels] if len(found) else found.labels
    kept = found.subset(labels != ANY_LABEL)
    numbers = labels[labels != ANY_LABEL]
    return FoundObjects(kept.boxes, np.zeros_like(numbers) if as_one else numbers, kept.scores, kept.masks)


def _judged_on(dataset: DetectionDataset, judged: DetectionDataset, labels: Sequence[str], options: DetectionOptions) -> JudgedOn:
    told = {plain_label(a): b for a, b in options.same.items()}
    kept = set(map(plain_label, labels))
    real = np.concatenate([i.labels[~i.ignored] for i in judged.images])
    return JudgedOn(
        dataset=dataset.name,
        path=str(dataset.root),
        kind=dataset.kind,
        images=len(judged),
        objects=judged.num_objects,
        ignored=int(sum(i.ignored.sum() for i in judged.images)),
        left_out=dataset.left_out,
        labels=judged.labels,
        counts={label: int((real == k).sum()) for k, label in enumerate(judged.labels)},
        unjudged=tuple(name for name in dataset.labels if plain_label(told.get(plain_label(name), name)) not in kept),
        max_detections=options.max_detections,
    )


def _listed(labels: Sequence[str]) -> str:
    more = f", ... ({len(labels)} in all)" if len(labels) > _LISTED else ""
    return ", ".join(labels[:_LISTED]) + more


def _file_name(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in label)


def settings_of(methods: Sequence[DetectionMethod]) -> dict[str, Any]:
    """For the record of a call."""
    return {method.label: method.settings for method in methods}
