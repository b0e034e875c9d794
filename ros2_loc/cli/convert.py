"""`ros2-loc convert`: recordings of others -> rosbag2."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros2_loc.cli.arguments import Parser, add_range, progress_wanted

EXAMPLE = "ros2-loc convert kitti-odometry dataset/sequences/03 kitti_03_bag"
_ODOMETRY = "ros2-loc convert kitti-odometry dataset/sequences/03 kitti_03_bag --made-odometry --image-format jpeg"
_RAW = "ros2-loc convert kitti-raw 2011_09_26/2011_09_26_drive_0001_sync drive_bag --storage mcap"


def add_arguments(parser: Parser) -> None:
    """`kitti-odometry` and `kitti-raw`."""
    verbs = parser.add_verbs(
        {
            "kitti-odometry": ("a sequence of KITTI odometry: images, camera_info, TF, the truth", _ODOMETRY),
            "kitti-raw": ("a drive of KITTI raw: images, camera_info, TF, and from OXTS truth, odometry, GNSS, Imu", _RAW),
        }
    )
    for verb in verbs.values():
        verb.add_argument("source", type=Path, help="folder of the sequence or drive")
        verb.add_argument("out", type=Path, help="bag to write")
        verb.add_argument("--image-folder", metavar="NAME", help="which camera, for instance image_2 (image_02 of a raw drive)")
        verb.add_argument("--storage", choices=("sqlite3", "mcap"), default="sqlite3", help="default: sqlite3")
        verb.add_argument("--image-format", choices=("raw", "jpeg", "png"), default="raw", help="jpeg, png: CompressedImage (default: raw)")
        verb.add_argument("--jpeg-quality", type=int, default=95, metavar="Q", help="1 to 100 (default: 95)")
        verb.add_argument("--overwrite", action="store_true", help="replace a bag that is there")
        add_range(verb)
    odometry = verbs["kitti-odometry"]
    odometry.add_argument("--poses", type=Path, metavar="FILE", help="poses, where they do not lie in their usual places")
    odometry.add_argument(
        "--made-odometry",
        action="store_true",
        help="also /odom and TF odom->base_link, made from the truth with drift: the data set has none",
    )
    odometry.add_argument("--seed", type=int, default=0, metavar="N", help="of that drift's random numbers")


def run(arguments: argparse.Namespace) -> int:
    """Convert and say what was written."""
    from ros2_loc.errors import ConfigError
    from ros2_loc.io import convert

    if not 1 <= arguments.jpeg_quality <= 100:
        raise ConfigError(f"--jpeg-quality {arguments.jpeg_quality}: give 1 to 100")
    output = convert.BagOutput(
        arguments.storage, arguments.image_format, arguments.jpeg_quality, arguments.overwrite, progress=progress_wanted()
    )
    common = {name: getattr(arguments, name) for name in ("image_folder", "every", "start", "stop")}
    if arguments.action == "kitti-raw":
        summary = convert.convert_kitti_raw(arguments.source, arguments.out, output=output, **common)
    else:
        drift = convert.Drift() if arguments.made_odometry else None
        summary = convert.convert_kitti_odometry(
            arguments.source, arguments.out, poses=arguments.poses, odometry_from_truth=drift, seed=arguments.seed, output=output, **common
        )
    counts = [
        (summary.images, "images"),
        (summary.poses, "true poses"),
        (summary.odometry, "odometry"),
        (summary.fixes, "fixes"),
        (summary.imu, "Imu"),
    ]
    print(f"{summary.path}: {summary.duration_s:.1f} s, {', '.join(f'{count} {name}' for count, name in counts if count)}")
    if arguments.image_format != "raw":
        print("images are compressed: replay them with image_transport:=compressed")
    return 0
