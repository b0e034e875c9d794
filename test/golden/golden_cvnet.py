"""Everything that the golden files of CVNet hold, computed by `models.cvnet`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, read_json, state_dict, stored_form
from torch import Tensor

from ros2_loc.models import cvnet
from ros2_loc.models.cvnet import CvNet
from ros2_loc.models.imagenet import MEAN, STD
from ros2_loc.models.weights import load_strictly

DIMENSION = 512


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    network = make_network(read_json(folder / "keys.json")["cvnet_R50_512"], recipe["overrides"], seed)
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    ours = outputs(network, images(seed))
    missing = set(golden) - set(ours)
    assert not missing, f"golden arrays that nothing here computes: {sorted(missing)}"
    return [compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], discrete=False) for name in golden]


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> CvNet:
    """The authors' state_dict of the recipe in our network."""
    network = CvNet(CvNet.Config(dimension=DIMENSION))
    load_strictly(network, cvnet.renamed(state_dict(keys, overrides, seed)), "recipe")
    return network.eval()


def images(seed: int) -> dict[str, Tensor]:
    """A picture, the same moved and with noise, and a smaller one, as the network takes them; the recipe's are BGR already."""
    rng = np.random.RandomState(seed)
    first = blocks_image(rng, 3, 128, 160, 16)
    second = np.roll(first, (16, 32), (1, 2)) + 0.05 * rng.standard_normal(first.shape)
    pictures = {"a": first, "b": second.astype(np.float32), "c": blocks_image(rng, 3, 112, 144, 16)}
    mean, std = (torch.tensor(values[::-1])[:, None, None] for values in (MEAN, STD))
    return {name: ((torch.from_numpy(picture) - mean) / std)[None] for name, picture in pictures.items()}


@torch.inference_mode()
def outputs(network: CvNet, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The golden arrays, whole."""
    ours = {f"{name}.global": network.descriptor(picture) for name, picture in pictures.items()}
    features = {name: network.features(picture) for name, picture in pictures.items()}
    ours["a.featmap_s3_prerelu"] = features["a"]
    for name in "abc":
        query, place = (cvnet.resized(network.maps(features[one])) for one in ("a", name))
        logits = network.rerank_logits(features["a"], features[name])
        score = logits.softmax(dim=1)[:, 1]
        ours |= {f"a{name}.logits": logits, f"a{name}.score": score[0], f"forward_a{name}": score}
        ours[f"a{name}.corr6d"] = cvnet.correlations(query, place).permute(0, 5, 1, 2, 3, 4)
        ours[f"a{name}.block1"] = network.verifier.block1(query, place).permute(0, 5, 1, 2, 3, 4)
    return ours
