"""COCO's format: instances with boxes, polygons and run-length masks; reading, writing, and the RLE of masks by pycocotools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, read_text
from ros2_loc.io.labelled_images import ANY_LABEL, DetectionDataset, ImageMaker, ObjectRow, Rle

ANNOTATIONS = "annotations.json"
_INSTANCES = ("instances_*.json", "instancesonly_*.json")


def rle_of_mask(mask: NDArray[np.bool_]) -> Rle:
    """Compressed RLE of a mask (H, W) bool, ready for JSON: {"size": [height, width], "counts": text}."""
    return _told(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def mask_of_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(H, W) bool of a compressed RLE."""
    return np.asarray(coco_mask.decode(_packed(rle)), dtype=bool)


def rle_of_segmentation(segmentation: Any, size: tuple[int, int], where: str) -> Rle | None:
    """Compressed RLE of COCO's `segmentation`: polygons, counted or compressed runs; None where it is empty.

    Args:
        size: (width, height) px of the image.
        where: file and annotation, shown in errors.

    Raises:
        DataError: none of these, or of an image of another size.
    """
    if not segmentation:
        return None
    width, height = size
    try:
        if isinstance(segmentation, list):
            polygons = [p for p in segmentation if len(p) >= 6]
            if not polygons:
                return None
            return _told(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
        counts = segmentation["counts"]
        if list(segmentation["size"]) != [height, width]:
            raise DataError(f"{where}: a mask of {segmentation['size']} (height, width) in an image of {[height, width]}")
        return _told(coco_mask.frPyObjects(segmentation, height, width) if isinstance(counts, list) else _packed(segmentation))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: its segmentation is neither polygons nor RLE ({type(error).__name__}: {error})") from error


def _told(rle: Mapping[str, Any]) -> Rle:
    counts = rle["counts"]
    return {"size": [int(v) for v in rle["size"]], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _packed(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}


def is_coco_folder(path: Path, by_name: bool = True) -> bool:
    """Whether COCO's annotations lie in a folder or in its `annotations/`: `annotations.json`, `instances_*.json`.

    Args:
        by_name: False: any file of JSON is taken for them.
    """
    return path.is_dir() and bool(_annotation_files(path, _INSTANCES if by_name else (*_INSTANCES, "*.json")))


def annotation_file(path: Path) -> Path:
    """The file of annotations that a path means: itself, or the only one in a folder.

    Raises:
        DataError: none, or several.
    """
    if not path.is_dir():
        return path
    found = _annotation_files(path, (*_INSTANCES, "*.json"))
    if not found:
        raise DataError(f"{path}: holds no {ANNOTATIONS} and no annotations/*.json; name the file")
    if len(found) > 1:
        raise DataError(f"{path}: holds {len(found)} files of annotations ({', '.join(p.name for p in found[:6])}); name one of them")
    return found[0]


def _annotation_files(path: Path, patterns: Sequence[str]) -> list[Path]:
    if (path / ANNOTATIONS).is_file():
        return [path / ANNOTATIONS]
    for pattern in patterns:
        for folder in (path, path / "annotations"):
            if found := sorted(folder.glob(pattern)):
                return found
    return []


def read_coco(path: str | Path, strict: bool = False) -> DetectionDataset:
    """A COCO data set: a file of instances, or the folder it lies in.

    Images are looked for in the file's folder, its `images/`, and beside `annotations/` in `images/` or in the folder that the file is
    called after (`instances_val2017.json`: `val2017/`). `iscrowd` objects become ignored regions. Boxes are clipped to the image.

    Args:
        strict: refuse boxes without an area instead of leaving them out with a warning.

    Raises:
        DataError: missing, no JSON, or an annotation that is wrong: the line names the file and the annotation's number.
    """
    file = annotation_file(Path(path))
    content = read_json_object(file)
    categories = _categories(content, file)
    images = _images(content, file)
    rows = _rows(content, images, {number: k for k, number in enumerate(categories)}, file)
    folder = _image_folder(file, [str(image["file_name"]) for image in images.values()])
    maker = ImageMaker(str(file), strict)
    made = tuple(
        maker.image(str(image["file_name"]), folder / str(image["file_name"]), _size(image), rows.get(number, ()), number)
        for number, image in images.items()
    )
    name = file.resolve().parent.name if file.name == ANNOTATIONS else file.stem
    return DetectionDataset(name, tuple(categories.values()), made, folder, tuple(categories), "coco", maker.warn())


def read_json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file with `images`, `annotations` and `categories`.

    Raises:
        DataError: missing, no JSON, or one of the three lists is not there.
    """
    try:
        content = json.loads(read_text(file, "annotations in COCO's format"))
    except ValueError as error:
        raise DataError(f"{file}: not JSON ({error}); is the file cut short?") from error
    missing = [k for k in ("images", "annotations", "categories") if not (isinstance(content, dict) and isinstance(content.get(k), list))]
    if missing:
        raise DataError(f"{file}: has no list {missing[0]!r}; give a file of instances in COCO's format")
    return dict(content)


def _categories(content: Mapping[str, Any], file: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for category in content["categories"]:
        try:
            number, name = int(category["id"]), str(category["name"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: category {str(category)[:60]}: needs an id and a name") from error
        if number in found:
            raise DataError(f"{file}: two categories have the id {number}: {found[number]!r} and {name!r}")
        found[number] = name
    if not found:
        raise DataError(f"{file}: names no categories")
    return found


def _images(content: Mapping[str, Any], file: Path) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for image in content["images"]:
        try:
            number, size, name = int(image["id"]), _size(image), str(image["file_name"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: image {str(image)[:60]}: needs id, file_name, width, height") from error
        if min(size) < 1:
            raise DataError(f"{file}: image {number} ({name}) is {size[0]}x{size[1]} px")
        if number in found:
            raise DataError(f"{file}: two images have the id {number}: {found[number]['file_name']} and {name}")
        found[number] = image
    return found


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    return int(image["width"]), int(image["height"])


def _rows(
    content: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]], index: Mapping[int, int], file: Path
) -> dict[int, list[ObjectRow]]:
    rows: dict[int, list[ObjectRow]] = {}
    seen: set[Any] = set()
    for k, annotation in enumerate(content["annotations"]):
        number = annotation.get("id", f"number {k} in the list") if isinstance(annotation, dict) else f"number {k} in the list"
        where = f"{file}: annotation {number}"
        if number in seen:
            raise DataError(f"{where}: comes twice; give each annotation an id of its own")
        seen.add(number)
        image_id, row = _row(annotation, images, index, where)
        rows.setdefault(image_id, []).append(row)
    return rows


def _row(
    annotation: Any, images: Mapping[int, Mapping[str, Any]], index: Mapping[int, int], where: str
) -> tuple[int, ObjectRow]:
    try:
        image_id, category = int(annotation["image_id"]), int(annotation["category_id"])
        x, y, width, height = map(float, annotation["bbox"])
        area = float(annotation["area"]) if annotation.get("area") is not None else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: needs image_id, category_id and a bbox of 4 numbers ({type(error).__name__}: {error})") from error
    if image_id not in images:
        raise DataError(f"{where}: is of image {image_id}, which the file does not list")
    if category not in index:
        raise DataError(f"{where}: has category {category}; there are {', '.join(map(str, index))}")
    mask = rle_of_segmentation(annotation.get("segmentation"), _size(images[image_id]), where)
    return image_id, ObjectRow(
        (x, y, x + width, y + height), index[category], where, bool(annotation.get("iscrowd", 0)), mask, area
    )


def _image_folder(file: Path, names: Sequence[str]) -> Path:
    """Where the images lie, by the first one; all of them must be there."""
    if not names:
        raise DataError(f"{file}: lists no images")
    split = file.stem.split("_")[-1]
    parents = (file.parent, file.parent.parent)
    candidates = [parent / word for parent in parents for word in ("images", "", split, f"images/{split}")]
    folder = next((c for c in candidates if (c / names[0]).is_file()), None)
    if folder is None:
        raise DataError(f"{file}: its first image {names[0]} is neither beside it nor in images/ or {split}/; put the images there")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{file}: {len(missing)} of {len(names)} images are not in {folder}, the first: {missing[0]}")
    return folder


def write_coco(path: str | Path, dataset: DetectionDataset) -> Path:
    """Write the annotations of a data set; names of images stay what they are, masks become RLE.

    Args:
        path: the file, or a folder, which gets `annotations.json`. The images are not copied.

    Raises:
        DataError: it can't be written.
    """
    path = Path(path)
    file = path if path.suffix == ".json" else path / ANNOTATIONS
    images = [{"id": i.id, "file_name": i.name, "width": i.size[0], "height": i.size[1]} for i in numbered(dataset).images]
    categories = [{"id": number, "name": name} for number, name in zip(dataset.category_ids, dataset.labels, strict=True)]
    content = {"images": images, "annotations": annotations_of(numbered(dataset)), "categories": categories}
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return file


def numbered(dataset: DetectionDataset) -> DetectionDataset:
    """The same with images numbered 1, 2, ... where two have one number."""
    from dataclasses import replace

    if len({i.id for i in dataset.images}) == len(dataset):
        return dataset
    return replace(dataset, images=tuple(replace(i, id=k) for k, i in enumerate(dataset.images, 1)))


def annotations_of(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """The objects as COCO's annotations; an ignored region for all labels becomes a crowd of each."""
    found: list[dict[str, Any]] = []
    for image in dataset.images:
        areas = image.object_areas
        for k, (x0, y0, x1, y1) in enumerate(image.boxes.astype(np.float64).tolist()):
            label = int(image.labels[k])
            numbers = dataset.category_ids if label == ANY_LABEL else (dataset.category_ids[label],)
            for category in numbers:
                row: dict[str, Any] = {"id": len(found) + 1, "image_id": image.id, "category_id": category}
                row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(areas[k]), "iscrowd": int(image.ignored[k])}
                found.append(row if image.masks[k] is None else {**row, "segmentation": image.masks[k]})
    return found
