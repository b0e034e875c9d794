"""Images whose names say where they were taken, as the public sets of visual place recognition name them.

The long form has 14 fields between `@`, each but the first two may be empty:
`@east@north@zone@letter@latitude@longitude@pano@tile@heading@pitch@roll@height@timestamp@note@.jpg`;
east and north are UTM metres, the heading is of the compass (0 north, 90 east), the timestamp is YYYYMMDD_hhmmss, which may end anywhere.
The short form is `@east@north@anything.jpg`. Source: CosPlace (Berton et al. 2022) and the downloaders of its authors.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pyproj import Transformer

from ros2_loc.core.geodesy import check_geodetic
from ros2_loc.errors import DataError
from ros2_loc.io.images import SUFFIXES

_NUM_FIELDS = 14
_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # of latitude, 8 degrees each from 80 south
_TIMESTAMP = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:_(\d\d)(?:(\d\d)(?:(\d\d))?)?)?)?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class GeotaggedImage:
    """One image and what its name says.

    Attributes:
        path: the file.
        east_m, north_m: UTM, m.
        heading_deg: where the camera looks, clockwise from north, in [0, 360); None where the name does not say.
        zone: UTM zone and band ("10S"), or None; positions of different zones must not be compared.
        stamp_ns: UTC, to the second; of a date that is given in part its begin; None without one, or in another form.
        note: the last field; of the short form all that follows the position.
    """

    path: Path
    east_m: float
    north_m: float
    heading_deg: float | None
    zone: str | None
    stamp_ns: int | None
    note: str


def read_geotagged(folder: str | Path) -> list[GeotaggedImage]:
    """All images in a folder and the folders in it, by their path.

    Raises:
        DataError: no such folder, no images, or a name that does not say a position (which, and what is wrong with it).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one with images named @east@north@….jpg")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: holds no images ({' '.join(SUFFIXES)}); give the folder that holds them")
    return [parse_geotagged(path) for path in files]


def is_geotagged(path: str | Path) -> bool:
    """Whether a file's name has the fields of a position (which may still be wrong)."""
    return len(Path(path).stem.split("@")) >= 3


def parse_geotagged(path: str | Path) -> GeotaggedImage:
    """What an image's name says, in either form.

    Raises:
        DataError: no position, or a number that is none.
    """
    path = Path(path)
    fields = path.stem.split("@")[1:]
    if len(fields) < 2:
        raise DataError(f"{path}: its name says no position; name it @east@north@….jpg, UTM metres")
    east_m, north_m = _number(path, fields[0], "east"), _number(path, fields[1], "north")
    if len(fields) < _NUM_FIELDS:
        return GeotaggedImage(path, east_m, north_m, None, None, None, "@".join(fields[2:]))
    heading_deg = _number(path, fields[8], "heading") % 360.0 if fields[8] else None
    zone = fields[2].lstrip("0") + fields[3].upper()
    return GeotaggedImage(path, east_m, north_m, heading_deg, zone or None, _stamp(fields[12]), fields[13])


def geotagged_name(
    east_m: float,
    north_m: float,
    *,
    heading_deg: float | None = None,
    zone: str | None = None,
    lat_lon_deg: tuple[float, float] | None = None,
    pano: str = "",
    tile: str = "",
    stamp_ns: int | None = None,
    note: str = "",
    suffix: str = ".jpg",
) -> str:
    """A file name in the long form, of which `parse_geotagged` is the inverse: to the centimetre, 0.01 degrees and the second.

    Args:
        east_m, north_m: UTM, or metres of any other flat frame when no zone is given.
        heading_deg: clockwise from north.
        zone: number and letter, "10S".
        lat_lon_deg: for readers that want it too.
        pano, tile, note: words without `@` and `/`; the first two are for readers of the sets that have them.
        stamp_ns: UTC.
        suffix: of the image's format.

    Raises:
        DataError: a position that is not finite, a zone of another form, or a word that would break the name.
    """
    number, letter = _split_zone(zone)
    latitude, longitude = ("", "") if lat_lon_deg is None else (f"{lat_lon_deg[0]:09.5f}", f"{lat_lon_deg[1]:010.5f}")
    heading = "" if heading_deg is None else f"{heading_deg % 360.0:.2f}"
    fields = [*_position(east_m, north_m), number, letter, latitude, longitude, pano, tile, heading, "", "", "", _timestamp(stamp_ns), note]
    return _joined(fields) + f"@{suffix}"


def short_geotagged_name(east_m: float, north_m: float, note: str = "", suffix: str = ".jpg") -> str:
    """A file name in the short form; raises as `geotagged_name`."""
    return _joined([*_position(east_m, north_m), note]) + suffix


def utm_from_geodetic(lat_deg: float, lon_deg: float) -> tuple[float, float, str]:
    """(east m, north m, zone) of a place in its own UTM zone; that of the band alone, without the exceptions of Norway and Svalbard.

    Raises:
        GeometryError: no such place.
        DataError: beyond 80 degrees south or 84 north, where UTM ends.
    """
    check_geodetic(lat_deg, lon_deg, 0.0)
    if not -80.0 <= lat_deg <= 84.0:
        raise DataError(f"latitude {lat_deg} is outside of UTM, which goes from -80 to 84 degrees")
    number = int((lon_deg + 180.0) // 6.0) % 60 + 1
    band = _BANDS[min(int((lat_deg + 80.0) // 8.0), len(_BANDS) - 1)]
    crs = f"EPSG:{(32600 if lat_deg >= 0.0 else 32700) + number}"
    east_m, north_m = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon_deg, lat_deg)
    return float(east_m), float(north_m), f"{number}{band}"


def _number(path: Path, text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{path}: its {what} is {text!r}, not a number; name it @east@north@….jpg, UTM metres") from error
    if not math.isfinite(value):
        raise DataError(f"{path}: its {what} is {text!r}, which is not finite; name it @east@north@….jpg, UTM metres")
    return value


def _stamp(text: str) -> int | None:
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(n) if n else None for n in found.groups())
    try:
        moment = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0, tzinfo=timezone.utc)
    except ValueError:
        return None
    return int((moment - _EPOCH).total_seconds()) * 1_000_000_000


def _timestamp(stamp_ns: int | None) -> str:
    return "" if stamp_ns is None else (_EPOCH + timedelta(seconds=stamp_ns // 1_000_000_000)).strftime("%Y%m%d_%H%M%S")


def _split_zone(zone: str | None) -> tuple[str, str]:
    if zone is None:
        return "", ""
    found = re.fullmatch(r"(\d{1,2})([C-HJ-NP-X])", zone)
    if not found:
        raise DataError(f"a UTM zone is a number and a letter such as 10S, not {zone!r}")
    return f"{int(found[1]):02d}", found[2]


def _position(east_m: float, north_m: float) -> tuple[str, str]:
    if not (math.isfinite(east_m) and math.isfinite(north_m)):
        raise DataError(f"an image can't be named after the position {east_m}, {north_m}, which is not finite")
    return f"{east_m:010.2f}", f"{north_m:010.2f}"


def _joined(fields: list[str]) -> str:
    wrong = next((field for field in fields if "@" in field or "/" in field), None)
    if wrong is not None:
        raise DataError(f"a field of a file name must not hold '@' or '/', as {wrong!r} does")
    return "@" + "@".join(fields)
