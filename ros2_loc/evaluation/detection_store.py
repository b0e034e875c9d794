"""What detectors found, image by image on disk: an interrupted call goes on where it was, and what is there is scored again at will."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ros2_loc import __version__
from ros2_loc.core.interfaces import Detector
from ros2_loc.errors import DataError
from ros2_loc.io.coco_results import FoundObjects, found_of_rows, result_rows
from ros2_loc.io.labelled_images import DetectionDataset
from ros2_loc.io.place_datasets import file_fingerprint

_FORMAT, _VERSION = "ros2_loc detections", 1


@dataclass(frozen=True, slots=True, eq=False)
class StoredImage:
    """What was found in one image, labels as indices of the detector's, and how long that took."""

    found: FoundObjects
    seconds: float


class DetectionStore:
    """A file with a line for its settings and labels, and one for each image that is done.

    A line is written when its image is done. The last one may be cut short by whatever ended the call: it is made anew.
    """

    def __init__(self, folder: Path, dataset: DetectionDataset, settings: Mapping[str, Any]) -> None:
        self._dataset = dataset
        told = {**settings, "images": file_fingerprint([i.path for i in dataset.images]), "root": str(dataset.root.resolve())}
        weights = Path(str(settings.get("weights", "")))
        told |= {"weights_file": file_fingerprint([weights])} if weights.is_file() else {}
        told |= {"ros2_loc": __version__}
        self.path = folder / f"{hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:20]}.jsonl"
        self.labels, self._lines = self._read()

    def begin(self, labels: tuple[str, ...]) -> None:
        """Remember the labels of the detector; what another one left is dropped."""
        if self.labels == labels:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"format": _FORMAT, "version": _VERSION, "labels": labels}) + "\n", encoding="utf-8")
        self.labels, self._lines = labels, {}

    def missing(self, dataset: DetectionDataset) -> list[int]:
        """Indices of the images that are not done."""
        return [k for k, image in enumerate(dataset.images) if image.name not in self._lines]

    def fill(self, dataset: DetectionDataset, detector: Detector, words: str, show_progress: bool) -> None:
        """Detect in all images that are not done, in batches as the detector likes them.

        Raises:
            DataError: an image that can't be read. Those before it are kept.
        """
        missing = self.missing(dataset)
        if not missing:
            return
        detector.detect(dataset.frame(missing[0]))  # the first call of a network is slow: not that image's fault
        size = max(1, detector.batch_size)
        done = len(dataset) - len(missing)
        shown = {"disable": not show_progress, "leave": False, "dynamic_ncols": True, "unit": "image"}
        bar = tqdm(total=len(dataset), initial=done, desc=f" {words}", **shown)
        with bar, self.path.open("a", encoding="utf-8") as file:
            for begin in range(0, len(missing), size):
                batch = missing[begin : begin + size]
                for line in self._detect(dataset, detector, batch):
                    file.write(json.dumps(line) + "\n")
                    self._lines[line["image"]] = line
                file.flush()
                bar.update(len(batch))

    def image(self, dataset: DetectionDataset, k: int) -> StoredImage:
        """What was found in image k."""
        image = dataset.images[k]
        line = self._lines[image.name]
        rows = [{**row, "image_id": image.id} for row in line["found"]]
        found = found_of_rows(rows, {image.id: image}, {n: n for n in range(len(self.labels or ()))}, f"{self.path}: {image.name}")
        return StoredImage(found[0], float(line["seconds"]))

    def _detect(self, dataset: DetectionDataset, detector: Detector, batch: list[int]) -> list[dict[str, Any]]:
        frames = [dataset.frame(k) for k in batch]
        begin = time.perf_counter()
        detections = detector.detect_many(frames)
        seconds = (time.perf_counter() - begin) / len(batch)
        labels = self.labels or ()
        index = {label: n for n, label in enumerate(labels)}
        lines = []
        for k, found in zip(batch, detections, strict=True):
            strange = next((d.label for d in found if d.label not in index), None)
            if strange is not None:
                raise DataError(f"{detector.name}: found a {strange!r}, which is none of its labels: {', '.join(labels)}")
            rows = result_rows(FoundObjects.of_detections(found, index), dataset.images[k].id, range(len(labels)))
            lines.append({"image": dataset.images[k].name, "seconds": seconds, "found": rows})
        return lines

    def _read(self) -> tuple[tuple[str, ...] | None, dict[str, dict[str, Any]]]:
        if not self.path.is_file():
            return None, {}
        whole, lines = [], self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for line in lines:
            try:
                whole.append(json.loads(line))
            except ValueError:
                break
            if not line.endswith("\n"):
                whole.pop()
                break
        if not whole or (whole[0].get("format"), whole[0].get("version")) != (_FORMAT, _VERSION):
            return None, {}
        if len(whole) < len(lines):
            self.path.write_text("".join(lines[: len(whole)]), encoding="utf-8")
        return tuple(whole[0]["labels"]), {line["image"]: line for line in whole[1:]}
