"""Losses of local features: what they are of the best, of the worst and of everything between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from ros2_loc.errors import ConfigError
from ros2_loc.models.r2d2 import DenseFeatures
from ros2_loc.training.feature_losses import (
    PixelSampling,
    cosine_loss,
    draw_queries,
    peaky_loss,
    pixel_precision,
    quantized_average_precision,
    reliability_loss,
    warped,
)

seeds = st.integers(0, 10_000)


def _maps(seed: int, size: int = 48, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(seed))


def _all(maps: Tensor) -> Tensor:
    return torch.ones(len(maps), *maps.shape[2:], dtype=torch.bool)


def _centres(size: int, batch: int = 1) -> Tensor:
    steps = torch.arange(size) + 0.5
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=2).expand(batch, size, size, 2).contiguous()


@given(seeds, st.floats(0.1, 3.0))
def test_equal_maps_and_multiples_have_no_cosine_loss(seed: int, factor: float) -> None:
    maps = _maps(seed)
    assert float(cosine_loss(maps, factor * maps, _all(maps))) == pytest.approx(0.0, abs=1e-5)
    assert 0.05 < float(cosine_loss(maps, _maps(seed + 1), _all(maps))) < 0.6


@given(seeds)
def test_what_is_not_valid_counts_for_nothing(seed: int) -> None:
    first, second = _maps(seed), _maps(seed + 1)
    valid = _maps(seed + 2)[:, 0] < 0.5
    garbage = torch.where(valid[:, None], second, 1e3)
    assert torch.allclose(cosine_loss(first, second, valid), cosine_loss(first, garbage, valid))
    only_equal = torch.where(valid[:, None], first, second)
    assert float(cosine_loss(first, only_equal, valid)) == pytest.approx(0.0, abs=1e-5)


def test_without_correspondences_there_is_no_loss_and_no_gradient() -> None:
    maps = _maps(0).requires_grad_()
    loss = cosine_loss(maps, _maps(1), torch.zeros_like(_all(maps)))
    loss.backward()
    assert float(loss.detach()) == 0.0 and maps.grad is not None and not maps.grad.any()


def test_patches_of_the_cosine_are_those_of_the_definition() -> None:
    first, second = _maps(3, 32, 1), _maps(4, 32, 1)
    wanted = []
    for row in range(0, 25, 8):
        for column in range(0, 25, 8):
            if row + 16 <= 32 and column + 16 <= 32:
                a, b = (m[0, 0, row : row + 16, column : column + 16].flatten() for m in (first, second))
                wanted.append(1.0 - float(a @ b / (a.norm() * b.norm())))
    assert float(cosine_loss(first, second, _all(first))) == pytest.approx(np.mean(wanted), abs=1e-6)


def test_a_flat_map_has_the_whole_peaky_loss_and_peaks_have_less() -> None:
    flat, peaks = torch.full((1, 1, 64, 64), 0.6), torch.zeros(1, 1, 64, 64)
    peaks[..., 4::8, 4::8] = 1.0
    wider = torch.nn.functional.max_pool2d(peaks, 3, stride=1, padding=1)
    assert float(peaky_loss(flat)) == pytest.approx(1.0, abs=1e-6)
    assert float(peaky_loss(wider)) < 0.2 < float(peaky_loss(peaks)) < 1.0


@given(seeds, st.floats(-0.3, 0.3))
def test_peakiness_is_of_differences(seed: int, offset: float) -> None:
    maps = _maps(seed)
    assert float(peaky_loss(maps + offset)) == pytest.approx(float(peaky_loss(maps)), abs=1e-5)
    patch, smooth = 5, torch.nn.functional.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
    windows = smooth.unfold(2, patch, 1).unfold(3, patch, 1).flatten(4)
    assert float(peaky_loss(maps, patch)) == pytest.approx(1.0 - float((windows.amax(4) - windows.mean(4)).mean()), abs=1e-5)


def test_maps_are_warped_in_the_convention_of_half_pixels() -> None:
    ramp = (torch.arange(20) + 0.5).expand(1, 1, 20, 20)
    assert torch.allclose(warped(ramp, _centres(20)), ramp)
    moved = _centres(20) + torch.tensor([2.25, -1.0])
    inner = warped(ramp, moved)[..., 1:, :17]
    assert torch.allclose(inner, ramp[..., 1:, :17] + 2.25, atol=1e-4)


def _by_convolution(scores: Tensor, positive: Tensor, bins: int) -> Tensor:
    """As R2D2 writes it: a triangle of each bin over all scores, the outer ones open to their side."""
    a = bins - 1.0
    centres = torch.linspace(1.0, 0.0, bins)
    weights = (1.0 - a * (scores[:, None] - centres[None, :, None]).abs()).clamp(min=0)
    weights[:, 0] = torch.where(scores > 1.0, 1.0, weights[:, 0])
    weights[:, -1] = torch.where(scores < 0.0, 1.0, weights[:, -1])
    right = (weights * positive[:, None]).sum(dim=2)
    precision = right.cumsum(1) / (1e-16 + weights.sum(dim=2).cumsum(1))
    return (precision * right / right.sum(dim=1, keepdim=True)).sum(dim=1)


def _lists(seed: int, rows: int = 6, length: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, length, generator=generator) * 1.4 - 0.2
    positive = torch.rand(rows, length, generator=generator) < 0.1
    positive[:, 0] = True
    return scores, positive


@given(seeds, st.integers(2, 30))
def test_quantized_precision_is_that_of_r2d2(seed: int, bins: int) -> None:
    scores, positive = _lists(seed)
    found = quantized_average_precision(scores, positive, torch.ones_like(positive), bins)
    assert torch.allclose(found, _by_convolution(scores, positive, bins), atol=1e-5)


@given(seeds)
def test_precision_is_the_exact_one_where_every_score_has_its_bin(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(40, generator=generator) for _ in range(5)])
    scores = (order + 1.0) / 41.0
    positive = torch.rand(5, 40, generator=generator) < 0.15
    positive[:, 0] = True
    ranked = positive.gather(1, scores.argsort(dim=1, descending=True)).float()
    precision = ranked.cumsum(1) / torch.arange(1, 41)
    exact = (precision * ranked).sum(1) / ranked.sum(1)
    assert torch.allclose(quantized_average_precision(scores, positive, torch.ones_like(positive), 42), exact, atol=1e-3)


@given(seeds)
def test_what_is_not_counted_might_as_well_not_be_there(seed: int) -> None:
    scores, positive = _lists(seed)
    counted = torch.ones_like(positive)
    counted[:, 20:] = False
    shorter = quantized_average_precision(scores[:, :20], positive[:, :20], counted[:, :20])
    assert torch.allclose(quantized_average_precision(scores, positive, counted), shorter, atol=1e-6)


def test_precision_of_the_best_and_the_worst_list_and_its_gradient() -> None:
    scores = torch.tensor([[0.95, 0.3, 0.2, 0.1], [0.05, 0.6, 0.7, 0.8]], requires_grad=True)
    positive = torch.tensor([[True, False, False, False]] * 2)
    found = quantized_average_precision(scores, positive, torch.ones_like(positive))
    assert found.tolist() == pytest.approx([1.0, 0.25], abs=0.02)
    found.sum().backward()
    assert bool(scores.grad.isfinite().all())
    middle = torch.tensor([[0.52, 0.5, 0.1]], requires_grad=True)
    quantized_average_precision(middle, torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert middle.grad[0, 0] > 0 > middle.grad[0, 1]


def test_reliability_is_worth_it_above_kappa_only() -> None:
    reliability = torch.tensor([0.3, 0.3], requires_grad=True)
    loss = reliability_loss(torch.tensor([0.9, 0.2]), reliability, kappa=0.5)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(np.mean([1 - (0.9 * 0.3 + 0.5 * 0.7), 1 - (0.2 * 0.3 + 0.5 * 0.7)]))
    assert reliability.grad[0] < 0 < reliability.grad[1]
    assert float(reliability_loss(torch.zeros(0), torch.zeros(0))) == 0.0


SIZE, SHIFT = 64, (5, -3)


def _shifted_pair(descriptors: Tensor) -> tuple[DenseFeatures, DenseFeatures, Tensor, Tensor]:
    """Features, the same moved by SHIFT, and the correspondences."""
    ones = torch.full((len(descriptors), 1, SIZE, SIZE), 0.7)
    second = torch.roll(descriptors, (SHIFT[1], SHIFT[0]), (2, 3))
    points = _centres(SIZE, len(descriptors)) + torch.tensor(SHIFT, dtype=torch.float32)
    valid = ((points >= 0) & (points < SIZE)).all(dim=3)
    return DenseFeatures(descriptors, ones, ones), DenseFeatures(second, ones, 1.0 * ones), points, valid


def _random_descriptors(seed: int, batch: int = 2) -> Tensor:
    return normalize(torch.randn(batch, 32, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)), dim=1)


SAMPLING = PixelSampling(border_px=8)


@given(st.integers(0, 50))
def test_descriptors_of_their_own_are_precise_and_random_ones_are_not(seed: int) -> None:
    torch.manual_seed(seed)
    first, second, points, valid = _shifted_pair(_random_descriptors(seed))
    queries = draw_queries(points, valid, SAMPLING)
    precision, reliability = pixel_precision(first, second, queries, SAMPLING)
    assert len(precision) > 60 and float(precision.min()) > 0.9 and torch.allclose(reliability, torch.tensor(0.7))
    chance, _ = pixel_precision(first, second._replace(descriptors=_random_descriptors(seed + 99)), queries, SAMPLING)
    assert float(chance.mean()) < 0.3
    wrong = pixel_precision(first, second, queries._replace(xy2=(queries.xy2 + 20) % SIZE), SAMPLING)[0]
    assert float(wrong.mean()) < 0.3


def test_precision_is_the_same_in_any_basis() -> None:
    first, second, points, valid = _shifted_pair(_random_descriptors(0))
    noisy = normalize(second.descriptors + 0.3 * _random_descriptors(1), dim=1)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(2)))[0]
    turned = [torch.einsum("ij,bjhw->bihw", turn, d) for d in (first.descriptors, noisy)]
    found = []
    for a, b in ((first.descriptors, noisy), turned):
        torch.manual_seed(0)
        queries = draw_queries(points, valid, SAMPLING)
        found.append(pixel_precision(first._replace(descriptors=a), second._replace(descriptors=b), queries, SAMPLING)[0])
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_queries_are_where_correspondences_are() -> None:
    torch.manual_seed(0)
    points, valid = _centres(SIZE, 2) + 1.0, torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    valid[0, 20, 30], valid[0, 2, 30], valid[1] = True, True, True
    queries = draw_queries(points, valid, SAMPLING)
    assert (queries.image == 0).sum() == 1 and (queries.image == 1).sum() == (SIZE - 16) ** 2 // 64
    assert queries.xy[0].tolist() == [30, 20] and queries.xy2[0].tolist() == [31, 21]
    assert queries.xy.min() >= 8 and queries.xy.max() < SIZE - 8
    assert len({tuple(p) for p in queries.xy[1:].tolist()}) == len(queries.xy) - 1, "no pixel twice"


def test_gradients_of_everything_are_finite() -> None:
    torch.manual_seed(0)
    descriptors, points = _random_descriptors(4).requires_grad_(), _centres(SIZE, 2)
    maps = torch.rand(2, 1, SIZE, SIZE, requires_grad=True)
    dense = DenseFeatures(descriptors, maps, maps)
    queries = draw_queries(points, torch.ones(2, SIZE, SIZE, dtype=torch.bool), SAMPLING)
    precision, reliability = pixel_precision(dense, dense, queries, SAMPLING)
    loss = reliability_loss(precision, reliability) + peaky_loss(maps) + cosine_loss(maps, maps.detach().flip(3), _all(maps))
    loss.backward()
    assert bool(descriptors.grad.isfinite().all()) and bool(descriptors.grad.any()) and bool(maps.grad.isfinite().all())


def test_impossible_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="right_px < wrong_px"):
        PixelSampling(right_px=5, wrong_px=(4, 7))
