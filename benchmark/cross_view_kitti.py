"""The small CVLNet on real images: KITTI 00 frames 100-119 on tiles of the place, which are drawn by classes: no photograph.

    python benchmark/cross_view_kitti.py ../shared/data --picture kitti_cross_view.png

The raster is looked at as it is drawn (roads blue, houses red), and once more in colours nearer to a photograph's, chosen once. All images
are of one corner: whatever comes out is an example, not a rate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ros2_loc.cli.console import milliseconds, percent, table
from ros2_loc.cli.main import main as ros2_loc
from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin, enu_from_geodetic
from ros2_loc.core.overhead import OverheadGrid, project_overhead
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.core.types import Frame
from ros2_loc.evaluation import cross_view as single
from ros2_loc.evaluation.cross_view_filter import Condition, FilterRunsConfig, Moment, one_run
from ros2_loc.evaluation.cross_view_queries import Area, AreaDrive, Query, QueryConfig, relative_poses
from ros2_loc.evaluation.cross_view_records import QueryResult, rank_key
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import read_image, write_image
from ros2_loc.localization.cross_view_localizer import CrossViewLocalizer
from ros2_loc.localization.cross_view_pipeline import load_cross_view_pipeline
from ros2_loc.mapping.tile_database import TileDatabase
from ros2_loc.perception.cross_view.cvlnet import CvlNet

IMAGES, SPAN = range(100, 120), 15  # a video of N frames is spread evenly over its last 15 steps, about 6 m
KITTI_00 = Camera.pinhole(1241, 376, 718.856, 718.856, 607.1928, 185.2157)  # P0 of KITTI's calibration; the data here has none of 00
MOUNTING = Pose(BODY_FROM_OPTICAL, np.array([0.0, 0.0, 1.65]))
NATURAL = {0: (122, 138, 92), 1: (128, 128, 130), 3: (152, 100, 84), 4: (58, 82, 48)}  # grass, road, house, tree
CLOSER = ("localizer.spacing_m=0.9", "localizer.query_every_m=2")  # the 20 images span 7.4 m, less than the pipeline's own video
Image = NDArray[np.uint8]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with kitti/ and aerial/")
    parser.add_argument("--picture", type=Path, help="of the place: imagery, images from above, both")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, rows, said = CvlNet(CvlNet.Config()), [], []
    for look in ("drawn", "natural"):
        with tempfile.TemporaryDirectory(prefix="ros2_loc_kitti_") as scratch:
            tiles = build_tiles(arguments.data, Path(scratch), look)
            drive = sequence(arguments.data, tiles.origin)
            area = Area("00", tiles.origin, tiles.mosaic, tiles.centres_m, tiles.layout.spacing_m, (AreaDrive("00", drive),))
            rows += [(look, *row) for row in single_shot(area, tiles, encoder)]
            said += [f"filter, {look}, {' '.join(o) or 'as shipped'}: {filtered(area, tiles, encoder, o)}" for o in ((), CLOSER)]
            if arguments.picture and look == "drawn":
                write_image(arguments.picture, picture(area))
    header = ("imagery", "frames", "queries", "r@1", "r@10", "r@100", "rank of the truth", "by chance", "nearest tile", "shifted")
    print("\n".join((table(rows, header), *said, f"encode_frame: {encode_time(encoder, [drive.frame(i) for i in range(20)])} of one core")))
    return 0


def build_tiles(data: Path, scratch: Path, look: str) -> TileDatabase:
    """Tiles by the command line, from a PNG with a world file; rows of the raster run northward."""
    folder, drawing = data / "aerial" / "kitti_semantic" / "kitti0", scratch / "kitti0.png"
    raster = read_image(folder / "map_viz.png")
    for number, colour in NATURAL.items() if look == "natural" else ():
        raster[read_image(folder / f"class{number}.png")[..., 0] < 128] = colour
    write_image(drawing, raster)
    facts = json.loads((folder.parent / "georef_estimate.json").read_text())["kitti0"]
    step, place = 1.0 / facts["px_per_m"], [str(degrees) for degrees in facts["ref_latlon"]]
    numbers = (step, 0.0, 0.0, step, *((0.5 - corner) * step for corner in facts["origin_px"]))
    drawing.with_suffix(".pgw").write_text("".join(f"{n:.12f}\n" for n in numbers))
    if ros2_loc(["tiles", "build", str(drawing), "--out", str(scratch / "tiles"), "--crs", "enu:" + ",".join(place), "--origin", *place]):
        sys.exit("the tiles were not built")
    return TileDatabase.load(scratch / "tiles")


def sequence(data: Path, origin: GeoOrigin) -> ImageSequence:
    """The images on level ground at their latitude, longitude and heading; base_link lies below the camera, the odometry is the truth."""
    rows = np.genfromtxt(data / "kitti" / "georef_derived" / "00_latlon.csv", delimiter=",", skip_header=1)[IMAGES]
    east_north = enu_from_geodetic(origin, rows[:, 1], rows[:, 2], 0 * rows[:, 1])[:, :2]
    yaws = np.radians(rows[:, 3])
    poses = tuple(Pose(so3_exp([0, 0, yaw]), np.array([*place, 0.0])) for place, yaw in zip(east_north, yaws, strict=True))
    folder, names = data / "kitti" / "00_frames100-119" / "image_0", tuple(f"{i:06d}.png" for i in IMAGES)
    stamps = np.arange(len(poses)) * 100_000_000
    return ImageSequence(names, stamps, KITTI_00, MOUNTING, poses, poses, (), lambda i: read_image(folder / names[i]))


def single_shot(area: Area, tiles: TileDatabase, encoder: CvlNet) -> list[tuple[str, ...]]:
    """A row per length of the video."""
    rows, drive, described = [], area.drives[0].sequence, tiles.descriptors
    assert described is not None
    for frames, newest in ((1, range(len(drive))), *((n, range(SPAN, len(drive))) for n in (1, 4, 8, 16))):
        queries = [query(drive, i, frames) for i in newest]
        matched = single.match_area(area, encoder, described, queries, QueryConfig(frames), single.Stopwatch(), False)
        found = single.results_of(area, encoder, queries, matched, searched=False)
        rows.append((f"{frames}", *judged(area, found)))
    return rows


def query(drive: ImageSequence, newest: int, frames: int) -> Query:
    images = tuple(newest - k * (SPAN // max(frames - 1, 1)) for k in range(frames))
    truth = drive.map_from_base[newest]
    assert truth is not None
    upright = Pose(truth.rotation, np.zeros(3))
    return Query(0, images, tuple(upright @ pose for pose in relative_poses(drive, images, "truth", "00")), truth, 0.0)


def judged(area: Area, found: list[QueryResult]) -> tuple[str, ...]:
    ranks = np.array([r.ranks[rank_key(2, 10.0, "position")] for r in found]) + 1
    apart, count = np.linalg.norm(area.centres_m - np.array(found[0].truth_m), axis=1), len(area.centres_m)
    chance = (count + 1) / ((apart <= 10.0).sum() + 1)
    moved = [float(np.hypot(*r.aligned_error_m)) for r in found]
    recalls = [percent(float((ranks <= k).mean())) for k in (1, 10, 100)]
    of = f"{np.median(ranks):.0f} ({ranks.min()} to {ranks.max()}) of {count}"
    centre = f"{statistics.median(r.nearest_m for r in found):.1f} m"
    return f"{len(found)}", *recalls, of, f"{chance:.0f}", centre, f"{statistics.median(moved):.1f} m (at most {max(moved):.1f})"


def filtered(area: Area, tiles: TileDatabase, encoder: CvlNet, overrides: tuple[str, ...]) -> str:
    """From anywhere in the area along the 20 images: what was answered, and what it believes of the truth's surroundings."""
    said: list[Moment] = []
    localizer = CrossViewLocalizer(load_cross_view_pipeline("cross_view", overrides), tiles, encoder)
    exact, rng = FilterRunsConfig(heading_offset_deg=0.0, heading_noise_deg=0.0), np.random.default_rng(0)
    run = one_run(localizer, area.drives[0], 0, Condition("exact odometry and heading"), exact, rng, said.append)
    if not said:
        return "no query on so short a way"
    view, place = said[-1].belief, said[-1].truth.translation
    rows, columns = np.indices(view.probability.shape) + 0.5
    east, north = view.west_m + columns * view.metres_per_cell, view.north_m - rows * view.metres_per_cell
    near, uniform = view.probability[np.hypot(east - place[0], north - place[1]) <= 10.0].sum(), np.pi / len(tiles)  # tiles every 10 m
    answers = ", ".join(reason or "pose" for reason in run.reason)
    return f"{answers}; within 10 m of the truth {100 * near:.3f} % of the belief, uniform {100 * uniform:.3f} %"


