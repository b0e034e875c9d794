"""Everything that the golden files of RRT hold, computed by `models.rrt`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from golden_recipe import Comparison, compare, read_json, state_dict, stored_form
from torch import Tensor

from ros2_loc.models import rrt
from ros2_loc.models.rrt import Described, Rrt
from ros2_loc.models.weights import load_strictly

PAIRS, COUNT, ALIKE = 3, 40, 20


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    state = rrt.renamed(state_dict(read_json(folder / "keys.json")["rrt_gld"], recipe["overrides"], seed))
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    ours = outputs(state, *described(seed))
    missing = set(golden) - set(ours)
    assert not missing, f"golden arrays that nothing here computes: {sorted(missing)}"
    return [compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], discrete=False) for name in golden]


def described(seed: int) -> tuple[Described, Described]:
    """Both images of three pairs; the first pair has descriptors in common."""
    rng = np.random.RandomState(seed)
    vectors, descriptors = [], []
    for _ in range(2):
        vectors.append(rng.standard_normal((PAIRS, 2048)))
        descriptors.append(rng.standard_normal((PAIRS, COUNT, 128)))
    descriptors[1][0, :ALIKE] = descriptors[0][0, :ALIKE] + 0.1 * rng.standard_normal((ALIKE, 128))
    scales = [rng.randint(0, 7, (PAIRS, COUNT)) for _ in range(2)]
    valid = np.ones((2, PAIRS, COUNT), dtype=bool)
    valid[0, 1, 30:] = valid[1, 1, 25:] = valid[1, 2, 10:] = False
    first, second = (
        Described(*(torch.from_numpy(np.asarray(array)) for array in (vector.astype("f4"), local.astype("f4"), scale.astype("i8"), ok)))
        for vector, local, scale, ok in zip(vectors, descriptors, scales, valid, strict=True)
    )
    return first, second


@torch.inference_mode()
def outputs(state: Mapping[str, Tensor], query: Described, place: Described) -> dict[str, Tensor]:
    """The golden arrays, whole."""
    network, plain = (Rrt(dataclasses.replace(Rrt.Config(), normalize=normalize)) for normalize in (True, False))
    for one in (network, plain):
        load_strictly(one, state, "recipe")
        one.eval()
    tokens, valid = network.sequence(network.reduced(query), network.reduced(place))
    logits = network(query, place)
    return {
        "logits": logits,
        "prob": logits.sigmoid(),
        "layer0": network.layers[0](tokens, tokens, valid).transpose(0, 1),
        "enc_cls": network.judged(tokens, valid),
        "logits_no_normalize": plain(query, place),
    }
