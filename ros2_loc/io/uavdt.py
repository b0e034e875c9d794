"""UAVDT: videos from drones with lists of boxes, one a sequence, and regions that its evaluation ignores.

Du et al., "The Unmanned Aerial Vehicle Benchmark", ECCV 2018. `M0203_gt_whole.txt` has rows `frame, target, left, top, width, height,
out of view, occlusion, category` with 1 car, 2 truck, 3 bus; `M0203_gt.txt` has the same without a category, `M0203_gt_ignore.txt`
the ignored regions. Images are `M0203/img000001.jpg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ros2_loc.core.labels import UAVDT
from ros2_loc.core.types import Detection
from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.io.image_folders import frame_number, image_files
from ros2_loc.io.images import image_size
from ros2_loc.io.labelled_images import ANY_LABEL, DetectionDataset, ImageMaker, LabelledImage, ObjectRow

VEHICLE = "vehicle"
_WHOLE, _PLAIN, _IGNORED = "_gt_whole.txt", "_gt.txt", "_gt_ignore.txt"
_COLUMNS = 9
_DEPTH = 3  # folders below the given one in which lists and sequences are looked for

Row = tuple[int, tuple[float, float, float, float], float, int, str]  # frame, box, seventh column, category, where


def is_uavdt_folder(path: Path) -> bool:
    """Whether there are UAVDT's lists of boxes in or under a folder."""
    return path.is_dir() and bool(_lists(path))


def read_uavdt(path: str | Path, strict: bool = False) -> DetectionDataset:
    """All sequences under a folder that have a list of boxes; labels car, truck, bus, or `vehicle` where no list tells them apart.

    Args:
        strict: refuse boxes without an area instead of leaving them out with a warning.

    Raises:
        DataError: no lists, a sequence without images, or a row that is wrong: the line names file and row.
    """
    path = Path(path)
    lists = _lists(path)
    if not lists:
        raise DataError(f"{path}: has no lists of UAVDT (M0203_gt_whole.txt or M0203_gt.txt) in it")
    whole = all(file.name.endswith(_WHOLE) for file in lists.values())
    maker = ImageMaker(str(path), strict)
    folders = {p.name: p for p in _below(path, _DEPTH) if p.is_dir()}
    made: list[LabelledImage] = []
    for sequence, file in lists.items():
        if sequence not in folders:
            raise DataError(f"{file}: its images are not under {path}: there is no folder {sequence}/")
        made += _sequence(maker, path, folders[sequence], file, whole, len(made))
    return DetectionDataset(path.resolve().name, UAVDT if whole else (VEHICLE,), tuple(made), path, (), "uavdt", maker.warn())


def read_uavdt_detections(folder: str | Path, dataset: DetectionDataset, label: str = VEHICLE) -> list[list[Detection]]:
    """Detections of UAVDT's own form, `M0203.txt` (or `M0203_det.txt`, `det_M0203.txt`) with rows `frame, -1, left, top, width, height,
    score, ...`.

    Returns:
        of each image of the data set, best first; scores are scaled into [0, 1] where some are above 1.

    Raises:
        DataError: a list is missing, or a row is wrong.
    """
    folder = Path(folder)
    names = list(dict.fromkeys(image.path.parent.name for image in dataset.images))
    by_image: dict[tuple[str, int], list[tuple[tuple[float, float, float, float], float]]] = {}
    for name in names:
        candidates = (folder / f"{name}.txt", folder / f"{name}_det.txt", folder / f"det_{name}.txt")
        file = next((p for p in candidates if p.is_file()), None)
        if file is None:
            raise DataError(f"{folder}: has no detections {name}.txt")
        for frame, box, score, _, where in _read(file, least=7):
            if not np.isfinite((*box, score)).all():
                raise DataError(f"{where}: holds a number that is not finite")
            by_image.setdefault((name, frame), []).append((box, score))
    most = max((score for rows in by_image.values() for _, score in rows), default=1.0)
    scale = 1.0 / most if most > 1.0 else 1.0
    found = []
    for image in dataset.images:
        rows = by_image.get((image.path.parent.name, frame_number(image.path.name) or 0), [])
        ordered = sorted(rows, key=lambda row: -row[1])
        found.append([Detection(np.array(box, dtype=np.float32), label, float(score * scale)) for box, score in ordered])
    return found


