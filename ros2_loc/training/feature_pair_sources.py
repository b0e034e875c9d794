"""Pairs of images from folders: single images that are warped, and pairs with files of optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from ros2_loc.errors import DataError
from ros2_loc.io.files import read_text
from ros2_loc.io.image_folders import image_files
from ros2_loc.io.images import SUFFIXES, read_image
from ros2_loc.io.optical_flow import read_flow
from ros2_loc.training.feature_pairs import DensePair, Loader, PairData
from ros2_loc.training.feature_warps import Warp, WarpedPairs, pixel_centres

LIST = "pairs.txt"
_DEPTH = ".depth."  # in the names of 7-Scenes
T = TypeVar("T")


def folder_pairs(folders: Sequence[Path], warp: Warp, min_short_px: int, held_out: float) -> PairData:
    """Warped pairs of all images of the folders; of every so many one is held out.

    Raises:
        DataError: a folder without images, or too few of them to hold some out.
    """
    train, kept = split_evenly([image for folder in folders for image in folder_images(folder)], held_out)
    return PairData(WarpedPairs(train, warp, min_short_px), kept)


def folder_images(folder: Path) -> list[Loader]:
    """The images of a folder, depth images left out; raises DataError when there are none."""
    files = [path for path in image_files(folder) if _DEPTH not in path.name]
    if not files:
        raise DataError(f"{folder}: holds depth images only; give the folder with the colour images")
    return [partial(read_image, path) for path in files]


class FlowPairs:
    """Pairs with a file of optical flow each."""

    def __init__(self, files: Sequence[tuple[Path, Path, Path]]) -> None:
        """Nothing is read yet; `files` are (first image, second image, flow from the first to the second)."""
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def pair(self, index: int, rng: np.random.Generator) -> DensePair:
        """Pair `index`; raises DataError where flow and image differ in size."""
        first, second, flow_file = self._files[index]
        image, image2 = read_image(first), read_image(second)
        flow, known = read_flow(flow_file)
        if known.shape != image.shape[:2]:
            raise DataError(f"{flow_file}: is of {known.shape[1]}x{known.shape[0]} px, {first.name} of {image.shape[1]}x{image.shape[0]}")
        points = (pixel_centres(image.shape[1], image.shape[0]) + flow).astype(np.float32)
        inside = ((points >= 0) & (points < image2.shape[1::-1])).all(axis=2)
        return DensePair(image, image2, points, known & inside)


def flow_pairs(folder: Path, held_out: float) -> PairData:
    """The pairs of a folder in one of three forms; the last ones are held out, as images.

    * `pairs.txt`: in each row first image, second image and flow, as paths from the folder;
    * KITTI flow: `image_2/*_10.png`, `*_11.png` and `flow_noc` or `flow_occ`;
    * as MPI Sintel: `flow/**/NAME.flo` (or .png), and the same NAME in `images`, `clean` or `final`, whose next image is the second.

    Raises:
        DataError: none of them, or a file that is missing.
    """
    folder = Path(folder)
    if (folder / LIST).is_file():
        files = _listed(folder)
    elif (folder / "image_2").is_dir():
        files = _kitti(folder)
    else:
        files = _parallel(folder)
    train, kept = split_at_the_end(files, held_out)
    return PairData(FlowPairs(train), [partial(read_image, first) for first, _, _ in kept])


def split_evenly(items: Sequence[T], share: float) -> tuple[list[T], list[T]]:
    """(train, held out): of every 1 / share one is held out, none of share 0. Raises DataError for a single item."""
    if share == 0:
        return list(items), []
    if len(items) < 2:
        raise DataError("one image alone can't be trained on and validated with; give more")
    count = min(max(1, round(share * len(items))), len(items) - 1)
    kept = set(np.linspace(0, len(items) - 1, count + 2)[1:-1].round().astype(int).tolist()) or {len(items) - 1}
    return [item for i, item in enumerate(items) if i not in kept], [item for i, item in enumerate(items) if i in kept]


def split_at_the_end(items: Sequence[T], share: float) -> tuple[list[T], list[T]]:
    """(train, held out): the last ones of a sequence are held out, none of share 0. Raises DataError for a single item."""
    if share == 0:
        return list(items), []
    if len(items) < 2:
        raise DataError("one pair alone can't be trained on and validated with; give more")
    count = min(max(1, round(share * len(items))), len(items) - 1)
    return list(items[:-count]), list(items[-count:])


def _listed(folder: Path) -> list[tuple[Path, Path, Path]]:
    rows = [line.split() for line in read_text(folder / LIST, "list of pairs").splitlines() if line.strip() and not line.startswith("#")]
    wrong = next((row for row in rows if len(row) != 3), None)
    if wrong is not None or not rows:
        raise DataError(f"{folder / LIST}: rows are `image image flow`, got {' '.join(wrong or ['none'])!r}")
    return [(folder / a, folder / b, folder / c) for a, b, c in rows]


def _kitti(folder: Path) -> list[tuple[Path, Path, Path]]:
    flow = next((folder / name for name in ("flow_noc", "flow_occ") if (folder / name).is_dir()), None)
    if flow is None:
        raise DataError(f"{folder}: has image_2 but neither flow_noc nor flow_occ; copy KITTI's training folder whole")
    images = folder / "image_2"
    return [(images / f.name, images / f.name.replace("_10.", "_11."), f) for f in sorted(flow.glob("*_10.png"))]


def _parallel(folder: Path) -> list[tuple[Path, Path, Path]]:
    images = next((folder / name for name in ("images", "clean", "final") if (folder / name).is_dir()), None)
    found = []
    if images is not None:
        for flow in sorted((folder / "flow").rglob("*.flo")) or sorted((folder / "flow").rglob("*.png")):
            beside = images / flow.parent.relative_to(folder / "flow")
            files = sorted(path for path in beside.glob("*") if path.suffix.lower() in SUFFIXES)
            at = next((k for k, path in enumerate(files) if path.stem == flow.stem), len(files))
            if at + 1 < len(files):
                found.append((files[at], files[at + 1], flow))
    if not found:
        raise DataError(f"{folder}: holds no pairs with flow: give {LIST}, KITTI's image_2 and flow_noc, or images/ and flow/*.flo")
    return found
