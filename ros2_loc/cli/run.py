"""`ros2-loc run`: the graph of localize.launch.py without the launch package, each node a process of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ros2_loc.cli.arguments import Parser

EXAMPLE = (
    "ros2-loc run map:=town_map bag:=second_drive_bag\n"
    "  ros2-loc run map:=town_map image_topic:=front/image_raw camera_info_topic:=front/camera_info"
)


def add_arguments(parser: Parser) -> None:
    """Arguments as `ros2 launch` takes them."""
    parser.add_argument("arguments", nargs="*", metavar="NAME:=VALUE", help="as localize.launch.py takes them; --show-args lists them")
    parser.add_argument("-s", "--show-args", action="store_true", help="list the arguments and stop")
    parser.add_argument("--print", dest="print_only", action="store_true", help="print the commands of the nodes and stop")


def run(arguments: argparse.Namespace) -> int:
    """Start the nodes and stay until one ends the run, or Ctrl-C."""
    from ros2_loc import graph

    if arguments.show_args:
        print(arguments_help(graph.LOCALIZE))
        return 0
    given = pairs(arguments.arguments)
    processes = graph.processes(graph.LOCALIZE, given)
    if arguments.print_only:
        import shlex

        print("\n".join(shlex.join(process.command) for process in processes))
        return 0
    return start(processes)


def start(processes) -> int:  # type: ignore[no-untyped-def]
    """Supervise the processes; raises MissingDependencyError where there is no ROS 2."""
    from ros2_loc import graph
    from ros2_loc.cli.ros_installation import require_ros
    from ros2_loc.supervisor import supervise

    require_ros()
    return supervise(processes, graph.environment(), lambda line: print(f"ros2-loc: {line}", file=sys.stderr, flush=True))


def pairs(words: Sequence[str]) -> dict[str, str]:
    """`name:=value` words as a mapping.

    Raises:
        ConfigError: a word of another form, or a name said twice.
    """
    from ros2_loc.errors import ConfigError

    given: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            hint = f"did you mean {word.lstrip('-').replace('=', ':=', 1)}?" if "=" in word else "for instance map:=town_map"
            raise ConfigError(f"{word!r} is no argument: they are written name:=value, {hint}")
        if name in given:
            raise ConfigError(f"{name}:= is given twice")
        given[name] = value
    return given


def arguments_help(described) -> str:  # type: ignore[no-untyped-def]
    """Each argument with its default and what it is for."""
    from ros2_loc import graph
    from ros2_loc.cli.console import table

    rows = []
    for argument in described.arguments:
        default = argument.default
        shown = "(required)" if default is None else _depends(default) if isinstance(default, graph.IsSet) else default or '""'
        choices = f" [{', '.join(argument.choices)}]" if argument.choices else ""
        rows.append((f"{argument.name}:=", str(shown), argument.description + choices))
    return table(rows, ("argument", "default", "meaning"))


def _depends(default) -> str:  # type: ignore[no-untyped-def]
    """A default that another argument decides."""
    if (default.then, default.otherwise) == ("true", "false"):
        return f"({default.name} given?)"
    return f"{default.otherwise}; {default.then} with {default.name}"
