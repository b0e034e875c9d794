"""Places of a town as sets of visual place recognition have them: a database by day, and queries of other domains near by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import geodetic_from_enu
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import atomic_path
from ros2_loc.io.geotagged import geotagged_name, utm_from_geodetic
from ros2_loc.io.images import write_image
from ros2_loc.world.domains import domain_light
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import Shot, demo_camera, demo_mounting, renderer
from ros2_loc.world.town import Town

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

DIRECTIONS = {"forward": 0.0, "left": 90.0, "back": 180.0, "right": -90.0}  # degrees of yaw
SETTINGS = "places.json"
_FORMAT = 2
_LANE_M = -1.7  # from the street's centre line to the left
_CROSSING_M = 4.0  # of a street that belongs to the crossings at its ends, beyond half of their width
_JPEG_QUALITY = 92
_FACADE_PX_PER_M, _GROUND_PX_PER_M = 16.0, 9.0


@dataclass(frozen=True, slots=True)
class PlaceSet:
    """Which places, and how queries differ from them.

    Attributes:
        seed: of the town and of all that is drawn.
        domains: of the queries, names of `DOMAINS`.
        spacing_m: between the places of the database, on both sides of every street.
        queries: how many places are asked for, the same in each domain.
        along_m, across_m, heading_deg: how far a query may lie off a place of the database, either way (uniform).
        directions: of `DIRECTIONS`, in which each place is seen.
        extent_m: side of the district.
        patterns: painted houses of each of its quarters.
        size_px: width and height of the images.
    """

    seed: int = 0
    domains: tuple[str, ...] = ("day", "night")
    spacing_m: float = 10.0
    queries: int = 60
    along_m: float = 5.0
    across_m: float = 1.2
    heading_deg: float = 8.0
    directions: tuple[str, ...] = ("forward",)
    extent_m: float = 260.0
    patterns: int = 60
    size_px: tuple[int, int] = (480, 320)

    def __post_init__(self) -> None:
        for name in self.domains:
            domain_light(name)
        unknown = [name for name in self.directions if name not in DIRECTIONS]
        if unknown or not self.directions:
            raise ConfigError(f"directions {self.directions}: give one or more of {', '.join(DIRECTIONS)}")
        if not self.spacing_m > 0 or self.queries < 1 or min(self.along_m, self.across_m, self.heading_deg) < 0 or min(self.size_px) < 32:
            raise ConfigError(f"{self}: needs a positive spacing, at least one query, no negative offsets, and images of at least 32 px")


class _Place(NamedTuple):
    """map_from_base of the car; number of the place."""

    map_from_base: Pose
    number: int


def write_place_set(out: str | Path, how: PlaceSet | None = None, *, workers: int = 1, progress: Progress | None = None) -> int:
    """Writes `out`/database and `out`/queries_DOMAIN, images named by where they were taken; what is there already stays.

    Database and queries show the same town on different days: other cars are parked. Queries of all domains are taken from the same poses.

    Args:
        out: folder, new or of an interrupted call with the same settings.
        how: which places.
        workers: processes that render.
        progress: called with (images done, images in all).

    Returns:
        How many images there are.

    Raises:
        ConfigError: a folder of other settings, or a district without streets.
        DataError: it can't be written.
    """
    how, out = how or PlaceSet(), Path(out)
    size = TownSize.district(how.extent_m, patterns=how.patterns, quarters=4)
    town = Town.generate(how.seed, replace(size, facade_px_per_m=_FACADE_PX_PER_M, ground_px_per_m=_GROUND_PX_PER_M))
    places = _places(town, how)
    _claim(out, how)
    asked = _queries(places, how)
    camera = demo_camera(*how.size_px)
    sets = [("database", "day", 0, places)] + [(f"queries_{name}", name, 1, asked) for name in how.domains]
    done, total = 0, sum(len(found) for *_, found in sets) * len(how.directions)
    with renderer(workers) as rendered:
        for number, (folder, domain, day, found) in enumerate(sets):
            named = list(_shots(town, camera, found, how, domain_light(domain), number))
            lacking = [(out / folder / name, shot) for name, shot in named if not (out / folder / name).is_file()]
            done += len(named) - len(lacking)
            images = rendered(town.on_day(day), [shot for _, shot in lacking])
            for (path, _), rgb in zip(lacking, images, strict=True):
                write_image(path, rgb, _JPEG_QUALITY)
                done += 1
                if progress is not None:
                    progress(done, total)
    return total


def _claim(out: Path, how: PlaceSet) -> None:
    """Writes the settings, or holds them against those that are there."""
    wanted = json.loads(json.dumps({**asdict(how), "format": _FORMAT}))
    path = out / SETTINGS
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: is damaged; remove the folder and start again") from error
        del wanted["domains"], found["domains"]  # more of them may follow
        if found != wanted:
            differ = sorted(key for key in wanted if found.get(key) != wanted[key])
            raise ConfigError(f"{out}: holds places of other settings ({', '.join(differ)}); name another folder")
    elif out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: holds something that is no set of places; name another folder")
    with atomic_path(path) as draft:
        draft.write_text(json.dumps({**asdict(how), "format": _FORMAT}, indent=2) + "\n")


def _places(town: Town, how: PlaceSet) -> list[_Place]:
    """Every spacing_m on the right hand side of every street, both ways."""
    assert town.plan.network
    network = town.plan.network.within(how.extent_m / 2)
    poses = []
    for street in network.streets:
        for a, b in ((street.start, street.end), (street.end, street.start)):
            span = network.nodes[b] - network.nodes[a]
            length, yaw = float(np.linalg.norm(span)), float(np.arctan2(span[1], span[0]))
            first, last = (network.radius_m(n) + _CROSSING_M for n in (a, b))
            for s in np.arange(first, length - last, how.spacing_m):
                start = Pose(so3_exp([0, 0, yaw]), np.append(network.nodes[a], 0.0))
                poses.append(start @ Pose(np.eye(3), np.array([s, _LANE_M, 0.0])))
    if not poses:
        raise ConfigError(f"a district of {how.extent_m} m with seed {how.seed} has no street to drive on: make it larger")
    return [_Place(pose, k) for k, pose in enumerate(poses)]


def _queries(places: list[_Place], how: PlaceSet) -> list[_Place]:
    rng = np.random.default_rng([how.seed, 51])
    chosen = np.sort(rng.permutation(len(places))[: how.queries])
    asked = []
    for number in chosen.tolist():
        along, across, turn = rng.uniform(-1, 1, 3) * [how.along_m, how.across_m, np.deg2rad(how.heading_deg)]
        moved = Pose(so3_exp([0, 0, turn]), np.array([along, across, 0.0]))
        asked.append(_Place(places[number].map_from_base @ moved, number))
    return asked


def _shots(
    town: Town, camera: Camera, places: Sequence[_Place], how: PlaceSet, light: Light, number: int
) -> Iterator[tuple[str, Shot]]:
    """Each picture's file name and how it is taken."""
    for k, place in enumerate(places):
        for d, direction in enumerate(how.directions):
            turned = Pose(so3_exp([0, 0, np.deg2rad(DIRECTIONS[direction])]), np.zeros(3)) @ demo_mounting()
            map_from_camera = place.map_from_base @ turned
            name = _name(town, map_from_camera, f"{place.number:05d}", direction)
            seen_in = light if direction == "forward" or light.lamps is None else replace(light, lamps=replace(light.lamps, headlights=0.0))
            yield name, Shot(camera, map_from_camera, seen_in, (how.seed, 52 + number, k * len(how.directions) + d))


def _name(town: Town, map_from_camera: Pose, pano: str, direction: str) -> str:
    lat, lon, _ = geodetic_from_enu(town.origin, map_from_camera.translation)
    east, north, zone = utm_from_geodetic(float(lat), float(lon))
    forward = map_from_camera.rotation[:, 2]
    heading = float(np.degrees(np.arctan2(forward[0], forward[1]))) % 360.0
    return geotagged_name(east, north, heading_deg=heading, zone=zone, lat_lon_deg=(float(lat), float(lon)), pano=pano, note=direction)
