"""LighterGlue: the six small layers of LightGlue for XFeat, by ONNX Runtime.

Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed", ICCV 2023; trained for XFeat by its authors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.types import LocalFeatures, Matches
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.weight_files import locate
from ros2_loc.perception.backends import onnx_session

DIMENSION = 64
EXTRACTOR = "xfeat"
_INPUTS = {"kpts0", "kpts1", "desc0", "desc1"}


class LighterGlue:
    """One ONNX file, on one device."""

    @dataclass(frozen=True)
    class Config:
        """Which file.

        Attributes:
            weights: lighterglue, or the path of such a file. The least score of a match that it lets through (0.1) is part of it.
            min_score: in [0, 1); matches with a lower score are dropped.
            threads: of ONNX Runtime; 0 for its own choice.
        """

        weights: str = "lighterglue"
        min_score: float = 0.1
        threads: int = 0

        def __post_init__(self) -> None:
            if not 0.0 <= self.min_score < 1.0 or self.threads < 0:
                raise ConfigError(f"lighterglue: min_score is in [0, 1) and threads not negative, got {self.min_score}, {self.threads}")

    name = "lighterglue"

    def __init__(self, config: Config, device: str = "cpu") -> None:
        path = locate(config.weights)
        self._config = config
        self._session = onnx_session(path, device, config.threads)
        if {one.name for one in self._session.get_inputs()} != _INPUTS:
            raise DataError(f"{path}: is no LighterGlue with the inputs {', '.join(sorted(_INPUTS))}: give the file of `ros2-loc weights`")

    def match(self, query: LocalFeatures, reference: LocalFeatures) -> Matches:
        """Pairs in the order of the query's keypoints.

        Raises:
            ConfigError: features of another extractor than XFeat.
        """
        for features in (query, reference):
            _check(features)
        if not len(query) or not len(reference):
            return Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
        sides = ((query, "0"), (reference, "1"))
        inputs = {f"kpts{side}": normalized(features)[None] for features, side in sides}
        inputs |= {f"desc{side}": features.descriptors[None] for features, side in sides}
        pairs, scores = self._session.run(["matches", "scores"], inputs)
        kept = scores >= self._config.min_score
        return Matches(pairs[kept].astype(np.int32), scores[kept])

    def match_many(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]:
        """`match` of each: the file takes one pair at a time."""
        return [self.match(query, reference) for reference in references]


def normalized(features: LocalFeatures) -> NDArray[np.float32]:
    """Keypoints as LightGlue wants them: the image's centre at 0, half its longer side as unit."""
    size = np.array(features.size, dtype=np.float32)
    return ((features.keypoints - 0.5 - size / 2.0) / (size.max() / 2.0)).astype(np.float32)


def _check(features: LocalFeatures) -> None:
    if features.extractor != EXTRACTOR or (len(features) and features.descriptors.shape[1] != DIMENSION):
        raise ConfigError(
            f"lighterglue matches the {DIMENSION}-d descriptors of {EXTRACTOR}, got {features.descriptors.shape[1]}-d ones of "
            f"{features.extractor}: choose extractor {EXTRACTOR} or another matcher"
        )
