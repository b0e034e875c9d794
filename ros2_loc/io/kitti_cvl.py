"""The published lists of KITTI-CVL: which frames of KITTI raw are asked for, and where.

CVLNet (train, test1 = its validation, test2 = both of its tests), one frame per line with the centre of its satellite tile:

    2011_09_28/2011_09_28_drive_0034_sync/0000000048.png 49.010958046418 8.4159707014339

OrienterNet and others on the same frames; in tests with a disturbance of the pose in units of the benchmark's limits, -1 to 1:

    2011_09_26/2011_09_26_drive_0002_sync/0000000048.png
    2011_10_03/2011_10_03_drive_0042_sync/0000000939.png -0.3455326 -0.9653194 -0.0077375486

Sources: github.com/YujiaoShi/CVLNet, dataLoader; github.com/shiyujiao/HighlyAccurate and facebookresearch/OrienterNet, which have them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ros2_loc.core.geodesy import check_geodetic
from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import read_text

_FRAME = re.compile(r"(\d{4}_\d{2}_\d{2})/((?:\1)_drive_\d{4}_(?:sync|extract))/(\d{10})\.png")
CVLNET_FILES = {
    "train": "train_files_with_sat_GPS.txt",
    "validate": "test1_files_with_sat_GPS.txt",
    "test": "test2_files_with_sat_GPS.txt",
}


@dataclass(frozen=True, slots=True)
class ListedFrame:
    """A frame of KITTI raw: the day, the drive's folder, and the number in the image's name."""

    date: str
    drive: str
    number: int

    @property
    def name(self) -> str:
        """The image's file name."""
        return f"{self.number:010d}.png"


@dataclass(frozen=True, slots=True)
class ListedTile:
    """A frame with the centre of its satellite tile, degrees (WGS84)."""

    frame: ListedFrame
    lat_deg: float
    lon_deg: float


@dataclass(frozen=True, slots=True)
class ListedPose:
    """A frame with the disturbance of its pose: shift along two axes and rotation, -1 to 1 of the benchmark's limits; None in training."""

    frame: ListedFrame
    disturbance: tuple[float, float, float] | None


def read_tile_list(path: str | Path) -> tuple[ListedTile, ...]:
    """A list in CVLNet's form.

    Raises:
        DataError: missing, empty, or a line of another form.
    """
    tiles = []
    for where, frame, numbers in _rows(path):
        if len(numbers) != 2:
            raise DataError(f"{where}: has {len(numbers)} numbers behind the frame, not latitude and longitude of its tile")
        lat_deg, lon_deg = numbers
        try:
            check_geodetic(lat_deg, lon_deg, 0.0)
        except GeometryError as error:
            raise DataError(f"{where}: {error}") from error
        tiles.append(ListedTile(frame, lat_deg, lon_deg))
    return tuple(tiles)


def read_pose_list(path: str | Path) -> tuple[ListedPose, ...]:
    """A list in OrienterNet's form.

    Raises:
        DataError: missing, empty, or a line of another form.
    """
    poses = []
    for where, frame, numbers in _rows(path):
        if len(numbers) not in (0, 3) or any(not abs(n) <= 1.0 for n in numbers):
            raise DataError(f"{where}: expected nothing or three numbers from -1 to 1 behind the frame")
        poses.append(ListedPose(frame, (numbers[0], numbers[1], numbers[2]) if numbers else None))
    return tuple(poses)


def cvlnet_list(folder: str | Path, part: str) -> Path:
    """The file of a part ("train", "validate", "test") in the folder with the lists, or in its subfolder CVLNet.

    Raises:
        DataError: it is in neither.
    """
    for place in (Path(folder), Path(folder) / "CVLNet"):
        if (place / CVLNET_FILES[part]).is_file():
            return place / CVLNET_FILES[part]
    raise DataError(f"{folder}: has no {CVLNET_FILES[part]}; copy the lists of github.com/YujiaoShi/CVLNet (dataLoader) there")


def by_drive(tiles: Iterable[ListedTile]) -> dict[str, list[ListedTile]]:
    """`date/drive` -> its frames in the order of their numbers."""
    found: dict[str, list[ListedTile]] = {}
    for tile in sorted(tiles, key=lambda t: (t.frame.date, t.frame.drive, t.frame.number)):
        found.setdefault(f"{tile.frame.date}/{tile.frame.drive}", []).append(tile)
    return found


def _rows(path: str | Path) -> Iterator[tuple[str, ListedFrame, list[float]]]:
    empty = True
    for number, line in enumerate(read_text(path, "list of KITTI-CVL").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        empty, where = False, f"{path}: line {number}"
        matched = _FRAME.fullmatch(words[0])
        if matched is None:
            raise DataError(f"{where}: {words[0][:60]!r} is no frame; expected 2011_09_26/2011_09_26_drive_0001_sync/0000000000.png")
        try:
            numbers = [float(word) for word in words[1:]]
        except ValueError as error:
            raise DataError(f"{where}: has words that are no numbers: {line.strip()[:80]!r}") from error
        yield where, ListedFrame(matched[1], matched[2], int(matched[3])), numbers
    if empty:
        raise DataError(f"{path}: names no frame; copy the list again")
