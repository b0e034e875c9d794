"""iSAID: patches of satellite images with the instances of 15 classes, in COCO's format as its development kit writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ros2_loc.core.labels import ISAID, plain_label
from ros2_loc.errors import DataError
from ros2_loc.io.coco import annotation_file, read_coco
from ros2_loc.io.labelled_images import DetectionDataset

_SPELLINGS = {"store tank": "storage tank"}


def is_isaid(labels: tuple[str, ...]) -> bool:
    """Whether all labels are among iSAID's 15, and most of these are there."""
    known = {plain_label(name) for name in ISAID}
    return len(labels) > len(ISAID) // 2 and all(_plain(name) in known for name in labels)


def read_isaid(path: str | Path, strict: bool = False) -> DetectionDataset:
    """Patches and their `instancesonly_*.json`; labels are written as `core.labels.ISAID` writes them, in the file's order.

    Args:
        path: the file, or the folder it lies in with `images/`.
        strict: refuse boxes without an area instead of leaving them out with a warning.

    Raises:
        DataError: as `read_coco`, or a category that iSAID has not.
    """
    dataset = read_coco(path, strict)
    written = {plain_label(name): name for name in ISAID}
    strange = [name for name in dataset.labels if _plain(name) not in written]
    if strange:
        raise DataError(f"{annotation_file(Path(path))}: category {strange[0]!r} is none of iSAID's: {', '.join(ISAID)}")
    return replace(dataset, labels=tuple(written[_plain(name)] for name in dataset.labels), kind="isaid")


def _plain(name: str) -> str:
    plain = plain_label(name)
    return _SPELLINGS.get(plain, plain)
