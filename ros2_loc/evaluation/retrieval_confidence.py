"""The confidence of adaptive re-ranking, fitted to queries whose truth is known, for pipelines with the same re-ranker on such places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from ros2_loc.errors import DataError
from ros2_loc.evaluation.retrieval_records import RetrievalCell
from ros2_loc.io.files import atomic_path
from ros2_loc.retrieval.confidence import ConfidenceModel, Signs, Trial, calibration_error, fit_confidence


@dataclass(frozen=True, slots=True)
class FittedConfidence:
    """Of one method on all data sets of a call.

    Attributes:
        model: fitted to all trials.
        trials, right: how many there were, and whose first place was right.
        assumed_error, fitted_error: mean distance of claimed and true share of right ones (`calibration_error`): of the model that was
            used, and of one fitted to every second trial, asked about the others, both ways around.
    """

    method: str
    model: ConfidenceModel
    trials: int
    right: int
    assumed_error: float
    fitted_error: float

    def __str__(self) -> str:
        return (
            f"confidence of {self.method}: {self.right} of {self.trials} first places right; claimed and true share differ by "
            f"{self.assumed_error:.2f}, fitted by {self.fitted_error:.2f} on queries that it was not fitted to"
        )


def fitted_confidences(cells: Sequence[RetrievalCell]) -> list[FittedConfidence]:
    """For every adaptive method with right and wrong first places in both halves of its queries; the others teach nothing."""
    judged = [cell for cell in cells if cell.has_truth and any(r.signs is not None for r in cell.results)]
    found = [_fitted(label, [cell for cell in judged if cell.method == label]) for label in dict.fromkeys(c.method for c in judged)]
    return [one for one in found if one is not None]


def write_confidences(path: Path, found: Sequence[FittedConfidence]) -> None:
    """A YAML file with a section `reranking` for each method, to be copied into a pipeline; whole or not at all."""
    content = {one.method: {"reranking": {"confidence": {k: round(v, 4) for k, v in asdict(one.model).items()}}} for one in found}
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _fitted(method: str, cells: Sequence[RetrievalCell]) -> FittedConfidence | None:
    results = [r for cell in cells for r in cell.results if r.signs is not None and r.confidence is not None]
    trials = [Trial(_signs(r.signs), r.right[:1] == (True,)) for r in results if r.signs is not None]
    correct = np.array([trial.correct for trial in trials])
    try:
        halves = [(fit_confidence(trials[first::2]), trials[1 - first :: 2]) for first in (0, 1)]
        model = fit_confidence(trials)
    except DataError:
        return None
    asked = [(fitted.probability(trial.signs), trial.correct) for fitted, others in halves for trial in others]
    claimed = np.array([r.confidence for r in results], dtype=np.float64)
    fitted_error = calibration_error(np.array([p for p, _ in asked]), np.array([right for _, right in asked]))
    return FittedConfidence(method, model, len(trials), int(correct.sum()), calibration_error(claimed, correct), fitted_error)


def _signs(values: tuple[float | None, ...]) -> Signs:
    gap, rescored_gap, inliers, rival_inliers = values
    return Signs(gap or 0.0, rescored_gap, None if inliers is None else int(inliers), int(rival_inliers or 0))
