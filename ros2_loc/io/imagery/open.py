"""From what a user names, a file, a folder, a pattern or a URL, to imagery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.imagery.mbtiles import open_mbtiles
from ros2_loc.io.imagery.pyramid import GeodeticBox
from ros2_loc.io.imagery.raster_file import RasterFile
from ros2_loc.io.imagery.source import Imagery
from ros2_loc.io.imagery.tile_server import TileServer, default_cache
from ros2_loc.io.imagery.xyz import folder_pattern, open_xyz

_GEOTIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class ImageryOptions:
    """What a source may not say itself.

    Attributes:
        metres_per_px: how fine pyramids of tiles are wanted.
        box: south, west, north, east in degrees: what is wanted of it; a server needs it.
        zoom: of pyramids of tiles.
        crs, bands: of raster files, see `RasterFile`.
        attribution, cache, rate_hz: of a server, see `TileServer`.
    """

    metres_per_px: float
    box: GeodeticBox | None = None
    zoom: int | None = None
    crs: str | None = None
    bands: tuple[int, int, int] | None = None
    attribution: str = ""
    cache: Path = field(default_factory=default_cache)
    rate_hz: float = 5.0


def open_imagery(sources: Sequence[str], options: ImageryOptions, show_progress: bool = False) -> list[Imagery]:
    """All sources, in their order; a folder of GeoTIFFs is as many sources as it has files.

    Raises:
        DataError: anything missing, damaged or without a place on earth, in one line.
        ConfigError: options that do not fit a source.
    """
    return [imagery for source in sources for imagery in _open(source, options, show_progress)]


def _open(source: str, options: ImageryOptions, show_progress: bool) -> list[Imagery]:
    if source.startswith(("http://", "https://")):
        server = TileServer(source, options.cache, options.rate_hz, attribution=options.attribution)
        if options.box is None:
            raise ConfigError(f"{server.name}: a tile server has the whole world: say which part with --bounds SOUTH WEST NORTH EAST")
        return [server.open(options.box, options.zoom, options.metres_per_px, show_progress)]
    if "{z}" in source:
        return [open_xyz(source, options.zoom, options.metres_per_px, options.box)]
    path = Path(source)
    if path.is_dir():
        rasters = sorted(file for file in path.iterdir() if file.suffix.lower() in _GEOTIFF_SUFFIXES)
        if rasters:
            return [RasterFile(file, options.crs, options.bands) for file in rasters]
        return [open_xyz(folder_pattern(path), options.zoom, options.metres_per_px, options.box)]
    if path.suffix.lower() == ".mbtiles":
        return [open_mbtiles(path, options.zoom, options.metres_per_px, options.box)]
    if not path.exists():
        raise DataError(f"{source}: no such file; give a GeoTIFF, MBTiles, a folder of tiles, or a URL with {{z}}/{{x}}/{{y}}")
    return [RasterFile(path, options.crs, options.bands)]
