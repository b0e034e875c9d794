"""Earth: WGS84 <-> ECEF <-> local east-north-up, and the Web-Mercator tiles that imagery comes in.

Sources: NIMA TR8350.2 (WGS84); Bowring 1976/1985 for the inverse; OGC 17-083r4 (Web-Mercator tiles).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ros2_loc.core.pose import Array, Pose
from ros2_loc.errors import GeometryError

SEMI_MAJOR_AXIS_M = 6378137.0
FLATTENING = 1.0 / 298.257223563
_B_M = SEMI_MAJOR_AXIS_M * (1.0 - FLATTENING)
_E2 = FLATTENING * (2.0 - FLATTENING)
_EP2 = _E2 / (1.0 - _E2)
MAX_MERCATOR_LAT_DEG = 85.05112877980659  # where the map of the world is a square
TILE_PX = 256


@dataclass(frozen=True, slots=True)
class GeoOrigin:
    """Where the origin of a local east-north-up frame lies: degrees, and metres above the ellipsoid.

    Raises:
        GeometryError: a latitude or longitude that does not exist.
    """

    lat_deg: float
    lon_deg: float
    alt_m: float = 0.0

    def __post_init__(self) -> None:
        check_geodetic(self.lat_deg, self.lon_deg, self.alt_m)


@dataclass(frozen=True, slots=True, eq=False)
class GeoFix:
    """One position by satellite.

    Attributes:
        stamp_ns: time of the measurement.
        lat_deg, lon_deg: degrees, WGS84.
        alt_m: above the ellipsoid.
        covariance_enu: (3, 3) m^2, east, north, up, or None where the receiver states none.
        antenna_in_base_m: (3,) m, where the antenna sits on base_link.

    Raises:
        GeometryError: a position that does not exist.
    """

    stamp_ns: int
    lat_deg: float
    lon_deg: float
    alt_m: float
    covariance_enu: Array | None = None
    antenna_in_base_m: Array = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        check_geodetic(self.lat_deg, self.lon_deg, self.alt_m)


def check_geodetic(lat_deg: float, lon_deg: float, alt_m: float) -> None:
    """Raise GeometryError unless the position is finite, |latitude| <= 90 and |longitude| <= 180."""
    if not np.isfinite([lat_deg, lon_deg, alt_m]).all() or abs(lat_deg) > 90 or abs(lon_deg) > 180:
        raise GeometryError(f"latitude {lat_deg}, longitude {lon_deg}, altitude {alt_m} is not a place; are the first two swapped?")


def ecef_from_geodetic(lat_deg: ArrayLike, lon_deg: ArrayLike, alt_m: ArrayLike) -> Array:
    """(..., 3) m earth-centred, earth-fixed of latitude, longitude (degrees) and height above the ellipsoid (m)."""
    lat, lon, alt = np.broadcast_arrays(np.radians(lat_deg), np.radians(lon_deg), np.asarray(alt_m, dtype=np.float64))
    n = SEMI_MAJOR_AXIS_M / np.sqrt(1.0 - _E2 * np.sin(lat) ** 2)
    ring = (n + alt) * np.cos(lat)
    return np.stack([ring * np.cos(lon), ring * np.sin(lon), (n * (1.0 - _E2) + alt) * np.sin(lat)], axis=-1)


def geodetic_from_ecef(ecef_m: ArrayLike) -> tuple[Array, Array, Array]:
    """(latitude, longitude) in degrees and height in m of (..., 3) m; better than a micrometre from the sea floor to satellites."""
    x, y, z = np.moveaxis(np.asarray(ecef_m, dtype=np.float64), -1, 0)
    ring = np.hypot(x, y)
    u = np.arctan2(z * SEMI_MAJOR_AXIS_M, ring * _B_M)
    for _ in range(3):  # Bowring's formula, which gains three digits or more each time
        lat = np.arctan2(z + _EP2 * _B_M * np.sin(u) ** 3, ring - _E2 * SEMI_MAJOR_AXIS_M * np.cos(u) ** 3)
        u = np.arctan2((1.0 - FLATTENING) * np.sin(lat), np.cos(lat))
    n = SEMI_MAJOR_AXIS_M / np.sqrt(1.0 - _E2 * np.sin(lat) ** 2)
    alt = ring * np.cos(lat) + z * np.sin(lat) - n * (1.0 - _E2 * np.sin(lat) ** 2)  # holds at the poles too
    return np.degrees(lat), np.degrees(np.arctan2(y, x)), alt


def enu_from_ecef_rotation(lat_deg: float, lon_deg: float) -> Array:
    """(3, 3) rotation from earth-fixed axes to east, north, up at a place."""
    (sin_lat, cos_lat), (sin_lon, cos_lon) = ((np.sin(a), np.cos(a)) for a in np.radians([lat_deg, lon_deg]))
    return np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


def earth_from_enu(origin: GeoOrigin) -> Pose:
    """Pose of the east-north-up frame at `origin` in the earth-centred, earth-fixed one."""
    place = ecef_from_geodetic(origin.lat_deg, origin.lon_deg, origin.alt_m)
    return Pose(enu_from_ecef_rotation(origin.lat_deg, origin.lon_deg).T, place)


def enu_from_geodetic(origin: GeoOrigin, lat_deg: ArrayLike, lon_deg: ArrayLike, alt_m: ArrayLike) -> Array:
    """(..., 3) m east, north, up of the tangent plane at `origin`."""
    offset = ecef_from_geodetic(lat_deg, lon_deg, alt_m) - ecef_from_geodetic(origin.lat_deg, origin.lon_deg, origin.alt_m)
    return offset @ enu_from_ecef_rotation(origin.lat_deg, origin.lon_deg).T


def geodetic_from_enu(origin: GeoOrigin, enu_m: ArrayLike) -> tuple[Array, Array, Array]:
    """(latitude, longitude) in degrees and height in m of (..., 3) m east, north, up at `origin`."""
    offset = np.asarray(enu_m, dtype=np.float64) @ enu_from_ecef_rotation(origin.lat_deg, origin.lon_deg)
    return geodetic_from_ecef(offset + ecef_from_geodetic(origin.lat_deg, origin.lon_deg, origin.alt_m))


def metres_per_pixel(lat_deg: ArrayLike, zoom: float, tile_px: int = TILE_PX) -> Array:
    """Ground metres that one pixel of a Web-Mercator tile covers at a latitude, on the sphere that the projection assumes."""
    return 2.0 * np.pi * SEMI_MAJOR_AXIS_M * np.cos(np.radians(lat_deg)) / (tile_px * 2.0**zoom)


def mercator_px_from_geodetic(lat_deg: ArrayLike, lon_deg: ArrayLike, zoom: float, tile_px: int = TILE_PX) -> Array:
    """(..., 2) px on the Web-Mercator map of the world at a zoom: x east, y south, (0, 0) the outer corner in the north-west.

    Raises:
        GeometryError: a latitude beyond 85.0511 degrees, which the map does not have.
    """
    lat, lon = np.broadcast_arrays(np.asarray(lat_deg, dtype=np.float64), np.asarray(lon_deg, dtype=np.float64))
    if not (np.abs(lat) <= MAX_MERCATOR_LAT_DEG).all():
        raise GeometryError(f"latitude {np.abs(lat).max()} is not on the Web-Mercator map, which ends at {MAX_MERCATOR_LAT_DEG:.4f}")
    y = 0.5 - np.arctanh(np.sin(np.radians(lat))) / (2.0 * np.pi)
    return np.stack([(lon + 180.0) / 360.0, y], axis=-1) * (tile_px * 2.0**zoom)


def geodetic_from_mercator_px(px: ArrayLike, zoom: float, tile_px: int = TILE_PX) -> tuple[Array, Array]:
    """(latitude, longitude) in degrees of (..., 2) px on the Web-Mercator map of the world."""
    x, y = np.moveaxis(np.asarray(px, dtype=np.float64) / (tile_px * 2.0**zoom), -1, 0)
    return np.degrees(np.arcsin(np.tanh((0.5 - y) * 2.0 * np.pi))), x * 360.0 - 180.0


def tile_from_geodetic(lat_deg: ArrayLike, lon_deg: ArrayLike, zoom: int) -> NDArray[np.int64]:
    """(..., 2) tile column and row (XYZ scheme, row 0 in the north) that hold a place; raises as `mercator_px_from_geodetic`."""
    tiles = np.floor(mercator_px_from_geodetic(lat_deg, lon_deg, zoom, tile_px=1)).astype(np.int64)
    return np.clip(tiles, 0, 2**zoom - 1)
