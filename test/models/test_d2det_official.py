"""The authors' checkpoints, by the names that mmdet's first version gave their weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet

from ros2_loc.core.labels import COCO
from ros2_loc.errors import DataError
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.d2det.official import config_of, load_published, renamed

STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def of_layers(*named: tuple[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Weight and bias of layers, given by the shape of the weight."""
    for name, shape in named:
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]


def published(depth: int = 50, masks: bool = False, offsets: str = "", classes: int = 81) -> dict[str, Tensor]:
    """A checkpoint of the authors, without numbers; `offsets` is how its deformable convolutions name theirs."""
    with torch.device("meta"):
        trunk = getattr(resnet, f"resnet{depth}")().state_dict()
    shapes = {f"backbone.{name}": tuple(value.shape) for name, value in trunk.items() if not name.startswith("fc.")}
    if offsets:
        for stage in (2, 3, 4):
            for block in range(STAGES[depth][stage - 1]):
                name = f"backbone.layer{stage}.{block}.conv2{offsets}"
                shapes |= dict(of_layers((name, (27, 64 * 2 ** (stage - 1), 3, 3))))
    for i, channels in enumerate((256, 512, 1024, 2048)):
        shapes |= dict(of_layers((f"neck.lateral_convs.{i}.conv", (256, channels, 1, 1)), (f"neck.fpn_convs.{i}.conv", (256, 256, 3, 3))))
        level = f"bbox_roi_extractor.roi_layers.{i}"
        shapes[f"{level}.awp.weight.conv.weight"] = (256, 256, 3, 3)
        shapes |= {f"{level}.awp.weight.bn.{name}": (256,) for name in ("weight", "bias")}
        shapes |= dict(
            of_layers((f"{level}.offset_fc.0", (1024, 2304)), (f"{level}.offset_fc.2", (1024, 1024)), (f"{level}.offset_fc.4", (98, 1024)))
        )
    proposals = {"rpn_conv": (256, 256, 3, 3), "rpn_cls": (3, 256, 1, 1), "rpn_reg": (12, 256, 1, 1)}
    shapes |= dict(of_layers(*((f"rpn_head.{name}", shape) for name, shape in proposals.items())))
    shapes |= dict(
        of_layers(
            ("bbox_head.shared_fcs.0", (1024, 12544)), ("bbox_head.shared_fcs.1", (1024, 1024)), ("bbox_head.fc_cls", (classes, 1024))
        )
    )
    for i in range(8):
        shapes[f"D2Det_head.convs.{i}.conv.weight"] = (576, 576 if i else 256, 3, 3)
        shapes |= {f"D2Det_head.convs.{i}.gn.{name}": (576,) for name in ("weight", "bias")}
    shapes |= dict(of_layers(("D2Det_head.D2Det_reg", (4, 576, 3, 3)), ("D2Det_head.D2Det_mask", (1, 576, 3, 3))))
    if masks:
        shapes |= {"D2Det_head.deconv1.weight": (576, 256, 2, 2), "D2Det_head.deconv1.bias": (256,)}
        shapes |= dict(of_layers(("D2Det_head.norm1", (256,)), ("D2Det_head.deconv2", (256, 256, 2, 2))))
        shapes |= dict(of_layers(("D2Det_head.D2Det_instance", (classes, 256, 3, 3)), ("D2Det_head.fcs.0", (1024, 28273))))
        shapes |= dict(of_layers(("D2Det_head.fcs.1", (1024, 1024)), ("D2Det_head.fc_instance_iou", (classes, 1024))))
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("depth", "masks", "offsets"), [(50, False, ""), (101, True, ""), (101, False, "_offset"), (50, False, ".conv_offset"), (50, True, "")]
)
def test_every_weight_has_its_place(depth: int, masks: bool, offsets: str) -> None:
    state = renamed(published(depth, masks, offsets))
    config = config_of(state)
    assert (config.depth, config.masks, config.deformable, config.legacy) == (depth, masks, bool(offsets), True)
    with torch.device("meta"):
        own = D2Det(config).state_dict()
    assert {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in state.items()}
    assert config.labels == COCO
    assert (config.samples, config.max_overlap, config.max_detections) == ((1, 0.3, 100) if masks else (2, 0.5, 125))


def test_shapes_are_those_of_the_authors(shared_data: Path) -> None:
    keys = json.loads((shared_data.parent / "parity" / "d2det" / "keys.json").read_text())
    own = {name: list(value.shape) for name, value in published(50, masks=True).items()}
    theirs = {f"D2Det_head.{name}": shape for name, shape in keys["D2Det_head(MASK_ON)"].items()}
    pooling = "bbox_roi_extractor.roi_layers."
    theirs |= {f"{pooling}{level}.{name}": shape for level in range(4) for name, shape in keys[f"{pooling}N"].items()}
    assert theirs == {name: shape for name, shape in own.items() if name.startswith(("D2Det_head.", "bbox_roi_extractor."))}


def test_weights_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bbox_head.fc_reg.weight: is no weight of D2Det's authors"):
        renamed(published() | {"bbox_head.fc_reg.weight": torch.empty(4)})
    with pytest.raises(DataError, match=r"weights of 15 classes, of which 80 labels are known \(person, bicycle, car, ...\)"):
        config_of(renamed(published(classes=16)))
    assert config_of(renamed(published(classes=2)), labels=["vehicle"]).labels == ("vehicle",)
    file = tmp_path / "other.pth"
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(2)}}, file)
    with pytest.raises(DataError, match=r"other.pth: has no roi_heads.box_predictor.weight"):
        load_published(file)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_published_checkpoint_detects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {}
    for name, value in published(50, masks=True).items():
        ones = name.endswith(("running_var", "gn.weight", "norm1.weight", "bn.weight", "bn1.weight", "bn2.weight", "bn3.weight"))
        fan = max(1, value[0].numel()) if value.dim() > 1 else 1
        state[name] = torch.ones(value.shape) if ones else torch.randn(value.shape) * (fan**-0.5 if value.dim() > 1 else 0.0)
    torch.save({"meta": {"epoch": 24}, "state_dict": state}, tmp_path / "D2Det.pth")
    network = load_published(tmp_path / "D2Det.pth")
    assert not network.training
    network.transform.min_size, network.roi_heads.score_thresh = (128,), 0.0
    network.rpn._post_nms_top_n["testing"] = 30
    with torch.inference_mode():
        found = network([torch.rand(3, 128, 160)])[0]
    assert found["masks"].shape == (len(found["boxes"]), 1, 128, 160) and len(found["boxes"]) <= 100
