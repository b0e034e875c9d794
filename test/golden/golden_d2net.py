"""Everything that the golden files of D2-Net hold, computed by `models.d2net`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, read_json, state_dict, stored_form
from torch import Tensor

from ros2_loc.models.d2net import D2Net, detect_and_describe, detected, normalized, renamed
from ros2_loc.models.pycls_resnet import MEAN, STD
from ros2_loc.models.weights import load_strictly

SCALES = {"ss": (1.0,), "ms": (0.5, 1.0, 2.0)}
STORED, DESCRIBED = 150, 12
DISCRETE = (".n", "n_detected", "detected_chw", "scale_counts")


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours, for both ways of preprocessing."""
    recipe = read_json(folder / "recipe.json")
    network = D2Net(D2Net.Config())
    load_strictly(network, renamed(state_dict(read_json(folder / "keys.json")["d2net"], {}, seed)), "recipe")
    network.eval()
    pixels = np.floor(255 * blocks_image(np.random.RandomState(seed), 3, 96, 128)).astype(np.uint8)
    rgb = torch.from_numpy(pixels).float() / 255.0
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    ours: dict[str, np.ndarray[Any, Any]] = {}
    for name, image in (("caffe", normalized(rgb[None])[0]), ("torch", (rgb - mean) / std)):
        ours |= {f"{name}.{array}": value for array, value in outputs(network, image).items()}
    with np.load(folder / f"golden_seed{seed}.npz") as golden:
        missing = set(golden.files) - set(ours)
        assert not missing, f"golden arrays that nothing here computes: {sorted(missing)}"
        return [compare(name, stored_form(ours[name], name, recipe), golden[name], name.endswith(DISCRETE)) for name in golden.files]


@torch.inference_mode()
def outputs(network: D2Net, image: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """The golden arrays of one image (3, H, W), whole."""
    features = network(image[None])
    peaks = torch.stack(detected(features[0]), dim=1)
    ours = {"dense": features.numpy(), "n_detected": np.array(len(peaks)), "detected_chw": peaks[:1500].numpy()}
    for name, scales in SCALES.items():
        found = detect_and_describe(network, image, scales, as_authors=True)
        best = torch.argsort(found.scores, descending=True, stable=True)
        xys = torch.cat([found.pixels, found.scales[:, None]], dim=1)
        levels, counts = np.unique(found.scales.numpy(), return_counts=True)
        ours |= {
            f"{name}.n": np.array(len(best)),
            f"{name}.keypoints_xys": xys[best[:STORED]].numpy(),
            f"{name}.scores": found.scores[best[:STORED]].numpy(),
            f"{name}.desc": found.descriptors[best[:DESCRIBED]].numpy(),
            f"{name}.scale_levels": levels,
            f"{name}.scale_counts": counts,
        }
    return ours