def encode_time(encoder: CvlNet, frames: list[Frame]) -> str:
    cv2.setNumThreads(1)
    took = []
    for frame in frames * 3:
        begin = time.process_time()
        encoder.encode_frame(frame)
        took.append(time.process_time() - begin)
    return milliseconds(statistics.median(took))


def picture(area: Area, half_m: float = 25.6, cells: int = 768) -> Image:
    """Imagery, the ground up to 20 m ahead as the images show it, and both, with the way and the edges of the roads."""
    drive, grid = area.drives[0].sequence, OverheadGrid(cells, 2 * half_m / cells, 0)
    poses = [pose for pose in drive.map_from_base if pose is not None]
    middle = poses[len(poses) // 2].translation
    ground = np.full((cells, cells, 3), 40, np.uint8)
    for i, pose in enumerate(poses):
        here = Pose(pose.rotation, pose.translation - middle)
        px, seen = project_overhead(grid, drive.camera, drive.base_from_camera, here)
        seen &= np.linalg.norm(grid.cell_centres_m() - here.translation[:2], axis=-1) < 20.0
        ground[seen] = cv2.remap(drive.image(i), px - np.float32(0.5), None, cv2.INTER_LINEAR)[seen]
    tile = area.imagery.crop(middle[:2], cells, grid.metres_per_cell)[0]
    edges = cv2.findContours((tile[..., 2] > 128).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    both = ground.copy()
    cv2.drawContours(both, edges, -1, (255, 60, 60), 2)
    way = [(pose.translation - middle)[:2] * (1, -1) / grid.metres_per_cell + cells / 2 for pose in poses]
    for panel in (tile, both):
        cv2.polylines(panel, [np.round(way).astype(np.int32)], False, (255, 255, 0), 3, cv2.LINE_AA)
    return np.hstack([tile, ground, both])


if __name__ == "__main__":
    raise SystemExit(main())
