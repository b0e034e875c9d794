"""The authors' checkpoints (github.com/JialeCao001/D2Det, of mmdet's first version) in this project's network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ros2_loc.core.labels import COCO
from ros2_loc.errors import DataError
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.weights import load_strictly, new_name, tensors_of, told_of

_REFUSAL = "is no weight of D2Det's authors; give a checkpoint of theirs with its state_dict"
_CONVS = tuple(
    (rf"D2Det_head\.convs\.{i}\.{theirs}\.", f"roi_heads.regression.convs.{3 * i + j}.")
    for i in range(8)
    for j, theirs in enumerate(("conv", "gn"))
)
_NAMES = (
    # deformable convolutions are named in two ways, by the version that wrote the file
    (r"backbone\.(layer\d\.\d+\.conv2)_offset\.", r"backbone.body.\1.conv_offset."),
    (r"backbone\.", "backbone.body."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn.layer_blocks.\1.0."),
    (r"rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (r"bbox_roi_extractor\.roi_layers\.(\d)\.awp\.weight\.conv\.", r"roi_heads.box_roi_pool.levels.\1.weights.conv."),
    (r"bbox_roi_extractor\.roi_layers\.(\d)\.awp\.weight\.bn\.", r"roi_heads.box_roi_pool.levels.\1.weights.norm."),
    (r"bbox_roi_extractor\.roi_layers\.(\d)\.offset_fc\.", r"roi_heads.box_roi_pool.levels.\1.offsets."),
    (r"bbox_head\.shared_fcs\.0\.", "roi_heads.box_head.0."),
    (r"bbox_head\.shared_fcs\.1\.", "roi_heads.box_head.2."),
    (r"bbox_head\.fc_cls\.", "roi_heads.box_predictor."),
    *_CONVS,
    (r"D2Det_head\.D2Det_reg\.", "roi_heads.regression.distances."),
    (r"D2Det_head\.D2Det_mask\.", "roi_heads.regression.overlap."),
    (r"D2Det_head\.(deconv1|norm1|deconv2)\.", r"roi_heads.masks.\1."),
    (r"D2Det_head\.D2Det_instance\.", "roi_heads.masks.masks."),
    (r"D2Det_head\.fcs\.0\.", "roi_heads.masks.scores.0."),
    (r"D2Det_head\.fcs\.1\.", "roi_heads.masks.scores.2."),
    (r"D2Det_head\.fc_instance_iou\.", "roi_heads.masks.scores.4."),
)
# their settings for instance masks
_OF_MASKS = {"samples": 1, "proposals": (2000, 700), "min_score": 0.05, "max_overlap": 0.3, "max_detections": 100}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state_dict with the names of `D2Det`.

    Raises:
        DataError: a name that is not theirs.
    """
    return {new_name(_NAMES, key, _REFUSAL): value for key, value in state.items()}


def config_of(state: Mapping[str, Tensor], labels: Sequence[str] = COCO) -> D2Det.Config:
    """The settings with which renamed weights were published.

    Args:
        state: as of `renamed`.
        labels: of the classes; the published weights are of COCO's.

    Raises:
        DataError: weights of so many classes that these can't be their labels.
    """
    if (classes := len(state["roi_heads.box_predictor.weight"]) - 1) != len(labels):
        raise DataError(f"weights of {classes} classes, of which {len(labels)} labels are known ({', '.join(labels[:3])}, ...)")
    third_stage = {key.split(".")[3] for key in state if key.startswith("backbone.body.layer3.")}
    masks = "roi_heads.masks.masks.weight" in state
    return D2Det.Config(
        tuple(labels),
        depth=101 if len(third_stage) == 23 else 50,
        deformable="backbone.body.layer3.0.conv2.conv_offset.weight" in state,
        masks=masks,
        legacy=True,
        **(_OF_MASKS if masks else {}),  # type: ignore[arg-type]
    )


def load_published(path: str | Path) -> D2Det:
    """A checkpoint of the authors, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; not D2Det's weights.
    """
    with told_of(path):
        state = renamed(tensors_of(path))
        network = D2Det(config_of(state))
        load_strictly(network, state, str(path))
    return network.eval()
