"""`ros2-loc <verb>`: finds the verb, runs it, and turns what goes wrong into one line and an exit code.

Exit codes: 0 done, 1 it failed, 2 it was called wrongly, 130 Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ros2_loc import __version__
from ros2_loc.cli.arguments import Parser
from ros2_loc.errors import ConfigError, Ros2LocError

VERBS = {
    "demo": "map and localize a synthetic town, or KITTI, through the real nodes",
    "convert": "turn recordings of others into rosbag2",
    "map": "build, show, check and export maps",
    "tiles": "build, show and check satellite tiles",
    "places": "synthesize, collect and relabel sets of places for retrieval",
    "objects": "synthesize pictures of vehicles and people with boxes and masks",
    "localize": "localize a recording offline, without ROS",
    "detect": "find cars, people and others in images: pictures, COCO results",
    "run": "start the nodes, as localize.launch.py does",
    "play": "play a rosbag2 onto its topics",
    "train": "train networks by a recipe: checkpoints, resume, several GPUs",
    "export": "write networks for ONNX Runtime, OpenVINO, TensorRT",
    "evaluate": "measure against the truth: JSON, HTML report",
    "weights": "list, fetch and check the weights of networks, with their licences",
    "components": "list the plugins and whether they can be used here",
    "doctor": "look for what is wrong with the installation, a map, a bag",
}

_EXAMPLE = "ros2-loc map build first_drive_bag town_map\n  ros2-loc run map:=town_map bag:=second_drive_bag"
_AFTER = "`ros2-loc VERB --help` says more. ROS2_LOC_DEBUG=1 in the environment shows where an error was raised."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; `argv` without the program's name, sys.argv when None."""
    argv = sys.argv[1:] if argv is None else list(argv)
    top = _top_parser()
    if not argv:
        top.print_help(sys.stderr)
        return 2
    verb = top.parse_args(argv[:1]).verb
    arguments = parser_of(verb).parse_args(argv[1:])
    return _guarded(import_module(f"ros2_loc.cli.{verb}").run, arguments)


def parser_of(verb: str) -> Parser:
    """The parser of one verb, which imports its file and no more."""
    module = import_module(f"ros2_loc.cli.{verb}")
    parser = Parser(f"ros2-loc {verb}", VERBS[verb], module.EXAMPLE)
    module.add_arguments(parser)
    return parser


def _top_parser() -> Parser:
    parser = Parser("ros2-loc", "Where is this camera, and how sure is that?", _EXAMPLE, after=_AFTER, usage="ros2-loc VERB ...")
    parser.add_argument("--version", action="version", version=f"ros2-loc {__version__}")
    verbs = "\n".join(f"  {name:<12}{summary}" for name, summary in VERBS.items())
    parser.add_verb_list(tuple(VERBS), verbs)
    return parser


def _guarded(run, arguments) -> int:  # type: ignore[no-untyped-def]
    logging.basicConfig(format="ros2-loc: %(levelname)s: %(message)s", level=logging.WARNING)
    debug = bool(os.environ.get("ROS2_LOC_DEBUG"))
    try:
        return int(run(arguments) or 0)
    except KeyboardInterrupt:
        print("\nros2-loc: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `ros2-loc components | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Ros2LocError as error:
        if debug:
            raise
        print(f"ros2-loc: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except ModuleNotFoundError as error:
        from ros2_loc.registry import install_command

        missing = error.name or ""
        if debug or missing.startswith("ros2_loc"):
            raise
        print(f"ros2-loc: error: this needs the package {missing!r}: {install_command(missing)}", file=sys.stderr)
        return 1
    except (OSError, MemoryError) as error:
        if debug:
            raise
        print(f"ros2-loc: error: {error or 'not enough memory'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
