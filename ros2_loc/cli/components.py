"""`ros2-loc components`: the plugins that a pipeline can name."""

from __future__ import annotations

import argparse

from ros2_loc.cli.arguments import Parser

EXAMPLE = "ros2-loc components --kind extractor"


def add_arguments(parser: Parser) -> None:
    """Which kind."""
    from ros2_loc.registry import KINDS

    parser.add_argument("--kind", choices=KINDS, help="only these")


def run(arguments: argparse.Namespace) -> int:
    """One line for each: what it is, what it needs, whether it can be used here."""
    from ros2_loc import registry
    from ros2_loc.cli.console import table

    rows = []
    for kind, components in registry.components().items():
        if arguments.kind in (None, kind):
            for name, component in sorted(components.items()):
                needs = " ".join(filter(None, (component.requires, component.weights))) or "-"
                rows.append((kind, name, usable(kind, name), needs, component.summary))
    if not rows:
        print(f"there is no {arguments.kind} yet; packages bring some by the entry point ros2_loc.{arguments.kind}")
        return 0
    print(table(rows, ("kind", "name", "usable here", "needs", "what it is")))
    return 0


def usable(kind: str, name: str) -> str:
    """ "yes", or why not."""
    from ros2_loc import registry
    from ros2_loc.errors import Ros2LocError

    try:
        registry.resolve(kind, name)
        return "yes"
    except Ros2LocError as error:
        return f"no: {error}"
