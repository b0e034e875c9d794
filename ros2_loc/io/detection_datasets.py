"""Sets of images with labelled objects, told apart by what lies at a path: COCO, YOLO's labels, KITTI, UAVDT, iSAID."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io import coco, coco_yolo, kitti_object, uavdt
from ros2_loc.io.isaid import is_isaid, read_isaid
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
    dataset = _READERS[_kind_of(path) if kind == "auto" else kind](path, strict)
    return replace(dataset, kind="isaid") if kind == "auto" and is_isaid(dataset.labels) else dataset


_READERS: dict[str, Callable[[Path, bool], DetectionDataset]] = {
    "coco": coco.read_coco,
    "coco_yolo": coco_yolo.read_coco_yolo,
    "kitti": kitti_object.read_kitti_object,
    "uavdt": uavdt.read_uavdt,
    "isaid": read_isaid,
}


def _kind_of(path: Path) -> str:
    if path.suffix.lower() == ".json" or coco.is_coco_folder(path):
        return "coco"
    tests = {"kitti": kitti_object.is_kitti_object_folder, "coco_yolo": coco_yolo.is_yolo_folder, "uavdt": uavdt.is_uavdt_folder}
    found = next((kind for kind, test in tests.items() if test(path)), None)
    if found is None and coco.is_coco_folder(path, by_name=False):
        return "coco"
    if found is None:
        raise DataError(
            f"{path}: is no set of labelled images: there is neither annotations.json, nor images/ with labels/, nor image_2/ with "
            "label_2/, nor UAVDT's *_gt_whole.txt"
        )
    return found
