"""Everything that the golden files of LoFTR hold, computed by `models.loftr`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import TIE, Comparison, blocks_image, compare, read_json, state_dict, stored_form
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models import loftr
from ros2_loc.models.loftr import CellMatches, Cells, LoFTR
from ros2_loc.models.weights import load_strictly

HEIGHT, WIDTH = 96, 128
# random networks give few matches
LOW_THRESHOLD = 1e-3
ENCODINGS = {"fix": "fixed", "buggy": "buggy"}


def compare_all(folder: Path, seed: int) -> list[Comparison]:
    """Every array of golden_seed{seed}.npz beside ours; what is at matches, at the golden ones."""
    recipe = read_json(folder / "recipe.json")
    # "name|seed0" overrides "name"
    own = {name.partition("|")[0]: rule for name, rule in recipe["subsample"].items() if f"|seed{seed} " in name}
    recipe |= {"subsample": recipe["subsample"] | own}
    with np.load(folder / f"golden_seed{seed}.npz") as file:
        golden = {name: file[name] for name in file.files}
    state = loftr.renamed(state_dict(read_json(folder / "keys.json")["loftr"], recipe["overrides"], seed))
    compared: list[Comparison] = []
    with torch.inference_mode():
        for part in ("fix", "buggy", "syn", "synmask"):
            network = LoFTR(LoFTR.Config(ENCODINGS.get(part, "buggy"))).eval()  # type: ignore[arg-type]
            load_strictly(network, state, "recipe")
            wanted = {name.partition(".")[2]: array for name, array in golden.items() if name.partition(".")[0] == part}
            matches = CellMatches(*(torch.from_numpy(wanted[name]).long() for name in ("i_ids", "i_ids", "j_ids", "mconf")))
            matches = matches._replace(pair=torch.zeros_like(matches.first))
            made = _whole(network, seed, matches) if part in ENCODINGS else _synthetic(network, seed, matches, part == "synmask")
            compared += _compared(part, made, wanted, recipe)
    return compared


def _compared(part: str, ours: dict[str, Tensor], golden: dict[str, NDArray[Any]], recipe: dict[str, Any]) -> list[Comparison]:
    threshold = LOW_THRESHOLD if part in ENCODINGS else loftr.THRESHOLD
    pairs = {tuple(pair) for pair in ours.pop("matches").tolist()}, set(zip(golden["i_ids"], golden["j_ids"], strict=True))
    confidence = ours["conf_matrix"][0]
    explained = [pair for pair in pairs[0] ^ pairs[1] if abs(float(confidence[pair]) - threshold) < TIE * float(confidence.max())]
    found = [Comparison(f"{part}.matches", float(len(pairs[0] ^ pairs[1]) - len(explained)), True)]
    names = [name for name in golden if name not in ("i_ids", "j_ids")]
    assert not set(names) - set(ours), f"golden arrays that nothing here computes: {sorted(set(names) - set(ours))}"
    stored = [(name, stored_form(ours[name].numpy(), f"{part}.{name}", recipe)) for name in names]
    return found + [compare(f"{part}.{name}", array, golden[name], discrete=False) for name, array in stored]


def _whole(network: LoFTR, seed: int, matches: CellMatches) -> dict[str, Tensor]:
    """The golden arrays of two images."""
    rng = np.random.RandomState(seed)
    first = blocks_image(rng, 1, HEIGHT, WIDTH)[0]
    second = np.clip(np.roll(first, (16, 8), (0, 1)) + 0.02 * rng.standard_normal((HEIGHT, WIDTH)), 0, 1)
    images = torch.from_numpy(np.stack([np.floor(255 * each).astype(np.uint8) for each in (first, second)])[:, None]).float() / 255.0
    coarse, fine = network.features(images)
    torch.testing.assert_close(network.coarse_features(images), coarse)
    cells = network.attended(network.cells(coarse[:1]), network.cells(coarse[1:]))
    ours = _matched(network, cells, (fine[:1], fine[1:]), matches, LOW_THRESHOLD, np.ones((2, 2)))
    return ours | {
        "backbone_coarse": coarse,
        "backbone_fine": fine,
        "pe_8x8": loftr.position_encoding(256, (8, 8), network.config.encoding),
        "coarse0": cells[0].tokens,
        "coarse1": cells[1].tokens,
    }


def _synthetic(network: LoFTR, seed: int, matches: CellMatches, masked: bool) -> dict[str, Tensor]:
    """The golden arrays of made-up features, all images alike or smaller ones that were filled up."""
    rng = np.random.RandomState(seed + 50)
    first = 0.8 * rng.standard_normal((1, 12, 16, 256))
    second = np.roll(first, (2, 1), (1, 2)) + 0.2 * rng.standard_normal(first.shape)
    fine = rng.standard_normal((1, 128, 48, 64))
    moved = np.roll(fine, (9, 3), (2, 3)) + 0.2 * rng.standard_normal(fine.shape)
    valid = torch.ones(1, 12, 16, dtype=torch.bool)
    valid[:, :, 13:] = not masked
    tokens = [torch.from_numpy(each).float().reshape(1, 192, 256) for each in (first, second)]
    cells = [Cells(each, (12, 16), valid.flatten(1) if masked else None) for each in tokens]
    scales = np.array([[1.5, 1.25], [2.0, 1.75]]) if masked else np.ones((2, 2))
    maps = torch.from_numpy(fine).float(), torch.from_numpy(moved).float()
    return _matched(network, (cells[0], cells[1]), maps, matches, loftr.THRESHOLD, scales)


def _matched(
    network: LoFTR,
    cells: tuple[Cells, Cells],
    fine: tuple[Tensor, Tensor],
    matches: CellMatches,
    threshold: float,
    scales: NDArray[np.float64],
) -> dict[str, Tensor]:
    confidence = loftr.confidences(*cells)
    own = loftr.matched(confidence, *cells, threshold)
    windows = network.windows(fine, cells, matches)
    expectation = loftr.refined(windows)
    coarse = [loftr.positions(index, each.size) for index, each in zip((matches.first, matches.second), cells, strict=True)]
    second = loftr.refined_positions(matches.second, cells[1].size, expectation)
    first_scale, second_scale = torch.from_numpy(scales).float()
    return {
        "matches": torch.stack([own.first, own.second], dim=1),
        "conf_matrix": confidence,
        "mconf": confidence[0, matches.first, matches.second],
        "mkpts0_c": coarse[0] * first_scale,
        "mkpts1_c": coarse[1] * second_scale,
        "mkpts0_f": coarse[0] * first_scale,
        "mkpts1_f": second * second_scale,
        "expec_f": expectation,
        "fine_unfold0": network.unfolded(fine, cells, matches)[0],
        "fine0": windows[0],
    }
