"""Fusion over frames: what is not seen has no part in it, and any number of frames will do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ros2_loc.models.cvlnet.fusion import FUSIONS, PhotoConsistency, frame_encoding, make_fusion

CHANNELS, S = 8, 6
without_order = pytest.mark.parametrize("name", ["conv2d", "conv2d_attention"])
each = pytest.mark.parametrize("name", FUSIONS)


def make(name: str) -> nn.Module:
    torch.manual_seed(1)
    return make_fusion(name, CHANNELS).eval()


def views(b: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that are zero where invisible; some cells are seen by no frame, the first by all."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(b, n, S, S, generator=generator) < 0.6
    visible[..., 0, 0], visible[..., -1, -1] = True, False
    return torch.randn(b, n, CHANNELS, S, S, generator=generator) * visible[:, :, None], visible


def seen(fused: Tensor, visible: Tensor) -> Tensor:
    return fused * visible.any(dim=1)[:, None]


@each
@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_any_number_of_frames(name: str, n: int) -> None:
    features, visible = views(2, n)
    with torch.no_grad():
        fused = make(name)(features, visible)
    assert fused.shape == (2, CHANNELS, S, S) and torch.isfinite(fused).all()


@each
def test_frames_that_fill_the_batch_change_nothing(name: str) -> None:
    features, visible = views(2, 3)
    fusion = make(name)
    with torch.no_grad():
        alone = fusion(features, visible)
        filled = fusion(nn.functional.pad(features, (0,) * 7 + (4,)), nn.functional.pad(visible, (0,) * 5 + (4,)))
    torch.testing.assert_close(seen(filled, visible), seen(alone, visible), atol=1e-5, rtol=1e-5)


@each
def test_a_batch_gives_what_its_videos_give_alone(name: str) -> None:
    features, visible = views(3, 4)
    fusion = make(name)
    with torch.no_grad():
        together = fusion(features, visible)
        alone = torch.cat([fusion(f[None], v[None]) for f, v in zip(features, visible, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@without_order
def test_where_the_method_has_no_order_the_order_does_not_matter(name: str) -> None:
    features, visible = views(1, 4)
    fusion, order = make(name), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.testing.assert_close(fusion(features[:, order], visible[:, order]), fusion(features, visible), atol=1e-5, rtol=1e-5)


@each
def test_gradients_reach_every_weight_and_stay_finite(name: str) -> None:
    features, visible = views(2, 3)
    visible[1] = False  # a video that sees nothing
    features = (features * visible[:, :, None]).requires_grad_()
    fusion = make(name)
    seen(fusion(features, visible), visible).square().sum().backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()
    for parameter_name, parameter in fusion.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        # a softmax over frames does not see what all keys or all logits have in common
        assert parameter.grad.abs().max() > 0 or parameter_name == "logit.bias", parameter_name


def test_photo_consistency_is_equations_2_and_3() -> None:
    """Cell by cell, head by head, frame by frame."""
    features, visible = views(1, 4, seed=3)
    fusion = make("pcsf")
    assert isinstance(fusion, PhotoConsistency)
    with torch.no_grad():
        fused = fusion(features, visible)[0]
        encoded = (features[0] + frame_encoding(4, CHANNELS, features)[:, :, None, None]) * visible[0][:, None]
        query, key, value = fusion.query_key_value(torch.relu(fusion.shared(encoded))).chunk(3, dim=1)
        for row, column in [(0, 0), (2, 3), (5, 1)]:
            frames = [i for i in range(4) if visible[0, i, row, column]]
            mean = torch.zeros(CHANNELS)
            for head in range(2):
                part = slice(head * CHANNELS // 2, (head + 1) * CHANNELS // 2)
                q, k, v = (x[frames, part, row, column] for x in (query, key, value))
                attention = torch.softmax(q @ k.T / math.sqrt(CHANNELS // 2), dim=1)
                mean[part] = (attention @ v).mean(dim=0)
            out = fusion.out.weight[:, :, 0, 0] @ mean + fusion.out.bias
            expected = out + features[0, frames, :, row, column].mean(dim=0)
            torch.testing.assert_close(fused[:, row, column], expected, atol=1e-5, rtol=1e-5)


def test_frames_that_agree_outweigh_one_that_does_not() -> None:
    """With keys that equal queries, the odd frame out gets the least weight."""
    fusion = make("pcsf")
    assert isinstance(fusion, PhotoConsistency)
    same = torch.ones(1, 1, 2, 4, 1, 1)
    query = torch.cat([same, same, same, -same], dim=1)
    weights = fusion._frame_weights(query, query, torch.ones(1, 4, 1, 1, dtype=torch.bool))[0, :, 0, 0, 0]
    assert weights.sum() == pytest.approx(1.0) and (weights[:3] > weights[3]).all()


def test_the_frame_encoding_tells_frames_apart_at_any_length() -> None:
    codes = frame_encoding(16, 16, torch.zeros(1))
    assert codes.shape == (16, 16) and torch.cdist(codes, codes).fill_diagonal_(9).min() > 0.5
    torch.testing.assert_close(frame_encoding(4, 16, codes), codes[:4])
