"""Small sets of places, and re-rankers that do what a test needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from feature_cases import textured

from ros2_loc.core.types import Candidate, FloatArray, Frame, LocalFeatures, PlaceEvidence, PlaceMatches, PlaceScores
from ros2_loc.io.geotagged import geotagged_name
from ros2_loc.io.images import RGB, write_image
from ros2_loc.io.place_lights import LIGHTS, in_other_light

PLACES = 6


def place(k: int) -> RGB:
    """What stands at place k."""
    return textured(k, 160, 120)


def place_folder(folder: Path, domains: Sequence[str] = ("", "dark")) -> Path:
    """Six places 100 m apart; queries of each domain 5 m beside them, moved by a few pixels and in another light."""
    for k in range(PLACES):
        write_image(folder / "database" / geotagged_name(100.0 * k, 0.0, note=f"p{k}", suffix=".png"), place(k))
    for domain in domains:
        light = LIGHTS[domain or "shifted"]
        for k in range(PLACES):
            name = geotagged_name(100.0 * k, 5.0, note=f"q{k}", suffix=".png")
            seen = in_other_light(np.roll(place(k), (2, 4), axis=(0, 1)), light, k)
            write_image(folder / (f"queries_{domain}" if domain else "queries") / name, seen)
    return folder


class Brightness:
    """Compares the mean of images; `listwise` adds how many candidates there are, so that scores of two calls differ."""

    @dataclass(frozen=True)
    class Config:
        """Whether a score depends on the others, and whether right places get the worst scores."""

        inverted: bool = False

    name = "brightness"
    needs_image = True
    needs_features = False
    batch_size = 2
    listwise = False
    calls: list[int] = []  # noqa: RUF012

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self._sign = -1.0 if config.inverted else 1.0

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence:
        assert frame is not None
        return PlaceEvidence(self.name, {"mean": frame.image.mean(axis=(0, 1))})

    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]:
        return [self.describe(frame, None) for frame in frames or ()]

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores:
        self.calls.append(len(places))
        apart = np.array([np.linalg.norm(query.arrays["mean"] - p.arrays["mean"]) for p in places], dtype=np.float32)
        return PlaceScores(-self._sign * apart, None, {"matching": 0.0, "scoring": 1e-4})

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches:
        return PlaceMatches(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, bool))

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray:
        return np.zeros((0, 2), np.float32)


class ListwiseBrightness(Brightness):
    """The same, of a list."""

    name = "listwise_brightness"
    listwise = True
