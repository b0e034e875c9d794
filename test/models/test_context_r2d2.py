"""Context-R2D2: what its parts add, what masks what, which weights learn, where it starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ros2_loc.errors import DataError
from ros2_loc.models.context_r2d2 import ContextR2D2, start_from
from ros2_loc.models.folding import folded
from ros2_loc.models.hrnet import HRNet
from ros2_loc.models.r2d2 import R2D2, ForKeypoints
from ros2_loc.models.weights import load_model, save_model

TINY = ContextR2D2.Config(context_channels=8, semantic=HRNet.Config((4, 4, 4, 4), (1, 1, 1), 1, 8, 4, 1), r2d2=R2D2.Config(mchan=1))
NEITHER = replace(TINY, local_guided=False, multi_scale=False)
ABLATION = {"R2D2": NEITHER, "+LG": replace(TINY, multi_scale=False), "+LG+MA": TINY, "+MA": replace(TINY, local_guided=False)}
META = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}


def random(config: ContextR2D2.Config, seed: int = 0) -> ContextR2D2:
    """With a fusion that does something, as after training."""
    torch.manual_seed(seed)
    network = ContextR2D2(config).eval()
    if config.has_context:
        torch.nn.init.normal_(network.fusion.weight, std=0.3)
    return network


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", ABLATION.values(), ids=ABLATION)
@torch.inference_mode()
def test_both_predictions_have_the_size_of_the_image(config: ContextR2D2.Config, images: torch.Tensor) -> None:
    network = random(config)
    for dense in network(images):
        assert dense.descriptors.shape == (2, 128, 37, 50) and dense.reliability.shape == dense.repeatability.shape == (2, 1, 37, 50)
        torch.testing.assert_close(dense.descriptors.norm(dim=1), torch.ones(2, 37, 50))
    final = network.heads(network.trunk(images))
    torch.testing.assert_close(final.descriptors, network(images).final.descriptors)


@torch.inference_mode()
def test_the_initial_prediction_is_that_of_r2d2(images: torch.Tensor) -> None:
    network = random(TINY)
    alone = network.local(images)
    for a, b in zip(network(images).initial, alone, strict=True):
        torch.testing.assert_close(a, b)
    assert (network(images).final.descriptors - alone.descriptors).abs().max() > 1e-2


@torch.inference_mode()
def test_what_the_image_means_changes_the_result(images: torch.Tensor) -> None:
    network = random(TINY)
    before = network(images)
    for weight in network.semantic.parameters():
        weight.add_(0.1)
    after = network(images)
    torch.testing.assert_close(after.initial.descriptors, before.initial.descriptors)
    assert (after.final.descriptors - before.final.descriptors).abs().max() > 1e-3


@torch.inference_mode()
def test_semantic_features_are_masked_by_the_initial_score(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but sigmoid(reliability x repeatability) times them enters the aggregation."""
    network, seen = random(ABLATION["+LG"]), []
    network.aggregation.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    initial = network(images).initial
    unmasked = network._context(images, 37, 50)
    torch.testing.assert_close(seen[0], unmasked * torch.sigmoid(initial.reliability * initial.repeatability))
    monkeypatch.setattr(network, "score_map", torch.zeros_like)
    closed = network(images)
    fused = network.local.trunk(images)
    expected = fused + torch.nn.functional.conv2d(fused, network.fusion.weight[:, :128], network.fusion.bias)
    torch.testing.assert_close(closed.final.descriptors, network.heads(expected).descriptors)


