"""Confidence fitted to evaluated queries is a probability on others of their kind, and can be copied into a pipeline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from ros2_loc.evaluation.retrieval_confidence import fitted_confidences, write_confidences
from ros2_loc.evaluation.retrieval_records import PlaceResult, RetrievalCell
from ros2_loc.localization.pipeline import load_pipeline
from ros2_loc.retrieval.confidence import ConfidenceModel, Signs


def results(count: int, true: ConfidenceModel, seed: int = 0) -> tuple[PlaceResult, ...]:
    """Queries whose first place is right as often as `true` says of their signs, with the default model's confidence."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        rival = int(rng.integers(0, 12))
        signs = Signs(float(rng.normal(1.0, 2.0)), float(rng.normal(2.0, 2.0)), rival + int(rng.integers(0, 60)), rival)
        right = bool(rng.random() < true.probability(signs))
        claimed = ConfidenceModel().probability(signs)
        row = (f"q{i}", "night", 1, (0,), (right,), (1.0,), None, (right,), 1, {})
        made.append(PlaceResult(*row, "all", claimed, (signs.gap, signs.rescored_gap, signs.inliers, signs.rival_inliers)))
    return tuple(made)


def test_a_fitted_confidence_is_calibrated_and_fits_into_a_pipeline(tmp_path: Path) -> None:
    true = ConfidenceModel(bias=-3.0, per_gap=0.2, when_counted=-1.0, per_support=0.6, per_lead=1.5)
    cell = RetrievalCell("orb, adaptive", "vlad", "town", "within 25 m", 20, results(600, true))
    (found,) = fitted_confidences([cell])
    assert found.trials == 600 and 0 < found.right < 600
    assert found.fitted_error < 0.08 < found.assumed_error
    write_confidences(tmp_path / "confidence.yaml", [found])
    section = yaml.safe_load((tmp_path / "confidence.yaml").read_text())["orb, adaptive"]["reranking"]["confidence"]
    overrides = [f"reranking.confidence.{key}={value}" for key, value in section.items()]
    assert asdict(load_pipeline("default", overrides).reranking.confidence) == pytest.approx(asdict(found.model), abs=1e-4)


def test_nothing_is_learned_where_all_are_right() -> None:
    row = results(40, ConfidenceModel(bias=50.0))
    assert fitted_confidences([RetrievalCell("a, adaptive", "vlad", "town", "within 25 m", 20, row)]) == []
