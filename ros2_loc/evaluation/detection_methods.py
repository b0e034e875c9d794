"""What is compared: detectors as sections of a pipeline, and files of what others found."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros2_loc import registry
from ros2_loc.config import read_yaml
from ros2_loc.core.interfaces import Detector
from ros2_loc.errors import ConfigError, DataError, MissingDependencyError
from ros2_loc.evaluation.features_methods import parse_section

_WEIGHTS = re.compile(r"the weights '([^']+)'")
_MIN_SCORE = "min_score"


@dataclass(frozen=True, slots=True)
class DetectionMethod:
    """A detector, or a file of detections, under one name.

    Attributes:
        section: as a pipeline has it; {} of a file.
        results: JSON in COCO's form of results, or a folder of UAVDT's lists; None of a detector.
    """

    label: str
    section: Mapping[str, Any]
    results: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this method what it is."""
        return {"results": str(self.results)} if self.results is not None else dict(self.section)


def parse_detectors(words: Sequence[str], weights: Sequence[str], files: Sequence[str], min_score: float) -> list[DetectionMethod]:
    """Methods of command-line words.

    Args:
        words: `name`, `name:key=value,key=value`, or a YAML file with `label: {name: ..., key: value}`.
        weights: none, or one for each of `words`.
        files: `label=path` or a path.
        min_score: for detectors whose section has none: an average precision needs the doubtful ones, too.

    Raises:
        ConfigError: nothing to compare, a word that is no section, numbers that do not fit, or a name that comes twice.
    """
    if weights and len(weights) != len(words):
        raise ConfigError(f"--weights: give one for each of the {len(words)} detectors, not {len(weights)}")
    named: list[tuple[str, dict[str, Any]]] = []  # "" where the words give no name
    for k, word in enumerate(words):
        given = _from_file(Path(word)) if word.endswith((".yaml", ".yml")) else [("", parse_section(word))]
        more = {"weights": weights[k]} if weights else {}
        named += [(label, {**section, **more}) for label, section in given]
    unnamed = [section for label, section in named if not label]
    methods = [DetectionMethod(label or _label(section, unnamed), _with_min_score(section, min_score)) for label, section in named]
    methods += [_of_results(word) for word in files]
    if not methods:
        raise ConfigError("nothing to evaluate: give --detector NAME or --detections FILE.json")
    labels = [method.label for method in methods]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice!r} comes twice; name detections as OTHER={twice}, or detectors in a YAML file")
    return methods


def make_detector(method: DetectionMethod, device: str) -> Detector | str:
    """The detector, or why it can't be had on this machine ("weights centernet_town missing").

    Raises:
        ConfigError: a section that no machine could make a detector of.
    """
    try:
        return registry.create("detector", method.section, device)  # type: ignore[no-any-return]
    except (DataError, MissingDependencyError) as error:
        named = _WEIGHTS.search(str(error))
        return f"weights {named[1]} missing" if named else str(error)


def _label(section: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Its name, and where others have the same, what is set otherwise there."""
    alike = [other for other in others if other["name"] == section["name"]]
    differing = [key for key in sorted(section) if any(other.get(key) != section[key] for other in alike)]
    told = (Path(str(section[key])).stem if key == "weights" else f"{key}={section[key]}" for key in differing)
    return " ".join([str(section["name"]), *told])


def _with_min_score(section: dict[str, Any], min_score: float) -> dict[str, Any]:
    try:
        config = getattr(registry.resolve("detector", str(section["name"])), "Config", None)
    except MissingDependencyError:
        return section
    known = {f.name for f in dataclasses.fields(config)} if config is not None else set()
    return section if _MIN_SCORE not in known or _MIN_SCORE in section else {**section, _MIN_SCORE: min_score}


def _from_file(path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for label, section in read_yaml(path).items():
        if not isinstance(section, dict) or not section.get("name"):
            raise ConfigError(f"{path}: {label}: a detector's section needs a name, for instance {{name: centernet}}")
        found.append((str(label), section))
    return found


def _of_results(word: str) -> DetectionMethod:
    label, equals, rest = word.partition("=")
    path = Path(rest if equals else word)
    if not path.exists():
        raise ConfigError(f"--detections {word}: there is no {path}; give a JSON file of results, or UAVDT's folder of lists")
    return DetectionMethod(label if equals else path.stem, {}, path)
