"""Matches of the same pair by every method: green where the truth agrees, red where it does not.

Without truth, green are those that agree with one epipolar geometry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.features_datasets import Dataset
from ros2_loc.evaluation.features_methods import Features, Method, pairs_px
from ros2_loc.evaluation.features_records import Cell, HomographyResult, PoseResult, Result
from ros2_loc.evaluation.features_two_view import true_errors_px, verified
from ros2_loc.io.image_pairs import HomographyPair, PosedPair
from ros2_loc.io.images import RGB
from ros2_loc.visualization.matches import draw_matches

Array = NDArray[np.float64]

_HEIGHT_PX = 380
_WRONG = 2.0  # any number above 1 is drawn fully red


def matches_pictures(
    methods: Sequence[Method], datasets: Sequence[Dataset], cells: Sequence[Cell], device: str = "cpu", per_dataset: int = 1
) -> dict[str, RGB]:
    """Caption -> picture, `per_dataset` pairs of each data set with all methods one below the other.

    Chosen are the pairs on which the methods differ most; with one method, the median ones.
    """
    chosen = [(d, d.pairs[k]) for d in datasets for k in telling_pairs([c for c in cells if c.dataset == d.title], per_dataset)]
    drawn: dict[tuple[int, str], tuple[str, RGB]] = {}
    for method in methods:
        features = Features(method, device)
        for row, (dataset, pair) in enumerate(chosen):
            drawn[row, method.label] = _picture(features, dataset, pair)
            features.begin()
    return dict(drawn[row, method.label] for row in range(len(chosen)) for method in methods)


def telling_pairs(cells: Sequence[Cell], count: int) -> list[int]:
    """Indices of the pairs whose worth differs most between the cells of one data set."""
    worth = np.array([[_worth(result) for result in cell.results] for cell in cells])
    if worth.size == 0:
        return []
    if len(cells) == 1:
        order = np.argsort(worth[0], kind="stable")
        return [int(order[(len(order) - 1) // 2])]
    spread = worth.max(axis=0) - worth.min(axis=0)
    return [int(k) for k in np.argsort(-spread, kind="stable")[:count]]


def right_matches(pair: HomographyPair | PosedPair, pairs: Array) -> NDArray[np.bool_] | None:
    """(M,) which matches (M, 4) px agree with the truth to 3 px; None where there is none."""
    if isinstance(pair, HomographyPair):
        return np.asarray(fm.transfer_errors_px(pairs, pair.second_from_first) <= fm.EPIPOLAR_PX)
    if pair.second_from_first is None or pair.first.camera is None or pair.second.camera is None:
        return None
    return np.asarray(true_errors_px(pair, pairs) <= fm.EPIPOLAR_PX)


def _picture(features: Features, dataset: Dataset, pair: HomographyPair | PosedPair) -> tuple[str, RGB]:
    first, second = features.of(pair.first), features.of(pair.second)
    matched = pairs_px(first, second, features.matches(first, second))
    right, told = right_matches(pair, matched), "right"
    if right is None:
        right, told = verified(matched), "agree with one epipolar geometry, truth unknown"
    image = draw_matches(pair.first.load(), pair.second.load(), matched, np.where(right, 0.0, _WRONG), _HEIGHT_PX, error_scale_px=1.0)
    counted = f"{int(right.sum())} of {len(matched)} matches {told}"
    return f"{dataset.title} · {features.method.label}: {counted} · {pair.first.name}, {pair.second.name}", image


def _worth(result: Result) -> float:
    if isinstance(result, HomographyResult):
        return result.accuracy[2] * min(result.matches, 500)
    if isinstance(result, PoseResult):
        return float(result.inliers if result.precision is None else result.precision * min(result.matches, 500))
    return 0.0
