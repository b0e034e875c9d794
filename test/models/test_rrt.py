"""RRT: filling and order that change nothing, one query for many places, scales, networks without parts, and files."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import rrt
from ros2_loc.models.rrt import SCALES, Described, Rrt, load_published, renamed, scale_indices
from ros2_loc.models.weights import load_model, save_model
from ros2_loc.perception.extractors import delg

CONFIG = Rrt.Config(global_dimension=24, local_dimension=12, dimension=16, num_heads=2, num_layers=3, hidden=32)


@cache
def small_network(config: Rrt.Config = CONFIG) -> Rrt:
    return rrt.random(config, 0).eval()


def image(count: int, seed: int, filling: int = 0, config: Rrt.Config = CONFIG) -> Described:
    """One image; what it is filled up with is large."""
    rng = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(1, count + filling, config.local_dimension, generator=rng)
    descriptors[:, count:] = 1e3
    scales = torch.randint(0, len(SCALES), (1, count + filling), generator=rng)
    valid = torch.arange(count + filling)[None] < count
    return Described(torch.randn(1, config.global_dimension, generator=rng), descriptors, scales, valid)


def cut(one: Described, count: int) -> Described:
    return Described(one.vector, one.descriptors[:, :count], one.scales[:, :count], one.valid[:, :count])


def filled_up(one: Described, count: int) -> Described:
    more = count - one.valid.shape[1]
    parts = functional.pad(one.descriptors, (0, 0, 0, more)), functional.pad(one.scales, (0, more)), functional.pad(one.valid, (0, more))
    return Described(one.vector, *parts)


@torch.inference_mode()
def logits(query: Described, places: Described, config: Rrt.Config = CONFIG) -> Tensor:
    return small_network(config)(query, places)  # type: ignore[no-any-return]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5), st.integers(0, 5), st.integers(0, 100))
def test_filling_changes_nothing(n: int, m: int, more_n: int, more_m: int, seed: int) -> None:
    query, place = image(n, seed, more_n), image(m, seed + 1, more_m)
    torch.testing.assert_close(logits(query, place), logits(cut(query, n), cut(place, m)), atol=1e-5, rtol=1e-4)


@given(st.permutations(list(range(7))))
def test_the_order_of_descriptors_changes_nothing(order: list[int]) -> None:
    query, place = image(7, 0), image(5, 1)
    turned = Described(query.vector, query.descriptors[:, order], query.scales[:, order], query.valid[:, order])
    torch.testing.assert_close(logits(turned, place), logits(query, place), atol=1e-5, rtol=1e-4)


def test_all_that_an_image_is_made_of_counts() -> None:
    query, place = image(6, 0), image(5, 1)
    scales = query._replace(scales=(query.scales + 1) % len(SCALES))
    others = (place._replace(vector=-place.vector), place._replace(descriptors=-place.descriptors))
    before = logits(query, place)
    for changed in (logits(scales, place), *(logits(query, other) for other in others), logits(place, query)):
        assert (changed - before).abs().max() > 1e-3


def test_one_query_for_several_places_is_that_of_each_alone() -> None:
    query, places = image(6, 0), [image(count, 10 + count) for count in (3, 8, 0, 5)]
    together = Described(*(torch.cat(parts) for parts in zip(*(filled_up(one, 8) for one in places), strict=True)))
    alone = torch.cat([logits(query, one) for one in places])
    torch.testing.assert_close(logits(query, together), alone, atol=1e-5, rtol=1e-4)
    queries = Described(*(part.expand(4, *part.shape[1:]) for part in query))
    torch.testing.assert_close(logits(queries, together), alone, atol=1e-5, rtol=1e-4)


def test_the_last_layer_needs_only_the_first_token() -> None:
    network = small_network()
    with torch.inference_mode():
        tokens, valid = network.sequence(network.reduced(image(6, 0)), network.reduced(image(4, 1, filling=2)))
        whole = tokens
        for layer in network.layers:
            whole = layer(whole, whole, valid)
        torch.testing.assert_close(network.judged(tokens, valid), whole[:, 0], atol=1e-5, rtol=1e-4)


def test_what_is_kept_of_an_image_is_of_unit_length() -> None:
    with torch.inference_mode():
        kept = small_network().reduced(image(6, 0))
    torch.testing.assert_close(kept.vector.norm(dim=-1), torch.ones(1))
    torch.testing.assert_close(kept.descriptors.norm(dim=-1), torch.ones(1, 6))


@pytest.mark.parametrize("config", [Rrt.Config(0, 16, 16, 4, 1, 8), Rrt.Config(8, 16, 16, 4, 1, 8), Rrt.Config(0, 5, 8, 2, 2, 8)])
def test_networks_without_global_descriptors_or_of_other_sizes(config: Rrt.Config, tmp_path: Path) -> None:
    query, place = image(4, 0, config=config), image(3, 1, config=config)
    before = logits(query, place, config)
    save_model(tmp_path / "rrt.safetensors", small_network(config), {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    network = load_model(tmp_path / "rrt.safetensors")
    assert network.config == config
    with torch.inference_mode():
        torch.testing.assert_close(network(query, place), before)


@pytest.mark.slow
def test_it_learns_which_images_share_descriptors() -> None:
    config = Rrt.Config(0, 8, 8, 1, 2, 16)
    network, rng = rrt.random(config, 0), np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    words = torch.from_numpy(rng.normal(size=(2, 8))).float()
    losses = []
    for _ in range(60):
        kinds = torch.from_numpy(rng.integers(0, 2, (2, 16)))
        query, place = (
            Described(torch.zeros(16, 0), words[kind][:, None].expand(16, 3, 8), torch.zeros(16, 3).long(), torch.ones(16, 3).bool())
            for kind in kinds
        )
        loss = functional.binary_cross_entropy_with_logits(network(query, place), (kinds[0] == kinds[1]).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_scales_are_those_of_the_image_pyramid() -> None:
    """As the authors: bisect_right - 1; the sizes that DELG's levels have give all seven in turn."""
    sizes = np.array([0.5, 0.6, 0.70711, 1.0, 1.3, 1.41423, 2.0, 2.8288, 3.9, 4.0])
    expected = [bisect_right(SCALES, size) - 1 for size in sizes]
    assert scale_indices(16.0 * sizes, 16.0).tolist() == expected
    of_levels = np.float32(16.0) / np.float32(sorted(delg.SCALES, reverse=True))
    assert scale_indices(of_levels, 16.0).tolist() == list(range(7))
    assert scale_indices(np.array([0.01, 0.25, 0.499, 5.0, 1e6]), 1.0).tolist() == [0, 0, 0, 6, 6]
    assert scale_indices(np.zeros(0), 1.0).shape == (0,)


