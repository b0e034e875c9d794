"""KITTI's object benchmark: `image_2/` and `label_2/`, with the difficulty that its evaluation gives each object.

Geiger et al., "Are we ready for Autonomous Driving?", CVPR 2012; rows as in its development kit. KITTI counts pixels from the centre of
the first; half a pixel is added here, where that centre is at (0.5, 0.5).
"""

from __future__ import annotations

from pathlib import Path

from ros2_loc.core.labels import KITTI, plain_label
from ros2_loc.errors import DataError
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.images import image_size
from ros2_loc.io.labelled_images import ANY_LABEL, DetectionDataset, ImageMaker, ObjectRow

_IMAGES, _LABELS = "image_2", "label_2"
_DONT_CARE = "dontcare"
_COLUMNS = (15, 16)  # with a score where it is a result
# development kit, evaluate_object.cpp: of easy, moderate and hard the least height, the most occlusion and truncation
DIFFICULTIES = ("easy", "moderate", "hard")
MIN_HEIGHT_PX = (40.0, 25.0, 25.0)
_MAX_OCCLUSION = (0, 1, 2)
_MAX_TRUNCATION = (0.15, 0.3, 0.5)


def is_kitti_object_folder(path: Path) -> bool:
    """Whether a folder, or its `training/`, has `image_2/` and `label_2/`."""
    return path.is_dir() and _root(path) is not None


def difficulty_of(height_px: float, occlusion: int, truncation: float) -> int:
    """0 easy, 1 moderate, 2 hard, 3 beyond."""
    for k in range(len(DIFFICULTIES)):
        if height_px > MIN_HEIGHT_PX[k] and occlusion <= _MAX_OCCLUSION[k] and truncation <= _MAX_TRUNCATION[k]:
            return k
    return len(DIFFICULTIES)


def read_kitti_object(path: str | Path, strict: bool = False) -> DetectionDataset:
    """KITTI's object folder (or the folder above its `training/`). `DontCare` becomes ignored regions of any label.

    Args:
        strict: refuse boxes without an area instead of leaving them out with a warning.

    Raises:
        DataError: images without labels, or a row that is wrong: the line names file and row.
    """
    root = _root(Path(path))
    if root is None:
        raise DataError(f"{path}: needs folders {_IMAGES}/ and {_LABELS}/, here or in training/")
    files = image_files(root / _IMAGES)
    missing = [f.stem for f in files if not (root / _LABELS / f"{f.stem}.txt").is_file()]
    if missing:
        raise DataError(f"{root / _LABELS}: {len(missing)} of {len(files)} images have no labels, the first: {missing[0]}.txt")
    maker = ImageMaker(str(root / _LABELS), strict)
    made = tuple(
        maker.image(f.name, f, image_size(f), _rows(root / _LABELS / f"{f.stem}.txt"), number) for number, f in enumerate(files, 1)
    )
    return DetectionDataset(Path(path).resolve().name, KITTI, made, root / _IMAGES, (), "kitti", maker.warn())


def _root(path: Path) -> Path | None:
    return next((p for p in (path, path / "training") if (p / _IMAGES).is_dir() and (p / _LABELS).is_dir()), None)


def _rows(file: Path) -> list[ObjectRow]:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_row(text.split(), f"{file}: row {line}") for line, text in enumerate(lines, 1) if text.strip()]


def _row(words: list[str], where: str) -> ObjectRow:
    if len(words) not in _COLUMNS:
        raise DataError(f"{where}: has {len(words)} columns, KITTI's labels have {_COLUMNS[0]}; is the file cut short?")
    try:
        truncation, occlusion = float(words[1]), int(float(words[2]))
        x0, y0, x1, y1 = (float(word) + 0.5 for word in words[4:8])
    except ValueError as error:
        raise DataError(f"{where}: is not numbers after its type: {' '.join(words)[:60]!r}") from error
    known = {plain_label(name): k for k, name in enumerate(KITTI)}
    name = plain_label(words[0])
    if name == _DONT_CARE:
        return ObjectRow((x0, y0, x1, y1), ANY_LABEL, where, ignored=True)
    if name not in known:
        raise DataError(f"{where}: type {words[0]!r}; there are {', '.join(KITTI)}, DontCare")
    return ObjectRow((x0, y0, x1, y1), known[name], where, difficulty=difficulty_of(y1 - y0, occlusion, truncation))
