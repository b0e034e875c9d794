"""Everything that the golden files of Patch-NetVLAD hold, computed by `models.patch_netvlad` and its re-ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import TIE, Comparison, blocks_image, compare, compare_count, read_json, state_dict, stored_form
from numpy.typing import NDArray

from ros2_loc.core.types import PlaceEvidence
from ros2_loc.models import imagenet, patch_netvlad
from ros2_loc.models.patch_netvlad import NetVlad, PatchNetVlad
from ros2_loc.models.weights import load_strictly
from ros2_loc.retrieval.mutual_nearest import Pairs
from ros2_loc.retrieval.rerankers.patch_netvlad import PatchComparison, PatchNetvlad, patches_of
from ros2_loc.retrieval.rerankers.patch_scores import fused, grid

HEIGHT, WIDTH = 160, 192
SIZES, WEIGHTS = (2, 5, 8), (0.45, 0.15, 0.4)
SCORING = {"RANSAC": "ransac", "spatialApproximator": "rapid"}
# of nearest neighbours that the authors' float32 and float64 runs have otherwise in seed 0
DIFFERENT = 1


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    network = make_network(read_json(folder / "keys.json")["patchnetvlad_K16_pca128"], recipe["overrides"], seed)
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    ours, first, second = described(network, seed)
    made_up = synthetic(seed)
    compared = []
    for kind, scoring in SCORING.items():
        ours[f"score_{kind}"] = scores_of_pairs(scoring, first, second, golden)
        ours[f"synscore_{kind}"] = scores(scoring, *made_up)
        compared.append(compare_matched(f"selfscore_{kind}", scores(scoring, first, first), golden))
    ours |= positions(first)
    ours["normalise_in"] = np.random.RandomState(seed + 7).standard_normal((10, 3))
    ours["normalise_out"] = fused(ours["normalise_in"], WEIGHTS, "zscore")
    compared += [
        compare(name, stored_form(array, name, recipe), golden[name], array.dtype.kind == "i") for name, array in ours.items()
    ]
    for size in SIZES:
        products = patches_of(first, size).descriptors @ patches_of(second, size).descriptors.T
        compared += [compare_nearest(f"{name}_inds_psize{size}", products, golden, axis) for axis, name in enumerate(("fw", "bw"))]
    assert len(compared) == len(golden), f"golden arrays that nothing here computes: {sorted(set(golden) - set(ours))}"
    return compared


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> NetVlad:
    """The authors' state_dict of the recipe in our network."""
    state = patch_netvlad.renamed(state_dict(keys, overrides, seed))
    network = NetVlad(patch_netvlad.config_of(state))
    load_strictly(network, state, "recipe")
    return network.eval()


@torch.inference_mode()
def described(network: NetVlad, seed: int) -> tuple[dict[str, NDArray[Any]], PlaceEvidence, PlaceEvidence]:
    """The golden arrays of the network, whole, and what is compared of both images."""
    rng = np.random.RandomState(seed)
    image = blocks_image(rng, 3, HEIGHT, WIDTH, 16)
    moved = np.roll(image, (16, 32), (1, 2)) + 0.05 * rng.standard_normal(image.shape)
    images = imagenet.normalized(torch.from_numpy(np.stack([image, moved]).astype(np.float32)))
    patches = PatchNetVlad(network, SIZES)
    vectors, of_sizes = patches(images)
    features = network.features(images[:1])
    ours = {
        "encoder": features,
        "vlad_global_raw": network.pool(features),
        "local_raw_psize5": patches.patch_vlads(features)[SIZES.index(5)].transpose(1, 2),
    }
    for row, name in enumerate("ab"):
        ours[f"{name}.global_pca"] = vectors[row : row + 1]
        ours |= {f"{name}.local_pca_psize{size}": of_size[row].T for size, of_size in zip(SIZES, of_sizes, strict=True)}
    pair = [evidence([of_size[row].numpy() for of_size in of_sizes]) for row in range(2)]
    return {name: array.numpy() for name, array in ours.items()}, pair[0], pair[1]


