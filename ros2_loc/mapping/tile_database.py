"""The tiles of an area at run time: their places, their imagery by windows, their descriptors. Read-only; and its form on disk.

Folder: `tiles.yaml` (version, origin, layout, provenance, checksums), `imagery.tif` (the area in the local east-north frame), `tiles.npz`
(centres), and once encoded `descriptors.npz` and `index.faiss`. No pickle.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from ros2_loc.config import build as build_config
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.core.pose import Array
from ros2_loc.core.types import Tile, TileDescriptors
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import atomic_path, read_text, sha256
from ros2_loc.mapping.mosaic import Bounds, Mosaic, StoredMosaic, store
from ros2_loc.mapping.sparse_map import MapFrame, SparseMap
from ros2_loc.mapping.tile_layout import TileLayout, tile_centres
from ros2_loc.retrieval.tile_index import TileIndex

FORMAT_VERSION = 1
IMAGERY, CENTRES, DESCRIPTORS, INDEX = "imagery.tif", "tiles.npz", "descriptors.npz", "index.faiss"
ORIGIN_TOLERANCE_M = 0.01
_AGAIN = "copy the tiles again or build them again"


@dataclass(frozen=True, slots=True, eq=False)
class TileDatabase:
    """Everything that a cross-view localizer needs of the ground from above.

    Attributes:
        origin: of the east-north-up frame in which centres and imagery lie.
        mosaic: the imagery; in memory as built, by windows as loaded.
        layout: how it is cut.
        centres_m: (T, 2) east, north of each tile; a tile's id is its row.
        descriptors: of all tiles, or None where none were made.
        provenance: config, versions, sources with checksums and licence.

    Raises:
        DataError: centres off the lattice, or descriptors of another number of tiles.
    """

    Layout = TileLayout

    origin: GeoOrigin
    mosaic: Mosaic | StoredMosaic
    layout: TileLayout
    centres_m: Array
    descriptors: TileDescriptors | None
    provenance: dict[str, Any]
    _lattice: NDArray[np.int32] = field(init=False, repr=False)
    _first: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.centres_m)
        if self.centres_m.shape != (count, 2) or not count:
            raise DataError(f"tiles have centres (T, 2), got {self.centres_m.shape}: is there imagery where the tiles shall be?")
        if self.descriptors is not None and len(self.descriptors.features) != count:
            raise DataError(f"{count} tiles, but descriptors of {len(self.descriptors.features)}: encode the tiles again")
        nodes = np.rint(self.centres_m / self.layout.spacing_m).astype(np.int64)
        if np.abs(nodes * self.layout.spacing_m - self.centres_m).max() > 1e-3:
            raise DataError(f"the tiles do not lie {self.layout.spacing_m} m apart: {_AGAIN}")
        first, last = nodes.min(axis=0), nodes.max(axis=0)
        lattice = np.full(last - first + 1, -1, dtype=np.int32)
        lattice[tuple((nodes - first).T)] = np.arange(count)
        object.__setattr__(self, "_lattice", lattice)
        object.__setattr__(self, "_first", first)

    @staticmethod
    def build(
        mosaic: Mosaic | StoredMosaic, origin: GeoOrigin, layout: TileLayout, provenance: Mapping[str, Any], area_m: Bounds | None = None
    ) -> TileDatabase:
        """Tiles wherever enough of the mosaic is known, with their centres in `area_m` if given; no descriptors yet.

        Raises:
            DataError: there is no such place.
        """
        centres = tile_centres(mosaic, layout, area_m)
        if not len(centres):
            size = " x ".join(f"{n * mosaic.metres_per_px:.0f}" for n in mosaic.size_px)
            raise DataError(
                f"the imagery of {size} m holds no tile of {layout.coverage_m:.0f} m that is known to {layout.min_valid:.0%}: "
                "give more imagery, smaller tiles or a smaller --min-valid"
            )
        return TileDatabase(origin, mosaic, layout, centres, None, dict(provenance))

    def with_descriptors(self, descriptors: TileDescriptors) -> TileDatabase:
        """The same tiles with descriptors of all of them.

        Raises:
            DataError: another number of tiles.
        """
        return replace(self, descriptors=descriptors)

    def __len__(self) -> int:
        return len(self.centres_m)

    @property
    def bounds_m(self) -> Bounds:
        """(east, north) of the south-west and of the north-east corner of the imagery."""
        return self.mosaic.bounds_m

    def tile(self, index: int, heading_rad: float | None = None) -> Tile:
        """The picture of one tile, north up or with a heading up; raises IndexError, and DataError when the imagery can't be read."""
        half = self.layout.coverage_m / 2
        east, north = (float(v) for v in self.centres_m[index])
        image, _ = self.mosaic.crop((east, north), self.layout.size_px, self.layout.metres_per_px, heading_rad)
        return Tile(int(index), image, (east - half, north - half, east + half, north + half), self.layout.metres_per_px)

    def within(self, centre_m: ArrayLike, radius_m: float) -> NDArray[np.int64]:
        """Ids of the tiles whose centres lie at most `radius_m` from a place (2,)."""
        centre = np.asarray(centre_m, dtype=np.float64)
        ids = self.near((centre[0] - radius_m, centre[1] - radius_m, centre[0] + radius_m, centre[1] + radius_m))
        return ids[np.linalg.norm(self.centres_m[ids] - centre, axis=1) <= radius_m]

    def near(self, box_m: Bounds) -> NDArray[np.int64]:
        """Ids of the tiles whose centres lie in a box (west, south, east, north), edges included."""
        shape = np.array(self._lattice.shape)
        low = np.ceil(np.array(box_m[:2]) / self.layout.spacing_m - 1e-9) - self._first
        high = np.floor(np.array(box_m[2:]) / self.layout.spacing_m + 1e-9) - self._first + 1
        low, high = np.clip(low, 0, shape).astype(int), np.clip(high, 0, shape).astype(int)
        ids = self._lattice[low[0] : max(low[0], high[0]), low[1] : max(low[1], high[1])].ravel()
        return np.sort(ids[ids >= 0]).astype(np.int64)

    def nearest(self, points_m: ArrayLike) -> NDArray[np.int64]:
        """(...,) id of the tile whose centre is nearest to points (..., 2), -1 where that place of the lattice has none."""
        nodes = np.rint(np.asarray(points_m, dtype=np.float64) / self.layout.spacing_m) - self._first
        inside = ((nodes >= 0) & (nodes < self._lattice.shape)).all(axis=-1)
        at = np.where(inside[..., None], nodes, 0).astype(np.int64)
        return np.where(inside, self._lattice[at[..., 0], at[..., 1]], -1).astype(np.int64)

    def covers(self, points_m: ArrayLike) -> NDArray[np.bool_]:
        """(...,) whether points (..., 2) have a tile within half of the spacing along both axes."""
        return self.nearest(points_m) >= 0

    def require_encoder(self, encoder: CrossViewEncoder) -> None:
        """Refuse to go on with tiles that another encoder described, or none.

        Raises:
            ConfigError: which encoder it was, which it is, and what to do.
        """
        remedy = "run `ros2-loc tiles encode` on them with this pipeline"
        if self.descriptors is None:
            raise ConfigError(f"the tiles have no descriptors and the pipeline wants those of {encoder.fingerprint}: {remedy}")
        if self.descriptors.encoder != encoder.fingerprint:
            raise ConfigError(f"the tiles were encoded by {self.descriptors.encoder}, the pipeline has {encoder.fingerprint}: {remedy}")

    def require_same_origin(self, sparse_map: SparseMap | MapFrame) -> None:
        """Refuse a visual map whose east-north-up frame is another one.

        Poses of the map go to the tiles' frame by its `enu_from_map`.

        Raises:
            ConfigError: the map has no origin, or one more than a centimetre from the tiles'.
        """
        remedy = f"build the tiles in its frame: ros2-loc tiles build ... --map {sparse_map.folder}"
        if sparse_map.origin is None:
            raise ConfigError(f"{sparse_map.folder}: is not georeferenced, so tiles can't lie in its frame: map a recording with GNSS")
        there = sparse_map.origin
        offset = enu_from_geodetic(self.origin, there.lat_deg, there.lon_deg, there.alt_m)
        if float(np.linalg.norm(offset)) > ORIGIN_TOLERANCE_M:
            east, north, up = offset
            apart = f"{east:.2f} m east, {north:.2f} north, {up:.2f} up"
            raise ConfigError(f"{sparse_map.folder}: its origin lies {apart} of that of the tiles: {remedy}")

    def index(self) -> TileIndex:
        """For the search by descriptor alone, all tiles at once.

        Raises:
            ConfigError: no descriptors.
        """
        if self.descriptors is None:
            raise ConfigError("the tiles have no descriptors to search in: run `ros2-loc tiles encode` on them")
        return TileIndex.build(self.descriptors.features)

    def save(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write the folder; whole or not at all.

        Raises:
            DataError: it is there already and may not be replaced, or the place can't be written to.
        """
        with atomic_path(folder, overwrite) as draft:
            draft.mkdir()
            self._write_imagery(draft / IMAGERY)
            np.savez(draft / CENTRES, centres_m=self.centres_m)
            if self.descriptors is not None:
                np.savez(draft / DESCRIPTORS, features=self.descriptors.features, uncertainty=self.descriptors.uncertainty)
                self.index().save(draft / INDEX)
            (draft / "tiles.yaml").write_text(yaml.safe_dump(self._meta(draft), sort_keys=False, allow_unicode=True))

    def _meta(self, draft: Path) -> dict[str, Any]:
        mosaic, encoder = self.mosaic, None if self.descriptors is None else self.descriptors.encoder
        return {
            "format_version": FORMAT_VERSION,
            "origin": asdict(self.origin),
            "layout": asdict(self.layout),
            "imagery": {
                "west_m": float(mosaic.west_m),
                "north_m": float(mosaic.north_m),
                "metres_per_px": float(mosaic.metres_per_px),
                "size_px": list(mosaic.size_px),
            },
            "tiles": len(self),
            "encoder": encoder,
            "provenance": self.provenance,
            "sha256": {path.name: sha256(path) for path in sorted(draft.iterdir())},
        }

    def _write_imagery(self, path: Path) -> None:
        if isinstance(self.mosaic, StoredMosaic):
            link_or_copy(self.mosaic.path, path)
        else:
            store(self.mosaic, path, self.origin)

    @staticmethod
    def load(folder: str | Path, *, verify: bool = True, mosaic: bool = True) -> TileDatabase:
        """Read a folder of `save`.

        Args:
            folder: the folder.
            verify: compare checksums.
            mosaic: False where the imagery is not needed and may be missing: tiles can be found, not shown.

        Raises:
            DataError: no tiles there, of another version, or damaged (which file, and what to do).
        """
        folder = Path(folder)
        meta = read_meta(folder)
        _check_files(folder, meta, verify, mosaic)
        try:
            imagery, encoder = meta["imagery"], meta["encoder"]
            size = (int(imagery["size_px"][0]), int(imagery["size_px"][1]))
            stored = StoredMosaic(folder / IMAGERY, size, imagery["west_m"], imagery["north_m"], imagery["metres_per_px"])
            layout = build_config(TileLayout, meta["layout"], str(folder / "tiles.yaml"))
            arrays = None if encoder is None else _read_arrays(folder / DESCRIPTORS)
            descriptors = None if arrays is None else TileDescriptors(arrays["features"], arrays["uncertainty"], str(encoder))
            centres = _read_arrays(folder / CENTRES)["centres_m"]
            return TileDatabase(GeoOrigin(**meta["origin"]), stored, layout, centres, descriptors, meta["provenance"])
        except (KeyError, IndexError, TypeError, ValueError, ConfigError) as error:
            raise DataError(f"{folder}: its files contradict each other ({type(error).__name__}: {error}): {_AGAIN}") from error


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of tiles.yaml.

    Raises:
        DataError: no tiles there, or of another format version.
    """
    path = Path(folder) / "tiles.yaml"
    if not path.is_file():
        raise DataError(f"{folder}: holds no tiles (no tiles.yaml): give the folder that `ros2-loc tiles build` wrote")
    try:
        meta = yaml.safe_load(read_text(path, "description of tiles"))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: is damaged: {_AGAIN}") from error
    if not isinstance(meta, dict) or meta.get("format_version") != FORMAT_VERSION:
        found = meta.get("format_version") if isinstance(meta, dict) else None
        raise DataError(f"{path}: has format version {found}, this program reads {FORMAT_VERSION}: build the tiles again")
    return meta


def link_or_copy(source: Path, target: Path) -> None:
    """The same file at another place, without taking the disk twice where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _check_files(folder: Path, meta: Mapping[str, Any], verify: bool, mosaic: bool) -> None:
    sums = meta.get("sha256")
    needed = {IMAGERY, CENTRES} | ({DESCRIPTORS, INDEX} if meta.get("encoder") else set())
    if not isinstance(sums, Mapping) or set(sums) != needed:
        raise DataError(f"{folder / 'tiles.yaml'}: is damaged (its checksums are not those of its files): {_AGAIN}")
    for name, expected in sums.items():
        path = folder / name
        if name == IMAGERY and not mosaic:
            continue
        if not path.is_file():
            raise DataError(f"{path}: is missing: {_AGAIN}")
        if verify and sha256(path) != expected:
            raise DataError(f"{path}: differs from its checksum in tiles.yaml (cut short or damaged): {_AGAIN}")


def _read_arrays(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise DataError(f"{path}: can't be read ({type(error).__name__}): {_AGAIN}") from error
