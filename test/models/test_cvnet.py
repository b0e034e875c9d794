"""CVNet: its 4-D convolutions, correlations that are never made in full, batches, gradients, and files."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import cvnet
from ros2_loc.models.cvnet import CenterPivot, CvNet, Maps, correlations, load_published, renamed, resized

SIDES = st.integers(1, 6)


@cache
def small_network() -> CvNet:
    return cvnet.random(CvNet.Config(dimension=16, channels=8, width=4), 0).eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def maps(height: int, width: int, count: int = 1, seed: int = 0) -> Maps:
    with torch.inference_mode():
        return small_network().maps(draw(count, 1024, height, width, seed=seed))


def convolved_4d(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """The definition: x (B, h, w, h', w', C), kernel (O, C, k, k, k, k), filled up with zeros."""
    size = kernel.shape[2]
    padded = functional.pad(x, [0, 0, *([size // 2] * 8)])
    total = torch.zeros(*x[:, ::stride, ::stride, ::stride, ::stride].shape[:5], len(kernel))
    for offset in itertools.product(range(size), repeat=4):
        part = padded[(slice(None), *(slice(at, at + side, stride) for at, side in zip(offset, x.shape[1:5], strict=True)))]
        total += part @ kernel[(slice(None), slice(None), *offset)].T
    return total


def kernel_4d(layer: CenterPivot) -> Tensor:
    """Zero but where one of both pairs of offsets is the pivot."""
    over_query, over_place = layer.over_query.weight, layer.over_place.weight
    size, pivot = over_query.shape[-1], over_query.shape[-1] // 2
    kernel = torch.zeros(*over_query.shape[:2], *[size] * 4)
    kernel[:, :, :, :, pivot, pivot] += over_query
    kernel[:, :, pivot, pivot] += over_place
    return kernel


@settings(max_examples=15)
@given(st.tuples(SIDES, SIDES, SIDES, SIDES), st.sampled_from([(3, 1), (3, 2), (5, 2)]))
def test_a_center_pivot_convolution_is_a_4d_one_whose_kernel_is_a_cross(sides: tuple[int, ...], form: tuple[int, int]) -> None:
    kernel, stride = form
    torch.manual_seed(0)
    layer = CenterPivot(3, 4, kernel, stride)
    x = draw(2, *sides, 3)
    with torch.inference_mode():
        whole = convolved_4d(x, kernel_4d(layer), stride) + layer.over_query.bias + layer.over_place.bias
        expected = functional.relu(functional.group_norm(whole.permute(0, 5, 1, 2, 3, 4), 4)).permute(0, 2, 3, 4, 5, 1)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def resized_4d(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, h, w, h', w') -> (B, *size), one plane after the other."""
    first = functional.interpolate(x.flatten(3).permute(0, 3, 1, 2), size[:2], mode="bilinear", align_corners=True)
    second = first.permute(0, 2, 3, 1).unflatten(3, x.shape[3:]).flatten(1, 2)
    return functional.interpolate(second, size[2:], mode="bilinear", align_corners=True).unflatten(1, size[:2])


@settings(max_examples=15)
@given(SIDES, SIDES, SIDES, SIDES)
def test_resized_maps_have_the_resized_correlations(h: int, w: int, h2: int, w2: int) -> None:
    query, places = maps(h, w, seed=1), maps(h2, w2, count=2, seed=2)
    ours = correlations(resized(query), resized(places))
    assert ours.shape == (2, h, w, h2, w2, 9) and (ours >= 0).all() and ours.max() <= 1.0 + 1e-5
    for index, (a, b) in enumerate(itertools.product(query, places)):
        cosines = torch.einsum("xcij,bckl->bijkl", a, b)
        torch.testing.assert_close(ours[..., index], resized_4d(cosines, (h, w, h2, w2)).clamp(min=0), atol=1e-5, rtol=1e-4)


@settings(max_examples=10)
@given(SIDES, SIDES, SIDES, SIDES)
def test_half_of_the_correlations_are_enough_for_the_first_layer(h: int, w: int, h2: int, w2: int) -> None:
    query, places = resized(maps(h, w, seed=1)), resized(maps(h2, w2, count=2, seed=2))
    verifier = small_network().verifier
    whole = CenterPivot(9, 4, 5, 2)
    whole.load_state_dict(verifier.first.state_dict())
    with torch.inference_mode():
        whole.over_query.weight.copy_(whole.over_query.weight.unflatten(1, (3, 3)).transpose(1, 2).flatten(1, 2))
        torch.testing.assert_close(verifier.block1(query, places), whole(correlations(query, places)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(4, 5), (1, 1), (3, 8)])
