"""Everything that the golden files of D2-Net hold, computed by `models.d2net`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, compare_count, read_json, state_dict, stored_form
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models.d2net import D2Net, D2Points, detect_and_describe, detected, normalized, renamed
from ros2_loc.models.imagenet import MEAN, STD
from ros2_loc.models.weights import load_strictly

SCALES = {"ss": (1.0,), "ms": (0.5, 1.0, 2.0)}
DESCRIBED = 12


@torch.inference_mode()
def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours, for both ways of preprocessing."""
    recipe = read_json(folder / "recipe.json")
    network = D2Net(D2Net.Config())
    load_strictly(network, renamed(state_dict(read_json(folder / "keys.json")["d2net"], {}, seed)), "recipe")
    network.eval()
    pixels = np.floor(255 * blocks_image(np.random.RandomState(seed), 3, 96, 128)).astype(np.uint8)
    rgb = torch.from_numpy(pixels).float() / 255.0
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    compared = []
    with np.load(folder / f"golden_seed{seed}.npz") as golden:
        for kind, image in (("caffe", normalized(rgb[None])[0]), ("torch", (rgb - mean) / std)):
            own = {name: golden[name] for name in golden.files if name.startswith(f"{kind}.")}
            compared += _dense(network, image, kind, own, recipe)
            for name, scales in SCALES.items():
                found = detect_and_describe(network, image[None], scales, as_authors=True)[0]
                compared += _keypoints(found, f"{kind}.{name}", own, recipe)
            assert not own, f"golden arrays that nothing here computes: {sorted(own)}"
    return compared


def _dense(network: D2Net, image: Tensor, kind: str, golden: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> list[Comparison]:
    """Compares and takes the arrays of the map and of what is detected in it."""
    features = network(image[None])
    compared = [_compare(f"{kind}.dense", features, golden, recipe)]
    found = set(zip(*(index.tolist() for index in detected(features[0])), strict=True))
    if f"{kind}.n_detected" in golden:
        compared.append(compare_count(f"{kind}.n_detected", abs(len(found) - int(golden.pop(f"{kind}.n_detected")))))
        differing = found ^ {tuple(row) for row in golden.pop(f"{kind}.detected_chw").tolist()}
        compared.append(compare_count(f"{kind}.detected_chw", len(differing)))
    return compared


def _keypoints(found: D2Points, name: str, golden: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> list[Comparison]:
    """Compares and takes the arrays of keypoints; each stored one beside ours at the same position of the same level."""
    xys = torch.cat([found.pixels, found.scales[:, None]], dim=1).numpy()
    stored = golden[f"{name}.keypoints_xys"]
    distance = np.abs(stored[:, None] - xys[None]).max(axis=2)
    ours, known = distance.argmin(axis=1), distance.min(axis=1) < 0.01
    number, (levels, counts) = int(golden.pop(f"{name}.n")), np.unique(xys[:, 2], return_counts=True)
    compared = [
        compare_count(f"{name}.n", abs(len(xys) - number)),
        compare_count(f"{name}.keypoints_xys missing", int((~known).sum())),
        compare(f"{name}.scale_levels", levels, golden.pop(f"{name}.scale_levels"), discrete=False),
        compare_count(f"{name}.scale_counts", int(np.abs(counts - golden.pop(f"{name}.scale_counts")).sum())),
    ]
    for array, values in (("keypoints_xys", xys), ("scores", found.scores.numpy())):
        compared.append(compare(f"{name}.{array}", values[ours[known]], golden.pop(f"{name}.{array}")[known], discrete=False))
    first, rule = known[:DESCRIBED], recipe["subsample"][f"{name}.desc"]
    described, place = found.descriptors.numpy()[ours[:DESCRIBED]], np.repeat(first, rule["shape"][1])[:: rule["flat_stride"]]
    mine, theirs = stored_form(described, f"{name}.desc", recipe), golden.pop(f"{name}.desc")
    return [*compared, compare(f"{name}.desc", mine[place], theirs[place], discrete=False)]


def _compare(name: str, ours: Tensor, golden: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> Comparison:
    return compare(name, stored_form(ours.numpy(), name, recipe), golden.pop(name), discrete=False)
