"""What is compared: an extractor with its matcher, and how long they take."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.config import read_yaml
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import ConfigError
from ros2_loc.io.image_pairs import View

MATCHER: dict[str, Any] = {"name": "mutual_nearest"}
# rows of the paper's table 2: which modules of Context-R2D2 they have
ABLATION = {
    "R2D2": {"local_guided": False, "multi_scale": False},
    "R2D2 + LG": {"local_guided": True, "multi_scale": False},
    "R2D2 + LG + MA": {"local_guided": True, "multi_scale": True},
}
_KEPT_IMAGES = 48  # features of one image are a megabyte or three
_NEXT_KEY = re.compile(r",(?=[A-Za-z_][\w.]*=)")


@dataclass(frozen=True, slots=True)
class Method:
    """An extractor and a matcher as sections of a pipeline, under one name."""

    label: str
    extractor: Mapping[str, Any]
    matcher: Mapping[str, Any] = field(default_factory=lambda: dict(MATCHER))

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this method what it is."""
        return {"extractor": dict(self.extractor), "matcher": dict(self.matcher)}


def parse_section(word: str) -> dict[str, Any]:
    """`r2d2:weights=r2d2_wasf_n16,max_keypoints=5000` as the section {"name": "r2d2", "weights": ..., "max_keypoints": 5000}.

    Raises:
        ConfigError: no name, or a part that is not key=value.
    """
    name, _, rest = word.partition(":")
    section: dict[str, Any] = {"name": name}
    for part in _NEXT_KEY.split(rest) if rest else []:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ConfigError(f"{word}: give name:key=value,key=value, for instance sift:max_keypoints=4000")
        section[key] = yaml.safe_load(value)
    if not name:
        raise ConfigError(f"{word!r}: an extractor needs a name, for instance sift")
    return section


def parse_methods(words: Sequence[str], matchers: Sequence[str] = ()) -> list[Method]:
    """Methods of command-line words: sections as `parse_section` takes them, or YAML files with a section per name.

    Args:
        words: a YAML file has `name: {extractor: {name: ...}, matcher: {name: ...}}` or `name: {name: ..., key: value}`.
        matchers: none (mutual nearest neighbours), one for all, or one for each word; those of a YAML file go before.

    Raises:
        ConfigError: a word that is no section, numbers that do not fit, or a name that comes twice.
    """
    if len(matchers) > 1 and len(matchers) != len(words):
        raise ConfigError(f"--matcher: give one, or one for each of the {len(words)} extractors, not {len(matchers)}")
    given = [parse_section(word) for word in matchers] or [dict(MATCHER)]
    names = [word.partition(":")[0] for word in words]
    methods: list[Method] = []
    for k, word in enumerate(words):
        matcher = given[k % len(given)]
        if word.endswith((".yaml", ".yml")):
            methods += _from_file(Path(word), matcher)
        else:
            alone = names.count(names[k]) == 1
            methods.append(Method(names[k] if alone else _told_apart(word, matcher, words, k), parse_section(word), matcher))
    labels = [method.label for method in methods]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"--extractors: {twice!r} comes twice with the same settings")
    return methods


def ablation_methods(weights: Sequence[str]) -> list[Method]:
    """R2D2, +LG and +LG+MA of the paper's table 2, by the files of their weights.

    The first may be an official checkpoint of R2D2, or its name; the others, and the first otherwise, are files of `ros2-loc train`.

    Raises:
        ConfigError: a file is missing, or of another row than where it stands.
        DataError: a file is damaged.
    """
    return [_row(label, modules, file) for (label, modules), file in zip(ABLATION.items(), weights, strict=True)]


def _row(label: str, modules: Mapping[str, bool], weights: str) -> Method:
    if label == "R2D2" and not weights.endswith(".safetensors"):
        return Method(label, {"name": "r2d2", "weights": weights})
    from ros2_loc.models.weights import read_metadata  # with it comes torch, which other methods may not need

    header = read_metadata(weights)
    config = {"local_guided": False, "multi_scale": False, **header["config"]}
    is_context = header["network"] == "context_r2d2"
    if (not is_context and header["network"] != "r2d2") or any(config[key] != value for key, value in modules.items()):
        told = ", ".join(f"{key} {config[key]}" for key in modules) if is_context else header["network"]
        raise ConfigError(f"--ablation: {weights} is not {label} but {told}; give the files of R2D2, + LG, + LG + MA in this order")
    return Method(label, {"name": header["network"], "weights": weights})


def _told_apart(word: str, matcher: Mapping[str, Any], words: Sequence[str], k: int) -> str:
    return word if words.count(word) == 1 else f"{word} + {matcher['name']}"


def _from_file(path: Path, matcher: Mapping[str, Any]) -> list[Method]:
    methods = []
    for label, section in read_yaml(path).items():
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {label}: expected a section such as {{name: sift}}, got {section!r}")
        extractor = section.get("extractor", section)
        if not isinstance(extractor, dict) or "name" not in extractor:
            raise ConfigError(f"{path}: {label}: an extractor's section needs a name, for instance {{name: sift}}")
        methods.append(Method(str(label), extractor, section.get("matcher", matcher) if "extractor" in section else matcher))
    return methods


class Features:
    """A method at work: features of the newest images are kept, times are noted (images are read outside of them)."""

    def __init__(self, method: Method, device: str = "cpu") -> None:
        self.method = method
        self._extractor = registry.create("extractor", method.extractor, device)
        self._matcher = registry.create("matcher", method.matcher, device)
        self._known: OrderedDict[str, LocalFeatures] = OrderedDict()
        self.begin()

    def begin(self) -> None:
        """Forget images and times: another data set begins."""
        self._known.clear()
        self.extract_s: list[float] = []
        self.match_s: list[float] = []
        self.keypoints: list[int] = []

    @property
    def seconds(self) -> dict[str, float]:
        """Medians of what was done since `begin`: "extract" of an image, "match" of a pair."""
        return {name: float(np.median(s)) for name, s in (("extract", self.extract_s), ("match", self.match_s)) if s}

    def of(self, view: View) -> LocalFeatures:
        """Features of an image."""
        if view.name in self._known:
            self._known.move_to_end(view.name)
            return self._known[view.name]
        frame = view.frame()
        begin = time.perf_counter()
        found = self._extractor.extract(frame)
        self.extract_s.append(time.perf_counter() - begin)
        self.keypoints.append(len(found))
        self._known[view.name] = found
        if len(self._known) > _KEPT_IMAGES:
            self._known.popitem(last=False)
        return found

    def matches(self, first: LocalFeatures, second: LocalFeatures) -> NDArray[np.int32]:
        """(M, 2) rows of the features that belong together."""
        begin = time.perf_counter()
        found = self._matcher.match(first, second).indices
        self.match_s.append(time.perf_counter() - begin)
        return found


def pairs_px(first: LocalFeatures, second: LocalFeatures, indices: NDArray[np.int32]) -> NDArray[np.float64]:
    """(M, 4) px of matches: x, y in the first image; x, y in the second."""
    return np.column_stack([first.keypoints[indices[:, 0]], second.keypoints[indices[:, 1]]]).astype(np.float64)
