"""Everything that the golden files of HRNetV2-W48 hold, computed by `models.hrnet`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, read_json, state_dict, stored_form
from torch import Tensor

from ros2_loc.models.hrnet import HRNet, config_of, renamed
from ros2_loc.models.imagenet import normalized
from ros2_loc.models.weights import load_strictly


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours, for both ways of enlarging."""
    recipe = read_json(folder / "recipe.json")
    state = renamed(weights(folder, recipe, seed))
    image = normalized(torch.from_numpy(blocks_image(np.random.RandomState(seed), 3, 64, 96))[None])
    ours: dict[str, Tensor] = {}
    for align in (False, True):
        network = HRNet(config_of(state, align)).eval()
        load_strictly(network, state, "recipe")
        ours |= {f"align{align}.{name}": value for name, value in outputs(network, image).items()}
    with np.load(folder / f"golden_seed{seed}.npz") as golden:
        missing = set(golden.files) - set(ours)
        assert not missing, f"golden arrays that nothing here computes: {sorted(missing)}"
        return [compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], discrete=False) for name in golden.files]


def weights(folder: Path, recipe: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """The authors' state_dict of the recipe, the scales of its batch norms as `overrides` says."""
    state = state_dict(read_json(folder / "keys.json")["hrnetv2_w48_cityscapes"], {}, seed)
    patterns = recipe["overrides"]["regexes (first match wins)"]
    factors = [float(rule.partition("*")[0]) for rule in recipe["overrides"]["values"]]
    for key, value in state.items():
        found = next((factor for pattern, factor in zip(patterns, factors, strict=True) if re.search(pattern, key)), None)
        if found is not None and value.ndim == 1:
            state[key] = (value.double() * found).float()
    return state


@torch.inference_mode()
def outputs(network: HRNet, image: Tensor) -> dict[str, Tensor]:
    """The golden arrays, whole."""
    stages = network.stages(image)
    branches = {f"{stage}.{index}": branch for stage in ("stage2", "stage3", "stage4") for index, branch in enumerate(stages[stage])}
    joined = network.joined(stages["stage4"])
    return {"layer1": stages["layer1"][0], **branches, "concat720": joined, "logits": network.logits(joined)}