def evidence(descriptors: Sequence[NDArray[np.float32]]) -> PlaceEvidence:
    """All patches of an image, in the precision of the golden files."""
    arrays: dict[str, NDArray[Any]] = {"size": np.array([WIDTH, HEIGHT])}
    for size, of_size in zip(SIZES, descriptors, strict=True):
        arrays |= {f"descriptors{size}": of_size, f"cells{size}": grid(WIDTH // 16 - size + 1, HEIGHT // 16 - size + 1)}
    return PlaceEvidence("patch_netvlad", arrays)


def synthetic(seed: int) -> tuple[PlaceEvidence, PlaceEvidence]:
    """Descriptors made of noise, two thirds of which are where they were."""
    rng = np.random.RandomState(seed + 77)
    pairs = []
    for size in SIZES:
        count = (WIDTH // 16 - size + 1) * (HEIGHT // 16 - size + 1)
        first = _unit_columns(rng.standard_normal((32, count)))
        moved, order = rng.permutation(count)[: count // 3], np.arange(count)
        order[moved] = np.roll(moved, 1)
        pairs.append((first, _unit_columns(first[:, order] + 0.05 * rng.standard_normal((32, count)))))
    query, place = ([column.T.astype(np.float32) for column in columns] for columns in zip(*pairs, strict=True))
    return evidence(query), evidence(place)


def scores(scoring: str, query: PlaceEvidence, place: PlaceEvidence) -> NDArray[Any]:
    """Of each size, as the authors have them: less is better."""
    return np.array([-comparison(scoring, size).score(query, [place]).scores[0] for size in SIZES])


def scores_of_pairs(scoring: str, query: PlaceEvidence, place: PlaceEvidence, golden: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The same of the golden files' matches: one that ties and falls otherwise changes a score by more than the bar."""
    found = []
    for size in SIZES:
        # nearest query patch of each of the place's, and the other way round
        forward, backward = golden[f"fw_inds_psize{size}"], golden[f"bw_inds_psize{size}"]
        rows = np.flatnonzero(backward[forward] == np.arange(len(forward)))
        pairs = Pairs(forward[rows], rows, np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=np.float32))
        found.append(-comparison(scoring, size).of_pairs(pairs, patches_of(query, size), [patches_of(place, size)])[0][0])
    return np.array(found)


def comparison(scoring: str, size: int) -> PatchComparison:
    """By patches of one size."""
    settings = {"patch_sizes": (size,), "patch_weights": (1.0,), "scoring": scoring, "image_size": (WIDTH, HEIGHT)}
    return PatchComparison(PatchNetvlad.Config(geometry="authors", **settings))  # type: ignore[arg-type]


def positions(first: PlaceEvidence) -> dict[str, NDArray[np.int32]]:
    """Centres as the authors round them, and cells."""
    found = {}
    for size in SIZES:
        patches = patches_of(first, size)
        found[f"keypoints_psize{size}"] = patches.centres_px("authors").T.astype(np.int32)
        found[f"indices_psize{size}"] = patches.cells.T.astype(np.int32)
    return found


def compare_nearest(name: str, products: NDArray[np.float32], golden: Mapping[str, NDArray[Any]], axis: int) -> Comparison:
    """Nearest neighbours along an axis: how many are others, but for those whose products tie, and the one that the authors allow."""
    best, theirs = products.max(axis), np.take_along_axis(products, np.expand_dims(golden[name], axis), axis).squeeze(axis)
    others = int((best - theirs > TIE * np.abs(products).max()).sum())
    return Comparison(name, float(max(0, others - DIFFERENT)), True)


def compare_matched(name: str, ours: NDArray[Any], golden: Mapping[str, NDArray[Any]]) -> Comparison:
    """Scores of an image against itself, in patches that a difference comes to; some are nearly alike, so a few may match others."""
    most = scores_of_all(name)
    patches = [(WIDTH // 16 - size + 1) * (HEIGHT // 16 - size + 1) for size in SIZES]
    return compare_count(name, int(np.rint(np.abs(ours - golden[name]) / most * patches).max()))


def scores_of_all(name: str) -> NDArray[Any]:
    """What there would be of each size if all patches matched where they are."""
    if name.endswith("RANSAC"):
        return np.ones(len(SIZES))
    return np.array([(WIDTH // 16 - size) ** 2 + (HEIGHT // 16 - size) ** 2 for size in SIZES], dtype=np.float64)


def _unit_columns(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return array / np.linalg.norm(array, axis=0, keepdims=True)
