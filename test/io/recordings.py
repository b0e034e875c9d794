"""Small recordings in the exact layouts of KITTI, for the tests of readers and converters."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.io.images import write_image
from ros2_loc.io.trajectories import write_kitti

WIDTH, HEIGHT = 64, 48
CAMERA = Camera.pinhole(WIDTH, HEIGHT, 50.0, 50.0, 32.5, 24.5)
P0 = "50 0 32 0 0 50 24 0 0 0 1 0"
P2 = "50 0 32 3 0 50 24 0 0 0 1 0"  # 6 cm to the left of camera 0
RAW_START = datetime(2011, 9, 26, 13, 2, 25)
RAW_START_NS = 1_317_042_145_000_000_000
SPEED_M_S, RATE_RAD_S = 8.0, 0.2


def picture(i: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, another one for each i."""
    return np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_images(folder: Path, numbers: range, digits: int = 6, gray: bool = False) -> None:
    folder.mkdir(parents=True)
    for i in numbers:
        write_image(folder / f"{i:0{digits}d}.png", picture(i)[..., 0] if gray else picture(i))


def bend(n: int, step_s: float = 0.1) -> list[Pose]:
    """map_from_base on an arc at constant speed and turn rate, from the identity."""
    step = Pose(so3_exp([0, 0, RATE_RAD_S * step_s]), so3_exp([0, 0, RATE_RAD_S * step_s / 2]) @ [SPEED_M_S * step_s, 0, 0])
    poses = [Pose.identity()]
    for _ in range(n - 1):
        poses.append(poses[-1] @ step)
    return poses


def odometry_folder(root: Path, n: int = 6, gray: bool = True) -> Path:
    """`sequences/03` of KITTI odometry with camera 0 and 2, and `poses/03.txt`."""
    folder = root / "sequences" / "03"
    write_images(folder / "image_0", range(n), gray=gray)
    write_images(folder / "image_2", range(n))
    (folder / "calib.txt").write_text(f"P0: {P0}\nP1: {P0}\nP2: {P2}\nP3: {P2}\n")
    (folder / "times.txt").write_text("\n".join(f"{i * 0.1037359:e}" for i in range(n)))
    base_from_cam0 = Pose(BODY_FROM_OPTICAL, np.array([0, 0, 1.65]))
    (root / "poses").mkdir()
    write_kitti(root / "poses" / "03.txt", [base_from_cam0.inverse() @ pose @ base_from_cam0 for pose in bend(n)])
    return folder


def timestamps(seconds: np.ndarray) -> str:
    lines = []
    for s in seconds:
        whole = RAW_START + timedelta(seconds=int(s))
        lines.append(f"{whole:%Y-%m-%d %H:%M:%S}.{round((s % 1) * 1e9):09d}")
    return "\n".join(lines) + "\n"


def raw_drive(root: Path, n: int = 8) -> Path:
    """A drive of KITTI raw on an arc near Karlsruhe, starting at 49.01 N, 8.42 E, heading 0.5 rad from east."""
    day = root / "2011_09_26"
    drive = day / "2011_09_26_drive_0001_sync"
    write_images(drive / "image_02" / "data", range(n), 10)
    (drive / "image_02" / "timestamps.txt").write_text(timestamps(np.arange(n) * 0.1 + 0.004))
    (drive / "oxts" / "data").mkdir(parents=True)
    (drive / "oxts" / "timestamps.txt").write_text(timestamps(np.arange(n + 1) * 0.1))
    start = Pose(so3_exp([0, 0, 0.5]), np.zeros(3))
    for i, pose in enumerate(bend(n + 1)):
        east, north, _ = (start @ pose).translation
        lat = 49.01 + np.degrees(north / 6378137.0)  # as KITTI's Mercator has it to first order
        lon = 8.42 + np.degrees(east / 6378137.0) / np.cos(np.radians(49.01))
        numbers = np.zeros(30)
        numbers[:6] = [lat, lon, 116.4, 0.0, 0.0, (start @ pose).yaw_rad]
        numbers[8], numbers[13], numbers[19], numbers[23] = SPEED_M_S, 9.81, RATE_RAD_S, 0.05
        (drive / "oxts" / "data" / f"{i:010d}.txt").write_text(" ".join(repr(float(x)) for x in numbers))
    (day / "calib_cam_to_cam.txt").write_text(
        f"calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.950000e-02\nR_rect_00: {' '.join(map(str, np.eye(3).ravel()))}\n"
        f"P_rect_00: {P0}\nS_rect_02: {WIDTH}.0 {HEIGHT}.0\nP_rect_02: {P2}\n"
    )
    velo_from_imu = "calib_time: x\nR: 1 0 0 0 1 0 0 0 1\nT: -0.81 0.32 -0.80\n"
    (day / "calib_imu_to_velo.txt").write_text(velo_from_imu)
    cam_from_velo = " ".join(map(str, BODY_FROM_OPTICAL.T.ravel()))
    (day / "calib_velo_to_cam.txt").write_text(f"calib_time: x\nR: {cam_from_velo}\nT: 0.0 -0.08 -0.27\ndelta_f: 0 0\n")
    return drive
