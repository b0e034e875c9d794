"""A drive as its sensors recorded it: images on demand, odometry, positions, truth; as an `ImageSequence` in memory or as a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoFix
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.io.bags import GPS_FRAME, IMU_FRAME, BagWriter
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.world.drive import Drive
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.movers import PlacedMover
from ros2_loc.world.render import View, render
from ros2_loc.world.sensors import ImuSample, OdometryNoise, OdometrySample, measure_fixes, measure_imu, measure_odometry
from ros2_loc.world.town import Town
from ros2_loc.world.traffic import Traffic

Progress = Callable[[int, int], None]


def demo_camera(width: int = 640, height: int = 400) -> Camera:
    """A pinhole camera that sees 85 degrees across."""
    focal = 0.547 * width
    return Camera.pinhole(width, height, focal, focal, width / 2, height / 2)


def demo_mounting() -> Pose:
    """base_from_camera: behind the windscreen, 1.55 m above the ground, looking 2 degrees down."""
    return Pose(so3_exp([0.0, np.deg2rad(2.0), 0.0]) @ BODY_FROM_OPTICAL, np.array([1.3, 0.0, 1.55]))


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What the sensors of one drive say. Everything random is drawn from `seed`; image i is the same whenever it is rendered.

    Attributes:
        town, drive, light: the world.
        camera, base_from_camera: the camera and where it sits.
        image_rate_hz, odometry_rate_hz, fix_rate_hz: readings per second.
        odometry_noise: how odometry drifts.
        image_step_m: metres driven between images, at stamps of the odometry; None takes them at image_rate_hz.
        seed: noise of all sensors.
        traffic: who else is on the streets during the drive; nobody by default.
    """

    town: Town
    drive: Drive
    light: Light
    camera: Camera = field(default_factory=demo_camera)
    base_from_camera: Pose = field(default_factory=demo_mounting)
    image_rate_hz: float = 5.0
    odometry_rate_hz: float = 20.0
    fix_rate_hz: float = 1.0
    odometry_noise: OdometryNoise = field(default_factory=OdometryNoise)
    seed: int = 0
    image_step_m: float | None = None
    traffic: Traffic | None = None

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """(N,) stamps of the images, none later than the last odometry."""
        if self.image_step_m is not None:
            return self.drive.stamps_every(self.image_step_m, self.odometry_rate_hz)
        stamps = self.drive.stamps(self.image_rate_hz)
        return stamps[stamps <= self.drive.stamps(self.odometry_rate_hz)[-1]]

    def view(self, i: int) -> View:
        """Image i with its depth and its objects."""
        return _render_one(self.town, self._shot(i))

    def odometry(self) -> list[OdometrySample]:
        """Its odometry."""
        return measure_odometry(self.drive, self.odometry_rate_hz, self.odometry_noise, self.seed)

    def imu(self) -> list[ImuSample]:
        """Its Imu with compass, at the rate of the odometry."""
        return measure_imu(self.drive, self.odometry_rate_hz, seed=self.seed)

    def fixes(self) -> list[GeoFix]:
        """Its positions by satellite."""
        return measure_fixes(self.drive, self.town.origin, self.fix_rate_hz, seed=self.seed)

    def sequence(self) -> ImageSequence:
        """The images, each rendered when it is first asked for and then kept in memory, with truth and odometry at their stamps."""
        odometry = {sample.stamp_ns: sample.odom_from_base for sample in self.odometry()}
        stamps = self.stamps_ns
        return ImageSequence(
            names=tuple(f"{i:06d}.png" for i in range(len(stamps))),
            stamps_ns=stamps,
            camera=self.camera,
            base_from_camera=self.base_from_camera,
            map_from_base=tuple(self.drive.at(int(stamp)) for stamp in stamps),
            odom_from_base=tuple(odometry.get(int(stamp)) for stamp in stamps),
            fixes=tuple(self.fixes()),
            load=lru_cache(maxsize=None)(lambda i: self.view(i).rgb),
        )

    def _shot(self, i: int) -> Shot:
        stamp = int(self.stamps_ns[i])
        movers = self.traffic.at(stamp) if self.traffic is not None else ()
        return Shot(self.camera, self.drive.at(stamp) @ self.base_from_camera, self.light, (self.seed, 13, i), movers)


