"""Everything that the golden files of CenterNet hold, computed by `models.centernet` and the detector's own steps."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import Comparison, blocks_image, compare, compare_count, read_json, state_dict, stored_form
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.models.centernet import CenterNet, decode
from ros2_loc.models.centernet.decode import REFUSED, SCORE
from ros2_loc.models.centernet.official import config_of, renamed
from ros2_loc.models.weights import load_strictly
from ros2_loc.perception.detectors.centernet import Centernet
from ros2_loc.perception.detectors.centernet_steps import boxes_of, view_of

Golden = dict[str, NDArray[Any]]
_PP_SIZE, _PP_SCALES = (400, 600), {"single": (1.0,), "multi_merge": (0.6, 1.0, 1.2)}
_PP_PAIRS, _PP_VALID, _PP_CENTRES, _PP_LABELS = 1000, 700, 70, 4
_BIAS = re.compile(r"(-?[\d.]+)\+0\.1 n, plus ([\d.]+) for classes ([\d,]+)")
_STORED_PAIRS, _MERGE_EXPONENT, _LIMIT = 400, 10.0, 100


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours, and of golden_pp_seed{seed}.npz where it is there."""
    recipe, keys = read_json(folder / "recipe.json"), read_json(folder / "keys.json")
    compared = []
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    for variant in sorted({name.partition(".")[0] for name in golden}):
        network = make_network(keys[f"CenterNet-{variant}"], recipe["overrides"], seed)
        compared += _maps(network, variant, seed, golden, recipe) + _whole_test(network, variant, seed, golden)
        del network  # up to 2 GB
    assert not golden, f"golden arrays that nothing here computes: {sorted(golden)}"
    if (folder / f"golden_pp_seed{seed}.npz").is_file():
        compared += _steps_alone(folder / f"golden_pp_seed{seed}.npz", seed)
    return compared


