"""Everything that the golden files of D2Det hold, computed by `models.d2det`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, compare, read_json, state_dict, stored_form
from torch import Tensor, nn

from ros2_loc.models.d2det.backbone import level_of
from ros2_loc.models.d2det.dense_regression import DenseRegression, boxes_of, centres_of, targets_of
from ros2_loc.models.d2det.masks import MaskHead
from ros2_loc.models.d2det.official import renamed
from ros2_loc.models.d2det.roi_pooling import LEVELS, DiscriminativePooling
from ros2_loc.models.weights import load_strictly

STRIDE_PX = 4
# samples of a sub-region in the settings for boxes and for masks
POOLINGS = {"det_spp2": 2, "inst_spp1": 1}
# to its right edge, of a pixel that mmdet's first version means
EDGES = (0.0, 0.0, 1.0, 1.0)
DISCRETE = ("roi_levels", "tgt.masks")


@torch.inference_mode()
def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe, keys = read_json(folder / "recipe.json"), read_json(folder / "keys.json")
    rng = np.random.RandomState(seed)
    features, pooled = (torch.from_numpy(rng.standard_normal(shape)).float() for shape in ((1, 256, 24, 32), (5, 256, 14, 14)))
    rois = torch.tensor(recipe["rois_b_x1y1x2y2"])[:, 1:]
    truth = rois + torch.from_numpy(rng.uniform(-6, 6, (5, 4))).float()
    ours: dict[str, Tensor] = {}
    for name, samples in POOLINGS.items():
        pooling = DiscriminativePooling(256, 1024, STRIDE_PX, samples, legacy=True)
        prefix = "bbox_roi_extractor.roi_layers."
        _load(pooling, keys[f"{prefix}N"], recipe["overrides"], seed, f"{prefix}0.", "roi_heads.box_roi_pool.levels.0.")
        ours |= {f"{name}.{part}": value for part, value in _pooled(pooling, features, rois + torch.tensor(EDGES)).items()}
    heads = (DenseRegression(256, 576, 8, 36), MaskHead(576, 256, 1024, 16, 81))
    for head, which, own in zip(heads, ("D2Det_head", "D2Det_head(MASK_ON)"), ("regression.", "masks."), strict=True):
        _load(head, keys[which], recipe["overrides"], seed, "D2Det_head.", f"roi_heads.{own}")
    ours |= _regressed(heads, pooled, rois, recipe) | _targets(rois, truth)
    ours["roi_levels"] = level_of(torch.tensor(recipe["map_roi_levels_input"])[:, 1:] + torch.tensor(EDGES), 56.0, LEVELS).int()
    with np.load(folder / f"golden_seed{seed}.npz") as golden:
        return [compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], name in DISCRETE) for name in golden.files]


def _load(module: nn.Module, keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int, theirs: str, ours: str) -> None:
    """The authors' weights of the recipe, by the names that their detector has for them; those of other modules are left out."""
    state = renamed({theirs + key: value for key, value in state_dict(keys, overrides, seed).items()})
    own = {key.removeprefix(ours): value for key, value in state.items() if key.startswith(ours)}
    load_strictly(module, own, "recipe")


def _pooled(pooling: DiscriminativePooling, features: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    light = pooling.light(features, [boxes])
    return {
        "light_3x3": light,
        "offset_7x7": pooling.predicted_offsets(light),
        "deform_14x14": pooling.sampled(features, [boxes]),
        "out": pooling(features, [boxes]),
    }


def _regressed(heads: tuple[DenseRegression, MaskHead], pooled: Tensor, rois: Tensor, recipe: Mapping[str, Any]) -> dict[str, Tensor]:
    said, labels = heads[0](pooled), torch.tensor(recipe["labels_for_mask_head"])
    boxes = torch.cat([boxes_of(rois, said), torch.tensor(recipe["det_scores"])[:, None]], dim=1)
    logits, _ = heads[1](said.features, labels)
    masks = {"head_mask.instance_sel": logits, "head_mask.iou": heads[1].overlaps(said.features, logits)}
    return {"head.reg": said.distances, "head.mask": said.overlap, "head.boxes": boxes} | masks


def _targets(rois: Tensor, truth: Tensor) -> dict[str, Tensor]:
    wanted = targets_of(rois, truth)
    columns, rows = centres_of(rois)
    width, height = (rois[:, 2:] - rois[:, :2]).T[..., None, None]
    points = torch.stack(torch.broadcast_tensors(columns, rows, width, height), dim=1)
    return {"tgt.points": points, "tgt.targets": wanted.distances, "tgt.masks": wanted.overlap, "tgt.gt": truth}
