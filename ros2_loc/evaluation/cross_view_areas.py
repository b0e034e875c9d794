"""Where a cross-view evaluation takes place: recordings over a tile database, lists of KITTI-CVL, and synthetic towns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc import world
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.cross_view_queries import Area, AreaDrive
from ros2_loc.io.files import atomic_path
from ros2_loc.io.image_folders import FolderOptions
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import read_image, write_image
from ros2_loc.io.kitti_cvl import by_drive, read_tile_list
from ros2_loc.io.kitti_raw import open_kitti_raw
from ros2_loc.io.sequences import open_sequence
from ros2_loc.mapping.georeference import locate_posed_map
from ros2_loc.mapping.mosaic import Mosaic, StoredMosaic
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.training.recorded_drives import between_origins, kitti_poses, posed
from ros2_loc.training.towns import load_mosaic, save_mosaic
from ros2_loc.world.imagery import Imagery, town_mosaic
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.routes import district_drives
from ros2_loc.world.town import Town

_SAME_FRAME_M = 5.0
_MAX_FIX_GAP_NS = 200_000_000
_MAX_POSE_GAP_NS = 250_000_000
_IN_MEMORY_PX = 400_000_000


@dataclass(frozen=True)
class TownConfig:
    """How a synthetic district is driven through.

    Attributes:
        extent_m: side of its square; 840 m make 0.7 km2.
        drives, length_m, image_step_m: how many, how long, and the way between images.
        metres_per_px: of its imagery.
        coverage_m, spacing_m: of tiles.
        seed: of the drives.
    """

    extent_m: float = 840.0
    drives: int = 4
    length_m: float = 1000.0
    image_step_m: float = 2.0
    metres_per_px: float = 0.4
    coverage_m: float = 102.4
    spacing_m: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.drives < 1 or min(self.length_m, self.image_step_m, self.metres_per_px, self.spacing_m) <= 0:
            raise ConfigError(f"{self}: drives, lengths and resolutions must be positive")


def recorded_area(recordings: Sequence[Path], tiles_folder: Path) -> Area:
    """Recordings of any kind with true poses.

    Poses that agree with the recording's fixes in the tiles' frame are in that frame; others are brought to it by the fixes. Without fixes
    they must be in it.

    Raises:
        DataError: no tiles, no such recording, or one without true poses.
    """
    tiles = TileDatabase.load(tiles_folder)
    drives = []
    for path in recordings:
        sequence = posed(open_sequence(path), str(path))
        drives.append(AreaDrive(str(path), in_frame_of(tiles.origin, sequence, str(path))))
    return _area(str(tiles_folder), tiles, drives)


def kitti_list_area(raw: Path, tile_list: Path, tiles_folder: Path) -> Area:
    """The queries of a published list of KITTI-CVL: its images of KITTI raw (camera 2), in the list's order of drives.

    Raises:
        DataError: none of the list's drives is there, or one lacks its positions.
    """
    tiles, drives = TileDatabase.load(tiles_folder), []
    for name, rows in by_drive(read_tile_list(tile_list)).items():
        if not (raw / name).is_dir():
            continue
        sequence, truth = open_kitti_raw(raw / name, FolderOptions(), "image_02"), kitti_poses(raw / name, tiles.origin)
        here = tuple(truth.at(int(stamp), _MAX_POSE_GAP_NS) for stamp in sequence.stamps_ns)
        sequence = posed(replace(sequence, map_from_base=here), name)
        asked = {row.frame.name for row in rows}
        queries = np.array([i for i, image in enumerate(sequence.names) if image in asked], dtype=np.intp)
        if len(queries):
            drives.append(AreaDrive(name, sequence, queries))
    if not drives:
        raise DataError(f"{raw}: has none of the drives and images of {tile_list}; unpack KITTI raw there, one folder per day")
    return _area(str(tile_list), tiles, drives)


def town_area(seed: int, config: TownConfig, cache: Path | None = None) -> Area:
    """A synthetic district of that seed with random drives through it; its imagery is of another day and in another light than they.

    Args:
        cache: folder that keeps what was rendered (imagery a minute, images 0.1 s each); a change in `world` renders anew.
    """
    town = Town.generate(seed, TownSize.district(config.extent_m))
    folder = None if cache is None else cache / f"town_{seed}_{_digest(config)}"
    mosaic = _mosaic(town, config, folder)
    lights = (Light.afternoon(), Light.morning(), Light.overcast())
    drives = []
    for k in range(config.drives):
        light, step = lights[k % len(lights)], config.image_step_m
        sequence = district_drives(town, config.seed + k, config.length_m, light=light, image_step_m=step)[0].sequence()
        drives.append(AreaDrive(f"town {seed} drive {k}", sequence if folder is None else _kept(sequence, folder / f"drive_{k}")))
    layout = TileDatabase.Layout(config.metres_per_px, round(config.coverage_m / config.metres_per_px), config.spacing_m)
    centres = TileDatabase.build(mosaic, town.origin, layout, {}).centres_m
    return Area(f"town {seed}", town.origin, mosaic, centres, config.spacing_m, tuple(drives))


def _mosaic(town: Town, config: TownConfig, folder: Path | None) -> Mosaic:
    if folder is not None and (folder / "mosaic.npz").exists():
        return load_mosaic(folder / "mosaic.npz")
    mosaic = town_mosaic(town, config.metres_per_px, imagery=Imagery.drawn(town.seed))
    if folder is not None:
        save_mosaic(mosaic, folder / "mosaic.npz")
    return mosaic


def _kept(sequence: ImageSequence, folder: Path) -> ImageSequence:
    """The same images, each from its file once it was rendered."""

    def load(i: int) -> NDArray[np.uint8]:
        path = folder / sequence.names[i]
        if path.exists():
            return read_image(path)
        image = sequence.load(i)
        with atomic_path(path) as temporary:
            write_image(temporary, image)
        return image

    return replace(sequence, load=load)


def _digest(config: TownConfig) -> str:
    """Of everything that the pictures depend on: the settings, and the code of the world."""
    digest = hashlib.sha256(repr(replace(config, drives=1)).encode())
    for path in sorted(Path(world.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def in_frame_of(origin: GeoOrigin, sequence: ImageSequence, where: str) -> ImageSequence:
    """A recording with its true poses east, north, up of an origin; see `recorded_area`.

    Raises:
        DataError: its fixes lie elsewhere than its poses, and are too few to say how the two hang together.
    """
    apart = _apart_from_fixes(origin, sequence)
    if apart is None or apart <= _SAME_FRAME_M:
        return sequence
    georeference = locate_posed_map(sequence)
    if georeference.origin is None:
        raise DataError(f"{where}: its poses lie {apart:.0f} m from its fixes, which are too few to lay them onto the tiles")
    tiles_from_map = between_origins(origin, georeference.origin) @ georeference.enu_from_map
    poses = tuple(None if pose is None else tiles_from_map @ pose for pose in sequence.map_from_base)
    return replace(sequence, map_from_base=poses)


def _apart_from_fixes(origin: GeoOrigin, sequence: ImageSequence) -> float | None:
    """Median distance in m between fixes and the poses at their time, None where there are no pairs."""
    found = []
    for fix in sequence.fixes:
        i = int(np.abs(sequence.stamps_ns - fix.stamp_ns).argmin())
        pose = sequence.map_from_base[i]
        if pose is not None and abs(int(sequence.stamps_ns[i]) - fix.stamp_ns) <= _MAX_FIX_GAP_NS:
            place = enu_from_geodetic(origin, fix.lat_deg, fix.lon_deg, fix.alt_m)
            found.append(float(np.linalg.norm((place - pose.apply(fix.antenna_in_base_m))[:2])))
    return float(np.median(found)) if found else None


def _area(name: str, tiles: TileDatabase, drives: Sequence[AreaDrive]) -> Area:
    mosaic = tiles.mosaic
    if isinstance(mosaic, StoredMosaic) and mosaic.size_px[0] * mosaic.size_px[1] <= _IN_MEMORY_PX:
        mosaic = mosaic.load()
    return Area(name, tiles.origin, mosaic, tiles.centres_m, tiles.layout.spacing_m, tuple(drives))
