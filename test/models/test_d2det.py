"""D2Det as a whole: losses, detections, sizes, what is refused; that it learns; anchors and backbones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ellipses import LABELS, batch, tiny
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.d2det.backbone import STRIDES_PX, ModulatedDeformableConv2d, pyramid
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.d2det.proposals import CentredAnchors
from ros2_loc.models.weights import load_model, save_model

LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_class", "loss_distance", "loss_overlap"}
LOSSES_OF_MASKS = {"loss_mask", "loss_mask_iou"}


def images_and_targets(images: int = 2, objects: int = 3) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    made = batch(images, objects)
    own = [made["of_image"] == i for i in range(images)]
    targets = [{"boxes": made["boxes"][k], "labels": made["labels"][k] + 1, "masks": made["masks"][k]} for k in own]
    return [image.float() / 255.0 for image in made["image"]], targets


@pytest.fixture(scope="module")
def network() -> D2Det:
    torch.manual_seed(0)
    return D2Det(tiny(min_score=0.0)).eval()


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_training_gives_losses_whose_gradients_reach_every_part(masks: bool, legacy: bool) -> None:
    torch.manual_seed(0)
    network = D2Det(tiny(masks=masks, legacy=legacy)).train()
    losses = network(*images_and_targets())
    assert isinstance(losses, dict) and set(losses) == LOSSES | (LOSSES_OF_MASKS if masks else set())
    assert all(torch.isfinite(value) for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    without = {name for name, one in network.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0}
    # levels without boxes; and offsets begin at 0, so that nothing before them counts yet
    assert all(".levels." in name for name in without), without


def test_images_without_objects_are_background(network: D2Det) -> None:
    images, targets = images_and_targets()
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 96, 128)}
    network.train()
    with torch.no_grad():
        some, nothing = network(images, [targets[0], none]), network(images, [none, none])
    network.eval()
    assert float(some["loss_mask"]) > 0 and float(nothing["loss_mask"]) == float(nothing["loss_distance"]) == 0.0
    assert float(nothing["loss_class"]) > 0


def test_detections_are_as_torchvision_gives_them(network: D2Det) -> None:
    images, _ = images_and_targets()
    images[1] = images[1][:, :70, :100]
    with torch.inference_mode():
        found = network(images)
    for one, image in zip(found, images, strict=True):
        n, (height, width) = len(one["boxes"]), image.shape[1:]
        assert 0 < n <= network.config.max_detections
        assert one["boxes"].shape == (n, 4) and one["masks"].shape == (n, 1, height, width)
        assert (one["labels"] >= 1).all() and (one["labels"] <= len(LABELS)).all()
        assert (one["scores"].diff() <= 0).all() and (one["scores"] >= 0).all() and (one["scores"] <= 1).all()
        x0, y0, x1, y1 = one["boxes"].T
        assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= width + 1e-3).all() and (y1 <= height + 1e-3).all()
        assert (x1 > x0).all() and (y1 > y0).all()


def test_an_image_gives_the_same_alone_and_among_others(network: D2Det) -> None:
    images, _ = images_and_targets()
    with torch.inference_mode():
        together, alone = network(images), network(images[1:])
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(together[1][name], alone[0][name], atol=1e-3, rtol=1e-3)


def test_nothing_found_is_empty(network: D2Det) -> None:
    with torch.inference_mode():
        network.roi_heads.score_thresh, before = 1.0, network.roi_heads.score_thresh
        found = network(torch.zeros(2, 3, 50, 70))
        network.roi_heads.score_thresh = before
    for one in found:
        assert one["boxes"].shape == (0, 4) and one["masks"].shape == (0, 1, 50, 70) and len(one["scores"]) == len(one["labels"]) == 0


def test_images_of_one_pixel_are_enlarged(network: D2Det) -> None:
    with torch.inference_mode():
        assert network([torch.rand(3, 1, 1)])[0]["masks"].shape[1:] == (1, 1, 1)


def test_what_cannot_be_trained_is_refused(network: D2Det) -> None:
    images, targets = images_and_targets()
    network.train()
    try:
        with pytest.raises(DataError, match=r"image 1 has no pixels"):
            network([images[0], torch.zeros(3, 0, 10)], targets)
        with pytest.raises(DataError, match="2 images are trained with as many targets, got 1"):
            network(images, targets[:1])
        flat = {**targets[1], "boxes": torch.tensor([[3.0, 4.0, 3.0, 9.0]])}
        with pytest.raises(DataError, match=r"box \[3.0, 4.0, 3.0, 9.0\] of image 1 has no area"):
            network(images, [targets[0], flat])
        with pytest.raises(DataError, match="box .* of image 0 has no area"):
            network(images[:1], [{**targets[0], "boxes": targets[0]["boxes"] * float("nan")}])
        with pytest.raises(DataError, match="image 0 needs a mask of its size for each of its 3 boxes"):
            network(images[:1], [{**targets[0], "masks": targets[0]["masks"][:1]}])
    finally:
        network.eval()


def test_settings_that_do_not_go_together_are_refused() -> None:
    for wrong in ({"depth": 34, "widths": ()}, {"widths": (8, 8)}, {"deformable": True}, {"groups": 3}, {"short_side_px": 200}):
        with pytest.raises(ConfigError):
            tiny(**wrong)
    with pytest.raises(ConfigError, match="no labels"):
        D2Det(tiny(labels=()))


def test_the_small_network_is_small_and_comes_back_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = D2Det(D2Det.Config.small(LABELS)).half()
    save_model(tmp_path / "small.safetensors", network, {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    assert (tmp_path / "small.safetensors").stat().st_size < 5e6
    again = load_model(tmp_path / "small.safetensors")
    assert again.config == network.config
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name].to(value.dtype))


def test_anchors_lie_about_the_centres_of_cells() -> None:
    maps = [torch.zeros(1, 1, -(-100 // stride), -(-140 // stride)) for stride in STRIDES_PX]
    every = CentredAnchors(4.0, legacy=False)(ImageList(torch.zeros(1, 3, 100, 140), [(100, 140)]), maps)[0]
    start = 0
    for one, stride in zip(maps, STRIDES_PX, strict=True):
        rows, columns = one.shape[2:]
        own = every[start : start + 3 * rows * columns].view(rows, columns, 3, 4)
        start += 3 * rows * columns
        centres = (own[..., :2] + own[..., 2:]) / 2.0
        torch.testing.assert_close(centres[0, -1, 1], stride * torch.tensor([columns - 0.5, 0.5]))
        torch.testing.assert_close(centres[-1, 0, 2], stride * torch.tensor([0.5, rows - 0.5]))
        torch.testing.assert_close((own[..., 2:] - own[..., :2]).prod(dim=-1), torch.full((rows, columns, 3), (4.0 * stride) ** 2))
    assert start == len(every)


def test_anchors_of_the_first_version_of_mmdet_are_whole_pixels() -> None:
    anchors = CentredAnchors(8.0, legacy=True).cell_anchors[0]
    # theirs are -21 -9 24 12, -14 -14 17 17, -9 -21 12 24, by the first and the last pixel
    assert anchors.tolist() == [[-21.0, -9.0, 25.0, 13.0], [-14.0, -14.0, 18.0, 18.0], [-9.0, -21.0, 13.0, 25.0]]


def test_deformable_convolutions_begin_as_half_of_plain_ones_and_move_down_first() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
    moved = ModulatedDeformableConv2d(conv)
    image = torch.randn(1, 3, 12, 16)
    torch.testing.assert_close(moved(image), 0.5 * conv(image), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        moved.conv_offset.bias[0:18:2] = 1.0
        shifted = functional.pad(image[:, :, 1:], (0, 0, 0, 1))
        torch.testing.assert_close(moved(image)[..., 1:-1, 1:-1], 0.5 * conv(shifted)[..., 1:-1, 1:-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("depth", "widths", "deformable"), [(50, (), True), (50, (8, 8, 16, 16), False)])
def test_pyramids_have_the_strides_that_they_say(depth: int, widths: tuple[int, ...], deformable: bool) -> None:
    with torch.inference_mode(), torch.device("meta"):
        levels = pyramid(depth, widths, deformable, 8).eval()(torch.zeros(1, 3, 96, 160))
    assert [tuple(one.shape[1:]) for one in levels.values()] == [(8, -(-96 // s), -(-160 // s)) for s in STRIDES_PX]


def test_the_statistics_of_a_resnet_stay_in_training() -> None:
    with torch.device("meta"):
        network = D2Det(D2Det.Config(LABELS))
    norms = [one for one in network.train().backbone.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert norms and not any(one.training for one in norms) and network.roi_heads.training
    assert any(one.training for one in D2Det(tiny()).train().backbone.modules() if isinstance(one, torch.nn.BatchNorm2d))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    images, targets = images_and_targets(2, 3)
    network = D2Det(tiny(widths=(16, 24, 32, 32), channels=32, width=32, groups=8)).train()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 10) * (0.2 if step >= 110 else 1.0)
        optimizer.zero_grad()
        torch.stack(list(network(images, targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    with torch.inference_mode():
        found = network.eval()(images)
    learned = 0
    for one, target in zip(found, targets, strict=True):
        ious, best = box_iou(target["boxes"], one["boxes"]).max(dim=1)
        masks = one["masks"][best, 0] >= 0.5
        both = (masks & target["masks"]).sum(dim=(1, 2)) / (masks | target["masks"]).sum(dim=(1, 2))
        right = (one["labels"][best] == target["labels"]) & (one["scores"][best] > 0.5)
        learned += int((right & (ious > 0.6) & (both > 0.5)).sum())
    assert learned >= 4, f"{learned} of 6: two are hidden by others in part"
