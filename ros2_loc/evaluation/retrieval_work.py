"""A retriever and a re-ranker at work on one data set: what describes the images is made once, times are taken of each query."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc import __version__
from ros2_loc.core.interfaces import Encoder, Extractor, Reranker
from ros2_loc.core.types import Candidate, Frame, LocalFeatures, PlaceEvidence
from ros2_loc.evaluation.retrieval_store import DescribedImages, as_descriptor, as_features, of_descriptor, of_features
from ros2_loc.io.files import atomic_path
from ros2_loc.io.place_datasets import PlaceDataset, PlaceImages
from ros2_loc.retrieval.index import PlaceIndex

_FITTED_IMAGES = 1000  # a codebook does not get better with more
_CODEBOOK = "codebook.npz"

Loaded = tuple[Frame | None, LocalFeatures | None]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Candidates of one query, best first, and what finding them took."""

    candidates: tuple[Candidate, ...]
    stage_s: dict[str, float]


def folder_of(folder: Path, settings: dict[str, Any]) -> Path:
    """Where what depends on these settings is kept."""
    told = json.dumps({"ros2_loc": __version__, **settings}, sort_keys=True, default=str)
    return folder / hashlib.sha256(told.encode()).hexdigest()[:20]


def identity(images: PlaceImages) -> dict[str, str]:
    """What distinguishes these images from others."""
    names = hashlib.sha256("\n".join(images.names).encode()).hexdigest()[:16]
    return {"names": names, "fingerprint": images.fingerprint}


class LocalFeaturesOf:
    """Local features of a data set's images by one extractor, shared by all that are made of them."""

    def __init__(self, dataset: PlaceDataset, extractor: Extractor, section: dict[str, Any], folder: Path, show_progress: bool) -> None:
        self._stores = {}
        for words, images in (("places", dataset.database), ("queries", dataset.queries)):
            store = DescribedImages(folder_of(folder, {"extractor": section, **identity(images)}) / "features.h5")
            store.fill(
                len(images),
                images.frame,
                lambda frames: [of_features(f) for f in extractor.extract_many(frames)],
                # one query at a time, as on a robot: their time counts
                extractor.batch_size if words == "places" else 1,
                f" {extractor.name}, {dataset.name}: {words}",
                show_progress,
            )
            self._stores[words] = store

    def of_place(self, i: int) -> LocalFeatures:
        """Of a database image."""
        return as_features(self._stores["places"].get(i))

    def of_query(self, i: int) -> LocalFeatures:
        """Of a query."""
        return as_features(self._stores["queries"].get(i))

    def place_s(self, i: int) -> float:
        """What extraction took of a database image."""
        return self._stores["places"].seconds([i])[0]

    def query_s(self, i: int) -> float:
        """What extraction took of a query."""
        return self._stores["queries"].seconds([i])[0]


class Retriever:
    """Global descriptors of a data set, searched for each query."""

    def __init__(
        self,
        dataset: PlaceDataset,
        encoder: Encoder,
        features: LocalFeaturesOf | None,
        settings: dict[str, Any],
        folder: Path,
        show_progress: bool,
    ) -> None:
        self._dataset, self._features = dataset, features if encoder.needs_features else None
        places = {"database": identity(dataset.database), **settings}
        kept = folder_of(folder, places)
        self._places = DescribedImages(kept / "vectors.h5")
        self._queries = DescribedImages(folder_of(folder, {**places, "queries": identity(dataset.queries)}) / "vectors.h5")
        if self._features is not None:
            self._fit(encoder, self._features, kept / _CODEBOOK)
        words = f" {encoder.name}, {dataset.name}"
        self._fill(self._places, encoder, dataset.database, encoder.batch_size, "place", f"{words}: places", show_progress)
        self._fill(self._queries, encoder, dataset.queries, 1, "query", f"{words}: queries", show_progress)
        vectors = np.stack([as_descriptor(e).vector for e in self._places.load(range(len(dataset.database)))])
        self.descriptor_bytes = int(vectors[0].nbytes)
        self._index = PlaceIndex.build(vectors)

    def of(self, query: int, count: int) -> Retrieved:
        """The best places of a query."""
        descriptor = as_descriptor(self._queries.get(query))
        begin = time.perf_counter()
        candidates = self._index.search(descriptor, min(count, len(self._dataset.database)))
        stage_s = {"encode": self._queries.seconds([query])[0], "search": time.perf_counter() - begin}
        if self._features is not None:
            stage_s["encode features"] = self._features.query_s(query)
        return Retrieved(tuple(candidates), stage_s)

    def _fit(self, encoder: Encoder, features: LocalFeaturesOf, path: Path) -> None:
        """Learn what must be learned from the places, or take it back."""
        if path.is_file():
            with np.load(path, allow_pickle=False) as state:
                encoder.restore(dict(state))
            return
        count = len(self._dataset.database)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _FITTED_IMAGES)).round().astype(int))
        state = encoder.fit([features.of_place(int(i)) for i in chosen])
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **state)

    def _fill(
        self, store: DescribedImages, encoder: Encoder, images: PlaceImages, batch_size: int, kind: str, words: str, show_progress: bool
    ) -> None:
        source = Source(images, encoder, self._features, kind)

        def described(loaded: Sequence[Loaded]) -> list[PlaceEvidence]:
            return [of_descriptor(d) for d in encoder.encode_many(*source.parted(loaded))]

        store.fill(len(images), source.load, described, batch_size, words, show_progress)


