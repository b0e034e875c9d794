"""GeoTIFF as we write it: RGB and alpha in blocks, without loss, north up in a local east-north frame, with smaller copies inside."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ros2_loc.core.geodesy import SEMI_MAJOR_AXIS_M, GeoOrigin
from ros2_loc.errors import DataError

BLOCK_PX = 512
_CACHE_MB = 256  # while a mosaic is drawn; GDAL itself would keep all of it, up to a twentieth of the memory
Bytes = NDArray[np.uint8]


class GeoTiffWriter:
    """Takes windows of one picture, in any order; each block of BLOCK_PX once, or the file grows."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def write(self, column: int, row: int, rgb: Bytes, alpha: Bytes) -> None:
        """(h, w, 3) uint8 and (h, w) uint8 at a corner, px."""
        window = Window(column, row, rgb.shape[1], rgb.shape[0])
        self._dataset.write(np.moveaxis(np.dstack([rgb, alpha]), -1, 0), window=window)


@contextmanager
def geotiff_writer(
    path: Path, size_px: tuple[int, int], corner_m: tuple[float, float], metres_per_px: float, origin: GeoOrigin
) -> Iterator[GeoTiffWriter]:
    """A new file of (width, height) px whose outer upper left corner lies at (east, north) of `origin`.

    Geographic programs see it where it is: its reference system is the orthographic projection about the origin, which is the tangent
    plane for points on the ellipsoid, and the numbers of its transform are those of the plane at the origin's height.

    Raises:
        DataError: it can't be written.
    """
    on_ellipsoid = 1.0 / (1.0 + origin.alt_m / SEMI_MAJOR_AXIS_M)
    px_m = metres_per_px * on_ellipsoid
    profile = {
        "driver": "GTiff",
        "width": size_px[0],
        "height": size_px[1],
        "count": 4,
        "dtype": "uint8",
        "crs": f"+proj=ortho +lat_0={origin.lat_deg!r} +lon_0={origin.lon_deg!r} +ellps=WGS84 +datum=WGS84 +units=m +no_defs",
        "transform": rasterio.Affine(px_m, 0.0, corner_m[0] * on_ellipsoid, 0.0, -px_m, corner_m[1] * on_ellipsoid),
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "deflate",
        "predictor": 2,
        "bigtiff": "if_safer",
        "sparse_ok": True,
    }
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
            with rasterio.open(path, "w", **profile) as dataset:
                dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
                yield GeoTiffWriter(dataset)
            _add_overviews(path, max(size_px))
    except RasterioError as error:
        raise DataError(f"{path}: can't be written ({_first_line(error)}): is the disk full?") from error


def _add_overviews(path: Path, longest_px: int) -> None:
    factors = [2**k for k in range(1, max(1, math.ceil(math.log2(longest_px / BLOCK_PX))) + 1)] if longest_px > BLOCK_PX else []
    if factors:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(factors, Resampling.average)


def read_window(path: Path, window: tuple[int, int, int, int], factor: int = 1) -> tuple[Bytes, Bytes]:
    """RGB (h, w, 3) and valid share (h, w), 0..255, of a window (column, row, width, height) of a file written here.

    `factor` gives means over so many pixels; width and height are multiples of it.

    Raises:
        DataError: the file is missing or damaged.
    """
    column, row, width, height = window
    shape = (4, height // factor, width // factor)
    try:
        rgba = _open(path).read(window=Window(column, row, width, height), out_shape=shape, resampling=Resampling.average)
    except (RasterioError, OSError) as error:
        raise DataError(f"{path}: can't be read ({_first_line(error)}): copy the tiles again or build them again") from error
    return np.ascontiguousarray(np.moveaxis(rgba[:3], 0, -1)), rgba[3]


class _LastFile(threading.local):
    """Neighbouring windows share blocks, which GDAL keeps as long as the file is open; a handle belongs to one thread of one process."""

    key: tuple[object, ...] = ()
    dataset: Any = None


_last_file = _LastFile()


def _open(path: Path) -> Any:
    stat = path.stat()
    key = (os.getpid(), str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if _last_file.key != key:
        _last_file.key, _last_file.dataset = (), None
        _last_file.dataset = rasterio.open(path)
        _last_file.key = key
    return _last_file.dataset


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
