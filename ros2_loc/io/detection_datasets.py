"""Sets of images with labelled objects, told apart by what lies at a path: COCO, YOLO's labels, KITTI, UAVDT, iSAID."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io import coco
from ros2_loc.io.labelled_images import ANY_LABEL, DetectionDataset, LabelledImage, Rle

__all__ = ["ANY_LABEL", "KINDS", "DetectionDataset", "LabelledImage", "Rle", "open_detection_dataset"]

KINDS = ("auto", "coco", "coco_yolo", "kitti", "uavdt", "isaid")


def open_detection_dataset(path: str | Path, kind: str = "auto", strict: bool = False) -> DetectionDataset:
    """A data set of any of the known formats.

    Args:
        path: a folder, or a file of COCO's annotations.
        kind: one of KINDS; "auto" looks at what is there.
        strict: refuse boxes without an area instead of leaving them out with a warning.

    Raises:
        ConfigError: no such kind.
        DataError: nothing there that is known, or something is wrong: the line names file and annotation.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind {kind!r}: there are {', '.join(KINDS)}")
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such folder or file; give the data set with its annotations")
    readers: dict[str, Callable[[Path, bool], DetectionDataset]] = {"coco": coco.read_coco}
    return readers[kind_of(path) if kind == "auto" else kind](path, strict)


def kind_of(path: Path) -> str:
    """The format of what lies at a path.

    Raises:
        DataError: none that is known.
    """
    if path.suffix.lower() == ".json" or coco.is_coco_folder(path):
        return "coco"
    raise DataError(f"{path}: is no data set of objects that is known")
