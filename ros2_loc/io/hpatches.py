"""Image sequences with homographies: HPatches, and single folders such as Oxford's or VLFeat's.

HPatches (Balntas et al., CVPR 2017, https://github.com/hpatches/hpatches-dataset) has folders `v_*` (viewpoint) and `i_*` (illumination)
with `1.ppm` to `6.ppm` and `H_1_2` to `H_1_6`, the homographies from image 1 to image k. They count from (0, 0) at the centre of the
first pixel: `read_homography` adds the half pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError
from ros2_loc.io.files import atomic_path, rows_of_numbers
from ros2_loc.io.image_pairs import HomographyPair, View, file_view
from ros2_loc.io.images import SUFFIXES

_GROUPS = {"v": "viewpoint", "i": "illumination"}
_HALF = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
# large at 1600 px; left out by D2-Net's protocol, which this one is compared with
TOO_LARGE = ("i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding", "v_artisans", "v_astronautis", "v_talent")


def read_homography(path: str | Path) -> NDArray[np.float64]:
    """(3, 3) of a file `H_1_k`, for pixels whose first has its centre at (0.5, 0.5); its last element is 1.

    Raises:
        DataError: missing, not 3 x 3 numbers, or singular.
    """
    matrix = rows_of_numbers(path, "homography (3 rows of 3 numbers)")
    if matrix.shape != (3, 3) or abs(np.linalg.det(matrix)) < 1e-12:
        raise DataError(f"{path}: holds no homography: 3 rows of 3 numbers, not singular, are expected; got {matrix.shape}")
    moved = _HALF @ matrix @ np.linalg.inv(_HALF)
    return np.asarray(moved / moved[2, 2])


def write_homography(path: str | Path, second_from_first: NDArray[np.float64]) -> None:
    """Write what `read_homography` reads."""
    matrix = np.linalg.inv(_HALF) @ second_from_first @ _HALF
    rows = (" ".join(f"{value:.10g}" for value in row) for row in matrix / matrix[2, 2])
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{row}\n" for row in rows))


def is_hpatches(folder: Path) -> bool:
    """Whether a folder holds sequences of HPatches."""
    return bool(_sequences(folder))


def is_homography_sequence(folder: Path) -> bool:
    """Whether a folder holds images and homographies `H_1_k`."""
    return any(folder.glob("H_1_*"))


def open_hpatches(folder: str | Path, all_sequences: bool = False) -> list[HomographyPair]:
    """The pairs (1, k) of all sequences, in the order of their names.

    Args:
        folder: holds `v_*` and `i_*`.
        all_sequences: also the eight that D2-Net's protocol leaves out for their size.

    Raises:
        DataError: no sequences, or one that is damaged.
    """
    folder = Path(folder)
    found = [s for s in _sequences(folder) if all_sequences or s.name not in TOO_LARGE]
    if not found:
        raise DataError(f"{folder}: has no folders v_* or i_*; give the folder of hpatches-sequences-release")
    return [pair for sequence in found for pair in open_homography_sequence(sequence)]


def open_homography_sequence(folder: str | Path) -> list[HomographyPair]:
    """The pairs (1, k) of one folder with images `1.*`, `k.*` and files `H_1_k`.

    Raises:
        DataError: an image or a homography is missing or damaged.
    """
    folder = Path(folder)
    files = sorted((f for f in folder.glob("H_1_*") if f.stem.rpartition("_")[2].isdigit()), key=lambda f: int(f.stem.rpartition("_")[2]))
    if not files:
        raise DataError(f"{folder}: has no homographies H_1_2, H_1_3, ... beside its images")
    group = _GROUPS.get(folder.name.partition("_")[0], "viewpoint")
    first = _view(folder, "1")
    return [HomographyPair(first, _view(folder, f.stem.rpartition("_")[2]), group, read_homography(f)) for f in files]


def _sequences(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name.startswith(("v_", "i_")) and is_homography_sequence(p))


def _view(folder: Path, number: str) -> View:
    found = next((folder / f"{number}{suffix}" for suffix in SUFFIXES if (folder / f"{number}{suffix}").is_file()), None)
    if found is None:
        raise DataError(f"{folder}: has no image {number} ({' '.join(SUFFIXES)}); copy the sequence again")
    return file_view(found, name=f"{folder.name}/{found.name}")
