"""What describes the images of a data set, made once and kept on disk: a call that was interrupted goes on where it was."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros2_loc.core.types import GlobalDescriptor, LocalFeatures, PlaceEvidence
from ros2_loc.io.features import append_evidence, read_evidence, stored_names

_SECONDS = "seconds_of_description"
_KEPT_BYTES = 2**31  # in memory, of one store

T = TypeVar("T")


class DescribedImages:
    """Descriptions of images by their numbers; the newest used stay in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: OrderedDict[int, PlaceEvidence] = OrderedDict()
        self._bytes = 0

    def fill(
        self,
        count: int,
        load: Callable[[int], T],
        describe: Callable[[Sequence[T]], Sequence[PlaceEvidence]],
        batch_size: int,
        words: str,
        show_progress: bool,
    ) -> None:
        """Describe images 0 to `count` - 1 that are not there yet.

        Args:
            load: image i, or whatever else is described; not timed.
            describe: of several at once; timed.
            words: of the progress bar.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        there = stored_names(self._path)
        missing = [i for i in range(count) if _name(i) not in there]
        size = max(batch_size, 1)
        with tqdm(total=count, initial=count - len(missing), desc=words, disable=not show_progress, leave=False, dynamic_ncols=True) as bar:
            for start in range(0, len(missing), size):
                some = missing[start : start + size]
                loaded = [load(i) for i in some]
                begin = time.perf_counter()
                described = describe(loaded)
                seconds = np.array((time.perf_counter() - begin) / len(some))
                for i, each in zip(some, described, strict=True):
                    append_evidence(self._path, _name(i), PlaceEvidence(each.reranker, {**each.arrays, _SECONDS: seconds}))
                bar.update(len(some))

    def get(self, i: int) -> PlaceEvidence:
        """Description of image i."""
        return self.load([i])[0]

    def load(self, indices: Iterable[int]) -> list[PlaceEvidence]:
        """Descriptions of images, as they were made."""
        return [PlaceEvidence(e.reranker, {k: v for k, v in e.arrays.items() if k != _SECONDS}) for e in self._load(list(indices))]

    def seconds(self, indices: Iterable[int]) -> list[float]:
        """What making these took."""
        return [float(e.arrays[_SECONDS]) for e in self._load(list(indices))]

    def _load(self, indices: list[int]) -> list[PlaceEvidence]:
        missing = [i for i in dict.fromkeys(indices) if i not in self._known]
        for i, evidence in zip(missing, read_evidence(self._path, map(_name, missing)) if missing else [], strict=True):
            self._known[i] = evidence
            self._bytes += evidence.num_bytes
        for i in indices:
            self._known.move_to_end(i)
        found = [self._known[i] for i in indices]
        while self._bytes > _KEPT_BYTES and self._known:
            self._bytes -= self._known.popitem(last=False)[1].num_bytes
        return found


def of_features(features: LocalFeatures) -> PlaceEvidence:
    """Local features in the form of the store; descriptors as float16, as a map keeps them."""
    arrays: dict[str, NDArray[Any]] = {
        "keypoints": features.keypoints,
        "descriptors": features.descriptors.astype(np.float16),
        "scores": features.scores,
        "scales": features.scales,
        "size": np.array(features.size),
    }
    return PlaceEvidence(features.extractor, arrays)


def as_features(stored: PlaceEvidence) -> LocalFeatures:
    """Local features of the store."""
    a = stored.arrays
    size = (int(a["size"][0]), int(a["size"][1]))
    return LocalFeatures(a["keypoints"], a["descriptors"].astype(np.float32), a["scores"], a["scales"], stored.reranker, size)


def of_descriptor(descriptor: GlobalDescriptor) -> PlaceEvidence:
    """A global descriptor in the form of the store."""
    return PlaceEvidence(descriptor.encoder, {"vector": descriptor.vector})


def as_descriptor(stored: PlaceEvidence) -> GlobalDescriptor:
    """A global descriptor of the store."""
    return GlobalDescriptor(stored.arrays["vector"], stored.reranker)


def _name(i: int) -> str:
    return f"{i:07d}"