def write_uavdt_detections(folder: str | Path, dataset: DetectionDataset, detections: Sequence[Sequence[Detection]]) -> None:
    """Lists that UAVDT's own tools read, one a sequence; labels are not written, as these tools know none."""
    lines: dict[str, list[str]] = {}
    for image, found in zip(dataset.images, detections, strict=True):
        rows = lines.setdefault(image.path.parent.name, [])
        for d in found:
            x0, y0, x1, y1 = (float(v) for v in d.box)
            frame = frame_number(image.path.name)
            rows.append(f"{frame},-1,{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},{d.score:.6f},-1,-1\n")
    for name, rows in lines.items():
        with atomic_path(Path(folder) / f"{name}.txt") as temporary:
            temporary.write_text("".join(rows), encoding="utf-8")


def _lists(path: Path) -> dict[str, Path]:
    """Sequence -> its list; the one with categories where there are both."""
    found: dict[str, Path] = {}
    for suffix in (_PLAIN, _WHOLE):
        found |= {p.name.removesuffix(suffix): p for p in _below(path, _DEPTH) if p.is_file() and p.name.endswith(suffix)}
    return dict(sorted(found.items()))


def _below(path: Path, depth: int) -> list[Path]:
    """What lies in a folder and in its folders, so many levels down; the images of sequences are not looked at."""
    found: list[Path] = []
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            found.append(entry)
            if depth > 1 and not (entry / "img000001.jpg").is_file():
                found += _below(entry, depth - 1)
        elif entry.suffix == ".txt":
            found.append(entry)
    return found


def _sequence(maker: ImageMaker, root: Path, folder: Path, file: Path, whole: bool, before: int) -> list[LabelledImage]:
    files = {frame_number(p.name): p for p in image_files(folder)}
    ignored = file.with_name(file.name.removesuffix(_WHOLE if file.name.endswith(_WHOLE) else _PLAIN) + _IGNORED)
    objects = [*_objects(_read(file), whole, files, folder)]
    objects += _regions(_read(ignored), files, folder) if ignored.is_file() else []
    by_frame: dict[int, list[ObjectRow]] = {}
    for frame, row in objects:
        by_frame.setdefault(frame, []).append(row)
    made = []
    size = image_size(next(iter(files.values())))  # a video has one
    for k, (number, image) in enumerate(files.items(), before + 1):
        made.append(maker.image(image.relative_to(root).as_posix(), image, size, by_frame.get(number or 0, []), k))
    return made


def _objects(rows: Sequence[Row], whole: bool, files: Mapping[int | None, Path], folder: Path) -> list[tuple[int, ObjectRow]]:
    found = []
    for frame, box, _, category, where in rows:
        _require_frame(frame, files, folder, where)
        if whole and not 1 <= category <= len(UAVDT):
            raise DataError(f"{where}: category {category}; there are 1 car, 2 truck, 3 bus")
        found.append((frame, ObjectRow(box, category - 1 if whole else 0, where)))
    return found


def _regions(rows: Sequence[Row], files: Mapping[int | None, Path], folder: Path) -> list[tuple[int, ObjectRow]]:
    for frame, _, _, _, where in rows:
        _require_frame(frame, files, folder, where)
    return [(frame, ObjectRow(box, ANY_LABEL, where, ignored=True)) for frame, box, _, _, where in rows]


def _require_frame(frame: int, files: Mapping[int | None, Path], folder: Path, where: str) -> None:
    if frame not in files:
        raise DataError(f"{where}: is of frame {frame}, and {folder} has {len(files)} images")


def _read(file: Path, least: int = _COLUMNS) -> list[Row]:
    rows: list[Row] = []
    for line, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        where = f"{file}: row {line}"
        words = text.replace(",", " ").split()
        if not words:
            continue
        try:
            numbers = [float(word) for word in words]
        except ValueError as error:
            raise DataError(f"{where}: is not numbers: {text.strip()[:60]!r}") from error
        if len(numbers) < least:
            raise DataError(f"{where}: has {len(numbers)} columns, {least} are needed; is the file cut short?")
        x, y, w, h = numbers[2:6]
        category = int(numbers[8]) if len(numbers) > 8 else -1
        rows.append((int(numbers[0]), (x, y, x + w, y + h), numbers[6], category, where))
    return rows
