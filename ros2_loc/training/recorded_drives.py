"""Real drives to learn from: KITTI-CVL by its published lists, and any recording with poses and fixes, over a tile database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ros2_loc.core.geodesy import GeoOrigin, ecef_from_geodetic, enu_from_ecef_rotation, enu_from_geodetic
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io.image_folders import FolderOptions
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.kitti_cvl import ListedTile, by_drive, cvlnet_list, read_tile_list
from ros2_loc.io.kitti_raw import open_kitti_raw
from ros2_loc.io.oxts import read_oxts
from ros2_loc.io.sequences import open_sequence
from ros2_loc.io.trajectories import Trajectory
from ros2_loc.mapping.georeference import locate_posed_map
from ros2_loc.mapping.mosaic import StoredMosaic
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.training.drives import CachedDrive, CrossViewDrive, Imagery, Progress, cache_drive, is_cached, load_drive

_IN_MEMORY_PX = 400_000_000
_MAX_GAP_NS = 250_000_000


class RecordedDrives:
    """Drives that are opened when the cache lacks them: name -> how to open it, for training and for validation."""

    def __init__(
        self,
        train: dict[str, Callable[[], CrossViewDrive]],
        validate: dict[str, Callable[[], CrossViewDrive]],
        imagery: Imagery,
        network: CVLNet.Config,
        cache: Path,
    ) -> None:
        """Nothing is read yet. `cache`: folder in which drives of several recipes may lie; `network` says how it takes images."""
        self._parts, self._imagery, self._network, self._cache = (train, validate), imagery, network, cache

    def drives(self, workers: int = 1, progress: Progress | None = None) -> tuple[list[CachedDrive], list[CachedDrive]]:
        """Drives to train and to validate; raises DataError where one can't be read. `progress`: (drives done, drives in all)."""
        total, done = sum(len(part) for part in self._parts), 0
        found: tuple[list[CachedDrive], list[CachedDrive]] = ([], [])
        for k, part in enumerate(self._parts):
            for name, opened in part.items():
                found[k].append(self._drive(name, opened))
                done += 1
                if progress is not None:
                    progress(done, total)
        return found

    def _drive(self, name: str, opened: Callable[[], CrossViewDrive]) -> CachedDrive:
        image_px, view = self._network.image_px, self._network.view
        folder = self._cache / f"{name.replace('/', '_')}_{image_px[0]}x{image_px[1]}_{view}"
        return load_drive(folder, self._imagery) if is_cached(folder) else cache_drive(opened(), folder, image_px, view)


def kitti_cvl(raw: Path, lists: Path, tiles: TileDatabase, network: CVLNet.Config, cache: Path) -> RecordedDrives:
    """KITTI-CVL: the drives of KITTI raw that its lists name (camera 2); of the lists, "test1" is what the paper validates with.

    Args:
        raw: folder of KITTI raw, with `2011_09_26/2011_09_26_drive_0001_sync` and so on below it.
        lists: folder with the lists.

    Raises:
        DataError: no lists, or a drive that is not there.
    """
    imagery = imagery_of(tiles)
    parts = []
    for part in ("train", "validate"):
        named = by_drive(read_tile_list(cvlnet_list(lists, part)))
        missing = [name for name in named if not (raw / name).is_dir()]
        if missing:
            raise DataError(f"{raw}: lacks {len(missing)} of {len(named)} drives of the list {part}, for instance {missing[0]}")
        parts.append({f"kitti/{part}/{name}/{_digest(tiles)}": _listed(raw / name, rows, tiles, imagery) for name, rows in named.items()})
    return RecordedDrives(parts[0], parts[1], imagery, network, cache)


def recorded(
    train: Sequence[Path], validate: Sequence[Path], tiles: TileDatabase, network: CVLNet.Config, cache: Path
) -> RecordedDrives:
    """Recordings of any kind (`open_sequence`) that have true poses, and fixes which lay these onto the earth."""
    imagery = imagery_of(tiles)

    def named(paths: Sequence[Path]) -> dict[str, Callable[[], CrossViewDrive]]:
        return {f"{path.stem}/{_digest(tiles, path)}": partial(_opened, path, tiles.origin, imagery) for path in paths}

    return RecordedDrives(named(train), named(validate), imagery, network, cache)


def _opened(path: Path, origin: GeoOrigin, imagery: Imagery) -> CrossViewDrive:
    return georeferenced(open_sequence(path), str(path), origin, imagery)