def test_several_places_at_once_are_each_alone(size: tuple[int, int]) -> None:
    network, query, places = small_network(), maps(5, 4, seed=1), maps(*size, count=3, seed=2)
    with torch.inference_mode():
        together = network(query, places)
        alone = [network(query, tuple(one[row : row + 1] for one in places)) for row in range(3)]
        of_each = network(tuple(one.expand(3, *one.shape[1:]) for one in query), places)
    assert together.shape == (3, 2)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together, of_each, atol=1e-5, rtol=1e-4)


def test_one_pass_gives_what_each_part_gives() -> None:
    network, images = small_network(), draw(2, 3, 48, 64)
    with torch.inference_mode():
        vector, found = network.describe(images)
        torch.testing.assert_close(vector, network.descriptor(images))
        torch.testing.assert_close(vector.norm(dim=1), torch.ones(2))
        assert [tuple(one.shape) for one in found] == [(2, 8, 2, 2), (2, 8, 2, 3), (2, 8, 3, 4)]
        for one in found:
            torch.testing.assert_close(one.norm(dim=1), torch.ones(one.shape[0], *one.shape[2:]))
        features = network.features(images)
        torch.testing.assert_close(network.rerank_logits(features[:1], features), network(tuple(one[:1] for one in found), found))


def test_gradients_reach_all_that_re_ranking_uses() -> None:
    network = cvnet.random(CvNet.Config(dimension=16, channels=8, width=4), 1)
    logits = network.rerank_logits(draw(2, 1024, 3, 4), draw(2, 1024, 4, 4, seed=1))
    functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("trunk."):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all(layer.weight.grad.abs().max() > 0 for layer in network.compress)


def test_the_same_seed_gives_the_same_network_and_leaves_torch_alone() -> None:
    state = torch.random.get_rng_state()
    first, second = (cvnet.random(CvNet.Config(dimension=16, channels=8, width=4), 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def authors_state(config: CvNet.Config) -> dict[str, Tensor]:
    """With the authors' names and shapes, made of ours."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in CvNet(config).state_dict().items()}
    own = {ours: theirs for theirs, ours in cvnet._NAMES.items()}
    parts = {"conv1": "f.a", "bn1": "f.a_bn", "conv2": "f.b", "bn2": "f.b_bn", "conv3": "f.c", "bn3": "f.c_bn"}
    state = {}
    for key, shape in shapes.items():
        stem, _, last = key.rpartition(".")
        words = key.removeprefix("trunk.").split(".")
        if stem in own:
            name = f"{own[stem]}.{last}"
        elif words[0] in ("pool", "fc"):
            name = f"encoder_q.head.{'.'.join(words)}"
        elif words[0] == "stem":
            name = f"encoder_q.stem.{('conv', 'bn')[int(words[1])]}.{words[2]}"
        elif words[2] == "downsample":
            name = f"encoder_q.{words[0]}.b{int(words[1]) + 1}.{('proj', 'bn')[int(words[3])]}.{words[4]}"
        else:
            name = f"encoder_q.{words[0]}.b{int(words[1]) + 1}.{parts[words[2]]}.{words[3]}"
        state[name] = torch.zeros(()).expand(shape)
    return state


@pytest.mark.parametrize("config", [CvNet.Config(dimension=64), pytest.param(CvNet.Config(101, 2048, 32, 8), marks=pytest.mark.slow)])
def test_a_published_file_is_loaded_whole_or_not_at_all(config: CvNet.Config, tmp_path: Path) -> None:
    state = authors_state(config)
    torch.save({"epoch": 1, "model_state": state}, tmp_path / "cvnet.pyth")
    assert load_published(tmp_path / "cvnet.pyth").config == config
    torch.save({"model_state": {key: value for key, value in state.items() if "block3.3.conv2.w" not in key}}, tmp_path / "cut.pyth")
    with pytest.raises(DataError, match=r"verifier.layers.3.over_place.weight missing"):
        load_published(tmp_path / "cut.pyth")


def test_what_is_none_of_theirs_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="queue"):
        renamed({"queue": torch.zeros(1)})
    trunk_only = {key: value for key, value in authors_state(CvNet.Config(dimension=8)).items() if key.startswith("encoder_q.")}
    torch.save({"model_state": trunk_only}, tmp_path / "trunk.pyth")
    with pytest.raises(DataError, match="compress.0.weight"):
        load_published(tmp_path / "trunk.pyth")
    for wrong in ({"width": 6}, {"channels": 0}, {"depth": 34}):
        with pytest.raises(ConfigError):
            CvNet(CvNet.Config(**wrong))
