"""Images with the objects in them, whatever format they were read from: boxes, labels, masks, regions that nobody judges."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.labels import plain_label
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import FloatArray, Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import RGB, read_image

_log = logging.getLogger(__name__)

ANY_LABEL = -1  # of an ignored region that is one for all labels
Rle = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image and its N objects.

    Attributes:
        name: unique in its data set; mostly the file's name.
        path: of the file.
        size: (width, height) px.
        boxes: (N, 4) float32 x0, y0, x1, y1 px, outer edges, within the image.
        labels: (N,) int64 indices of the data set's labels; ANY_LABEL of ignored regions only.
        ignored: (N,) bool: a region (a crowd, something far away) where a detection is neither right nor wrong.
        masks: of each object its compressed RLE as COCO writes it ("size" (height, width), "counts" text), or None.
        id: number of the image in its data set.
        areas: (N,) float32 px^2 by which objects are small or large, or None for those of the boxes.
        difficulty: (N,) int8, of KITTI: 0 easy, 1 moderate, 2 hard, 3 beyond; None elsewhere.
    """

    name: str
    path: Path
    size: tuple[int, int]
    boxes: FloatArray
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    masks: tuple[Rle | None, ...]
    id: int = 0
    areas: FloatArray | None = None
    difficulty: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        counts = [len(self.labels), len(self.ignored), len(self.masks), *(len(a) for a in (self.areas, self.difficulty) if a is not None)]
        if self.boxes.shape != (n, 4) or any(count != n for count in counts):
            raise DataError(f"{self.name}: {self.boxes.shape} boxes with {counts} labels, flags, masks: each box needs one")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def object_areas(self) -> FloatArray:
        """(N,) px^2: `areas`, or those of the boxes."""
        return self.areas if self.areas is not None else np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1, dtype=np.float32)

    def subset(self, kept: NDArray[Any]) -> LabelledImage:
        """The same image with some of its objects: (N,) bool or indices."""
        rows = np.flatnonzero(kept) if kept.dtype == np.bool_ else kept
        return replace(
            self,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            ignored=self.ignored[rows],
            masks=tuple(self.masks[k] for k in rows),
            areas=None if self.areas is None else self.areas[rows],
            difficulty=None if self.difficulty is None else self.difficulty[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class DetectionDataset:
    """Images that share a list of labels.

    Attributes:
        name: for people.
        labels: names; `LabelledImage.labels` are indices of them.
        images: at least one.
        root: the folder that the names of the images begin at.
        category_ids: numbers of the labels in the files they were read from; 1, 2, ... where those have none.
        kind: format of the files, for `evaluation` to know what else is customary.
        left_out: objects without an area, which are not among those of the images.

    Raises:
        DataError: no images, names, numbers or labels that come twice, or a label that is not there.
    """

    name: str
    labels: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    root: Path
    category_ids: tuple[int, ...] = ()
    kind: str = "coco"
    left_out: int = 0

    def __post_init__(self) -> None:
        if not self.category_ids:
            object.__setattr__(self, "category_ids", tuple(range(1, len(self.labels) + 1)))
        if not self.images:
            raise DataError(f"{self.root}: {self.name} has no images")
        for what, values in (("images called", [i.name for i in self.images]), ("labels called", self.labels)):
            if (twice := _twice(values)) is not None:
                raise DataError(f"{self.root}: {self.name} has two {what} {twice!r}; rename one")
        if len(self.category_ids) != len(self.labels) or _twice(self.category_ids) is not None:
            raise DataError(f"{self.root}: {len(self.labels)} labels with the numbers {self.category_ids}: each needs its own")
        last = max((int(i.labels.max(initial=ANY_LABEL)) for i in self.images), default=ANY_LABEL)
        if last >= len(self.labels):
            raise DataError(f"{self.root}: an object has label {last}, and there are {len(self.labels)}: {', '.join(self.labels)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_masks(self) -> bool:
        """Whether every object that counts has a mask, and there is one."""
        given = [m is not None for i in self.images for m, ignored in zip(i.masks, i.ignored, strict=True) if not ignored]
        return bool(given) and all(given)

    @property
    def num_objects(self) -> int:
        """Objects that count."""
        return int(sum((~i.ignored).sum() for i in self.images))

    def image(self, i: int) -> RGB:
        """(H, W, 3) uint8 RGB of image i.

        Raises:
            DataError: missing, damaged, or of another size than its objects were marked in.
        """
        labelled = self.images[i]
        image = read_image(labelled.path)
        if image.shape[1::-1] != labelled.size:
            found, said = f"{image.shape[1]}x{image.shape[0]}", f"{labelled.size[0]}x{labelled.size[1]}"
            raise DataError(f"{labelled.path}: is {found} px, and its annotations are of {said}: they belong to another copy of it")
        return image

    def frame(self, i: int) -> Frame:
        """Image i as perception takes it; the camera has the image's size and any focal length."""
        image = self.image(i)
        height, width = image.shape[:2]
        focal = float(max(width, height))
        return Frame(0, image, Camera.pinhole(width, height, focal, focal, width / 2, height / 2), Pose.identity())

    def mask(self, i: int, k: int) -> NDArray[np.bool_]:
        """(H, W) bool of object k in image i; its box, filled, where it has no mask."""
        from ros2_loc.io.coco import mask_of_rle

        labelled = self.images[i]
        rle = labelled.masks[k]
        return mask_of_rle(rle) if rle is not None else filled_box(labelled.boxes[k], labelled.size)

    def limited(self, count: int | None) -> DetectionDataset:
        """At most so many images, evenly chosen.

        Raises:
            ConfigError: less than one.
        """
        if count is None:
            return self
        if count < 1:
            raise ConfigError(f"--limit {count}: at least 1 image is needed")
        chosen = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))
        return replace(self, images=tuple(self.images[k] for k in chosen))

    def renamed(self, labels: Sequence[str], same: dict[str, str] | None = None) -> DetectionDataset:
        """The same objects under another list of labels; those that it lacks become ignored regions, not mistakes of a detector.

        Names are compared without regard to case, blanks and underscores.

        Args:
            labels: the new list, for instance a detector's; their numbers stay those of the files where the names do.
            same: name here -> name there, where they are written differently ("Pedestrian" -> "person").

        Raises:
            ConfigError: `same` begins with a label that is not here, or no label is common to both: the line has both lists.
        """
        wanted = {plain_label(name): k for k, name in enumerate(labels)}
        told = {plain_label(a): plain_label(b) for a, b in (same or {}).items()}
        strange = next((a for a in same or {} if plain_label(a) not in map(plain_label, self.labels)), None)
        if strange is not None:
            raise ConfigError(f"{self.name} has no label {strange!r}; it has {', '.join(self.labels)}")
        index = np.array([wanted.get(told.get(p, p), ANY_LABEL) for p in map(plain_label, self.labels)] + [ANY_LABEL], dtype=np.int64)
        if (index == ANY_LABEL).all():
            raise ConfigError(f"no label in common: {self.name} has {', '.join(self.labels)}; asked for are {', '.join(labels)}")
        images = tuple(
            replace(i, labels=index[i.labels], ignored=i.ignored | (index[i.labels] == ANY_LABEL)) for i in self.images
        )
        own = dict(zip(map(plain_label, self.labels), self.category_ids, strict=True))
        numbers = tuple(own[plain_label(name)] for name in labels if plain_label(name) in own)
        return replace(self, labels=tuple(labels), images=images, category_ids=numbers if len(numbers) == len(labels) else ())

    def as_one(self, label: str) -> DetectionDataset:
        """All labels taken for one, as UAVDT's three are for its `vehicle`."""
        images = tuple(replace(i, labels=np.where(i.labels == ANY_LABEL, ANY_LABEL, 0)) for i in self.images)
        return replace(self, labels=(label,), images=images, category_ids=())


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object as a reader found it; `where` names file and annotation for errors."""

    box: tuple[float, float, float, float]
    label: int
    where: str
    ignored: bool = False
    mask: Rle | None = None
    area: float | None = None
    difficulty: int | None = None


class ImageMaker:
    """Makes labelled images of rows; counts objects without an area, or refuses them."""

    def __init__(self, where: str, strict: bool) -> None:
        self._where, self._strict = where, strict
        self.left_out: list[str] = []

    def image(self, name: str, path: Path, size: tuple[int, int], rows: Sequence[ObjectRow], number: int) -> LabelledImage:
        """Boxes clipped to the image.

        Raises:
            DataError: numbers that are not finite, or (`strict`) a box without area in the image.
        """
        kept = [(row, box) for row in rows if (box := self._sound(row, size)) is not None]
        found = [row for row, _ in kept]
        areas = [np.nan if row.area is None else row.area for row in found]
        boxes = np.array([box for _, box in kept], dtype=np.float32).reshape(-1, 4)
        plain = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        graded = any(row.difficulty is not None for row in rows)
        return LabelledImage(
            name=name,
            path=path,
            size=size,
            boxes=boxes,
            labels=np.array([row.label for row in found], dtype=np.int64),
            ignored=np.array([row.ignored for row in found], dtype=bool),
            masks=tuple(row.mask for row in found),
            id=number,
            areas=np.where(np.isnan(areas), plain, areas).astype(np.float32) if any(row.area is not None for row in found) else None,
            difficulty=np.array([3 if r.difficulty is None else r.difficulty for r in found], dtype=np.int8) if graded else None,
        )

    def warn(self) -> int:
        """Say once how many were left out, and return the number."""
        if self.left_out:
            _log.warning("%s: left out %d objects without an area, the first: %s", self._where, len(self.left_out), self.left_out[0])
        return len(self.left_out)

    def _sound(self, row: ObjectRow, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
        if not np.isfinite(row.box).all():
            raise DataError(f"{row.where}: box {row.box} is not finite; correct or remove it")
        x0, y0, x1, y1 = row.box
        box = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[0])), min(y1, float(size[1]))
        if np.float32(box[2]) > np.float32(box[0]) and np.float32(box[3]) > np.float32(box[1]):
            return box
        said = f"{row.where}: box {', '.join(f'{v:g}' for v in row.box)} has no area in an image of {size[0]}x{size[1]} px"
        if self._strict:
            raise DataError(f"{said}; correct or remove it")
        self.left_out.append(said)
        return None


def filled_box(box: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels whose centres lie in a box (x0, y0, x1, y1) px of an image of (width, height) px."""
    x, y = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    return ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))[None, :]


def _twice(values: Sequence[Any]) -> Any:
    seen: set[Any] = set()
    return next((v for v in values if v in seen or seen.add(v)), None)  # type: ignore[func-returns-value]
