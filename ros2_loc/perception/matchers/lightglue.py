"""LightGlue by kornia: attention between the keypoints of both images, as deep as the pair needs.

Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from kornia.feature import LightGlue as Network
from torch import Tensor

from ros2_loc.core.types import LocalFeatures, Matches
from ros2_loc.errors import ConfigError
from ros2_loc.models.weight_files import locate
from ros2_loc.models.weights import load_strictly, tensors_of
from ros2_loc.perception.networks import device_of

_THRESHOLDS = "confidence_thresholds"
_XFEAT = {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1, "depth_confidence": -1, "width_confidence": 0.95}
# features -> settings of their network that are not kornia's defaults
SETTINGS: dict[str, dict[str, Any]] = {
    "superpoint": {"input_dim": 256},
    "aliked": {"input_dim": 128},
    "disk": {"input_dim": 128},
    "dedodeb": {"input_dim": 256},
    "dedodeg": {"input_dim": 256},
    "xfeat": _XFEAT,
}


class LightGlue:
    """The network for one kind of features, on one device."""

    @dataclass(frozen=True)
    class Config:
        """Which features, which weights, how thorough.

        Attributes:
            features: what the weights were trained for; the name of the extractor.
            weights: name or path of the authors' file; "" for the table's file for these features.
            min_score: in [0, 1); matches with a lower score are dropped.
            adaptive: stop as soon as the matches are sure and leave out keypoints that have none (section 3.3): faster, one pair at a time.
                Otherwise all layers run, and references with as many keypoints as each other go in one batch.
            batch_size: pairs in one pass, where not adaptive.
            half: 16-bit floats; on a GPU only.
        """

        features: Literal["superpoint", "aliked", "disk", "dedodeb", "dedodeg", "xfeat"] = "aliked"
        weights: str = ""
        min_score: float = 0.1
        adaptive: bool = True
        batch_size: int = 8
        half: bool = False

        def __post_init__(self) -> None:
            if not 0.0 <= self.min_score < 1.0 or self.batch_size < 1:
                raise ConfigError(f"lightglue: min_score is in [0, 1) and batch_size positive, got {self.min_score}, {self.batch_size}")

    name = "lightglue"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._config = config
        self._device = device_of(self.name, device, config.half)
        named = "lighterglue_official" if config.features == "xfeat" else f"{config.features}_lightglue"
        self._network = load_network(config, config.weights or named).to(self._device)
        self._dimension: int = self._network.conf.input_dim

    def match(self, query: LocalFeatures, reference: LocalFeatures) -> Matches:
        """Pairs in the order of the query's keypoints.

        Raises:
            ConfigError: features that the weights were not trained for.
        """
        return self.match_many(query, [reference])[0]

    def match_many(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]:
        """`match` with each, in batches of references with as many keypoints as each other; raises as `match`."""
        for features in (query, *references):
            self._check(features)
        results = [Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32)) for _ in references]
        groups: dict[int, list[int]] = {}
        for index, reference in enumerate(references):
            groups.setdefault(len(reference), []).append(index)
        step = 1 if self._config.adaptive else self._config.batch_size
        batches = [rows[start : start + step] for count, rows in groups.items() if count for start in range(0, len(rows), step)]
        for rows in batches if len(query) else []:
            found = self._pairs(query, [references[row] for row in rows])
            for row, matches in zip(rows, found, strict=True):
                results[row] = matches
        return results

    def _pairs(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]:
        """One pass; the references have the same number of keypoints."""
        half = torch.autocast("cuda", dtype=torch.float16) if self._config.half else nullcontext()
        with torch.inference_mode(), half:
            out = self._network({"image0": self._side([query] * len(references)), "image1": self._side(references)})
        found = zip(out["matches"], out["scores"], strict=True)
        return [Matches(pairs.cpu().numpy().astype(np.int32), scores.float().cpu().numpy()) for pairs, scores in found]

    def _side(self, images: Sequence[LocalFeatures]) -> dict[str, Tensor]:
        size = np.array([image.size for image in images], dtype=np.float32)
        # trained with the first pixel's centre at 0; kornia refuses what is outside of the image
        keypoints = np.clip(np.stack([image.keypoints for image in images]) - 0.5, 0.0, size[:, None])
        sides = {"keypoints": keypoints, "descriptors": np.stack([image.descriptors for image in images]), "image_size": size}
        return {key: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self._device) for key, array in sides.items()}

    def _check(self, features: LocalFeatures) -> None:
        dimension = features.descriptors.shape[1]
        if features.extractor != self._config.features or (len(features) and dimension != self._dimension):
            raise ConfigError(
                f"lightglue has weights for the {self._dimension}-d descriptors of {self._config.features}, got {dimension}-d ones of "
                f"{features.extractor}: set features and weights to fit the extractor, or choose another matcher"
            )


def load_network(config: LightGlue.Config, weights: str) -> Network:
    """kornia's network with all of the authors' file, in evaluation mode.

    Raises:
        ConfigError, DataError: no such file; weights of other features or another network.
    """
    settings = SETTINGS[config.features] | {"flash": config.half, "filter_threshold": config.min_score}
    if not config.adaptive:
        settings |= {"depth_confidence": -1, "width_confidence": -1}
    network = Network(None, **settings)
    path = locate(weights)
    state = renamed(tensors_of(path), network.conf.n_layers)
    state.setdefault(_THRESHOLDS, network.state_dict()[_THRESHOLDS])  # made of the number of layers, not learned
    load_strictly(network, state, str(path))
    return network.eval()


def renamed(state: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The authors' keys -> kornia's: attention is kept by layers."""
    result = {}
    for key, value in state.items():
        name = key.removeprefix("matcher.")
        part, _, rest = name.partition(".")
        number, _, rest = rest.partition(".")
        is_attention = part in ("self_attn", "cross_attn") and number.isdigit() and int(number) < num_layers
        result[f"transformers.{number}.{part}.{rest}" if is_attention else name] = value
    return result
