"""Detections as files in COCO's form for results: pycocotools reads them as they are, `COCO(images).loadRes(detections)`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros2_loc.core.labels import COCO, COCO_IDS
from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.io.coco_results import FoundObjects, result_rows
from ros2_loc.io.files import atomic_path

DETECTIONS, IMAGES = "detections.json", "images.json"


@dataclass(eq=False)
class DetectionResults:
    """What was found in several images, until it is written.

    Attributes:
        labels: those that the detector knows; COCO's keep their numbers there (1 to 90 with gaps), others are counted from 1.
        source: of what detector and weights; goes into the file of the images.
    """

    labels: tuple[str, ...]
    source: Mapping[str, Any] = field(default_factory=dict)
    _images: list[tuple[str, int, int]] = field(default_factory=list, init=False)
    _found: list[FoundObjects] = field(default_factory=list, init=False)

    def __len__(self) -> int:
        return len(self._images)

    def add(self, name: str, size: tuple[int, int], detections: Sequence[Detection]) -> None:
        """One image: its name, (width, height) px, what was found.

        Raises:
            DataError: a label that is not among `labels`.
        """
        index = {label: k for k, label in enumerate(self.labels)}
        if unknown := next((one.label for one in detections if one.label not in index), None):
            raise DataError(f"{name}: {unknown!r} is none of the detector's labels: {', '.join(self.labels)}")
        self._images.append((name, *size))
        self._found.append(FoundObjects.of_detections(detections, index))

    def write(self, folder: str | Path) -> Path:
        """Write `detections.json` (a list of results) and `images.json` (images, categories) and return the path of the former.

        Images whose names are numbers, as COCO's are, keep them; otherwise they are counted from 1.

        Raises:
            DataError: the folder can't be written to.
        """
        numbers = self._image_ids()
        category_ids = COCO_IDS if self.labels == COCO else tuple(range(1, len(self.labels) + 1))
        rows = [row for number, found in zip(numbers, self._found, strict=True) for row in result_rows(found, number, category_ids)]
        images = [
            {"id": number, "file_name": name, "width": width, "height": height}
            for number, (name, width, height) in zip(numbers, self._images, strict=True)
        ]
        categories = [{"id": number, "name": label} for number, label in zip(category_ids, self.labels, strict=True)]
        held = {"info": dict(self.source), "images": images, "annotations": [], "categories": categories}
        for name, content in ((IMAGES, held), (DETECTIONS, rows)):
            with atomic_path(Path(folder, name)) as path:
                path.write_text(json.dumps(content) + "\n")
        return Path(folder, DETECTIONS)

    def _image_ids(self) -> list[int]:
        stems = [Path(name).stem for name, _, _ in self._images]
        if all(stem.isascii() and stem.isdigit() for stem in stems) and len(set(map(int, stems))) == len(stems):
            return list(map(int, stems))
        return list(range(1, len(stems) + 1))