class Source:
    """What a plugin takes of image i: its frame, its features, or both; None for what it does not need."""

    def __init__(self, images: PlaceImages, plugin: Encoder | Reranker, features: LocalFeaturesOf | None, kind: str) -> None:
        self._images, self._plugin, self._kind = images, plugin, kind
        self._features = features if plugin.needs_features else None

    def load(self, i: int) -> Loaded:
        """Both, of image i."""
        frame = self._images.frame(i) if self._plugin.needs_image else None
        if self._features is None:
            return frame, None
        return frame, self._features.of_place(i) if self._kind == "place" else self._features.of_query(i)

    def parted(self, loaded: Sequence[Loaded]) -> tuple[list[Frame] | None, list[LocalFeatures] | None]:
        """Frames and features of several images, as `encode_many` and `describe_many` take them."""
        frames = [frame for frame, _ in loaded if frame is not None] if self._plugin.needs_image else None
        return frames, [features for _, features in loaded if features is not None] if self._plugin.needs_features else None


class Reranking:
    """A re-ranker with the descriptions of a data set's places; those of queries are made when they ask, and timed."""

    def __init__(
        self,
        dataset: PlaceDataset,
        reranker: Reranker,
        features: LocalFeaturesOf | None,
        settings: dict[str, Any],
        folder: Path,
        show_progress: bool,
    ) -> None:
        self.reranker, self._dataset = reranker, dataset
        self._features = features if reranker.needs_features else None
        self._source = Source(dataset.queries, reranker, features, "query")
        self.places = DescribedImages(folder_of(folder, {"database": identity(dataset.database), **settings}) / "evidence.h5")
        source = Source(dataset.database, reranker, features, "place")

        def described(loaded: Sequence[Loaded]) -> list[PlaceEvidence]:
            return reranker.describe_many(*source.parted(loaded))

        words = f" {reranker.name}, {dataset.name}: places"
        self.places.fill(len(dataset.database), source.load, described, reranker.batch_size, words, show_progress)

    def describe(self, query: int) -> tuple[PlaceEvidence, dict[str, float]]:
        """Description of a query and what it took."""
        loaded = self.loaded(query)
        begin = time.perf_counter()
        evidence = self.reranker.describe(*loaded)
        stage_s = {"describe": time.perf_counter() - begin}
        return evidence, stage_s

    def loaded(self, query: int) -> Loaded:
        """What the re-ranker describes of a query."""
        return self._source.load(query)

    def features_s(self, query: int) -> float:
        """What the map's own features of a query took, where the re-ranker is made of them."""
        return 0.0 if self._features is None else self._features.query_s(query)

    def facts(self) -> dict[str, float]:
        """Memory and time of describing a database image."""
        some = np.unique(np.linspace(0, len(self._dataset.database) - 1, 50).round().astype(int)).tolist()
        seconds = np.array(self.places.seconds(some))
        if self._features is not None:
            seconds = seconds + np.array([self._features.place_s(i) for i in some])
        sizes = [evidence.num_bytes for evidence in self.places.load(some)]
        return {"evidence_bytes": float(np.mean(sizes)), "candidate_s": float(np.median(seconds))}

    def scores(
        self, evidence: PlaceEvidence, candidates: Sequence[Candidate]
    ) -> tuple[NDArray[np.float32], tuple[int, ...] | None, dict[str, float]]:
        """Of the candidates: scores, inliers, and times; descriptions are read before the clock runs."""
        places = self.places.load([c.source for c in candidates])
        begin = time.perf_counter()
        found = self.reranker.score(evidence, candidates, places)
        total = time.perf_counter() - begin
        matching = min(float(found.stage_s.get("matching", 0.0)), total)
        inliers = None if found.inliers is None else tuple(int(n) for n in found.inliers)
        return found.scores, inliers, {"matching": matching, "scoring": total - matching}
