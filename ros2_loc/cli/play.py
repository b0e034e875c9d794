"""`ros2-loc play`: the node bag_player alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from ros2_loc.cli.arguments import Parser

EXAMPLE = "ros2-loc play second_drive_bag --rate 0.5 --loop"


def add_arguments(parser: Parser) -> None:
    """What of the bag, how fast, how often."""
    parser.add_argument("bag", type=Path, help="rosbag2: its folder, or a .db3 or .mcap file")
    parser.add_argument("--rate", type=float, default=1.0, metavar="X", help="recorded seconds per second (default: 1)")
    parser.add_argument("--start-s", type=float, default=0.0, metavar="S", help="where to start, s after the first message")
    parser.add_argument("--duration-s", type=float, default=0.0, metavar="S", help="how much to play, s (default: up to the end)")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="only these; patterns with * allowed")
    parser.add_argument("--paused", action="store_true", help="wait for the service /bag_player/resume")
    parser.add_argument("--wait-s", type=float, default=0.0, metavar="S", help="wait so long for a subscriber of the images")


def run(arguments: argparse.Namespace) -> int:
    """Play until the end, or Ctrl-C."""
    import json
    import sys

    from ros2_loc.cli.run import start
    from ros2_loc.errors import DataError
    from ros2_loc.supervisor import Process

    if not arguments.bag.exists():
        raise DataError(f"{arguments.bag}: no such bag; give a rosbag2 folder, .db3 or .mcap")
    parameters = {
        "bag": str(arguments.bag),
        "rate": arguments.rate,
        "start_s": arguments.start_s,
        "duration_s": arguments.duration_s,
        "loop": arguments.loop,
        "start_paused": arguments.paused,
        "wait_for_subscribers_s": arguments.wait_s,
        **({"topics": arguments.topics} if arguments.topics else {}),
    }
    words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
    command = (sys.executable, "-m", "ros2_loc.ros.bag_player_node", "--ros-args", *words)
    return start([Process("bag_player", command, ends_run=True)])
