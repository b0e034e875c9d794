"""What every kind of overhead imagery offers: pixels by windows, and where they lie on earth."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from ros2_loc.core.pose import Array
from ros2_loc.errors import ConfigError, DataError

Bytes = NDArray[np.uint8]


class Imagery(Protocol):
    """One georeferenced picture.

    Attributes:
        name: for messages.
        crs: its coordinate reference system.
        crs_from_px: (2, 3) affine from px, counted from the outer corner of the first pixel, to x (east or longitude), y of the CRS.
        size_px: (width, height).
        notes: one line each about what the user should know (holes, bands left out).
    """

    name: str
    crs: CRS
    crs_from_px: Array
    size_px: tuple[int, int]
    notes: tuple[str, ...]

    def window(self, column: int, row: int, width: int, height: int) -> tuple[Bytes, Bytes]:
        """RGB (height, width, 3) and valid share 0..255 (height, width) of a window inside of the picture.

        Raises:
            DataError: it can't be read.
        """
        ...

    def provenance(self) -> dict[str, Any]:
        """Plain values: kind, name, checksum, CRS, resolution, attribution where it is known."""
        ...


def parse_crs(text: str) -> CRS:
    """A CRS by its name (`EPSG:25832`), PROJ string or WKT; `enu:LAT,LON` is the tangent plane at a place, x east and y north in metres.

    Raises:
        ConfigError: not a CRS that PROJ knows.
    """
    try:
        if text.lower().startswith("enu:"):
            lat, lon = (float(word) for word in text[4:].split(","))
            return CRS.from_proj4(f"+proj=ortho +lat_0={lat!r} +lon_0={lon!r} +ellps=WGS84 +datum=WGS84 +units=m +no_defs")
        return CRS.from_user_input(text)
    except (CRSError, ValueError) as error:
        raise ConfigError(f"{text!r} is not a coordinate reference system: give for instance EPSG:25832 or enu:48.98,8.39") from error


def require_on_earth(crs: CRS, name: str) -> CRS:
    """`crs`, when its coordinates are places on earth.

    Raises:
        DataError: a local system, whose place nobody knows.
    """
    if not (crs.is_geographic or crs.is_projected or crs.is_bound or crs.is_compound):
        raise DataError(f"{name}: its coordinate system {crs.name!r} is a local one, whose place on earth is unknown: give --crs EPSG:...")
    return crs
