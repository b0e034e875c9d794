"""Images with labels as YOLO's tools write them: a text file an image, a row an object, numbers as shares of the image's size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ros2_loc.config import read_yaml
from ros2_loc.core.labels import COCO
from ros2_loc.errors import DataError
from ros2_loc.io.coco import rle_of_segmentation
from ros2_loc.io.images import SUFFIXES, image_size
from ros2_loc.io.labelled_images import DetectionDataset, ImageMaker, ObjectRow

_IMAGES = "images"


def is_yolo_folder(path: Path) -> bool:
    """Whether a folder has `images/` and `labels*/`, or is a folder within such an `images/`."""
    return path.is_dir() and _parts(path) is not None


def read_coco_yolo(path: str | Path, strict: bool = False) -> DetectionDataset:
    """A folder with `images/` and `labels/` (or `labels_yolo/`), or one split of it (`DIR/images/val2017`).

    A row of `labels/NAME.txt` is the number of the label and its box (centre x, centre y, width, height) or its outline (x y x y ...),
    all between 0 and 1. An image without such a file shows no objects. Names of labels stand under `names` in a YAML file in the folder;
    without one they are COCO's.

    Args:
        strict: refuse boxes without an area instead of leaving them out with a warning.

    Raises:
        DataError: no images, or a row that is wrong: the line names file and row.
    """
    path = Path(path)
    parts = _parts(path)
    if parts is None:
        raise DataError(f"{path}: needs folders {_IMAGES}/ and labels/ (or labels_yolo/)")
    root, images, labels = parts
    names = _names(root)
    files = sorted(p for p in images.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(f"{images}: holds no images")
    maker = ImageMaker(str(labels), strict)
    made, found = [], 0
    for number, file in enumerate(files, 1):
        name = file.relative_to(root / _IMAGES)
        rows_file = labels / name.with_suffix(".txt")
        size = image_size(file)
        found += rows_file.is_file()
        made.append(maker.image(name.as_posix(), file, size, _rows(rows_file, size, names), number))
    if not found:
        raise DataError(f"{labels}: has no file for any of the {len(files)} images; are they of another set?")
    return DetectionDataset(root.resolve().name, names, tuple(made), root / _IMAGES, (), "coco_yolo", maker.warn())


def _parts(path: Path) -> tuple[Path, Path, Path] | None:
    """(root, images, labels) of a folder, or of a split within its images."""
    whole = path.resolve()
    if (path / _IMAGES).is_dir():
        root, images = path, path / _IMAGES
    elif _IMAGES in whole.parts[:-1]:
        root = Path(*whole.parts[: len(whole.parts) - 1 - whole.parts[::-1].index(_IMAGES)])
        images = whole
    else:
        return None
    labels = next((p for p in sorted(root.glob("labels*")) if p.is_dir()), None)
    return None if labels is None else (root, images, labels)


def _names(root: Path) -> tuple[str, ...]:
    for file in sorted((*root.glob("*.yaml"), *root.glob("*.yml"))):
        names: Any = read_yaml(file).get("names")
        if isinstance(names, dict):
            if sorted(names) != list(range(len(names))):
                raise DataError(f"{file}: names: numbers 0 to {len(names) - 1} are needed, without gaps")
            names = [names[k] for k in range(len(names))]
        if isinstance(names, list) and names:
            return tuple(map(str, names))
    return COCO


def _rows(file: Path, size: tuple[int, int], names: tuple[str, ...]) -> list[ObjectRow]:
    if not file.is_file():
        return []
    rows = []
    for line, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if text.strip():
            rows.append(_row(text.split(), size, names, f"{file}: row {line}"))
    return rows


def _row(words: list[str], size: tuple[int, int], names: tuple[str, ...], where: str) -> ObjectRow:
    try:
        label, numbers = int(float(words[0])), [float(word) for word in words[1:]]
    except ValueError as error:
        raise DataError(f"{where}: is not numbers: {' '.join(words)[:60]!r}") from error
    if not 0 <= label < len(names):
        raise DataError(f"{where}: label {label}, and there are {len(names)}: 0 to {len(names) - 1}")
    width, height = size
    if len(numbers) == 4:
        x, y, w, h = numbers
        return ObjectRow(((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height), label, where)
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError(f"{where}: {len(numbers)} numbers after the label; 4 of a box, or pairs of an outline are needed")
    xs, ys = [x * width for x in numbers[::2]], [y * height for y in numbers[1::2]]
    outline = [v for pair in zip(xs, ys, strict=True) for v in pair]
    mask = rle_of_segmentation([outline], size, where)
    return ObjectRow((min(xs), min(ys), max(xs), max(ys)), label, where, mask=mask)
