"""Any raster that GDAL reads: GeoTIFF and COG with their georeference inside, PNG or JPEG with a world file beside it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.transform import from_gcps
from rasterio.windows import Window

from ros2_loc.core.pose import Array
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import require_file, sha256
from ros2_loc.io.imagery.source import Bytes, parse_crs, require_on_earth

_WORLD_FILES = {".png": ".pgw", ".jpg": ".jgw", ".jpeg": ".jgw", ".tif": ".tfw", ".tiff": ".tfw"}
_MAX_GCP_RESIDUAL_PX = 2.0


class RasterFile:
    """A raster in a file; it stays open, because PNG and JPEG are decoded from their start.

    Args:
        path: the file.
        crs: for a file that does not say its own, as `parse_crs` reads it.
        bands: numbers of red, green and blue, counted from 1; found by their meaning otherwise.

    Raises:
        DataError: no such file, not a raster, no CRS, no place on earth, bands that are no colours.
    """

    def __init__(self, path: str | Path, crs: str | None = None, bands: tuple[int, int, int] | None = None) -> None:
        self._path = require_file(path, "imagery")
        self.name = str(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            try:
                self._dataset = rasterio.open(self._path)
            except RasterioError as error:
                raise DataError(f"{path}: is not imagery that GDAL reads: give a GeoTIFF, MBTiles or a tile folder") from error
        self.size_px = (self._dataset.width, self._dataset.height)
        self.crs_from_px, own = self._georeference()
        self.crs = self._reference_system(own, crs)
        self._palette, self._bands, self.notes = None, *self._colours(bands)
        if len(self._bands) == 1 and self._dataset.colorinterp[self._bands[0] - 1] == ColorInterp.palette:
            self._palette = _palette(self._dataset.colormap(self._bands[0]))

    def _georeference(self) -> tuple[Array, Any]:
        """crs_from_px and the CRS that the file itself states, or None."""
        points, points_crs = self._dataset.gcps
        if not self._dataset.transform.is_identity:
            return _affine(self._dataset.transform), self._dataset.crs
        if not points:
            suffix = _WORLD_FILES.get(self._path.suffix.lower(), ".wld")
            if self._dataset.rpcs:
                raise DataError(f"{self.name}: is a raw satellite image (RPC): orthorectify it first (gdalwarp -rpc)")
            world = f"{self._path.stem}{suffix}"
            raise DataError(f"{self.name}: does not say where it lies: put a world file ({world}) beside it, or gdal_translate -gcp")
        affine = _affine(from_gcps(points))
        given = np.array([[p.col, p.row] for p in points]) @ affine[:, :2].T + affine[:, 2]
        miss = np.linalg.norm(np.linalg.solve(affine[:, :2], (given - np.array([[p.x, p.y] for p in points])).T), axis=0)
        if miss.max() > _MAX_GCP_RESIDUAL_PX:
            raise DataError(f"{self.name}: its ground control points miss by up to {miss.max():.1f} px: warp it first (gdalwarp -tps)")
        return affine, points_crs

    def _reference_system(self, own: Any, given: str | None) -> CRS:
        try:
            known = CRS.from_wkt(own.to_wkt()) if own else None
        except CRSError as error:
            raise DataError(f"{self.name}: its coordinate reference system is damaged: state it anew (gdal_edit.py -a_srs)") from error
        if known is None:
            if given is None:
                raise DataError(f"{self.name}: states no coordinate reference system: give it, for instance --crs EPSG:25832")
            known = parse_crs(given)
        return require_on_earth(known, self.name)

    def _colours(self, given: tuple[int, int, int] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Numbers of the bands to read (one: grey or palette), and notes."""
        count, meaning = self._dataset.count, list(self._dataset.colorinterp)
        kinds = set(self._dataset.dtypes)
        if kinds != {"uint8"}:
            raise DataError(f"{self.name}: has {', '.join(sorted(kinds))} pixels: make it 8 bit first (gdal_translate -ot Byte -scale)")
        if given is not None:
            if not all(1 <= band <= count for band in given):
                raise ConfigError(f"--bands {','.join(map(str, given))}: {self.name} has {count} bands")
            return given, ()
        rgb = [meaning.index(c) + 1 for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if c in meaning]
        if len(rgb) == 3:
            return tuple(rgb), ()
        if count == 1 or (count == 2 and meaning[1] == ColorInterp.alpha):
            grey = f"{self.name}: is grey; its one band stands for red, green and blue"
            return (1,), () if meaning[0] == ColorInterp.palette else (grey,)
        if count in (3, 4):
            extra = count == 4 and meaning[3] != ColorInterp.alpha
            return (1, 2, 3), (f"{self.name}: its fourth band is left out",) if extra else ()
        remedy = "name red, green and blue, for instance --bands 3,2,1" if count > 2 else "give imagery in colour or in grey"
        raise DataError(f"{self.name}: has {count} bands and does not say which are colours: {remedy}")

    def window(self, column: int, row: int, width: int, height: int) -> tuple[Bytes, Bytes]:
        """As of `Imagery`; masks, alpha and no-data values are honoured."""
        window = Window(column, row, width, height)
        try:
            pixels = np.moveaxis(self._dataset.read(list(self._bands), window=window), 0, -1)
            alpha = self._dataset.dataset_mask(window=window)
        except RasterioError as error:
            raise DataError(f"{self.name}: can't be read at row {row}, column {column}: is it cut short? copy it again") from error
        if self._palette is not None:
            colours = self._palette[pixels[..., 0]]
            return np.ascontiguousarray(colours[..., :3]), np.minimum(alpha, colours[..., 3])
        return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3))), alpha

    def provenance(self) -> dict[str, Any]:
        """As of `Imagery`."""
        tags = self._dataset.tags()
        licence = tags.get("TIFFTAG_COPYRIGHT") or tags.get("LICENSE")
        return {
            "kind": "raster file",
            "name": self.name,
            "sha256": sha256(self._path),
            "crs": _short(self.crs),
            "crs_from_px": [float(v) for v in self.crs_from_px.ravel()],
            "size_px": list(self.size_px),
            **({"attribution": licence} if licence else {}),
        }


def _affine(transform: Any) -> Array:
    return np.array(transform, dtype=np.float64).reshape(3, 3)[:2]


def _palette(table: dict[int, tuple[int, int, int, int]]) -> Bytes:
    colours = np.zeros((256, 4), np.uint8)
    for value, colour in table.items():
        colours[value] = colour
    return colours


def _short(crs: CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_string()
