"""Everything that the golden files of TransVPR hold, computed by `models.transvpr` and its re-ranker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import TIE, Comparison, blocks_image, compare, compare_count, read_json, state_dict, stored_form
from numpy.typing import NDArray

from ros2_loc.core.types import PlaceEvidence
from ros2_loc.models import imagenet, transvpr
from ros2_loc.models.transvpr import PATCH_LEVEL, TransVpr
from ros2_loc.models.weights import load_strictly
from ros2_loc.retrieval.rerankers.patch_scores import Patches, grid
from ros2_loc.retrieval.rerankers.transvpr import TokenComparison, Transvpr

HEIGHT, WIDTH = 160, 192
ATTENTION = {"scores_th002": 0.02, "scores_th02": 0.2}
# the axis of (query, place) over which the largest product is looked for
NEAREST = {"argmax_over_db_for_each_query": 1, "argmax_over_query_for_each_db": 0}


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    network = make_network(read_json(folder / "keys.json")["transvpr"], recipe["overrides"], seed)
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    with torch.inference_mode():
        tokens = network.tokens(images(seed))
        masks = network.masks(tokens)
        described = network(images(seed))
    ours = {
        "tokens_all_layers": tokens.numpy(),
        "global": described.vectors.numpy(),
        "mask": masks.numpy(),
        "mask_norm": described.attention.numpy(),
        "local_layer3": described.patches.numpy(),
        "keypoints_xy": Patches(described.patches[0].numpy(), cells()).centres_px().astype(np.int32),
    }
    np.testing.assert_array_equal(ours["local_layer3"], tokens[:, PATCH_LEVEL, 1:])
    compared = [compare(name, stored_form(array, name, recipe), golden[name], name == "keypoints_xy") for name, array in ours.items()]
    found = {name: scores(ours["local_layer3"], ours["mask_norm"], threshold) for name, threshold in ATTENTION.items()}
    compared += [compare(name, array, golden[name], discrete=True) for name, array in found.items()]
    products = attended_products(ours["local_layer3"], ours["mask_norm"])
    compared += [compare_nearest(name, products, golden[name], axis) for name, axis in NEAREST.items()]
    assert len(compared) == len(golden), f"golden arrays that nothing here computes: {sorted(golden)}"
    return compared


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> TransVpr:
    """The authors' state_dict of the recipe in our network."""
    rules = {pattern.replace("tokenizerN", "tokenizer[1-4]"): rule for pattern, rule in overrides.items()}
    network = TransVpr(TransVpr.Config())
    load_strictly(network, transvpr.renamed(state_dict(keys, rules, seed)), "recipe")
    return network.eval()


def images(seed: int) -> torch.Tensor:
    """(3, 3, HEIGHT, WIDTH): a picture, the same moved and with noise, another."""
    rng = np.random.RandomState(seed)
    first = blocks_image(rng, 3, HEIGHT, WIDTH, 16)
    second = np.roll(first, (16, 32), (1, 2)) + 0.05 * rng.standard_normal(first.shape)
    third = blocks_image(rng, 3, HEIGHT, WIDTH, 16)
    return imagenet.normalized(torch.from_numpy(np.stack([first, second, third]).astype(np.float32)))


def cells() -> NDArray[np.int16]:
    """Of all patches."""
    return grid(WIDTH // 16, HEIGHT // 16)


def scores(tokens: NDArray[np.float32], attention: NDArray[np.float32], threshold: float) -> NDArray[Any]:
    """Of the first image against each, as the authors have them."""
    comparison = TokenComparison(Transvpr.Config(min_attention=threshold, geometry="authors"))
    attended = [comparison.attended(Patches(*of_image), mask) for *of_image, mask in zip(tokens, [cells()] * 3, attention, strict=True)]
    size = np.array([WIDTH, HEIGHT])
    evidence = [PlaceEvidence("transvpr", {"descriptors": one.descriptors, "cells": one.cells, "size": size}) for one in attended]
    return comparison.score(evidence[0], evidence).scores.astype(np.uint64)


def attended_products(tokens: NDArray[np.float32], attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, N, N) of the first image's patches with each one's; 0 where one is not attended to."""
    kept = tokens * (attention > ATTENTION["scores_th002"])[..., None]
    return np.asarray(kept[0] @ kept.transpose(0, 2, 1))


def compare_nearest(name: str, products: NDArray[np.float32], golden: NDArray[Any], axis: int) -> Comparison:
    """Nearest neighbours along an axis of (..., N, N): how many are others, but for those whose products tie, and a few."""
    axis -= 2
    best, theirs = products.max(axis), np.take_along_axis(products, np.expand_dims(golden, axis), axis).squeeze(axis)
    return compare_count(name, int((best - theirs > TIE * np.abs(products).max()).sum()))
