"""What a plugin must offer. No base classes: a class with the method, and a nested frozen `Config` dataclass, is a plugin.

Constructors take `(config, device)`; `device` is "cpu" or "cuda" and may be ignored. They do no I/O beyond reading the weight file
that their config names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import (
    Candidate,
    Detection,
    FloatArray,
    Frame,
    GlobalDescriptor,
    GroundFeatures,
    LocalFeatures,
    Matches,
    OverheadDescriptor,
    PlaceEvidence,
    PlaceMatches,
    PlaceScores,
    TileDescriptors,
)


@runtime_checkable
class Extractor(Protocol):
    """Finds keypoints: at most the configured number, best first, none where `frame.mask` is False, the same for the same image.

    `extract_many` is `extract` of several, in one batch where images share a size; it likes to get `batch_size` of them at once.
    """

    name: str
    batch_size: int

    def extract(self, frame: Frame) -> LocalFeatures: ...

    def extract_many(self, frames: Sequence[Frame]) -> list[LocalFeatures]: ...


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

    An encoder that is made of local features uses `features` (`needs_features`), one that is a network uses `frame.image` (`needs_image`);
    what it does not need may be None. `encode_many` is `encode` of several, in one batch where images share a size; it likes to get
    `batch_size` of them at once. `fit` learns what must be learned from the map's own images (a codebook) and returns the arrays to store
    with the map, {} where there is nothing to learn; `restore` takes them back.
    """

    name: str
    needs_image: bool
    needs_features: bool
    batch_size: int

    def encode(self, frame: Frame | None, features: LocalFeatures | None) -> GlobalDescriptor: ...

    def encode_many(
        self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None
    ) -> list[GlobalDescriptor]: ...

    def fit(self, features: Sequence[LocalFeatures]) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Reranker(Protocol):
    """Says how much candidate places look like the query, all of them in one batch.

    `describe` makes what is compared, once per image, from the image (`needs_image`) or from the map's own local features
    (`needs_features`); what is not needed may be None. `describe_many` does several, and likes to get `batch_size` of them at once.
    `score` compares the query with the places of the candidates, in their order; where `listwise`, a candidate's score depends on the
    others, so that scores of two calls must not be compared. `matches` shows what it saw in one place; `keypoints` (N, 2) px where it
    looks in an image, none where it looks everywhere.
    """

    name: str
    needs_image: bool
    needs_features: bool
    batch_size: int
    listwise: bool

    def describe(self, frame: Frame | None, features: LocalFeatures | None) -> PlaceEvidence: ...

    def describe_many(self, frames: Sequence[Frame] | None, features: Sequence[LocalFeatures] | None) -> list[PlaceEvidence]: ...

    def score(self, query: PlaceEvidence, candidates: Sequence[Candidate], places: Sequence[PlaceEvidence]) -> PlaceScores: ...

    def matches(self, query: PlaceEvidence, place: PlaceEvidence) -> PlaceMatches: ...

    def keypoints(self, evidence: PlaceEvidence) -> FloatArray: ...


@runtime_checkable
class Detector(Protocol):
    """Finds objects in the image, best first: boxes within the image, `labels` those that it knows.

    `detect_many` is `detect` of several, in one batch where images share a size; it likes to get `batch_size` of them at once.
    """

    name: str
    labels: tuple[str, ...]
    batch_size: int

    def detect(self, frame: Frame) -> list[Detection]: ...

    def detect_many(self, frames: Sequence[Frame]) -> list[list[Detection]]: ...


@runtime_checkable
class CrossViewEncoder(Protocol):
    """Describes short videos and satellite tiles so that `retrieval.tile_matching` can compare them.

    `fingerprint` names the encoder and the hash of its weights: tiles must be encoded by the very encoder that localizes. `encode_frame`
    is the only costly step for a video; `describe` re-projects what it gave. Frames come newest first, and `query_from_base` holds the
    base_link of each in the frame centred at the newest one's, x east, y north, z up (`core.overhead.project_overhead`).
    """

    name: str
    fingerprint: str
    grid: OverheadGrid
    tile_px: int

    def encode_tiles(self, images: NDArray[np.uint8]) -> TileDescriptors:
        """(B, tile_px, tile_px, 3) uint8 RGB, north up, each covering `grid.coverage_m` -> descriptors."""
        ...

    def encode_frame(self, frame: Frame) -> GroundFeatures: ...

    def describe(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Pose]) -> OverheadDescriptor: ...

    def describe_many(self, features: Sequence[GroundFeatures], query_from_base: Sequence[Sequence[Pose]]) -> list[OverheadDescriptor]:
        """`describe` for several hypotheses of the poses, in one batch."""
        ...
