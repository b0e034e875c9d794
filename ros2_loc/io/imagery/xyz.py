"""Tiles in files: a folder z/x/y.png, or any pattern with {z}, {x} and {y} or, for rows counted from the south, {-y}."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ros2_loc.errors import DataError
from ros2_loc.io.imagery.pyramid import GeodeticBox, TileName, TilePyramid, choose_zoom, latitude_of_row, tiles_in

_GROUPS = {"{z}": r"(?P<z>\d+)", "{x}": r"(?P<x>\d+)", "{y}": r"(?P<row>\d+)", "{-y}": r"(?P<row>\d+)"}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def folder_pattern(folder: Path) -> str:
    """The pattern of a folder of tiles: rows from the south where gdal2tiles or the folder's metadata say so.

    Raises:
        DataError: there are no tiles in it.
    """
    suffixes = {path.suffix for path in _first_files(folder)} & set(IMAGE_SUFFIXES)
    if len(suffixes) != 1:
        found = "no tiles" if not suffixes else f"tiles of several kinds ({', '.join(sorted(suffixes))})"
        pattern = "or a pattern such as " + "tiles/{z}/{x}/{-y}.png"
        raise DataError(f"{folder}: holds {found}: give a folder with z/x/y.png (or jpg, webp), {pattern}")
    row = "{-y}" if (folder / "tilemapresource.xml").is_file() or _metadata(folder).get("scheme") == "tms" else "{y}"
    return f"{folder}/{{z}}/{{x}}/{row}{suffixes.pop()}"


def open_xyz(
    pattern: str,
    zoom: int | None,
    metres_per_px: float,
    box: GeodeticBox | None = None,
    name: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> TilePyramid:
    """The tiles of files by their pattern.

    Args:
        pattern: path with {z}, {x}, {y} or {-y}.
        zoom: which level; the coarsest that is fine enough where None.
        metres_per_px: how fine that is.
        box: south, west, north, east in degrees; tiles outside are left alone.
        name, facts: for messages and for the provenance; the pattern and its metadata.json by default.

    Raises:
        DataError: no tiles there.
        ConfigError: none of the wanted zoom.
    """
    found = _scan(pattern)
    latitude = _middle_latitude(found)
    name = name or pattern
    level = choose_zoom(found, latitude, metres_per_px, zoom, name)
    tiles = found[level]
    if box is not None:
        inside = set(tiles_in(box, level))
        tiles = {place: path for place, path in tiles.items() if place in inside}
    digest = hashlib.sha256()
    for place, path in sorted(tiles.items()):
        digest.update(f"{place} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    known = {"kind": "tile folder", "name": name, **_attribution(pattern)} if facts is None else dict(facts)
    return TilePyramid(name, level, tiles, _reader(tiles), {**known, "sha256": digest.hexdigest()})


def _reader(tiles: dict[TileName, Path]) -> Callable[[TileName], bytes]:
    return lambda place: tiles[place].read_bytes()


def _scan(pattern: str) -> dict[int, dict[TileName, Path]]:
    """zoom -> (column, row from the north) -> file."""
    fixed = pattern.partition("{")[0]
    root = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds the tiles")
    relative = pattern[fixed.rfind("/") + 1 :]
    words = [_GROUPS.get(word, re.escape(word)) for word in re.split(r"(\{[^}]*\})", relative)]
    expression, found = re.compile("".join(words)), dict[int, dict[TileName, Path]]()
    for path in root.glob(re.sub(r"\{[^}]*\}", "*", relative)):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match:
            z, x, row = int(match["z"]), int(match["x"]), int(match["row"])
            found.setdefault(z, {})[(x, 2**z - 1 - row if "{-y}" in pattern else row)] = path
    return found


def _first_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that holds the tiles")
    for column in folder.glob("[0-9]*/[0-9]*"):
        files = [path for path in column.iterdir() if path.stem.isdigit()] if column.is_dir() else []
        if files:
            return files
    return []


def _middle_latitude(found: dict[int, dict[TileName, Path]]) -> float:
    if not found:
        return 0.0
    zoom = max(found)
    rows = [y for _, y in found[zoom]]
    return latitude_of_row((min(rows) + max(rows) + 1) / 2, zoom)


def _metadata(folder: Path) -> dict[str, object]:
    """Of metadata.json, which some programs write beside the tiles."""
    try:
        read = json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _attribution(pattern: str) -> dict[str, str]:
    text = _metadata(Path(pattern.partition("{")[0])).get("attribution")
    return {"attribution": str(text)} if text else {}
