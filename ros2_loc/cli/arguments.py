"""Arguments that several verbs have, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ros2_loc.core.pose import Pose
    from ros2_loc.io.image_sequence import ImageSequence
    from ros2_loc.localization.pipeline import PipelineConfig


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with an example at the end of its help, and one line for an error."""

    def __init__(self, prog: str, description: str, example: str = "", after: str = "", **options: Any) -> None:
        text = "\n\n".join(filter(None, [f"example:\n  {example}" if example else "", after]))
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options}
        super().__init__(prog=prog, description=description, epilog=text, **options)

    def add_verb_list(self, names: tuple[str, ...], text: str) -> None:
        """One positional argument `verb`, whose choices are explained in `text`."""
        group = self.add_argument_group("verbs", text)
        group.add_argument("verb", choices=names, metavar="VERB", help=argparse.SUPPRESS)

    def add_verbs(self, verbs: dict[str, tuple[str, str]]) -> dict[str, Parser]:
        """A parser for each verb below this one, as `arguments.action`; values are (summary, example)."""
        below = self.add_subparsers(dest="action", required=True, metavar="VERB", title="verbs")
        return {
            name: below.add_parser(name, prog=f"{self.prog} {name}", help=summary, description=summary, example=example)
            for name, (summary, example) in verbs.items()
        }

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def add_source(parser: argparse.ArgumentParser, *, with_poses: bool = True) -> None:
    """What `open_source` reads: which images, their poses, their camera."""
    group = parser.add_argument_group("what to take from the recording")
    if with_poses:
        group.add_argument("--poses", type=Path, metavar="FILE", help="poses in KITTI or TUM form; before those of the recording")
        group.add_argument(
            "--poses-of", choices=("camera", "base"), default="camera", help="whose poses the file of an image folder has (default: camera)"
        )
        group.add_argument("--poses-topic", metavar="TOPIC", help="of a bag, default /ground_truth/odometry")
    group.add_argument("--camera", type=Path, metavar="FILE", help="ROS camera_info YAML, COLMAP cameras.txt, or KITTI calib.txt")
    group.add_argument("--mounting", metavar="X,Y,Z,ROLL,PITCH,YAW", help="of the camera on base_link, m and degrees, where no TF says it")
    group.add_argument("--image-topic", metavar="TOPIC", help="of a bag, default: the only one, or /camera/image_raw")
    group.add_argument("--image-folder", metavar="NAME", help="of a KITTI folder, for instance image_2")
    group.add_argument("--rate-hz", type=float, metavar="HZ", help="images per second of a folder without times (default: 10)")
    add_range(group)


def add_range(group: Any) -> None:
    """Which images: `--start`, `--stop`, `--every`."""
    group.add_argument("--start", type=int, default=0, metavar="N", help="first image, counted from 0")
    group.add_argument("--stop", type=int, metavar="N", help="the image after the last")
    group.add_argument("--every", type=int, default=1, metavar="N", help="every Nth image")


def open_source(path: Path, arguments: argparse.Namespace) -> ImageSequence:
    """The images at `path` as the arguments of `add_source` say.

    Raises:
        DataError: anything missing or damaged, in one line.
    """
    from ros2_loc.io.sequences import open_sequence

    return open_sequence(
        path,
        poses=getattr(arguments, "poses", None),
        camera=arguments.camera,
        poses_of=getattr(arguments, "poses_of", "camera"),
        base_from_camera=mounting(arguments.mounting),
        rate_hz=arguments.rate_hz,
        image_folder=arguments.image_folder,
        image_topic=arguments.image_topic,
        poses_topic=getattr(arguments, "poses_topic", None),
        every=arguments.every,
        start=arguments.start,
        stop=arguments.stop,
    )


def mounting(text: str | None) -> Pose | None:
    """base_from_camera of `X,Y,Z,ROLL,PITCH,YAW`: where the camera's body frame (x forward) sits; zeros look along base_link's x axis.

    Raises:
        ConfigError: not six numbers.
    """
    if text is None:
        return None
    import numpy as np

    from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
    from ros2_loc.errors import ConfigError

    try:
        x, y, z, roll, pitch, yaw = (float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--mounting {text}: give six numbers, for instance 1.3,0,1.55,0,2,0 (m and degrees)") from error
    turns = np.radians([[0, 0, yaw], [0, pitch, 0], [roll, 0, 0]])
    body = so3_exp(turns[0]) @ so3_exp(turns[1]) @ so3_exp(turns[2])
    return Pose(body @ BODY_FROM_OPTICAL, np.array([x, y, z]))


def add_pipeline(parser: argparse.ArgumentParser, default: str | None = "default", said: str = "") -> None:
    """`--pipeline` and `--set`. `default`: accuracy for whoever has time (maps, offline); the nodes come with `fast`, on the same maps.

    A verb whose default depends on other arguments gives None, and says in `said` what it will be.
    """
    group = parser.add_argument_group("pipeline")
    text = f"name in config/pipelines, or a YAML file (default: {said or default})"
    group.add_argument("--pipeline", default=default, metavar="NAME", help=text)
    group.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override, for instance extractor.max_keypoints=1000",
    )


def pipeline_of(arguments: argparse.Namespace) -> PipelineConfig:
    """The pipeline that the arguments of `add_pipeline` name; raises ConfigError."""
    from ros2_loc.localization.pipeline import load_pipeline

    for override in arguments.overrides:
        if "=" not in override:
            from ros2_loc.errors import ConfigError

            raise ConfigError(f"--set {override}: give KEY=VALUE, for instance extractor.max_keypoints=1000")
    return load_pipeline(arguments.pipeline, arguments.overrides)


def progress_wanted() -> bool:
    """Progress bars are for people: not in a log file."""
    return sys.stderr.isatty()