@torch.inference_mode()
def test_without_guidance_the_score_does_not_matter(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random(ABLATION["+MA"])
    before = network(images).final.descriptors
    monkeypatch.setattr(network, "score_map", torch.zeros_like)
    torch.testing.assert_close(network(images).final.descriptors, before)


def test_the_aggregation_sees_seven_pixels() -> None:
    network = random(TINY)
    for layer in network.aggregation:
        torch.nn.init.constant_(layer.conv.weight, 0.01)  # type: ignore[union-attr]
        torch.nn.init.constant_(layer.conv.bias, 1.0)  # type: ignore[union-attr]
    context = torch.zeros(1, 8, 15, 15, requires_grad=True)
    network.aggregation(context)[0, 0, 7, 7].backward()
    assert context.grad is not None
    reach = context.grad[0].abs().sum(dim=0) > 0
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[4:11, 4:11] = True
    assert torch.equal(reach, expected)
    # the short connections: its own value comes through unchanged, besides what the convolutions make of it
    assert context.grad[0, 0, 7, 7] > 1.0 and context.grad[0, 1, 7, 7] < 0.5


def test_parts_that_are_switched_off_have_no_weights() -> None:
    parts = {name: {key.partition(".")[0] for key in ContextR2D2(config).state_dict()} for name, config in ABLATION.items()}
    assert parts["R2D2"] == {"local"}
    assert parts["+LG"] == {"local", "semantic", "reduction", "fusion", "final"}
    assert parts["+LG+MA"] - parts["+LG"] == {"aggregation"}
    with torch.inference_mode():
        output = ContextR2D2(NEITHER).eval()(torch.randn(1, 3, 8, 8))
    assert output.initial is output.final


@pytest.mark.parametrize("learns", [False, True])
def test_gradients_reach_what_learns(learns: bool, images: torch.Tensor) -> None:
    network = random(replace(TINY, train_semantic=learns)).train()
    final = network(images).final
    (final.descriptors[:, 0].sum() + final.reliability.sum() + final.repeatability.sum()).backward()
    for name, weight in network.named_parameters():
        reached = weight.grad is not None and bool(weight.grad.abs().sum() > 0)
        # a batch norm follows each of these biases, so it can't matter
        if name.startswith(("local.layers", "aggregation")) and name.endswith("bias") and name != "local.layers.22.bias":
            continue
        assert reached == (learns or not name.startswith("semantic.")), name
    assert network.training and network.semantic.training == learns


def test_frozen_statistics_stay_as_they_are(images: torch.Tensor) -> None:
    network = random(TINY).train()
    before = {key: value.clone() for key, value in network.semantic.state_dict().items()}
    network(images)
    for key, value in network.semantic.state_dict().items():
        torch.testing.assert_close(value, before[key])


@torch.inference_mode()
def test_the_start_is_r2d2_itself(images: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(5)
    trained, semantic = R2D2(TINY.r2d2).eval(), HRNet(replace(TINY.semantic, num_classes=3))
    save_model(tmp_path / "r2d2.safetensors", trained, META)
    torch.save({f"model.{key}": value for key, value in semantic.state_dict().items()}, tmp_path / "hrnet.pth")
    network = ContextR2D2(TINY).eval()
    start_from(network, tmp_path / "r2d2.safetensors", tmp_path / "hrnet.pth")
    for prediction in network(images):
        for ours, theirs in zip(prediction, trained(images), strict=True):
            torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(network.semantic.conv1.weight, semantic.conv1.weight)


def test_the_start_from_the_authors_names_and_from_wrong_weights(tmp_path: Path) -> None:
    names = {"layers.": "ops.", "heads.reliability.": "clf.", "heads.repeatability.": "sal."}
    trained = R2D2(TINY.r2d2)
    state = {}
    for key, value in trained.state_dict().items():
        ours, theirs = next(pair for pair in names.items() if key.startswith(pair[0]))
        state["module." + key.replace(ours, theirs)] = value
    torch.save({"net": "Quad_L2Net_ConfCFS()", "state_dict": state}, tmp_path / "r2d2.pt")
    network = ContextR2D2(TINY)
    start_from(network, tmp_path / "r2d2.pt")
    torch.testing.assert_close(network.final.reliability.weight, trained.heads.reliability.weight)
    with pytest.raises(DataError, match="another shape"):
        start_from(ContextR2D2(replace(TINY, r2d2=R2D2.Config(mchan=2))), tmp_path / "r2d2.pt")
    with pytest.raises(DataError, match="unknown"):
        start_from(network, semantic_weights=tmp_path / "r2d2.pt")


@pytest.mark.parametrize("config", ABLATION.values(), ids=ABLATION)
@torch.inference_mode()
def test_files_and_folding_change_no_number(config: ContextR2D2.Config, images: torch.Tensor, tmp_path: Path) -> None:
    network = random(config)
    save_model(tmp_path / "own.safetensors", network, META)
    again = load_model(tmp_path / "own.safetensors")
    assert isinstance(again, ContextR2D2) and again.config == config
    expected = network(images).final
    torch.testing.assert_close(again(images).final.descriptors, expected.descriptors)
    torch.testing.assert_close(folded(network)(images).final.descriptors, expected.descriptors, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ForKeypoints(network)(images).repeatability, expected.repeatability, atol=1e-4, rtol=1e-3)


@torch.inference_mode()
def test_context_does_not_shift_with_the_size() -> None:
    """Cropping at the right and bottom leaves the semantic features at the left and top where they were."""
    network = random(TINY)
    image = torch.randn(1, 3, 130, 130)
    whole, cropped = network._context(image, 130, 130), network._context(image[..., :97, :99], 97, 99)
    # the receptive field of the coarsest branch reaches further than any crop, so only positions are compared, by correlation
    a, b = whole[0, :, 8:40, 8:40], cropped[0, :, 8:40, 8:40]
    similar = torch.nn.functional.cosine_similarity(a.flatten() - a.mean(), b.flatten() - b.mean(), dim=0)
    assert similar > 0.99


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (31, 4)])
@torch.inference_mode()
def test_smallest_images(size: tuple[int, int]) -> None:
    assert random(TINY)(torch.randn(1, 3, *size)).final.reliability.shape == (1, 1, *size)
