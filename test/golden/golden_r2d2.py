"""Everything that the golden files of R2D2 hold, computed by `models.r2d2` and `models.r2d2_detection`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, read_json, state_dict, stored_form
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ros2_loc.models.imagenet import normalized
from ros2_loc.models.r2d2 import R2D2, config_of, load_published, renamed
from ros2_loc.models.r2d2_detection import OfficialKeypoints, Pyramid, official_keypoints
from ros2_loc.models.weights import load_strictly

VARIANTS = {"quad": R2D2.Config(), "quad_mchan6": R2D2.Config(mchan=6), "fast": R2D2.Config("fast")}
# float32 runs on two machines may differ in so many keypoints, where values tie or touch a threshold
TIES = 3


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe, keys = read_json(folder / "recipe.json"), read_json(folder / "keys.json")
    image = normalized(torch.from_numpy(blocks_image(np.random.RandomState(seed), 3, 96, 128))[None])
    compared = []
    with np.load(folder / f"golden_seed{seed}.npz") as golden:
        assert {name.partition(".")[0] for name in golden.files} <= set(VARIANTS)
        for variant, config in VARIANTS.items():
            network = R2D2(config).eval()
            state = renamed(state_dict(keys[variant], {}, seed))
            assert config_of(state) == config
            load_strictly(network, state, "recipe")
            stored = {name.removeprefix(f"{variant}."): golden[name] for name in golden.files if name.startswith(f"{variant}.")}
            compared += _beside(network, image, variant, stored, recipe)
    return compared


def _beside(network: R2D2, image: Tensor, variant: str, golden: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> list[Comparison]:
    with torch.inference_mode():
        dense = network(image)
    ours = {name: value.numpy() for name, value in dense._asdict().items()}
    arrays = {name: stored_form(value, f"{variant}.{name}", recipe) for name, value in ours.items()}
    compared = [compare(f"{variant}.{name}", value, golden[name], discrete=False) for name, value in arrays.items()]
    settings = recipe["multi_scale_for_goldens"]
    pyramid = Pyramid(settings["scale_f"], settings["min_scale"], settings["max_scale"], settings["min_size"], settings["max_size"])
    found = official_keypoints(network, image, pyramid, settings["nms"]["rel_thr"], settings["nms"]["rep_thr"])
    rule = recipe["subsample"].get(f"{variant}.ms.desc", {"shape": golden["ms.desc"].shape, "flat_stride": 1})
    points, left = {name.removeprefix("ms."): value for name, value in golden.items() if name.startswith("ms.")}, set(golden) - set(arrays)
    assert left == {f"ms.{name}" for name in points}
    return compared + compare_keypoints(f"{variant}.ms", found, points, rule["shape"], rule["flat_stride"])


def compare_keypoints(
    name: str, found: OfficialKeypoints, golden: dict[str, NDArray[Any]], shape: tuple[int, int], stride: int = 1
) -> list[Comparison]:
    """The number of keypoints, and each stored one beside ours at the same position of the same level."""
    place = {tuple(row): index for index, row in enumerate(np.round(found.xys.numpy(), 2).tolist())}
    indices = [place.get(tuple(row), -1) for row in np.round(golden["xys"], 2).tolist()]
    missing, known = indices.count(-1), np.array(indices) >= 0
    taken = np.array(indices)[known]
    beyond_ties = max(missing, abs(len(found.xys) - int(golden["n"]))) - TIES
    descriptors = np.zeros((len(indices), found.descriptors.shape[1]), np.float32)
    descriptors[known] = found.descriptors.numpy()[taken]
    stored = np.repeat(known[: shape[0]], shape[1])[::stride]
    return [
        Comparison(f"{name} keypoints beyond {TIES} ties", float(max(0, beyond_ties)), True),
        compare(f"{name}.scores", found.scores.numpy()[taken], golden["scores"][known], discrete=False),
        compare(
            f"{name}.desc", descriptors[: shape[0]].reshape(-1)[::stride][stored], golden["desc"].reshape(-1)[stored], discrete=False
        ),
    ]


def compare_real(folder: Path, weights: Path, image: str) -> list[Comparison]:
    """A published checkpoint on a real image beside golden_real.npz."""
    network, prefix = load_published(weights), f"{weights.stem}|{image}|"
    pixels = torch.from_numpy(np.array(Image.open(folder / "imgs" / image).convert("RGB")))
    batch = normalized(pixels.permute(2, 0, 1)[None].float() / 255.0)
    with np.load(folder / "golden_real.npz") as file:
        golden = {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}
    found = official_keypoints(network, batch, Pyramid())
    compared = compare_keypoints(f"{prefix}ms", found, golden, golden["desc"].shape)
    levels, counts = np.unique(found.xys[:, 2].numpy(), return_counts=True)
    compared.append(compare(f"{prefix}scale_levels", levels, golden["scale_levels"], discrete=False))
    differing = int(np.abs(counts - golden["scale_counts"]).sum())
    compared.append(Comparison(f"{prefix}keypoints of levels beyond {TIES} ties", float(max(0, differing - TIES)), True))
    if "rel" in golden:
        with torch.inference_mode():
            dense = network(batch)
        for field, ours in (("rel", dense.reliability), ("rep", dense.repeatability)):
            compared.append(compare(f"{prefix}{field}", ours[0, 0, ::16, ::16].numpy(), golden[field], discrete=False))
    return compared
