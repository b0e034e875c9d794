"""D2Det's objective: batches become targets, losses one sum."""

from __future__ import annotations

import pytest
import torch
from ellipses import batch, tiny
from torchvision.models.detection.image_list import ImageList

from ros2_loc.errors import ConfigError
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.imagenet import normalized
from ros2_loc.training.d2det_objective import D2DetObjective, targets_of


def objective(**changes: object) -> D2DetObjective:
    torch.manual_seed(0)
    return D2DetObjective(D2DetObjective.Config(), D2Det(tiny(**changes))).train()


def test_targets_are_those_of_each_image_and_labels_count_from_one() -> None:
    made = batch(images=3, objects=2)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    mixed = made | {name: made[name][order] for name in ("boxes", "labels", "masks", "of_image")}
    for i, target in enumerate(targets_of(mixed, with_masks=True)):
        own = made["of_image"] == i
        assert {tuple(box) for box in target["boxes"].tolist()} == {tuple(box) for box in made["boxes"][own].tolist()}
        assert sorted(target["labels"].tolist()) == sorted((made["labels"][own] + 1).tolist())
        assert target["masks"].sum() == made["masks"][own].sum()
    assert "masks" not in targets_of(mixed, with_masks=False)[0]


def test_the_loss_is_the_sum_of_all_and_falls() -> None:
    trained, made = objective(), batch()
    totals = []
    for _ in range(8):
        losses = trained(made)
        parts = [value for name, value in losses.items() if name != "loss"]
        torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())
        trained.zero_grad()
        losses["loss"].backward()
        with torch.no_grad():
            for one in trained.parameters():
                if one.grad is not None:
                    one -= 0.01 * one.grad
        totals.append(float(losses["loss"].detach()))
    assert totals[-1] < 0.9 * totals[0]


def test_a_batch_without_objects_and_one_without_masks_are_trained() -> None:
    empty = batch(images=2, objects=0)
    losses = objective()(empty)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"]) and float(losses["mask"].detach()) == 0.0
    without = {name: value for name, value in batch().items() if name != "masks"}
    assert set(objective(masks=False)(without)) == {"loss", "objectness", "rpn_box_reg", "class", "distance", "overlap"}


def test_what_is_padded_is_seen_as_in_detection() -> None:
    trained = objective()
    seen: list[torch.Tensor] = []
    trained.network.losses = lambda images, targets: seen.append(images.tensors) or {"a": images.tensors.sum()}  # type: ignore[method-assign]
    made = batch(images=1, objects=1)
    made["size_px"] = torch.tensor([[80, 112]])
    trained(made)
    assert (seen[0][:, :, 80:] == 0).all() and (seen[0][..., 112:] == 0).all()
    image = normalized(made["image"].float() / 255.0)
    torch.testing.assert_close(seen[0][:, :, :80, :112], image[:, :, :80, :112])


def test_frozen_stages_stay() -> None:
    network = D2Det(tiny())
    D2DetObjective(D2DetObjective.Config(frozen_stages=2), network)
    free = {name for name, one in network.backbone.body.named_parameters() if one.requires_grad}
    assert free and all(name.startswith(("layer3.", "layer4.")) for name in free)
    assert all(one.requires_grad for one in network.backbone.fpn.parameters())
    with pytest.raises(ConfigError, match="frozen_stages is 0 to 4, got 5"):
        D2DetObjective.Config(frozen_stages=5)


def test_detection_sees_what_training_saw() -> None:
    trained = objective().eval()
    made = batch(images=2)
    images = normalized(made["image"].float() / 255.0)
    with torch.inference_mode():
        found = trained.network.detect(ImageList(images, [(96, 128)] * 2))
        plain = trained.network([one.float() / 255.0 for one in made["image"]])
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=1e-3)


def test_it_is_trained_and_detects_with_16_bit_floats() -> None:
    trained, made = objective(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = trained(made)
    losses["loss"].backward()
    exact = objective()(made)
    assert float(losses["loss"].detach()) == pytest.approx(float(exact["loss"].detach()), rel=0.1)
    images = [one.float() / 255.0 for one in made["image"]]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = trained.eval().network(images)
    assert all(one["boxes"].dtype == torch.float32 for one in found)
