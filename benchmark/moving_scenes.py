"""Streets full of vehicles for `moving_traffic.py`: a drive to map with, another on another day, rendered once and kept in a folder.

traffic: dense traffic, people, the town's parked cars. queue: a truck or car close ahead all the way, a queue in the other lane, cars along
both kerbs. rows: cars along both kerbs of every street, a dense row on the right. All of these are others on the second day. residents: the
rows once more, but of four cars three are back on the second day, up to some metres from where they stood.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import ros2_loc.world
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import Detection
from ros2_loc.io.files import atomic_path
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import read_image
from ros2_loc.world.demo import demo_town, plan_ways
from ros2_loc.world.domains import domain_light
from ros2_loc.world.drive import Drive, Vehicle, make_drive
from ros2_loc.world.light import Light
from ros2_loc.world.movers import PlacedMover
from ros2_loc.world.recording import demo_camera, demo_mounting
from ros2_loc.world.render import render
from ros2_loc.world.town import Town
from ros2_loc.world.traffic import Traffic

Array = NDArray[np.float64]
Kind = Literal["traffic", "queue", "rows", "residents"]
Part = Literal["mapping", "localization"]
PARTS: tuple[Part, ...] = ("mapping", "localization")
KINDS: tuple[Kind, ...] = ("traffic", "queue", "rows", "residents")
CAMERA, MOUNTING = demo_camera(640, 400), demo_mounting()

_START_NS, _DAY_NS = 1_700_000_000_000_000_000, 86_400_000_000_000
_FIRST_ID = 100_000  # above those of the town's own cars
_MAPPING_STEP_M, _LOCALIZATION_STEP_M = 2.5, 4.1
_LENGTH_M, _TAIL_M = 190.0, 25.0  # driven with images, and room for the vehicle ahead


class Scene(NamedTuple):
    """A town and what is on its streets."""

    seed: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind} {self.seed}"


@dataclass(frozen=True)
class Seen:
    """What a rendering knows of its vehicles and people: (H, W) numbers, and the box and label of each."""

    objects: NDArray[np.int32]
    numbers: NDArray[np.int32]
    boxes: NDArray[np.float32]
    labels: tuple[str, ...]

    def detections(self, with_masks: bool) -> list[Detection]:
        """As a detector without fault would find them."""
        rows = zip(self.numbers.tolist(), self.boxes, self.labels, strict=True)
        return [Detection(box, label, 1.0, self.objects == number if with_masks else None) for number, box, label in rows]


class Recorded:
    """One drive of a scene: poses at once, pictures as they are asked for."""

    def __init__(self, scene: Scene, part: Part, cache: Path) -> None:
        self.scene, self.part = scene, part
        self.drive, self.stamps_ns = _drive(scene, part)
        key = sha256(repr((_source(), scene, part)).encode()).hexdigest()[:8]
        self.folder = cache / "renderings" / f"{scene.kind}_{scene.seed}_{part}_{key}"

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def picture(self, i: int) -> Path:
        return self.folder / f"{i:04d}.png"

    def seen(self, i: int) -> Seen:
        with np.load(self.picture(i).with_suffix(".npz")) as stored:
            return Seen(stored["objects"].astype(np.int32), stored["numbers"], stored["boxes"], tuple(stored["labels"].tolist()))

    @property
    def missing(self) -> list[int]:
        return [i for i in range(len(self)) if not self.picture(i).is_file()]

    def sequence(self, mask: Callable[[Seen], NDArray[np.bool_]] | None = None) -> ImageSequence:
        """The pictures with true poses, and with masks of what was seen where a function makes them."""
        return ImageSequence(
            names=tuple(f"{self.part}_{i:04d}.png" for i in range(len(self))),
            stamps_ns=self.stamps_ns,
            camera=CAMERA,
            base_from_camera=MOUNTING,
            map_from_base=tuple(self.drive.at(int(stamp)) for stamp in self.stamps_ns),
            odom_from_base=(None,) * len(self),
            fixes=(),
            load=lambda i: read_image(self.picture(i)),
            load_mask=None if mask is None else lambda i: mask(self.seen(i)),
        )

    def render(self, i: int) -> None:
        """Picture i, and what is seen in it (first, so that a picture is never without)."""
        stamp_ns = int(self.stamps_ns[i])
        town = _town(self.scene.seed, self.part)
        movers = _movers(self.scene, self.part)(stamp_ns)
        noise = np.random.default_rng([self.scene.seed, len(self.part), i])
        view = render(town, CAMERA, self.drive.at(stamp_ns) @ MOUNTING, _light(self.part), noise, movers)
        boxes = np.array([o.box_px for o in view.seen], np.float32).reshape(-1, 4)
        numbers = np.array([o.id for o in view.seen], np.int32)
        with atomic_path(self.picture(i).with_suffix(".npz")) as temporary:
            labels = np.array([o.label for o in view.seen], str)
            np.savez_compressed(temporary, objects=view.objects, numbers=numbers, boxes=boxes, labels=labels)
        with atomic_path(self.picture(i)) as temporary:
            cv2.imwrite(str(temporary), view.rgb[..., ::-1])


@lru_cache(maxsize=1)
def _source() -> str:
    """Of what renders: pictures of another town than today's would be no measure of detectors that learned today's."""
    files = [Path(__file__), *sorted(Path(ros2_loc.world.__file__).parent.glob("*.py"))]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def render_all(scenes: Sequence[Scene], cache: Path, workers: int, progress: Callable[[int, int], None]) -> None:
    """Render what is not there yet; interrupted, the next call goes on."""
    # one town in one light after another: painting it takes half a minute
    order = sorted((scene.seed, part, scene) for scene in scenes for part in PARTS)
    drives = [Recorded(scene, part, cache) for _, part, scene in order]
    jobs = [(drive.scene, drive.part, chunk) for drive in drives for chunk in _chunks(drive.missing, 6)]
    if not jobs:
        return
    done, total = 0, sum(len(chunk) for *_, chunk in jobs)
    with workers_of(workers) as pool:
        pending = [(pool.submit(_render_chunk, scene, part, chunk, cache), len(chunk)) for scene, part, chunk in jobs]
        try:
            for future, count in pending:
                future.result()
                done += count
                progress(done, total)
        except KeyboardInterrupt:
            cancel([future for future, _ in pending])
            raise


def workers_of(count: int) -> ProcessPoolExecutor:
    """Processes of one thread each; spawned, because forking one that has threads can hang."""
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread)


def cancel(futures: Sequence[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _chunks(items: list[int], size: int) -> list[list[int]]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def _render_chunk(scene: Scene, part: Part, chunk: list[int], cache: Path) -> None:
    drive = Recorded(scene, part, cache)
    for i in chunk:
        drive.render(i)


def _light(part: Part) -> Light:
    return Light.afternoon() if part == "mapping" else domain_light("morning")


@lru_cache(maxsize=1)
def _town(seed: int, part: Part) -> Town:
    return demo_town(seed).on_day(0 if part == "mapping" else 5)


@lru_cache(maxsize=8)
def _route(seed: int) -> Array:
    """(K, 2) m: the first streets of the demo's drive, as long as is needed."""
    network = demo_town(seed).plan.network
    assert network is not None
    points = network.nodes[list(plan_ways(network.within(150.0)).first)]
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    end = min(8.0 + _LENGTH_M + _TAIL_M + 5.0, at[-1])
    first, last = ([np.interp(place, at, points[:, k]) for k in (0, 1)] for place in (8.0, end))
    return np.vstack([first, points[(at > 8.0) & (at < end)], last])


