"""Everything that the golden files of DELG hold, computed by `models.delg`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, compare_order, read_json, state_dict, stored_form
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models import delg
from ros2_loc.models.delg import Delg, LocalMaps
from ros2_loc.models.imagenet import MEAN, STD
from ros2_loc.models.weights import load_strictly

LEVELS = ((0.7071, (112, 144)), (1.0, (160, 208)))
DESCRIBED = 40
SUPPRESSED = {"nms_keep": (0.98, 1000), "nms07_keep": (0.7, 100)}


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    network = make_network(read_json(folder / "keys.json")["delg_extraction_R50"], recipe["overrides"], seed)
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    ours = outputs(network, seed, golden["nms_keep"])
    compared = [
        compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], discrete=name == "nms_count")
        for name in golden
        if name not in SUPPRESSED
    ]
    scores = ours["all_scores"].numpy()
    return compared + [compare_order(name, ours[name].numpy(), golden[name], scores) for name in SUPPRESSED]


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> Delg:
    """The authors' state_dict of the recipe in our network."""
    network = Delg(Delg.Config())
    load_strictly(network, delg.renamed(state_dict(keys, overrides, seed)), "recipe")
    return network.eval()


@torch.inference_mode()
def outputs(network: Delg, seed: int, order: NDArray[Any]) -> dict[str, Tensor]:
    """The golden arrays, whole; places and descriptors in this order."""
    rng = np.random.RandomState(seed)
    # the recipe's images are BGR already
    mean, std = (torch.tensor(values[::-1])[:, None, None] for values in (MEAN, STD))
    ours, boxes, scores, described = {}, [], [], []
    for scale, (height, width) in LEVELS:
        image = (torch.from_numpy(blocks_image(rng, 3, height, width, 16)) - mean) / std
        vector, maps = network(image[None])
        weighed = maps.descriptors * maps.attention
        kept, attention = _kept(maps)
        boxes.append(delg.receptive_boxes(*maps.attention.shape[2:], scale)[kept])
        scores.append(attention)
        described.append(weighed[0].flatten(1).T[kept])
        arrays = {"global": vector, "local": weighed, "att": maps.attention, "boxes": boxes[-1], "sel_scores": attention}
        ours |= {f"s{scale}.{name}": value for name, value in arrays.items()}
    all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
    ours |= {name: delg.best_boxes(all_boxes, all_scores, *settings) for name, settings in SUPPRESSED.items()}
    centres, vectors = (all_boxes[:, :2] + all_boxes[:, 2:]) / 2.0, torch.cat(described)[order[:DESCRIBED]]
    return ours | {
        "all_scores": all_scores,
        "nms_count": torch.tensor(len(ours["nms_keep"])),
        "locations_yx": centres[order],
        "descriptors": torch.nn.functional.normalize(vectors, dim=1),
    }


def _kept(maps: LocalMaps) -> tuple[Tensor, Tensor]:
    attention = maps.attention[0, 0].flatten()
    kept = (attention > delg.ATTENTION_THRESHOLD).nonzero()[:, 0]
    return kept, attention[kept]
