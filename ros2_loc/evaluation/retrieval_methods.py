"""What is compared: a retriever, and a re-ranker of its candidates, each a file in config/retrieval or one of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros2_loc import registry
from ros2_loc.config import build, read_yaml, share_folder
from ros2_loc.core.interfaces import Encoder, Extractor, Reranker
from ros2_loc.errors import ConfigError, DataError, MissingDependencyError

EVERY = "all"
_WEIGHTS = re.compile(r"the weights '([^']+)'")


@dataclass(frozen=True)
class _Schema:
    encoder: dict[str, Any] = field(default_factory=dict)
    extractor: dict[str, Any] = field(default_factory=dict)
    reranker: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetrievalMethod:
    """Sections of plugins under one name.

    Attributes:
        encoder: of the retriever.
        extractor: of the map's own local features, for an encoder or a re-ranker that is made of them; {} without.
        reranker: {} for a retriever alone.
    """

    label: str
    encoder: Mapping[str, Any]
    extractor: Mapping[str, Any]
    reranker: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this method what it is."""
        return {"encoder": dict(self.encoder), "extractor": dict(self.extractor), "reranker": dict(self.reranker)}

    @property
    def retriever(self) -> RetrievalMethod:
        """The same without re-ranking; its label tells what it is made of."""
        name, weights = str(self.encoder["name"]), str(self.encoder.get("weights", ""))
        label = f"{name} {Path(weights).stem}".strip() if not weights.startswith(name) else weights
        if not self.encoder_needs_features:
            return RetrievalMethod(label, self.encoder, {}, {})
        return RetrievalMethod(f"{label} of {self.extractor.get('name', 'nothing')}", self.encoder, self.extractor, {})

    @property
    def encoder_needs_features(self) -> bool:
        """Whether the encoder is made of local features."""
        try:
            return bool(registry.resolve("encoder", str(self.encoder["name"])).needs_features)  # type: ignore[attr-defined]
        except MissingDependencyError:
            return False


@dataclass(slots=True)
class Plugins:
    """The plugins of a method, made."""

    encoder: Encoder
    extractor: Extractor | None
    reranker: Reranker | None


def method_names() -> list[str]:
    """Those that come with ros2_loc."""
    return sorted(path.stem for path in (share_folder() / "config" / "retrieval").glob("*.yaml"))


def load_methods(words: Sequence[str]) -> list[RetrievalMethod]:
    """Methods by names in config/retrieval ("all": every one) or paths of YAML files; several to a word with commas between.

    Raises:
        ConfigError: no such method, a name that comes twice, or a file with an unknown key or without an encoder.
    """
    names = [name for word in words for name in word.split(",") if name]
    names = [name for word in names for name in (method_names() if word == EVERY else [word])]
    if not names:
        raise ConfigError("--methods: give at least one, for instance --methods vlad,vlad_sift_ransac")
    methods = [_load(name) for name in names]
    labels = [method.label for method in methods]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"--methods: {twice!r} comes twice")
    return methods


def make_plugins(method: RetrievalMethod, device: str = "cpu") -> Plugins | str:
    """The plugins, or why they can't be had on this machine ("weights superpoint_v1 missing").

    Raises:
        ConfigError: sections that no machine could make plugins of.
    """
    try:
        encoder = registry.create("encoder", method.encoder, device)
        extractor = registry.create("extractor", method.extractor, device) if method.extractor else None
        reranker = registry.create("reranker", method.reranker, device) if method.reranker else None
    except (DataError, MissingDependencyError) as error:
        named = _WEIGHTS.search(str(error))
        return f"weights {named[1]} missing" if named else str(error)
    needing = next((p.name for p in (encoder, reranker) if p is not None and p.needs_features), None)
    if needing and extractor is None:
        raise ConfigError(f"{method.label}: {needing} is made of local features: give an extractor, for instance {{name: sift}}")
    return Plugins(encoder, extractor, reranker)


def _load(name: str) -> RetrievalMethod:
    path = Path(name) if name.endswith((".yaml", ".yml")) else share_folder() / "config" / "retrieval" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"--methods: there is no method {name!r}; there are {', '.join(method_names())}, all, or paths of YAML files")
    read = build(_Schema, read_yaml(path), str(path))
    if not read.encoder.get("name"):
        raise ConfigError(f"{path}: an encoder with a name is needed, for instance encoder: {{name: vlad}}")
    for section in ("extractor", "reranker"):
        values = getattr(read, section)
        if values and not values.get("name"):
            raise ConfigError(f"{path}: {section}: a section needs a name")
    return RetrievalMethod(path.stem, read.encoder, read.extractor, read.reranker)