def georeferenced(sequence: ImageSequence, name: str, origin: GeoOrigin, imagery: Imagery) -> CrossViewDrive:
    """A recording with its poses brought, by its fixes, to the east, north, up at `origin`, in which the imagery lies.

    Raises:
        DataError: no poses or too few fixes, or places outside of the imagery.
    """
    sequence = posed(sequence, name)
    georeference = locate_posed_map(sequence)
    if georeference.origin is None:
        raise DataError(f"{name}: needs at least 5 fixes on a way that is not a point, to know where its poses are on the earth")
    target_from_map = between_origins(origin, georeference.origin) @ georeference.enu_from_map
    poses = tuple(target_from_map @ pose for pose in sequence.map_from_base if pose is not None)
    return inside(CrossViewDrive(name, replace(sequence, map_from_base=poses), imagery))


def _listed(drive: Path, rows: Sequence[ListedTile], tiles: TileDatabase, imagery: Imagery) -> Callable[[], CrossViewDrive]:
    def opened() -> CrossViewDrive:
        sequence = open_kitti_raw(drive, FolderOptions(), "image_02")
        poses = kitti_poses(drive, tiles.origin)
        here = tuple(poses.at(int(stamp), _MAX_GAP_NS) for stamp in sequence.stamps_ns)
        sequence = posed(replace(sequence, map_from_base=here), str(drive))
        index = {name: i for i, name in enumerate(sequence.names)}
        kept = [row for row in rows if row.frame.name in index]
        if not kept:
            raise DataError(f"{drive}: has none of the {len(rows)} frames of the list; unpack image_02 and oxts of this drive")
        centres = enu_from_geodetic(tiles.origin, [r.lat_deg for r in kept], [r.lon_deg for r in kept], tiles.origin.alt_m)
        queries = np.array([index[row.frame.name] for row in kept], dtype=np.intp)
        return CrossViewDrive(str(drive), sequence, imagery, queries, centres[:, :2])

    return opened


def kitti_poses(drive: Path, origin: GeoOrigin) -> Trajectory:
    """base_link of a KITTI raw drive over time, in the east, north, up of any origin: each record at its own latitude and longitude."""
    log = read_oxts(drive / "oxts")
    rotation = between_origins(origin, log.origin).rotation
    poses = []
    for fix, pose in zip(log.fixes, log.map_from_base, strict=True):
        turned = rotation @ pose.rotation
        antenna = enu_from_geodetic(origin, fix.lat_deg, fix.lon_deg, fix.alt_m)
        poses.append(Pose(turned, antenna - turned @ fix.antenna_in_base_m))
    return Trajectory(log.stamps_ns, tuple(poses))


def between_origins(target: GeoOrigin, source: GeoOrigin) -> Pose:
    """target_from_source of two east, north, up frames."""
    target_axes = enu_from_ecef_rotation(target.lat_deg, target.lon_deg)
    source_axes = enu_from_ecef_rotation(source.lat_deg, source.lon_deg)
    places = [ecef_from_geodetic(o.lat_deg, o.lon_deg, o.alt_m) for o in (source, target)]
    return Pose(target_axes @ source_axes.T, target_axes @ (places[0] - places[1]))


def posed(sequence: ImageSequence, where: str) -> ImageSequence:
    """The images that have a true pose; raises DataError when none has."""
    kept = [i for i, pose in enumerate(sequence.map_from_base) if pose is not None]
    if not kept:
        raise DataError(f"{where}: has no true poses; training needs them (a bag: /ground_truth/odometry; KITTI raw: oxts)")
    return sequence.subset(kept)


def inside(drive: CrossViewDrive) -> CrossViewDrive:
    """The drive with only those images asked for that lie over the imagery; raises DataError when none does."""
    e0, n0, e1, n1 = drive.imagery.bounds_m
    places = np.array([pose.translation[:2] for pose in drive.sequence.map_from_base if pose is not None])
    over = np.flatnonzero(((places > (e0, n0)) & (places < (e1, n1))).all(axis=1))
    if not len(over):
        raise DataError(f"{drive.name}: lies outside of the imagery: near {places[0].round(0).tolist()} m, imagery from {e0:.0f}, {n0:.0f}")
    return replace(drive, queries=over)


def imagery_of(tiles: TileDatabase) -> Imagery:
    """The picture that the tiles are cut from, in memory where it fits."""
    mosaic = tiles.mosaic
    fits = mosaic.size_px[0] * mosaic.size_px[1] <= _IN_MEMORY_PX
    return mosaic.load() if isinstance(mosaic, StoredMosaic) and fits else mosaic


def _digest(tiles: TileDatabase, path: Path | None = None) -> str:
    """Of what the stored poses depend on: the origin, and the recording's path."""
    said = f"{tiles.origin} {'' if path is None else path.resolve()}"
    return hashlib.sha256(said.encode()).hexdigest()[:8]