def authors_state(outside: int = 24, width: int = 16, layers: int = 2, hidden: int = 32) -> dict[str, Tensor]:
    """With the authors' names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {"remap.weight": (width, outside), "remap.bias": (width,)}
    shapes |= {"scale_encoder.weight": (7, width), "seg_encoder.weight": (6, width)}
    shapes |= {"classifier.weight": (1, width), "classifier.bias": (1,)}
    for index in range(layers):
        linear = {"linear1": (hidden, width), "linear2": (width, hidden), "self_attn.out_proj": (width, width)}
        of_layer = {f"{name}.weight": shape for name, shape in linear.items()}
        of_layer |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
        of_layer |= {"self_attn.in_proj_weight": (3 * width, width), "self_attn.in_proj_bias": (3 * width,)}
        of_layer |= {f"norm{number}.{part}": (width,) for number in (1, 2) for part in ("weight", "bias")}
        shapes |= {f"encoder.layers.{index}.{name}": shape for name, shape in of_layer.items()}
    return {key: torch.rand(shape, generator=torch.Generator().manual_seed(len(key))) for key, shape in shapes.items()}


def test_a_published_file_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    state = authors_state()
    torch.save({"epoch": 1, "state": state}, tmp_path / "rrt.pt")
    network = load_published(tmp_path / "rrt.pt")
    assert network.config == Rrt.Config(24, 16, 16, 4, 2, 32)
    projection = state["encoder.layers.1.self_attn.in_proj_weight"]
    torch.testing.assert_close(network.layers[1].key_value.weight.detach(), projection[16:])
    torch.save({"state": {key: value for key, value in state.items() if "layers.0.norm1.bias" not in key}}, tmp_path / "cut.pt")
    with pytest.raises(DataError, match=r"layers.0.norm1.bias missing"):
        load_published(tmp_path / "cut.pt")
    with pytest.raises(DataError, match="pos_encoder"):
        renamed({"pos_encoder.weight": torch.zeros(1)})


def test_sizes_that_can_not_be_are_refused() -> None:
    for wrong in ({"num_heads": 3}, {"num_layers": 0}, {"global_dimension": -1}, {"scale_px": 0.0}):
        with pytest.raises(ConfigError, match="rrt"):
            Rrt.Config(**wrong)
