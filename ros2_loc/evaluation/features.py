"""Local features side by side: every method on every data set, each cell kept when it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ros2_loc import __version__
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.features_datasets import Dataset
from ros2_loc.evaluation.features_homography import measure_homography
from ros2_loc.evaluation.features_methods import Features, Method
from ros2_loc.evaluation.features_records import Cell, FeaturesEvaluation, Result
from ros2_loc.evaluation.features_two_view import measure_two_view

_MEASURES: dict[str, Callable[[Features, Any], Result]] = {"homography": measure_homography, "two-view": measure_two_view}


def evaluate_features(
    methods: Sequence[Method], datasets: Sequence[Dataset], device: str = "cpu", kept: Path | None = None, show_progress: bool = True
) -> list[Cell]:
    """A cell for each method on each data set, in the order of the data sets.

    Args:
        kept: folder for finished cells; those of an interrupted call are taken from there.

    Raises:
        ConfigError, DataError, MissingDependencyError: a method that can't work here, before anything is measured.
    """
    working = [Features(method, device) for method in methods]
    if not working:
        raise ConfigError("--extractors: give at least one")
    cells = {}
    for features in working:
        for dataset in datasets:
            settings = {**features.method.settings, "dataset": dataset.settings}
            cells[dataset.title, features.method.label] = keep(
                kept, settings, lambda f=features, d=dataset: measure(f, d, show_progress)  # type: ignore[misc]
            )
        features.begin()  # what it holds of images is not needed any more
    return [cells[dataset.title, method.label] for dataset in datasets for method in methods]


def measure(features: Features, dataset: Dataset, show_progress: bool = True) -> Cell:
    """One cell."""
    features.begin()
    words = f"{features.method.label}, {dataset.title}"
    bar = tqdm(dataset.pairs, desc=words, disable=not show_progress, leave=False, dynamic_ncols=True, unit="pair")
    results = tuple(_MEASURES[dataset.protocol](features, pair) for pair in bar)
    keypoints = float(np.mean(features.keypoints)) if features.keypoints else 0.0
    return Cell(features.method.label, dataset.title, dataset.protocol, results, features.seconds, keypoints)


def keep(folder: Path | None, settings: dict[str, Any], work: Callable[[], Cell]) -> Cell:
    """The cell that an earlier call left in the folder for the same settings, else a new one, which is left there."""
    if folder is None:
        return work()
    told = json.dumps({"ros2_loc": __version__, **settings}, sort_keys=True, default=str)
    path = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.json"
    if path.is_file():
        try:
            return FeaturesEvaluation.read_json(path).cells[0]
        except (DataError, IndexError):  # of another version, or of a killed call: measured anew
            path.unlink()
    cell = work()
    FeaturesEvaluation(f"{cell.method}, {cell.dataset}", settings, (cell,)).write_json(path)
    return cell
