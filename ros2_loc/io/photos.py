"""Photos of people: where, when and in how much light they were taken, by their name or their EXIF; and upright copies of them."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ros2_loc.errors import DataError, GeometryError
from ros2_loc.io.files import atomic_path, read_bytes
from ros2_loc.io.geotagged import is_geotagged, parse_geotagged, utm_from_geodetic
from ros2_loc.io.images import RGB, SUFFIXES, require_size, write_image

# Tags of EXIF 2.3 by number: Pillow has names for them since 9.4 only, and Ubuntu 22.04 has 9.0.
_EXIF, _GPS, _ORIENTATION = 0x8769, 0x8825, 0x0112
_F_NUMBER, _EXPOSURE_TIME, _ISO = 0x829D, 0x829A, 0x8827
_LATITUDE, _LATITUDE_REF, _LONGITUDE, _LONGITUDE_REF = 2, 1, 4, 3
_DIRECTION, _DIRECTION_REF, _TIME, _DATE = 17, 16, 7, 29
_UPRIGHT, _TRUE_NORTH = 1, "T"


@dataclass(frozen=True, slots=True)
class Photo:
    """What a photo says of itself; None where it does not.

    Attributes:
        path: the file.
        utm: (east m, north m, zone); the zone is None where a name does not tell it.
        heading_deg: where the camera looked, clockwise from north.
        stamp_ns: UTC.
        light_value: exposure value at ISO 100: about 15 in sunlight, 10 at sunset, 7 in rooms, below 5 in streets at night.
    """

    path: Path
    utm: tuple[float, float, str | None] | None
    heading_deg: float | None
    stamp_ns: int | None
    light_value: float | None


def find_photos(folder: str | Path) -> list[Path]:
    """The image files in a folder and the folders in it, sorted; hidden ones are left out.

    Raises:
        DataError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one with the photos")
    images = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = [path for path in images if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not found:
        raise DataError(f"{folder}: holds no images ({' '.join(SUFFIXES)}); give the folder that holds the photos")
    return sorted(found)


def read_photo(path: str | Path) -> Photo:
    """What a photo's name says (`io.geotagged`), and its EXIF where that has no position.

    Raises:
        DataError: missing or no image; or a name of the field's form whose numbers are none.
    """
    path = Path(path)
    exif = _exif(path)
    light_value = _light_value(exif.get_ifd(_EXIF))
    if is_geotagged(path):
        named = parse_geotagged(path)
        return Photo(path, (named.east_m, named.north_m, named.zone), named.heading_deg, named.stamp_ns, light_value)
    gps = exif.get_ifd(_GPS)
    return Photo(path, _utm(gps), _heading(gps), _stamp(gps), light_value)


def read_upright(path: str | Path) -> RGB:
    """(H, W, 3) uint8 RGB, turned as its EXIF says: there is no calibration that this could contradict.

    Raises:
        DataError: missing, damaged, or over 100 megapixels.
    """
    image = _open(Path(path))
    try:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the image is damaged ({error}); copy it again") from error


def copy_upright(source: str | Path, target: str | Path) -> None:
    """A copy that stands upright without EXIF's help: bit by bit where it does so already, otherwise written anew.

    Raises:
        DataError: `source` can't be read, or `target` can't be written.
    """
    source, target = Path(source), Path(target)
    orientation = _exif(source).get(_ORIENTATION, _UPRIGHT)
    if orientation != _UPRIGHT or source.suffix.lower() != target.suffix.lower():
        write_image(target, read_upright(source))
        return
    with atomic_path(target) as draft:
        draft.write_bytes(read_bytes(source, "photo"))


def _open(path: Path) -> Image.Image:
    data = read_bytes(path, "photo")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # require_size says it in one line
            image = Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: is not an image that can be read; save it as JPEG or PNG") from error
    require_size(image.width, image.height, str(path))
    return image


def _exif(path: Path) -> Image.Exif:
    try:
        return _open(path).getexif()
    except (OSError, ValueError, SyntaxError, KeyError) as error:  # damaged tags: the picture itself may be whole
        raise DataError(f"{path}: its EXIF is damaged ({error}); save it anew") from error


def _utm(gps: Mapping[int, Any]) -> tuple[float, float, str | None] | None:
    angles = []
    for value, side, negative in ((_LATITUDE, _LATITUDE_REF, "S"), (_LONGITUDE, _LONGITUDE_REF, "W")):
        parts = _numbers(gps.get(value))
        if len(parts) != 3 or gps.get(side) is None:
            return None
        degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
        angles.append(-degrees if str(gps[side]).strip("\0 ").upper() == negative else degrees)
    if angles == [0.0, 0.0]:  # what cameras write before their first fix
        return None
    try:
        return utm_from_geodetic(angles[0], angles[1])
    except (DataError, GeometryError):
        return None


def _heading(gps: Mapping[int, Any]) -> float | None:
    """Of the true north: what a compass says is off by the declination, which is not known here."""
    parts = _numbers([gps.get(_DIRECTION)])
    is_true = str(gps.get(_DIRECTION_REF, _TRUE_NORTH)).strip("\0 ").upper() == _TRUE_NORTH
    return parts[0] % 360.0 if parts and is_true else None


def _stamp(gps: Mapping[int, Any]) -> int | None:
    """Of the GPS tags only: those of the clock tell no time zone."""
    clock = _numbers(gps.get(_TIME))
    try:
        day = datetime.strptime(str(gps.get(_DATE, "")).strip("\0 "), "%Y:%m:%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    if len(clock) != 3:
        return None
    seconds = clock[0] * 3600 + clock[1] * 60 + clock[2]
    return int(day.timestamp() + seconds) * 1_000_000_000


def _light_value(exif: Mapping[int, Any]) -> float | None:
    """log2(N^2 / t) - log2(ISO / 100), N the aperture's number and t the exposure in seconds."""
    iso = exif.get(_ISO)
    found = _numbers([exif.get(_F_NUMBER), exif.get(_EXPOSURE_TIME), iso[0] if isinstance(iso, tuple) and iso else iso])
    if len(found) != 3 or min(found) <= 0:
        return None
    number, time_s, speed = found
    return math.log2(number**2 / time_s) - math.log2(speed / 100)


def _numbers(values: Any) -> list[float]:
    """Finite numbers; none at all when one is missing or not a number."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError, ZeroDivisionError):
        return []
    return found if all(math.isfinite(value) for value in found) else []
