"""Pictures of towns full of traffic with exact boxes and masks, as detectors are trained with: a folder in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.coco import ANNOTATIONS, annotations_of, rle_of_mask
from ros2_loc.io.files import atomic_path
from ros2_loc.io.images import write_image
from ros2_loc.io.labelled_images import DetectionDataset, LabelledImage
from ros2_loc.world.domains import domain_light
from ros2_loc.world.drive import Drive, Vehicle, make_drive
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.movers import LABELS
from ros2_loc.world.objects import SeenObject
from ros2_loc.world.render import render
from ros2_loc.world.routes import random_route
from ros2_loc.world.town import Town
from ros2_loc.world.traffic import Traffic
from ros2_loc.world.ways import street_network

Progress = Callable[[int, int], None]

SETTINGS = "objects.json"
DRAWN = "drawn"  # a domain whose light is drawn anew for each picture, from clear to overcast
_FORMAT = 1
_PARTS = ".objects"
_PER_SCENE = 8
_SECONDS = 3.0  # between the pictures of a scene
_JPEG_QUALITY = 92
_FACADE_PX_PER_M, _GROUND_PX_PER_M = 16.0, 9.0


@dataclass(frozen=True, slots=True)
class ObjectSet:
    """Which pictures.

    Attributes:
        seed: of the first town and of all that is drawn.
        towns: how many towns, of the seeds that follow.
        count: of pictures, evenly from all towns.
        size_px: width and height.
        domains: of `DOMAINS`, or DRAWN; each picture is of one of them.
        density: of traffic, from and to.
        extent_m: side of each district; patterns: painted houses of each of its quarters.
        hidden_share: objects of which less is seen are regions to ignore; so are those whose box is nowhere min_side_px long.
    """

    seed: int = 0
    towns: int = 1
    count: int = 100
    size_px: tuple[int, int] = (640, 384)
    domains: tuple[str, ...] = (DRAWN, DRAWN, "day", "dusk", "night")
    density: tuple[float, float] = (0.7, 2.5)
    extent_m: float = 220.0
    patterns: int = 40
    hidden_share: float = 0.15
    min_side_px: float = 9.0

    def __post_init__(self) -> None:
        for name in self.domains:
            if name != DRAWN:
                domain_light(name)
        if not self.domains or min(self.towns, self.count) < 1 or min(self.size_px) < 32 or not 0 < self.density[0] <= self.density[1]:
            raise ConfigError(f"{self}: needs a domain, a town, a picture, 32 px of size and a positive density")
        TownSize.district(self.extent_m, patterns=self.patterns)


class _Scene(NamedTuple):
    """Pictures of one drive: town and number of the scene, the numbers of its pictures."""

    town_seed: int
    number: int
    pictures: tuple[int, ...]

    def name(self, picture: int) -> str:
        return f"{self.town_seed:05d}_{self.number:03d}_{picture:02d}"


def write_object_set(out: str | Path, how: ObjectSet | None = None, *, workers: int = 1, progress: Progress | None = None) -> int:
    """Writes `out`/images and `out`/annotations.json; what is there already stays.

    Besides what COCO's have, annotations have `visible_share` and `moving` (`world.objects.SeenObject`) and `track`, the object's number
    in its scene; images have their `domain`.

    Args:
        out: folder, new or of an interrupted call with the same settings; the count may grow.
        how: which pictures.
        workers: processes that render. The caller of more than one must be importable: `if __name__ == "__main__"`.
        progress: called with (pictures done, pictures in all).

    Returns:
        How many objects are in the pictures, regions to ignore not counted.

    Raises:
        ConfigError: a folder of other settings, or a district without streets.
        DataError: it can't be written.
    """
    how, out = how or ObjectSet(), Path(out)
    _claim(out, how)
    scenes = list(_scenes(how))
    names = [scene.name(k) for scene in scenes for k in scene.pictures]
    lacking = [scene._replace(pictures=tuple(k for k in scene.pictures if not _is_done(out, scene.name(k)))) for scene in scenes]
    lacking = [scene for scene in lacking if scene.pictures]
    done = len(names) - sum(len(scene.pictures) for scene in lacking)
    for count in _rendered(out, how, lacking, workers):
        done += count
        if progress is not None:
            progress(done, len(names))
    return _write_annotations(out, how, names)


def _scenes(how: ObjectSet) -> Iterator[_Scene]:
    for k in range(how.towns):
        count = how.count // how.towns + (k < how.count % how.towns)
        for number in range(-(-count // _PER_SCENE)):
            yield _Scene(how.seed + k, number, tuple(range(min(_PER_SCENE, count - number * _PER_SCENE))))


def _rendered(out: Path, how: ObjectSet, scenes: list[_Scene], workers: int) -> Iterator[int]:
    """Renders, and says after each picture or scene how many have come."""
    if workers <= 1:
        for scene in scenes:
            for _ in _render_scene(out, how, scene):
                yield 1
        return
    # spawn: forking a process that has threads (OpenCV, BLAS) can hang
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        waiting = [pool.submit(_render_in_worker, out, how, scene) for scene in scenes]
        for future in as_completed(waiting):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _render_in_worker(out: Path, how: ObjectSet, scene: _Scene) -> int:
    cv2.setNumThreads(1)  # the workers are the parallelism
    return sum(1 for _ in _render_scene(out, how, scene))


@lru_cache(maxsize=1)
def _town(seed: int, extent_m: float, patterns: int) -> Town:
    size = TownSize.district(extent_m, patterns=patterns, quarters=4)
    return Town.generate(seed, replace(size, facade_px_per_m=_FACADE_PX_PER_M, ground_px_per_m=_GROUND_PX_PER_M))


def _render_scene(out: Path, how: ObjectSet, scene: _Scene) -> Iterator[None]:
    town = _town(scene.town_seed, how.extent_m, how.patterns).on_day(scene.number % 4)
    rng = np.random.default_rng([how.seed, scene.town_seed, scene.number, 81])
    speed = float(rng.uniform(5.0, 10.0))
    route = random_route(street_network(town), speed * _SECONDS * (_PER_SCENE + 1), rng)
    drive = make_drive(route, Vehicle(speed_mps=speed), seed=scene.number)
    traffic = Traffic.generate(town, scene.number, density=float(rng.uniform(*how.density)), drive=drive)
    for k in scene.pictures:
        _render_picture(out, how, scene, k, town, drive, traffic)
        yield


def _render_picture(out: Path, how: ObjectSet, scene: _Scene, k: int, town: Town, drive: Drive, traffic: Traffic) -> None:
    rng = np.random.default_rng([how.seed, scene.town_seed, scene.number, k, 82])
    stamp = int(drive.stamps_ns[0] + drive.duration_s * 1e9 * (k + rng.uniform(0.1, 0.9)) / _PER_SCENE)
    camera, base_from_camera = _camera(how.size_px, rng)
    domain = str(rng.choice(np.array(how.domains)))
    light = Light.drawn(int(rng.integers(2**31))) if domain == DRAWN else domain_light(domain)
    view = render(town, camera, drive.at(stamp) @ base_from_camera, light, rng, traffic.at(stamp))
    name = scene.name(k)
    write_image(out / "images" / f"{name}.jpg", view.rgb, _JPEG_QUALITY)
    with atomic_path(out / _PARTS / f"{name}.json") as draft:
        draft.write_text(json.dumps({"domain": domain, "objects": [_told(seen, view.objects) for seen in view.seen]}))


def _camera(size_px: tuple[int, int], rng: np.random.Generator) -> tuple[Camera, Pose]:
    """A camera 53 to 90 degrees across, and base_from_camera: ahead more often than aside, behind a low or a high windscreen."""
    width, height = size_px
    focal = width * float(rng.uniform(0.5, 1.0))
    yaw = rng.normal(0, 0.08) + (rng.choice([-0.8, 0.8, np.pi]) if rng.random() < 0.2 else 0.0)
    turn = so3_exp([0.0, 0.0, yaw]) @ so3_exp([0.0, float(rng.normal(0.02, 0.03)), 0.0])
    place = np.array([1.0 * np.cos(yaw), 0.0, rng.uniform(1.25, 2.1)])
    return Camera.pinhole(width, height, focal, focal, width / 2, height / 2), Pose(turn @ BODY_FROM_OPTICAL, place)


def _told(seen: SeenObject, objects: NDArray[np.int32]) -> dict[str, Any]:
    mask = objects == seen.id
    told = {"label": LABELS.index(seen.label), "box": seen.box_px, "rle": rle_of_mask(mask), "area": int(mask.sum())}
    return told | {"visible_share": round(seen.visible_share, 4), "moving": seen.moving, "track": seen.id}


def _is_done(out: Path, name: str) -> bool:
    return (out / "images" / f"{name}.jpg").is_file() and (out / _PARTS / f"{name}.json").is_file()


def _write_annotations(out: Path, how: ObjectSet, names: list[str]) -> int:
    parts = [json.loads((out / _PARTS / f"{name}.json").read_text()) for name in names]
    images = tuple(_labelled(out, how, k + 1, name, part["objects"]) for k, (name, part) in enumerate(zip(names, parts, strict=True)))
    dataset = DetectionDataset(out.name, LABELS, images, out)
    told = [
        {"id": i.id, "file_name": i.name, "width": i.size[0], "height": i.size[1], "domain": part["domain"]}
        for i, part in zip(images, parts, strict=True)
    ]
    objects = [thing for part in parts for thing in part["objects"]]
    extra = ({key: thing[key] for key in ("visible_share", "moving", "track")} for thing in objects)
    annotations = [row | more for row, more in zip(annotations_of(dataset), extra, strict=True)]
    categories = [{"id": k + 1, "name": label} for k, label in enumerate(LABELS)]
    with atomic_path(out / ANNOTATIONS) as draft:
        draft.write_text(json.dumps({"images": told, "annotations": annotations, "categories": categories}) + "\n")
    return dataset.num_objects


def _labelled(out: Path, how: ObjectSet, number: int, name: str, objects: list[dict[str, Any]]) -> LabelledImage:
    boxes = np.array([thing["box"] for thing in objects], np.float32).reshape(-1, 4)
    shares = np.array([thing["visible_share"] for thing in objects])
    small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) < how.min_side_px
    labels = np.array([thing["label"] for thing in objects], np.int64)
    areas = np.array([thing["area"] for thing in objects], np.float32)
    masks = tuple(thing["rle"] for thing in objects)
    path = out / "images" / f"{name}.jpg"
    return LabelledImage(
        f"images/{name}.jpg", path, how.size_px, boxes, labels, (shares < how.hidden_share) | small, masks, id=number, areas=areas
    )


def _claim(out: Path, how: ObjectSet) -> None:
    """Writes the settings, or holds them against those that are there."""
    wanted = json.loads(json.dumps({**asdict(how), "format": _FORMAT}))
    path = out / SETTINGS
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: is damaged; remove the folder and start again") from error
        differ = sorted(key for key in wanted if key != "count" and found.get(key) != wanted[key])
        if differ:
            raise ConfigError(f"{out}: holds pictures of other settings ({', '.join(differ)}); name another folder")
    elif out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: holds something that is no set of objects; name another folder")
    with atomic_path(path) as draft:
        draft.write_text(json.dumps({**asdict(how), "format": _FORMAT}, indent=2) + "\n")
