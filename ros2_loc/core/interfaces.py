"""What a plugin must offer. No base classes: a class with the method, and a nested frozen `Config` dataclass, is a plugin.

Constructors take `(config, device)`; `device` is "cpu" or "cuda" and may be ignored. They do no I/O beyond reading the weight file
that their config names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from ros2_loc.core.types import Candidate, Detection, Frame, GlobalDescriptor, LocalFeatures, Matches


@runtime_checkable
class Extractor(Protocol):
    """Finds keypoints: at most the configured number, best first, none where `frame.mask` is False, the same for the same image."""

    name: str

    def extract(self, frame: Frame) -> LocalFeatures: ...


@runtime_checkable
class Matcher(Protocol):
    """Pairs features; each query index and each reference index at most once.

    `match_many` is `match` with several references, in one batch.
    """

    name: str

    def match(self, query: LocalFeatures, reference: LocalFeatures) -> Matches: ...

    def match_many(self, query: LocalFeatures, references: list[LocalFeatures]) -> list[Matches]: ...


@runtime_checkable
class Encoder(Protocol):
    """Describes a whole image by one unit vector.

    An encoder that is made of local features uses `features`; one that is a network uses `frame.image`. `fit` learns what must be learned
    from the map's own images (a codebook) and returns the arrays to store with the map; `restore` takes them back.
    """

    name: str

    def encode(self, frame: Frame, features: LocalFeatures) -> GlobalDescriptor: ...

    def fit(self, features: Sequence[LocalFeatures]) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Reranker(Protocol):
    """Orders candidate places anew, all of them in one batch."""

    name: str

    def rerank(self, query: LocalFeatures, candidates: Sequence[Candidate], references: Sequence[LocalFeatures]) -> list[Candidate]: ...


@runtime_checkable
class Detector(Protocol):
    """Finds objects in the image, best first."""

    name: str

    def detect(self, frame: Frame) -> list[Detection]: ...