@lru_cache(maxsize=8)
def _drive(scene: Scene, part: Part) -> tuple[Drive, NDArray[np.int64]]:
    mapping = part == "mapping"
    vehicle = Vehicle(speed_mps=7.0, lane_m=-1.6) if mapping else Vehicle(speed_mps=9.0, lane_m=-1.1)
    drive = make_drive(_route(scene.seed), vehicle, _START_NS + (0 if mapping else _DAY_NS), seed=scene.seed + len(part))
    stamps = drive.stamps_every(_MAPPING_STEP_M if mapping else _LOCALIZATION_STEP_M)
    count = int(min(_LENGTH_M, drive.length_m - _TAIL_M) / (_MAPPING_STEP_M if mapping else _LOCALIZATION_STEP_M))
    return drive, stamps[:count]


@lru_cache(maxsize=4)
def _movers(scene: Scene, part: Part) -> Callable[[int], Sequence[PlacedMover]]:
    """Who is where at a time."""
    drive, _ = _drive(scene, part)
    day = 0 if part == "mapping" else 1
    if scene.kind == "traffic":
        return Traffic.generate(_town(scene.seed, part), 10 * scene.seed + day, density=2.5, drive=drive).at
    rng = np.random.default_rng([scene.seed, day, KINDS.index(scene.kind)])
    if scene.kind == "residents":
        parked = _residents(scene.seed, day)
        return lambda stamp_ns: parked
    standing = _row(scene.seed, -4.0, 0.0, (5.2, 7.0) if scene.kind == "rows" else (5.6, 16.0), 0.08, rng)
    standing += _row(scene.seed, 4.2, np.pi, (5.6, 12.0), 0.08, rng)
    if scene.kind == "rows":
        parked = _numbered(standing)
        return lambda stamp_ns: parked
    queue = _row(scene.seed, 1.7, np.pi, (6.4, 9.0), 0.3, rng)
    others, ahead = _numbered([*standing, *(replace(mover, moving=True) for mover in queue)]), _Ahead(drive, rng)
    return lambda stamp_ns: [*others, ahead.at(stamp_ns)]


