"""One zoom level of Web-Mercator tiles as one picture, whatever keeps the tiles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from pyproj import CRS

from ros2_loc.core.geodesy import SEMI_MAJOR_AXIS_M, metres_per_pixel, tile_from_geodetic
from ros2_loc.core.pose import Array
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.imagery.source import Bytes

TileName = tuple[int, int]  # column, row; row 0 in the north
GeodeticBox = tuple[float, float, float, float]  # south, west, north, east, degrees
_HALF_WORLD_M = np.pi * SEMI_MAJOR_AXIS_M
_KEPT_TILES = 256  # decoded: two rows of a block and more


class TilePyramid:
    """The tiles of one zoom level, from the westmost to the eastmost and from the northmost to the southmost.

    Args:
        name: for messages.
        zoom: the level.
        tiles: those that there are.
        read: gives the encoded image of one of them.
        facts: for the provenance.

    Raises:
        DataError: no tile, or the first one is no image.
    """

    def __init__(
        self, name: str, zoom: int, tiles: Collection[TileName], read: Callable[[TileName], bytes], facts: Mapping[str, Any]
    ) -> None:
        if not tiles:
            raise DataError(f"{name}: holds no tile of zoom {zoom} there: choose another --zoom or other --bounds")
        self.name, self.zoom, self._tiles, self._read, self._facts = name, zoom, frozenset(tiles), read, dict(facts)
        places = np.array(sorted(self._tiles))
        self._first, last = places.min(axis=0), places.max(axis=0)
        self._decoded: dict[TileName, tuple[Bytes, Bytes]] = {}
        first = decode_tile(read((int(places[0][0]), int(places[0][1]))), f"{name}: tile {zoom}/{places[0][0]}/{places[0][1]}")
        self.tile_px = first[0].shape[0]
        columns, rows = (int(v) for v in last - self._first + 1)
        self.size_px = (columns * self.tile_px, rows * self.tile_px)
        self.holes = columns * rows - len(self._tiles)
        self.crs = CRS.from_epsg(3857)
        side = 2 * _HALF_WORLD_M / 2**zoom
        corner = self._first * side * [1, -1] + [-_HALF_WORLD_M, _HALF_WORLD_M]
        self.crs_from_px: Array = np.array([[side / self.tile_px, 0.0, corner[0]], [0.0, -side / self.tile_px, corner[1]]])
        missing = f"{name}: {self.holes} of {columns * rows} tiles of zoom {zoom} are missing: there is no imagery there"
        self.notes: tuple[str, ...] = (missing,) if self.holes else ()

    def window(self, column: int, row: int, width: int, height: int) -> tuple[Bytes, Bytes]:
        """As of `Imagery`; missing tiles have no valid share."""
        rgb, alpha = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        size = self.tile_px
        for x in range(column // size, (column + width - 1) // size + 1):
            for y in range(row // size, (row + height - 1) // size + 1):
                place = (int(self._first[0]) + x, int(self._first[1]) + y)
                if place not in self._tiles:
                    continue
                left, top = max(x * size, column), max(y * size, row)
                right, bottom = min((x + 1) * size, column + width), min((y + 1) * size, row + height)
                inside = np.s_[top - y * size : bottom - y * size, left - x * size : right - x * size]
                to = np.s_[top - row : bottom - row, left - column : right - column]
                rgb[to], alpha[to] = (part[inside] for part in self._tile(place))
        return rgb, alpha

    def _tile(self, place: TileName) -> tuple[Bytes, Bytes]:
        if place not in self._decoded:
            where = f"{self.name}: tile {self.zoom}/{place[0]}/{place[1]}"
            decoded = decode_tile(self._read(place), where)
            if decoded[0].shape[:2] != (self.tile_px, self.tile_px):
                raise DataError(f"{where} is {decoded[0].shape[0]} px wide, the others {self.tile_px}: make the tiles again")
            while len(self._decoded) >= _KEPT_TILES:
                del self._decoded[next(iter(self._decoded))]
            self._decoded[place] = decoded
        return self._decoded[place]

    def provenance(self) -> dict[str, Any]:
        """As of `Imagery`."""
        return {**self._facts, "crs": "EPSG:3857", "zoom": self.zoom, "tiles": len(self._tiles), "missing_tiles": self.holes}


def decode_tile(data: bytes, where: str) -> tuple[Bytes, Bytes]:
    """RGB and valid share 0..255 of an encoded tile: PNG, JPEG or WebP, with or without alpha, grey or colour.

    Raises:
        DataError: not an image, or not square.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None or image.dtype != np.uint8:
        raise DataError(f"{where} is not an 8-bit image ({len(data)} bytes): make or fetch it again")
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[0] != image.shape[1]:
        raise DataError(f"{where} is {image.shape[1]}x{image.shape[0]} px and not square: make the tiles again")
    alpha = image[..., 3] if image.shape[2] == 4 else np.full(image.shape[:2], 255, np.uint8)
    return np.ascontiguousarray(image[..., 2::-1]), np.ascontiguousarray(alpha)


def choose_zoom(available: Iterable[int], latitude_deg: float, metres_per_px: float, wanted: int | None, name: str) -> int:
    """The coarsest zoom that is fine enough, or the finest there is; `wanted` where it is given.

    Raises:
        ConfigError: there are no tiles of the wanted zoom.
    """
    zooms = sorted(set(available))
    if wanted is not None:
        if wanted not in zooms:
            raise ConfigError(f"--zoom {wanted}: {name} has zoom {', '.join(map(str, zooms)) or 'none'}")
        return wanted
    if not zooms:
        raise DataError(f"{name}: holds no tiles: it needs z/x/y.png (or jpg, webp)")
    fine = [z for z in zooms if float(metres_per_pixel(latitude_deg, z)) <= 1.05 * metres_per_px]
    return fine[0] if fine else zooms[-1]


def tiles_in(box: GeodeticBox, zoom: int) -> list[TileName]:
    """All tiles of a zoom that a box touches, from north to south and there from west to east.

    Raises:
        GeometryError: a latitude that the Web-Mercator map does not have.
    """
    south, west, north, east = box
    (left, top), (right, bottom) = tile_from_geodetic(north, west, zoom), tile_from_geodetic(south, east, zoom)
    return [(int(x), int(y)) for y in range(top, bottom + 1) for x in range(left, right + 1)]


def latitude_of_row(row: float, zoom: int) -> float:
    """Degrees, of the upper edge of a row of tiles."""
    return float(np.degrees(np.arcsin(np.tanh((0.5 - row / 2.0**zoom) * 2.0 * np.pi))))
