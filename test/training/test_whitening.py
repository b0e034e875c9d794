"""Layers that begin as a whitening."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ros2_loc.training.whitening import whiten


def _rows(count: int = 2000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, generator=generator) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1]) @ torch.linalg.qr(
        torch.randn(6, 6, generator=generator)
    ).Q + torch.tensor([20.0, 10.0, 0.0, 5.0, 1.0, -3.0])


@pytest.mark.parametrize("outputs", [3, 6, 8])
def test_what_comes_out_has_no_mean_and_equal_variances(outputs: int) -> None:
    rows, layer = _rows(), nn.Linear(6, outputs)
    whiten(layer, rows, 0.0)
    out = layer(rows).detach()
    kept = min(outputs, 6)
    torch.testing.assert_close(out.T @ out / len(out), torch.diag(torch.tensor([1.0] * kept + [0.0] * (outputs - kept))), atol=2e-2, rtol=0)
    assert float(out.mean(dim=0).abs().max()) < 1e-2


def test_directions_that_hardly_vary_are_damped() -> None:
    rows, layer = _rows(), nn.Linear(6, 6)
    whiten(layer, rows, 0.1)
    variances = layer(rows).detach().var(dim=0)
    assert bool((variances[:-1] > variances[1:]).all()) and float(variances[0]) > 0.85 and float(variances[-1]) < 0.05


def test_a_convolution_without_bias_leaves_the_mean_out() -> None:
    rows, layer = _rows(), nn.Conv2d(6, 4, 3, padding=1, bias=False)
    whiten(layer, rows, 0.0)
    image = rows[:100].T.reshape(1, 6, 10, 10)
    flat = layer(image).detach().flatten(2)[0].T
    assert float(layer(rows.mean(dim=0)[None, :, None, None].expand(1, 6, 3, 3)).detach().abs().max()) < 1e-3
    apart = nn.functional.normalize(flat, dim=1)
    before = nn.functional.normalize(rows[:100], dim=1)
    assert float((before @ before.T).mean()) > 0.8 and abs(float((apart @ apart.T).mean())) < 0.2