def make_network(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> CenterNet:
    """The authors' state_dict of the recipe in our network."""
    state = _authors_state(keys, overrides, seed)
    config = config_of(renamed(state))
    network = CenterNet(config)
    load_strictly(network, renamed(state), "recipe")
    return network.eval()


def _authors_state(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> dict[str, Tensor]:
    """Overrides are told in words and, in the same order, as patterns, of which the first holds."""
    rules = [rule for name, rule in overrides.items() if name != "regex order"]
    patterns = ast.literal_eval(overrides["regex order"].partition("regexes: ")[2])
    of_key = {key: next((rule for pattern, rule in zip(patterns, rules, strict=True) if re.search(pattern, key)), "") for key in keys}
    biases = {key: _BIAS.match(rule) for key, rule in of_key.items()}
    state = state_dict(keys, {key: rule for key, rule in of_key.items() if rule and not biases[key]}, seed)
    for key, found in biases.items():
        if found:  # the standard rule of biases is the noise
            state[key] += float(found[1])
            state[key][[int(label) for label in found[3].split(",")]] += float(found[2])
    return state


@torch.inference_mode()
def _maps(network: CenterNet, variant: str, seed: int, golden: Golden, recipe: dict[str, Any]) -> list[Comparison]:
    """Compares and takes features, maps, and what is decoded of them."""
    pixels = blocks_image(np.random.RandomState(seed), 3, 127, 127, 12)
    images = torch.from_numpy(((pixels - 0.45) / 0.28)[None].astype(np.float32))
    held: dict[str, Tensor] = {}
    last = network.stacks[-1]
    hook = last.hourglass.register_forward_hook(lambda module, given, result: held.update(hg_feat=result))
    heads = network(images)[-1]
    hook.remove()
    held["cnv_feat"] = last.neck(held["hg_feat"])
    held |= dict(zip(("tl_feat", "br_feat", "ct_feat"), last.pooled(held["cnv_feat"]), strict=True))
    held |= {name.replace("offset", "regr"): value for name, value in heads._asdict().items()}
    compared = []
    for name, value in held.items():
        full = f"{variant}.{name}"
        compared.append(compare(full, stored_form(value.numpy(), full, recipe), golden.pop(full), discrete=False))
    found = decode(heads)
    pairs = found.pairs[0][found.pairs[0, :, SCORE] > REFUSED].numpy()
    compared.append(compare_count(f"{variant}.n_valid", abs(len(pairs) - int(golden.pop(f"{variant}.n_valid")))))
    compared += _rows(f"{variant}.detections", pairs[:_STORED_PAIRS], golden.pop(f"{variant}.detections"))
    return compared + _rows(f"{variant}.centers", found.centres[0].numpy(), golden.pop(f"{variant}.centers"))


def _whole_test(network: CenterNet, variant: str, seed: int, golden: Golden) -> list[Comparison]:
    """Compares and takes the boxes of an image, by the detector."""
    bgr = np.floor(255 * blocks_image(np.random.RandomState(seed), 3, 120, 180, 12)).astype(np.uint8).transpose(1, 2, 0)
    frame = Frame(0, np.ascontiguousarray(bgr[..., ::-1]), Camera.pinhole(180, 120, 100.0, 100.0, 90.0, 60.0), Pose.identity())
    detector = Centernet.of_network(network, Centernet.Config(procedure="authors", flip=True, min_score=0.0))
    found = [[*one.box, one.score, 1 + detector.labels.index(one.label)] for one in detector.detect(frame)]
    name = f"{variant}.final_boxes_x1y1x2y2_score_class1based"
    return _rows(name, np.array(found, np.float32).reshape(-1, 6), golden.pop(name))


def _steps_alone(path: Path, seed: int) -> list[Comparison]:
    """What follows the network, of made-up pairs and centres."""
    compared = []
    with np.load(path) as golden:
        for name, scales in _PP_SCALES.items():
            rng, found = np.random.RandomState(seed), []
            for scale in scales:
                view = view_of(np.zeros((*_PP_SIZE, 3), np.uint8), scale, 1, "authors")
                height, width = (int(side + 1) // 4 for side in view.image.shape[:2])
                found.append((view, *_made_up(rng, width, height)))
            ours = boxes_of(found, "authors", _MERGE_EXPONENT, _LIMIT)
            ours[:, 5] += 1
            compared += _rows(f"pp.{name}", ours, golden[name])
        assert set(golden.files) == set(_PP_SCALES), f"golden arrays that nothing here computes: {golden.files}"
    return compared


def _made_up(rng: np.random.RandomState, width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pairs (2, 1000, 8) and centres (2, 70, 4), drawn in the order of the recipe."""
    shape = (2, _PP_PAIRS)
    x0, y0 = rng.uniform(0, 0.8 * width, shape), rng.uniform(0, 0.8 * height, shape)
    w, h = rng.uniform(0.02 * width, 0.7 * width, shape), rng.uniform(0.02 * height, 0.7 * height, shape)
    x1, y1 = np.minimum(x0 + w, width + 3), np.minimum(y0 + h, height + 3)
    score = -np.sort(-rng.uniform(0.05, 0.95, shape), axis=1)
    tl = np.clip(score + rng.uniform(-0.05, 0.05, shape), 0, 1)
    br, label = 2 * score - tl, rng.randint(0, _PP_LABELS, shape)
    score[:, _PP_VALID:] = -1
    shape = (2, _PP_CENTRES)
    x, y, kind = rng.uniform(0, width, shape), rng.uniform(0, height, shape), rng.randint(0, _PP_LABELS, shape)
    centres = np.stack([x, y, kind, -np.sort(-rng.uniform(0.05, 0.95, shape), axis=1)], axis=-1)
    return np.stack([x0, y0, x1, y1, score, tl, br, label], axis=-1).astype(np.float32), centres.astype(np.float32)


def _rows(name: str, ours: NDArray[np.float32], stored: NDArray[np.float32]) -> list[Comparison]:
    """Each stored row beside the nearest of ours; rows at a threshold may come or go on another machine."""
    if not len(ours) or not len(stored):
        return [compare_count(f"{name} rows", abs(len(ours) - len(stored)))]
    distance = np.abs(stored[:, None] - ours[None]).max(axis=2)
    nearest, known = distance.argmin(axis=1), distance.min(axis=1) < 0.05
    missing = max(int((~known).sum()), abs(len(ours) - len(stored)))
    return [compare_count(f"{name} rows", missing), compare(name, ours[nearest[known]], stored[known], discrete=False)]