def write_bags(
    recordings: Mapping[Path, Recording],
    *,
    storage: Literal["sqlite3", "mcap"] = "sqlite3",
    image_format: Literal["raw", "jpeg", "png"] = "raw",
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Renders drives and writes each as a rosbag2 with images, camera_info, TF, odometry, Imu, truth and positions by satellite.

    Args:
        recordings: folder to make -> what is recorded in it.
        storage, image_format, overwrite: see `BagWriter`.
        workers: processes that render; each of them paints the town for itself (seconds, 300 MB). The caller of more than one must be
            importable, as always with processes: `if __name__ == "__main__"`.
        progress: called with (images done, images in all).

    Raises:
        DataError: there is something at a path already, or it can't be written.
    """
    total = sum(len(r.stamps_ns) for r in recordings.values())
    with renderer(workers) as rendered:
        done = 0
        for path, recording in recordings.items():
            notes = {"source": f"ros2_loc synthetic town, seed {recording.town.seed}, drive seed {recording.seed}"}
            with BagWriter(path, storage=storage, image_format=image_format, overwrite=overwrite, notes=notes) as bag:
                _write_readings(bag, recording)
                shots = [recording._shot(i) for i in range(len(recording.stamps_ns))]
                for stamp, rgb in zip(recording.stamps_ns.tolist(), rendered(recording.town, shots), strict=True):
                    bag.camera_info(stamp, recording.camera)
                    bag.image(stamp, rgb)
                    done += 1
                    if progress is not None:
                        progress(done, total)


def _write_readings(bag: BagWriter, recording: Recording) -> None:
    start = int(recording.drive.stamps_ns[0])
    bag.static_transform(start, recording.base_from_camera)
    bag.static_transform(start, Pose.identity(), GPS_FRAME)
    bag.static_transform(start, Pose.identity(), IMU_FRAME)
    for sample in recording.odometry():
        bag.odometry(sample.stamp_ns, sample.odom_from_base, sample.covariance, sample.twist, sample.twist_covariance)
        bag.truth(sample.stamp_ns, recording.drive.at(sample.stamp_ns))
    for reading in recording.imu():
        rates = reading.angular_velocity_rad_s, reading.linear_acceleration_m_s2
        bag.imu(reading.stamp_ns, reading.enu_from_base, *rates, reading.covariance)
    for fix in recording.fixes():
        bag.fix(fix)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """All that a picture of a town depends on.

    Attributes:
        camera, map_from_camera, light: who looks from where (optical frame), in which light.
        noise_seed: of the sensor.
        movers: who else is there.
    """

    camera: Camera
    map_from_camera: Pose
    light: Light
    noise_seed: tuple[int, int, int]
    movers: tuple[PlacedMover, ...] = ()


def _render_one(town: Town, shot: Shot) -> View:
    return render(town, shot.camera, shot.map_from_camera, shot.light, np.random.default_rng(shot.noise_seed), shot.movers)


Rendered = Callable[[Town, Sequence[Shot]], Iterator[NDArray[np.uint8]]]


@contextmanager
def renderer(workers: int) -> Iterator[Rendered]:
    """A function that renders shots of a town, (H, W, 3) uint8 RGB in their order, by so many processes (see `write_bags`)."""
    if workers <= 1:
        yield lambda town, shots: (_render_one(town, shot).rgb for shot in shots)
        return
    # spawn: forking a process that has threads (DDS, OpenCV, BLAS) can hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield lambda town, shots: pool.map(_render_in_worker, [(town.seed, town.plan.size, town.day)] * len(shots), shots, chunksize=2)


def _render_in_worker(town: tuple[int, TownSize, int], shot: Shot) -> NDArray[np.uint8]:
    return _render_one(_town_of_worker(*town), shot).rgb


@lru_cache(maxsize=1)
def _town_of_worker(seed: int, size: TownSize, day: int) -> Town:
    cv2.setNumThreads(1)  # the workers are the parallelism
    return Town.generate(seed, size).on_day(day)
