"""Everything that the golden files of SuperPoint and SuperGlue hold, computed by `models.superpoint` and `models.superglue`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, compare_order, read_json, state_dict, stored_form
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models import superglue, superpoint
from ros2_loc.models.superglue import Points, SuperGlue
from ros2_loc.models.superpoint import SuperPoint
from ros2_loc.models.weights import load_strictly

WIDTH, HEIGHT = 160, 120
KEYPOINTS = ("sp.keypoints0", "sp.keypoints1")


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours."""
    recipe = read_json(folder / "recipe.json")
    settings = recipe["config"]
    points, glue = networks(folder, recipe, seed)
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    with torch.inference_mode():
        ours, sets, compared = _superpoint(points, images(seed), settings["superpoint"], golden)
        threshold = settings["superglue"]["match_threshold"]
        iterations = settings["superglue"]["sinkhorn_iterations"]
        ours |= {f"sg.{name}": value for name, value in _superglue(glue, *sets, iterations, threshold).items()}
        for count in (20, 100):
            matched = _superglue(glue, *_synthetic(seed), count, threshold)
            ours |= {f"syn{count}.{name}": value for name, value in matched.items()}
    missing = set(golden) - set(ours) - set(KEYPOINTS)
    assert not missing, f"golden arrays that nothing here computes: {sorted(missing)}"
    names = [name for name in golden if name not in KEYPOINTS]
    discrete = (".matches0", ".matches1")
    return compared + [
        compare(name, stored_form(ours[name].numpy(), name, recipe), golden[name], name.endswith(discrete)) for name in names
    ]


def networks(folder: Path, recipe: Mapping[str, Any], seed: int) -> tuple[SuperPoint, SuperGlue]:
    """Both with the authors' state_dict of the recipe, whose prefixes take part in the drawing."""
    keys = read_json(folder / "keys.json")
    named = {f"{network}.{key}": shape for network, shapes in keys.items() for key, shape in shapes.items()}
    state = state_dict(named, recipe["overrides"], seed)
    points, glue = SuperPoint(SuperPoint.Config()), SuperGlue(SuperGlue.Config())
    for network, name, rename in ((points, "superpoint", superpoint.renamed), (glue, "superglue", superglue.renamed)):
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        load_strictly(network, rename(own), "recipe")
    return points.eval(), glue.eval()


def images(seed: int) -> Tensor:
    """(2, 1, HEIGHT, WIDTH): a picture, and the same moved and with noise."""
    rng = np.random.RandomState(seed)
    first = np.floor(255 * blocks_image(rng, 1, HEIGHT, WIDTH))[0].astype(np.uint8)
    noise = rng.randint(-6, 7, (HEIGHT, WIDTH))
    second = np.clip(np.roll(first, (8, 16), (0, 1)).astype(np.int64) + noise, 0, 255).astype(np.uint8)
    return torch.from_numpy(np.stack([first, second])[:, None].astype(np.float32) / np.float32(255.0))


def _superpoint(
    network: SuperPoint, pair: Tensor, settings: Mapping[str, Any], golden: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, Tensor], list[Points], list[Comparison]]:
    """Arrays; keypoints of both images, in the golden order; whether that is ours."""
    maps = network(pair)
    heat = superpoint.heatmap(maps.logits)
    peaks = superpoint.suppressed(heat, settings["nms_radius"])
    ours = {
        "sp.logits": maps.logits[:1],
        "sp.raw_desc": maps.descriptors[:1],
        "sp.heat": heat[:1],
        "sp.nms_r1": superpoint.suppressed(heat[:1], 1),
        "sp.nms_r4": peaks[:1],
    }
    sets, compared = [], []
    for index, name in enumerate(KEYPOINTS):
        found, _ = superpoint.strongest(
            peaks[index], settings["keypoint_threshold"], settings["remove_borders"], settings["max_keypoints"]
        )
        pixels = torch.from_numpy(golden[name]).long()
        order = [(at[:, 1] * WIDTH + at[:, 0]).numpy() for at in (found, pixels)]
        compared.append(compare_order(name, *order, peaks[index].flatten().numpy()))
        scores = heat[index][pixels[:, 1], pixels[:, 0]]
        descriptors = superpoint.descriptors_at(maps.descriptors[index], pixels, as_authors=True)
        ours |= {f"sp.scores{index}": scores, f"sp.descriptors{index}": descriptors.T}
        sets.append(_points(pixels.float(), scores, descriptors))
    return ours, sets, compared


def _superglue(network: SuperGlue, first: Points, second: Points, iterations: int, threshold: float) -> dict[str, Tensor]:
    context = network.context(first, second)
    log_assignment = network(first, second, iterations)
    found = superglue.assigned(log_assignment, threshold)
    return {
        "kenc0": network.encoded(first).transpose(1, 2),
        "gnn0": context[0].transpose(1, 2),
        "scores": network.scores(*context),
        "log_assignment": log_assignment,
        "matches0": found.partners[0].int(),
        "matches1": found.reference_partners[0].int(),
        "matching_scores0": found.scores[0],
        "matching_scores1": found.reference_scores[0],
    }


def _points(pixels: Tensor, scores: Tensor, descriptors: Tensor) -> Points:
    # the authors' pixels begin at 0
    positions = superglue.normalized(pixels + 0.5, WIDTH, HEIGHT)
    return Points(positions[None], scores[None], descriptors[None], torch.ones(1, len(pixels), dtype=torch.bool))


def _synthetic(seed: int) -> tuple[Points, Points]:
    """60 and 75 keypoints, 40 of them with a partner."""
    rng = np.random.RandomState(seed + 1000)
    size, known = np.array([WIDTH, HEIGHT]), 40
    first = rng.uniform(0, 1, (60, 2)) * size
    described = _unit(rng.standard_normal((256, 60)))
    second = np.concatenate([first[:known] + rng.uniform(-2, 2, (known, 2)), rng.uniform(0, 1, (35, 2)) * size])
    near = described[:, :known] + 0.03 * rng.standard_normal((256, known))
    others = _unit(np.concatenate([near, rng.standard_normal((256, 35))], axis=1))
    scores = rng.uniform(0, 1, 60), rng.uniform(0, 1, 75)
    arrays = ((first, scores[0], described.T), (second, scores[1], others.T))
    return tuple(_points(*(torch.from_numpy(array).float() for array in one)) for one in arrays)  # type: ignore[return-value]


def _unit(columns: NDArray[Any]) -> NDArray[Any]:
    return columns / np.linalg.norm(columns, axis=0, keepdims=True)
