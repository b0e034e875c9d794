"""Everything that the golden files of CosPlace hold, computed by `models.cosplace`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, read_json, state_dict, stored_form
from torch import Tensor

from ros2_loc.models import cosplace, imagenet
from ros2_loc.models.cosplace import CosPlace
from ros2_loc.models.weights import load_strictly


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe, keys = read_json(folder / "recipe.json"), read_json(folder / "keys.json")
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    ours: dict[str, Tensor] = {}
    for variant in sorted({name.partition(".")[0] for name in golden}):
        shapes = next(shapes for name, shapes in keys.items() if name.startswith(f"{variant}-"))
        network = make_network(shapes, overrides_of(variant, recipe["overrides"]), seed)
        ours |= {f"{variant}.{name}": value for name, value in outputs(network, seed).items()}
    return [compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], discrete=False) for name in golden]


def overrides_of(variant: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """Those of all networks and those that end in "(variant)"."""
    named = {patterns.removesuffix(f" ({variant})"): rule.partition(" to ")[0] for patterns, rule in overrides.items()}
    return {patterns: rule for patterns, rule in named.items() if not patterns.endswith(")")}


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> CosPlace:
    """The authors' state_dict of the recipe in our network."""
    state = cosplace.renamed(state_dict(keys, overrides, seed))
    network = CosPlace(cosplace.config_of(state))
    load_strictly(network, state, "recipe")
    return network.eval()


@torch.inference_mode()
def outputs(network: CosPlace, seed: int) -> dict[str, Tensor]:
    """The golden arrays, whole."""
    rng = np.random.RandomState(seed)
    images = torch.from_numpy(np.stack([blocks_image(rng, 3, 96, 128) for _ in range(2)]))
    features = network.features(imagenet.normalized(images))
    return {"features": features, "gem": network.pooled(features), "descriptor": network(imagenet.normalized(images))}
