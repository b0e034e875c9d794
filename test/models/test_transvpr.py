"""TransVPR: levels, attention, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_networks
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import transvpr
from ros2_loc.models.transvpr import LEVELS, PATCH_LEVEL, TransVpr, load_published, merged


@pytest.fixture(scope="module")
def network() -> TransVpr:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return random_networks.transvpr().eval()


def test_patches_are_tokens_of_the_middle_level_row_by_row(network: TransVpr) -> None:
    images = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        vectors, patches, attention = network(images)
        tokens = network.tokens(images)
        torch.testing.assert_close(network.descriptor(images), vectors)
    assert vectors.shape == (2, 32) and patches.shape == (2, 15, 32) and attention.shape == (2, 15) and tokens.shape == (2, 6, 16, 32)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(patches, tokens[:, PATCH_LEVEL, 1:])


def test_a_patch_looks_at_its_own_cells_first(network: TransVpr) -> None:
    """What the transformer gets of a patch changes with the 16 px below it, and not with what is far away."""
    images = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., 16:32, 32:48] = 0.0
    with torch.inference_mode():
        difference = [(_tokens_in(network, other) - _tokens_in(network, images)).abs().amax(dim=2).reshape(6, 10)]
    assert difference[0].argmax() == 1 * 10 + 2
    assert (difference[0][4:] == 0).all() and (difference[0][:, 6:] == 0).all()


def _tokens_in(network: TransVpr, images: Tensor) -> Tensor:
    caught: list[Tensor] = []
    handle = network.layers[0].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0][:, 1:]))
    network.tokens(images)
    handle.remove()
    return caught[0]


def test_a_global_vector_is_made_of_what_is_attended_to(network: TransVpr) -> None:
    tokens = torch.randn(1, 6, 1 + 5, 32, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, len(LEVELS), 5)
    masks[..., 3] = 1.0
    with torch.inference_mode():
        changed = tokens.clone()
        changed[:, :, 1:4] = 7.0
        torch.testing.assert_close(network.pooled(tokens, masks), network.pooled(changed, masks))
        changed[:, :, 4] = 7.0
        assert (network.pooled(tokens, masks) - network.pooled(changed, masks)).abs().max() > 1e-3
        torch.testing.assert_close(network.masks(tokens).sum(dim=2), torch.ones(1, 3))


@given(seed=st.integers(0, 999), count=st.integers(2, 30))
def test_one_map_of_three_goes_from_0_to_1_whatever_their_units(seed: int, count: int) -> None:
    masks = torch.rand(2, 3, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one = merged(masks)
    assert one.min() == 0.0 and one.max() == 1.0
    torch.testing.assert_close(merged(masks * torch.tensor([0.1, 3.0, 20.0], dtype=torch.float64)[:, None] + 0.5), one)


def test_attention_that_is_everywhere_alike_is_a_number() -> None:
    assert (merged(torch.full((1, 3, 4), 0.25)) == 0.0).all()


def authors_state(config: TransVpr.Config) -> dict[str, Tensor]:
    """With the authors' names, made of ours."""
    names = (
        ("convolutions.", "conv"),
        ("tokenizers.", "tokenizer"),
        ("class_token", "transformer.class_emb"),
        ("norm.", "transformer.norm."),
        ("reduction.", "pool.fc.1."),
        ("attention.", "pool.attention_pool."),
        ("layers.", "transformer.blocks."),
    )
    result = {}
    for key, value in TransVpr(config).state_dict().items():
        ours, theirs = next(pair for pair in names if key.startswith(pair[0]))
        name = theirs + key.removeprefix(ours)
        if theirs == "tokenizer":
            number, _, last = key.removeprefix(ours).partition(".")
            name = f"tokenizer{number}.conv_layer.{last}"
        result[name.replace(".attention.", ".self_attn.") if theirs.endswith("blocks.") else name] = value
    return result


def test_a_published_file_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    config = TransVpr.Config(width=4)
    state = authors_state(config)
    torch.save(state, tmp_path / "places.pth")
    loaded = load_published(tmp_path / "places.pth")
    assert loaded.config == config and not loaded.training
    torch.testing.assert_close(loaded.layers[3].attention.qkv.weight.detach(), state["transformer.blocks.3.self_attn.qkv.weight"])
    torch.save({key: value for key, value in state.items() if "blocks.2.linear1.bias" not in key}, tmp_path / "cut.pth")
    with pytest.raises(DataError, match=r"layers.2.linear1.bias missing"):
        load_published(tmp_path / "cut.pth")


def test_what_can_t_be_is_refused_in_one_line(network: TransVpr) -> None:
    with pytest.raises(DataError, match="multiples of 16 px, got 40x48"):
        network(torch.zeros(1, 3, 48, 40))
    with pytest.raises(ConfigError, match="more than 5 layers"):
        TransVpr.Config(num_layers=5)
    with pytest.raises(DataError, match="backbone.0.weight"):
        transvpr.renamed({"backbone.0.weight": torch.zeros(1)})
