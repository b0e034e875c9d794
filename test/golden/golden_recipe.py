"""Weights and pictures made of names and seeds, as recipe.json of the golden files says, and the comparison with what is stored."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BAR = 1e-4
# scores that differ by less of the largest may change places between two machines, and so many keypoints may come or go
TIE, TIES = 1e-5, 3
_SCALED = re.compile(r"([\d.]+) x (?:the )?standard rule")
_NOISE = re.compile(r"([\d.]+)(?:\*rng\.standard_normal| n)")
_DRAWN = re.compile(r"(?:([\d.]+)\*\()?(-?[\d.]+)\+([\d.]+)(?: n|\*rng\.standard_normal\(.*\))\)?")


@dataclass(frozen=True)
class Comparison:
    """One array beside the stored one: max |a - b| / max |b|, or for discrete results the number of those that differ."""

    array: str
    error: float
    discrete: bool

    @property
    def is_good(self) -> bool:
        """Equal when discrete, else within BAR."""
        return self.error == 0 if self.discrete else self.error <= BAR

    def __str__(self) -> str:
        return f"{self.array:44s} {f'{self.error:.0f} differ' if self.discrete else f'{self.error:.1e}':>10s}"


def state_dict(keys: Mapping[str, list[int]], overrides: Mapping[str, str], seed: int) -> dict[str, torch.Tensor]:
    """The weights of `keys` (name -> shape) for a seed.

    Raises:
        ValueError: an override that is neither a multiple of the standard rule nor normal noise, with a constant or without.
    """
    return {key: torch.tensor(_numbers(key, shape, overrides, seed)).float() for key, shape in keys.items()}


def _numbers(key: str, shape: list[int], overrides: Mapping[str, str], seed: int) -> NDArray[np.float64]:
    rule = next((rule for patterns, rule in overrides.items() if any(fnmatch(key, pattern) for pattern in _each(patterns))), "")
    if not rule:
        return _standard(key, shape, seed)
    if scaled := _SCALED.fullmatch(rule):
        return float(scaled[1]) * _standard(key, shape, seed)
    if noise := _NOISE.fullmatch(rule):
        return float(noise[1]) * np.asarray(_generator(key, seed).standard_normal(shape))
    if drawn := _DRAWN.fullmatch(rule):
        factor, constant, sigma = (float(number or 1.0) for number in drawn.groups())
        return np.asarray(factor * (constant + sigma * _generator(key, seed).standard_normal(shape)))
    raise ValueError(f"recipe: the override {rule!r} of {key} is neither a multiple of the standard rule nor a constant with noise")


def _each(patterns: str) -> list[str]:
    """The patterns of "a.{b,c} and d / e"."""
    found = []
    for pattern in re.split(" and | / ", patterns):
        before, brace, rest = pattern.partition("{")
        inside, _, after = rest.partition("}")
        found += [before + choice + after for choice in inside.split(",")] if brace else [pattern]
    return found


def _generator(key: str, seed: int) -> np.random.RandomState:
    return np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF)


def _standard(key: str, shape: list[int], seed: int) -> NDArray[np.float64]:
    rng = _generator(key, seed)
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape)
    if last == "running_var":
        return 1.0 + 0.1 * np.abs(rng.standard_normal(shape))
    if last.endswith("weight") and len(shape) >= 2:
        return rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    if last.endswith("weight"):
        return 1.0 + 0.1 * rng.standard_normal(shape)
    if last == "running_mean" or last.endswith("bias"):
        return 0.1 * rng.standard_normal(shape)
    raise ValueError(f"the recipe has no rule for {key}")


def blocks_image(
    rng: np.random.RandomState, channels: int, height: int, width: int, block: int = 8, noise: float = 0.3
) -> NDArray[np.float32]:
    """(channels, height, width) in 0..1: coarse blocks with fine noise."""
    low = rng.random_sample((channels, -(-height // block), -(-width // block)))
    fine = rng.random_sample((channels, height, width))
    coarse = np.repeat(np.repeat(low, block, 1), block, 2)[:, :height, :width]
    return ((1.0 - noise) * coarse + noise * fine).astype(np.float32)


def read_json(path: Path) -> Any:
    """The content of keys.json or recipe.json."""
    return json.loads(path.read_text())


def stored_form(array: NDArray[Any], name: str, recipe: Mapping[str, Any]) -> NDArray[Any]:
    """A full array as the golden file has it: every n-th number of those that `subsample` names."""
    rule = recipe["subsample"].get(name)
    if rule is None:
        return array
    # how many rows there are can hang on the seed
    assert list(array.shape)[1:] == rule["shape"][1:], f"{name}: {array.shape}, the recipe has {rule['shape']}"
    return array.reshape(-1)[:: rule["flat_stride"]]


def compare(name: str, ours: NDArray[Any], golden: NDArray[Any], discrete: bool, limit: float | None = None) -> Comparison:
    """Ours beside the golden numbers; of those beyond `limit` it only matters that ours are beyond it as well."""
    assert ours.shape == golden.shape, f"{name}: {ours.shape}, golden has {golden.shape}"
    assert np.isfinite(ours).all(), f"{name}: not finite"
    if discrete:
        return Comparison(name, float((ours != golden).sum()), True)
    if limit is not None:
        within = np.abs(golden) < limit
        if (np.abs(ours[~within]) < 0.99 * limit).any():
            return Comparison(name, float("inf"), False)
        ours, golden = ours[within], golden[within]
    difference = np.abs(ours.astype(np.float64) - golden).max(initial=0.0)
    return Comparison(name, float(difference / np.abs(golden).max(initial=1e-30)), False)


def compare_order(name: str, ours: NDArray[Any], golden: NDArray[Any], scores: NDArray[Any]) -> Comparison:
    """Indices in the order of falling scores: how many places have another one, but for those whose scores tie."""
    assert ours.shape == golden.shape, f"{name}: {ours.shape}, golden has {golden.shape}"
    return Comparison(name, float((np.abs(scores[ours] - scores[golden]) > TIE * np.abs(scores).max(initial=0.0)).sum()), True)


def compare_count(name: str, difference: int) -> Comparison:
    """Where so many of a set differ that are not explained by a few at a threshold."""
    return Comparison(name, float(max(0, difference - TIES)), True)
