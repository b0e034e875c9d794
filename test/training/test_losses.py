"""The losses against the loops that their formulas are."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ros2_loc.training import losses

TILES, QUERIES = 6, 4


def _case(seed: int, shifts: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity (M, N, K, K), wrong pairs (M, N), true cells (N, 2)."""
    draw = torch.Generator().manual_seed(seed)
    similarity = torch.rand((TILES, QUERIES, shifts, shifts), generator=draw, dtype=torch.float64) * 2 - 1
    negative = (torch.rand((TILES, QUERIES), generator=draw) < 0.7) & ~torch.eye(TILES, QUERIES, dtype=torch.bool)
    return similarity, negative, torch.rand((QUERIES, 2), generator=draw, dtype=torch.float64) * (shifts - 1)


@given(st.integers(0, 1000))
def test_triplet_is_the_mean_over_all_triplets_of_both_directions(seed: int) -> None:
    similarity, negative, _ = _case(seed)
    scores = losses.best_over_shifts(similarity)
    triplets: list[list[float]] = [[], []]
    distance = [[2 - 2 * float(similarity[a, b].max()) for b in range(QUERIES)] for a in range(TILES)]
    for tile in range(TILES):
        for query in range(QUERIES):
            if negative[tile, query]:
                triplets[0].append(math.log1p(math.exp(10 * (distance[query][query] - distance[tile][query]))))
            if negative[tile, query] and tile < QUERIES:
                triplets[1].append(math.log1p(math.exp(10 * (distance[tile][tile] - distance[tile][query]))))
    expected = sum(sum(part) / max(len(part), 1) for part in triplets) / 2
    assert float(losses.soft_margin_triplet(scores, negative)) == pytest.approx(expected)


@given(st.integers(0, 1000))
def test_info_nce_is_the_cross_entropy_of_the_diagonal(seed: int) -> None:
    similarity, negative, _ = _case(seed)
    scores = losses.best_over_shifts(similarity)
    total = 0.0
    for i in range(4):
        rivals = [scores[j, i] for j in range(TILES) if negative[j, i]], [scores[i, j] for j in range(QUERIES) if negative[i, j]]
        for wrong in rivals:
            total += math.log(sum(math.exp(s / 0.2) for s in (*wrong, scores[i, i]))) - float(scores[i, i]) / 0.2
    assert float(losses.info_nce(scores, negative, 0.2)) == pytest.approx(total / 8)


@given(st.integers(0, 1000))
def test_place_cross_entropy_counts_every_shift_of_every_pair(seed: int) -> None:
    similarity, negative, cells = _case(seed)
    weights = losses.shift_targets(cells, 3)
    total = 0.0
    for i in range(4):
        counted = [j for j in range(TILES) if negative[j, i] or i == j]
        norm = math.log(sum(math.exp(float(s) / 0.3) for j in counted for s in similarity[j, i].flatten()))
        total += sum(float(w) * (norm - float(s) / 0.3) for w, s in zip(weights[i].flatten(), similarity[i, i].flatten(), strict=True))
    assert float(losses.place_cross_entropy(similarity, cells, negative, 0.3)) == pytest.approx(total / 4)


@given(st.floats(0, 6), st.floats(0, 6))
def test_the_target_of_a_shift_has_its_mean_at_the_true_place(row: float, column: float) -> None:
    target = losses.shift_targets(torch.tensor([[row, column]], dtype=torch.float64), 7)[0]
    grid = torch.arange(7, dtype=torch.float64)
    assert float(target.sum()) == pytest.approx(1.0)
    assert float(target.sum(1) @ grid) == pytest.approx(row, abs=1e-6)
    assert float(target.sum(0) @ grid) == pytest.approx(column, abs=1e-6)
    assert int((target > 0).sum()) <= 4


def test_shift_cross_entropy_looks_at_the_right_pairs_only() -> None:
    similarity = torch.zeros(2, 2, 3, 3)
    cells = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    assert float(losses.shift_cross_entropy(similarity, cells, 0.1)) == pytest.approx(math.log(9), abs=1e-5)
    similarity[0, 1] = torch.randn(3, 3)
    assert float(losses.shift_cross_entropy(similarity, cells, 0.1)) == pytest.approx(math.log(9), abs=1e-5)
    similarity[0, 0, 0, 2] = similarity[1, 1, 1, 1] = 5.0
    assert float(losses.shift_cross_entropy(similarity, cells, 0.1)) < 1e-6


def test_pairs_that_are_neither_right_nor_wrong_get_no_gradient() -> None:
    similarity, _, cells = _case(1)
    similarity.requires_grad_()
    negative = ~torch.eye(TILES, QUERIES, dtype=torch.bool)
    negative[2, 1] = negative[1, 2] = False
    scores = losses.best_over_shifts(similarity)
    total = (
        losses.soft_margin_triplet(scores, negative)
        + losses.info_nce(scores, negative, 0.1)
        + losses.place_cross_entropy(similarity, cells, negative, 0.1)
    )
    total.backward()
    assert similarity.grad is not None and bool(similarity.grad.isfinite().all())
    assert float(similarity.grad[2, 1].abs().sum() + similarity.grad[1, 2].abs().sum()) == 0.0
    assert float(similarity.grad[0, 1].abs().sum()) > 0.0


def test_a_batch_without_any_wrong_pair_has_no_triplet_loss() -> None:
    scores = torch.rand(1, 1, requires_grad=True)
    loss = losses.soft_margin_triplet(scores, torch.zeros(1, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0 and scores.grad is not None and float(scores.grad.abs().sum()) == 0.0
