"""MBTiles 1.3: tiles in one SQLite file, rows counted from the south."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ros2_loc.errors import DataError
from ros2_loc.io.files import require_file, sha256
from ros2_loc.io.imagery.pyramid import GeodeticBox, TileName, TilePyramid, choose_zoom, latitude_of_row, tiles_in


def open_mbtiles(path: str | Path, zoom: int | None, metres_per_px: float, box: GeodeticBox | None) -> TilePyramid:
    """The tiles of a file; arguments and errors as of `open_xyz`.

    Raises:
        DataError: not an MBTiles file, or one with vectors.
        ConfigError: no tiles of the wanted zoom.
    """
    path = require_file(path, "MBTiles file")
    connection = sqlite3.connect(f"file:{path.resolve().as_posix()}?mode=ro", uri=True, check_same_thread=False)
    try:
        with closing(connection.cursor()) as cursor:
            facts = {str(k): str(v) for k, v in cursor.execute("SELECT name, value FROM metadata")}
            rows = cursor.execute("SELECT zoom_level, MIN(tile_row), MAX(tile_row) FROM tiles GROUP BY zoom_level").fetchall()
            if facts.get("format") == "pbf":
                raise DataError(f"{path}: holds vector tiles: give one with pictures (png, jpg, webp)")
            latitude = latitude_of_row(2 ** rows[-1][0] - (rows[-1][1] + rows[-1][2] + 1) / 2, rows[-1][0]) if rows else 0.0
            level = choose_zoom([row[0] for row in rows], latitude, metres_per_px, zoom, str(path))
            found = cursor.execute("SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ?", (level,)).fetchall()
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path}: is not an MBTiles file ({error}): copy it again or give another") from error
    tiles = {(int(x), 2**level - 1 - int(y)) for x, y in found}
    if box is not None:
        tiles &= set(tiles_in(box, level))
    known = {"kind": "MBTiles", "name": str(path), "sha256": sha256(path)}
    known.update({key: facts[key] for key in ("attribution", "license") if facts.get(key)})
    return TilePyramid(str(path), level, tiles, _reader(connection, level, path), known)


def _reader(connection: sqlite3.Connection, level: int, path: Path) -> Callable[[TileName], bytes]:
    query = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"

    def read(place: TileName) -> bytes:
        try:
            return bytes(connection.execute(query, (level, place[0], 2**level - 1 - place[1])).fetchone()[0])
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path}: is damaged ({error}): copy it again") from error

    return read
