"""From imagery to tiles on disk: drawn, cut, described by an encoder; each stage is taken up where an interrupted run left it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.types import TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import atomic_path, require_absent, sha256
from ros2_loc.mapping.mosaic import Bounds, StoredMosaic
from ros2_loc.mapping.tile_database import IMAGERY, TileDatabase
from ros2_loc.mapping.tile_layout import TileLayout

BATCH = 32
_PART = 256  # tiles whose descriptors are stored at a time
DrawImagery = Callable[[Path], StoredMosaic]


def build_tiles(
    out: str | Path,
    draw: DrawImagery,
    origin: GeoOrigin,
    layout: TileLayout,
    provenance: Mapping[str, Any],
    encoder: CrossViewEncoder | None = None,
    *,
    area_m: Bounds | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> TileDatabase:
    """Build tiles and write them to the folder `out`.

    Interrupted, it leaves `.<name>.building` beside `out`; the same call takes up the work there.

    Args:
        draw: writes the imagery of the area to the file that it is given.
        origin: of the east-north-up frame.
        layout: how the area is cut.
        provenance: sources and settings; imagery drawn with others is drawn again.
        encoder: describes the tiles; None leaves them without descriptors.
        area_m: (west, south, east, north) in which the centres of tiles lie; wherever there is imagery when None.
        overwrite: replace tiles that are there (when the new ones are whole).

    Raises:
        DataError: `out` exists, or the imagery makes no tile.
        ConfigError: the encoder's tiles are of another size.
    """
    out = Path(out)
    if not overwrite:
        require_absent(out)
    if encoder is not None:
        require_coverage(layout, encoder)
    work = out.parent / f".{out.name}.building"
    mosaic = _drawn(work, draw, _digest({"origin": asdict(origin), **provenance}))
    database = TileDatabase.build(mosaic, origin, layout, provenance, area_m)
    if encoder is not None:
        database = encode_tiles(database, encoder, work, show_progress)
    database.save(out, overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return TileDatabase.load(out, verify=False)


def encode_tiles(database: TileDatabase, encoder: CrossViewEncoder, work: Path, show_progress: bool) -> TileDatabase:
    """The tiles with descriptors; parts that `work` holds already are kept when they are of the same tiles and encoder.

    Raises:
        ConfigError: the encoder's tiles are of another size.
        DataError: descriptors that are not finite.
    """
    require_coverage(database.layout, encoder)
    what = {"encoder": encoder.fingerprint, "centres": database.centres_m.tolist(), "imagery": _imagery_digest(database)}
    folder = work / "descriptors"
    _require_fingerprint(folder, _digest(what))
    parts = range(0, len(database), _PART)
    with tqdm(total=len(database), desc="   encode", disable=not show_progress, leave=False, dynamic_ncols=True) as bar:
        for first in parts:
            last = min(first + _PART, len(database))
            path = folder / f"{first:08d}.npz"
            if not path.is_file():
                _write_part(path, database, encoder, range(first, last), bar)
            bar.update(last - bar.n)
    stored = [_read_part(folder / f"{first:08d}.npz") for first in parts]
    features, uncertainty = (np.concatenate(arrays) for arrays in zip(*stored, strict=True))
    return database.with_descriptors(TileDescriptors(features, uncertainty, encoder.fingerprint))


def tile_images(database: TileDatabase, encoder: CrossViewEncoder, ids: range) -> np.ndarray:
    """(B, tile_px, tile_px, 3) uint8: the tiles as the encoder wants them, north up."""
    metres_per_px = encoder.grid.coverage_m / encoder.tile_px
    return np.stack([database.mosaic.crop(database.centres_m[i], encoder.tile_px, metres_per_px)[0] for i in ids])


def require_coverage(layout: TileLayout, encoder: CrossViewEncoder) -> None:
    """Raise ConfigError unless a tile covers what the encoder looks at."""
    wanted = encoder.grid.coverage_m
    if abs(layout.coverage_m - wanted) > 1e-3 * wanted:
        fitting = f"--size {encoder.tile_px} --metres-per-px {wanted / encoder.tile_px:g}"
        size = f"{layout.size_px} px of {layout.metres_per_px:g} m cover {layout.coverage_m:.1f} m"
        raise ConfigError(f"tiles of {size}, {encoder.name} looks at {wanted:.1f} m: build with {fitting}, or with --no-descriptors")


def _drawn(work: Path, draw: DrawImagery, fingerprint: str) -> StoredMosaic:
    """The imagery: drawn now, or found as an interrupted run left it."""
    _require_fingerprint(work, fingerprint)
    path, plan = work / IMAGERY, work / "imagery.yaml"
    if path.is_file() and plan.is_file():
        numbers = yaml.safe_load(plan.read_text())
        return StoredMosaic(path, tuple(numbers["size_px"]), numbers["west_m"], numbers["north_m"], numbers["metres_per_px"])
    mosaic = draw(path)
    numbers = {"size_px": list(mosaic.size_px), "west_m": mosaic.west_m, "north_m": mosaic.north_m, "metres_per_px": mosaic.metres_per_px}
    with atomic_path(plan) as draft:
        draft.write_text(yaml.safe_dump(numbers))
    return mosaic


def _write_part(path: Path, database: TileDatabase, encoder: CrossViewEncoder, ids: range, bar: tqdm) -> None:
    made = []
    for first in range(ids.start, ids.stop, BATCH):
        some = range(first, min(first + BATCH, ids.stop))
        made.append(encoder.encode_tiles(tile_images(database, encoder, some)))
        bar.update(len(some))
    with atomic_path(path) as draft, draft.open("wb") as file:
        features = np.concatenate([part.features for part in made]).astype(np.float16)
        np.savez(file, features=features, uncertainty=np.concatenate([part.uncertainty for part in made]))


def _read_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return file["features"], file["uncertainty"]


def _require_fingerprint(folder: Path, fingerprint: str) -> None:
    """Leave in the folder only what was made from the same."""
    marker = folder / "fingerprint"
    if marker.is_file() and marker.read_text() == fingerprint:
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{folder}: can't be written: {error.strerror}; choose another place") from error
    marker.write_text(fingerprint)


def _imagery_digest(database: TileDatabase) -> str:
    mosaic = database.mosaic
    if isinstance(mosaic, StoredMosaic):
        return sha256(mosaic.path)
    return hashlib.sha256(mosaic.rgb.tobytes() + mosaic.valid.tobytes()).hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
