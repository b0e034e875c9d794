"""SuperGlue: filling that takes part in nothing, symmetries, optimal transport, mutual choice, and files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.errors import DataError
from ros2_loc.models.superglue import (
    Points,
    SuperGlue,
    assigned,
    load_published,
    log_optimal_transport,
    normalized,
    renamed,
)


@cache
def small_network() -> SuperGlue:
    torch.manual_seed(0)
    network = SuperGlue(SuperGlue.Config(dimension=32, num_layers=4)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
    with torch.no_grad():
        network.final_projection.weight.mul_(8.0)
    return network


def points(count: int, seed: int, filling: int = 0) -> Points:
    rng = torch.Generator().manual_seed(seed)
    shape = (1, count + filling)
    descriptors = torch.nn.functional.normalize(torch.randn(*shape, 32, generator=rng), dim=-1)
    valid = torch.arange(count + filling)[None] < count
    return Points(torch.rand(*shape, 2, generator=rng) - 0.5, torch.rand(shape, generator=rng), descriptors, valid)


def cut(one: Points, count: int) -> Points:
    return Points(*(part[:, :count] for part in one))


@settings(max_examples=15)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.integers(0, 6), st.integers(0, 100))
def test_filling_changes_nothing(n: int, m: int, more_n: int, more_m: int, seed: int) -> None:
    network, first, second = small_network(), points(n, seed, more_n), points(m, seed + 1, more_m)
    with torch.inference_mode():
        filled = network(first, second, 10)
        alone = network(cut(first, n), cut(second, m), 10)
    real = torch.cat([filled[:, :n], filled[:, -1:]], dim=1)
    real = torch.cat([real[:, :, :m], real[:, :, -1:]], dim=2)
    torch.testing.assert_close(real, alone, atol=2e-4, rtol=1e-4)
    assert torch.isneginf(filled[:, n:-1]).all() and torch.isneginf(filled[:, :, m:-1]).all()
    matched = assigned(filled, 0.0)
    assert (matched.partners[:, n:] == -1).all() and (matched.reference_partners[:, m:] == -1).all()


def test_several_pairs_at_once_are_each_alone() -> None:
    network = small_network()
    query, references = points(9, 0), [points(count, 10 + count) for count in (4, 7, 1)]
    filled = [[torch.nn.functional.pad(part, _behind(part, 7)) for part in parts] for parts in zip(*references, strict=True)]
    batch = Points(*(torch.cat(parts) for parts in filled))
    with torch.inference_mode():
        together = assigned(network(Points(*(part.expand(3, *part.shape[1:]) for part in query)), batch, 20), 0.1)
        for row, reference in enumerate(references):
            alone = assigned(network(query, reference, 20), 0.1)
            assert together.partners[row].tolist() == alone.partners[0].tolist()
            torch.testing.assert_close(together.scores[row], alone.scores[0], atol=1e-4, rtol=1e-3)


def _behind(part: torch.Tensor, size: int) -> list[int]:
    return [0, 0] * (part.ndim - 2) + [0, size - part.shape[1]]


def test_the_order_of_keypoints_and_of_images_is_all_the_same() -> None:
    network, first, second = small_network(), points(8, 1), points(11, 2)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        straight, swapped = network(first, second, 400), network(second, first, 400)
        shuffled = network(Points(*(part[:, order] for part in first)), second, 400)
    torch.testing.assert_close(shuffled[:, :-1], straight[:, :-1][:, order], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(swapped.transpose(1, 2), straight, atol=1e-3, rtol=1e-3)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 100), st.floats(-3.0, 3.0))
def test_transport_gives_each_keypoint_one_partner_or_the_dustbin(n: int, m: int, seed: int, bin_score: float) -> None:
    scores = 3.0 * torch.randn(1, n, m, generator=torch.Generator().manual_seed(seed))
    every = (torch.ones(1, n, dtype=torch.bool), torch.ones(1, m, dtype=torch.bool))
    assignment = log_optimal_transport(scores, *every, torch.tensor(bin_score), 200).exp()
    torch.testing.assert_close(assignment[:, :-1].sum(2), torch.ones(1, n), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(assignment[:, :, :-1].sum(1), torch.ones(1, m), atol=1e-3, rtol=1e-3)
    # the dustbin of the rows has room for all columns
    torch.testing.assert_close(assignment[:, -1].sum(1), torch.tensor([float(m)]), atol=1e-2 * m, rtol=1e-2)


def test_a_match_is_mutual_and_likely_enough() -> None:
    probability = torch.tensor([[[0.8, 0.1, 0.1], [0.7, 0.15, 0.1], [0.01, 0.19, 0.5], [0.1, 0.1, 0.1]]])
    found = assigned(probability.log(), 0.2)
    assert found.partners.tolist() == [[0, -1, -1]] and found.reference_partners.tolist() == [[0, -1]]
    torch.testing.assert_close(found.scores, torch.tensor([[0.8, 0.0, 0.19]]))  # the likeliest for both, but not likely
    torch.testing.assert_close(found.reference_scores, torch.tensor([[0.8, 0.19]]))


def test_positions_are_measured_from_the_images_centre() -> None:
    centre = normalized(torch.tensor([[320.5, 240.5], [640.5, 0.5]]), 640, 480)
    torch.testing.assert_close(centre, torch.tensor([[0.0, 0.0], [320 / 448, -240 / 448]]))


def published_state() -> dict[str, torch.Tensor]:
    """With the authors' names and shapes."""
    state = {"bin_score": torch.tensor(2.0)}
    sizes = (3, 32, 64, 128, 256, 256)
    for index, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        state |= _convolution(f"kenc.encoder.{3 * index}", inputs, outputs)
        state |= _norm(f"kenc.encoder.{3 * index + 1}", outputs) if index < 4 else {}
    for layer in range(18):
        for name in ("merge", "proj.0", "proj.1", "proj.2"):
            state |= _convolution(f"gnn.layers.{layer}.attn.{name}", 256, 256)
        state |= _convolution(f"gnn.layers.{layer}.mlp.0", 512, 512) | _norm(f"gnn.layers.{layer}.mlp.1", 512)
        state |= _convolution(f"gnn.layers.{layer}.mlp.3", 512, 256)
    return state | _convolution("final_proj", 256, 256)


def _convolution(name: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.zeros(1).expand(outputs, inputs, 1), f"{name}.bias": torch.zeros(outputs)}


def _norm(name: str, size: int) -> dict[str, torch.Tensor]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": torch.ones(size) for part in names}, f"{name}.num_batches_tracked": torch.tensor(0)}


def test_a_published_file_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    state = published_state()
    torch.save(state, tmp_path / "superglue_indoor.pth")
    assert load_published(tmp_path / "superglue_indoor.pth").bin_score == 2.0
    del state["gnn.layers.7.attn.merge.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(DataError, match=r"layers.7.merge.bias missing"):
        load_published(tmp_path / "cut.pth")
    with pytest.raises(DataError, match="conv1a.weight"):
        renamed({"conv1a.weight": torch.zeros(1)})


def test_channels_of_a_head_are_laid_together() -> None:
    weight = torch.arange(256.0)[:, None, None].expand(256, 256, 1)
    query = renamed({"gnn.layers.0.attn.proj.0.weight": weight})["layers.0.query.weight"][:, 0]
    assert query[:3].tolist() == [0.0, 4.0, 8.0] and query[64:66].tolist() == [1.0, 5.0]
    merge = renamed({"gnn.layers.0.attn.merge.weight": weight.transpose(0, 1)})["layers.0.merge.weight"][0]
    torch.testing.assert_close(merge, query)
