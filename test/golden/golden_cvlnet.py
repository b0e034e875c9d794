"""Everything that the golden files of CVLNet hold, computed by `models.cvlnet.official`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, read_json, state_dict, stored_form
from torch import Tensor, nn

from ros2_loc.models.cvlnet.official import OfficialCVLNet, authors_similarity, best_shift, fuse_method_of, renamed
from ros2_loc.models.cvlnet.official_fusion import Transformer
from ros2_loc.models.cvlnet.official_projection import authors_uv, sample_at
from ros2_loc.models.weights import load_strictly

BATCH, FRAMES = 2, 2
INTRINSICS = [[582.9802, 0.0, 496.2420], [0.0, 482.7076, 125.0034], [0.0, 0.0, 1.0]]
LARGEST_UV = 1e4
# other variants' keys hold the fusion only: the rest is that of the one with all
WHOLE = "fuse_Transformer"


def variants(folder: Path) -> dict[str, dict[str, list[int]]]:
    """The complete keys and shapes of each fuse_method in keys.json."""
    listed: dict[str, dict[str, list[int]]] = read_json(folder / "keys.json")
    shared = {key: shape for key, shape in listed[WHOLE].items() if not key.startswith("FuseNet.")}
    return {name: {**shared, **keys} for name, keys in listed.items()}


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    inputs = make_inputs(seed)
    features: dict[str, tuple[Tensor, Tensor]] = {}
    with np.load(folder / f"golden_seed{seed}.npz") as golden, torch.inference_mode():
        ours: dict[str, Tensor] = {}
        for name in sorted({array.partition(".")[0] for array in golden.files}):
            network = make_network(variants(folder)[name], recipe["overrides"], seed)
            assert network.config.fuse_method == name
            ours |= {f"{name}.{array}": value for array, value in outputs(network, inputs, seed, features).items()}
        missing = set(golden.files) - set(ours)
        assert not missing, f"golden arrays that nothing here computes: {sorted(missing)}"
        return [_beside(array, ours[array], golden[array], recipe) for array in golden.files]


def _beside(array: str, ours: Tensor, golden: np.ndarray[Any, Any], recipe: Mapping[str, Any]) -> Comparison:
    last = array.rpartition(".")[2]
    limit = LARGEST_UV if last == "uv" else None
    return compare(array, stored_form(ours.numpy(), array, recipe), golden, discrete=last.startswith("shift"), limit=limit)


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> OfficialCVLNet:
    """The authors' state_dict of the recipe in our network."""
    state = state_dict(keys, overrides, seed)
    network = OfficialCVLNet(OfficialCVLNet.Config(fuse_method_of(state) or ""))
    load_strictly(network, renamed(state), "recipe")
    return network.eval()


def make_inputs(seed: int) -> dict[str, Tensor]:
    """Tiles, frames, intrinsics, shifts and headings of the recipe, drawn in its order."""
    rng = np.random.RandomState(seed)
    tiles = np.stack([blocks_image(rng, 3, 512, 512, 16) for _ in range(BATCH)])
    frames = np.stack([[blocks_image(rng, 3, 256, 1024, 16) for _ in range(FRAMES)] for _ in range(BATCH)])
    shift = rng.uniform(-3.0, 3.0, (BATCH, FRAMES, 2))
    shift[:, 0] = 0.0
    heading = rng.uniform(-3.14, 3.14, (BATCH, FRAMES))
    return {
        "tiles": torch.from_numpy(tiles),
        "frames": torch.from_numpy(frames),
        "intrinsics": torch.tensor([INTRINSICS] * BATCH),
        "shift": torch.from_numpy(shift).float(),
        "heading": torch.from_numpy(heading).float(),
    }


def outputs(
    network: OfficialCVLNet, inputs: Mapping[str, Tensor], seed: int, features: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The golden arrays of one variant, whole."""
    ground, tile_features = _backbone_features(network, inputs, features)
    intrinsics = inputs["intrinsics"].clone()
    uv = authors_uv(intrinsics, inputs["shift"], inputs["heading"])
    assert torch.equal(intrinsics, inputs["intrinsics"]), "the caller's intrinsics have been changed"
    projected = sample_at(ground, uv.flatten(0, 1)).unflatten(0, (BATCH, FRAMES))
    query = network.ground_descriptor(network.fusion(projected))
    tiles = network.tile_descriptor(tile_features)
    result = {
        "grd_feature_vgg": ground,
        "uv": uv[:, :, None],
        "gvp_projected": projected[:, :, None],
        "fused": network.fusion(projected),
        "grd_descriptor": query,
        "sat_descriptor": tiles,
        "uncertainty_logit": network.uncertainty.logits(tiles),
    }
    if isinstance(network.fusion, Transformer):
        result["transformer_out"], result["att_last"] = network.fusion.stages(projected)
    result |= _matched(network, query, tiles, tiles, ("similarity", "shift_meters", "similarity_no_uncertainty", "shift_no_uncertainty"))
    names = ("similarity", "shift", "similarity_u1", "shift_u1")
    synthetic_query, synthetic_tiles = _synthetic_descriptors(seed)
    matched = _matched(network, synthetic_query, synthetic_tiles, 2 * synthetic_tiles, names)
    return result | {f"syn.{name}": value for name, value in matched.items()}


def _backbone_features(
    network: OfficialCVLNet, inputs: Mapping[str, Tensor], features: dict[str, tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The variants' backbones have the same weights where the recipe gives them the same names: they are run once for equal weights."""
    key = str([_sums(branch) for branch in (network.ground_branch, network.tile_branch)])
    if key not in features:
        features[key] = network.ground_features(inputs["frames"].flatten(0, 1)), network.tile_branch(inputs["tiles"])
    return features[key]


def _sums(module: nn.Module) -> list[float]:
    return [float(value.double().square().sum()) for value in module.state_dict().values()]


def _matched(
    network: OfficialCVLNet, query: Tensor, tiles: Tensor, uncertain: Tensor, names: tuple[str, str, str, str]
) -> dict[str, Tensor]:
    uncertainty = network.uncertainty(uncertain)
    best, shift = best_shift(authors_similarity(query, tiles, uncertainty))
    plain, plain_shift = best_shift(authors_similarity(query, tiles, torch.ones_like(uncertainty)))
    return {"uncertainty": uncertainty[:, None], **dict(zip(names, (best, shift, plain, plain_shift), strict=True))}


def _synthetic_descriptors(seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.RandomState(seed + 5)
    query, tiles = rng.standard_normal((3, 4, 32, 32)), rng.standard_normal((2, 4, 32, 32))
    tiles[0, :, 3:, :29] += 2 * query[1, :, :29, 3:]
    tiles[1, :, :31, 2:] += 2 * query[0, :, 1:, :30]
    return torch.from_numpy(query).float(), torch.from_numpy(tiles).float()