def _row(
    seed: int, lane_m: float, turn_rad: float, spacing_m: tuple[float, float], trucks: float, rng: np.random.Generator
) -> list[PlacedMover]:
    """Vehicles that stand one behind the other beside the route, of which a share is trucks."""
    line = make_drive(_route(seed), Vehicle(lane_m=lane_m, sway_rad=0.0, bounce_m=0.0), 0)
    at_m = np.cumsum(rng.uniform(*spacing_m, 200))
    path = _Path(line)
    out = []
    for place in at_m[at_m < path.length_m]:
        label = "truck" if rng.random() < trucks else "car"
        pose = path.at(float(place))
        yaw = pose.yaw_rad + turn_rad + rng.normal(0, 0.02)
        where = np.array([*pose.translation[:2], 0.0])
        out.append(PlacedMover(_FIRST_ID, label, Pose(so3_exp([0, 0, yaw]), where), moving=False, look=int(rng.integers(2**31))))
    return out


def _residents(seed: int, day: int) -> list[PlacedMover]:
    """Both rows; on another day each car is moved along the kerb, and a quarter of them are others."""
    rng = np.random.default_rng([seed, 7])
    rows = [_row(seed, -4.0, 0.0, (6.2, 8.5), 0.08, rng), _row(seed, 4.2, np.pi, (6.2, 10.0), 0.08, rng)]
    if day == 0:
        return _numbered([mover for row in rows for mover in row])
    rng = np.random.default_rng([seed, 7, day])
    out = []
    for mover in (mover for row in rows for mover in row):
        moved = mover.map_from_mover @ Pose(np.eye(3), np.array([np.clip(rng.normal(0, 0.7), -1.6, 1.6), rng.normal(0, 0.08), 0.0]))
        out.append(replace(mover, map_from_mover=moved, look=mover.look if rng.random() < 0.75 else int(rng.integers(2**31))))
    return _numbered(out)


def _numbered(movers: Sequence[PlacedMover]) -> list[PlacedMover]:
    return [replace(mover, id=_FIRST_ID + k) for k, mover in enumerate(movers)]


class _Path:
    """Poses of a drive by metres driven."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        places = np.array([pose.translation[:2] for pose in drive.map_from_base])
        self._driven = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])

    @property
    def length_m(self) -> float:
        return float(self._driven[-1])

    def at(self, driven_m: float) -> Pose:
        return self._drive.at(int(np.interp(driven_m, self._driven, self._drive.stamps_ns)))

    def driven_m(self, stamp_ns: int) -> float:
        return float(np.interp(stamp_ns, self._drive.stamps_ns, self._driven))


class _Ahead:
    """A vehicle before the ego vehicle, whose gap to it breathes."""

    def __init__(self, drive: Drive, rng: np.random.Generator) -> None:
        self._path = _Path(drive)
        self._label, self._look = ("truck" if rng.random() < 0.6 else "car"), int(rng.integers(2**31))
        self._phase, self._period_m = rng.uniform(0, 2 * np.pi), rng.uniform(40, 90)

    def at(self, stamp_ns: int) -> PlacedMover:
        driven_m = self._path.driven_m(stamp_ns)
        middle_m = (9.5 if self._label == "truck" else 7.5) + 1.3 + 1.5 * np.sin(2 * np.pi * driven_m / self._period_m + self._phase)
        pose = self._path.at(min(driven_m + float(middle_m), self._path.length_m))
        upright = Pose(so3_exp([0, 0, pose.yaw_rad]), np.array([*pose.translation[:2], 0.0]))
        return PlacedMover(_FIRST_ID + 9_999, self._label, upright, look=self._look, travelled_m=driven_m)
