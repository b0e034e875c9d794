"""`ros2-loc components`: the plugins that a pipeline can name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser

if TYPE_CHECKING:
    from ros2_loc.registry import Component

EXAMPLE = "ros2-loc components --kind extractor"


def add_arguments(parser: Parser) -> None:
    """Which kind."""
    from ros2_loc.registry import KINDS

    parser.add_argument("--kind", choices=KINDS, help="only these")


def run(arguments: argparse.Namespace) -> int:
    """One line for each: whether it can be used here, its weights and what they are allowed for; below, what is missing."""
    from ros2_loc import registry
    from ros2_loc.cli.console import table

    rows, remedies = [], []
    for kind, components in registry.components().items():
        if arguments.kind in (None, kind):
            for name, component in sorted(components.items()):
                problem = missing(kind, name, component)
                remedies += [problem] if problem else []
                usable = "no" if problem else "yes"
                rows.append((kind, name, usable, component.weights or "-", commercial(component), component.summary))
    if not rows:
        print(f"there is no {arguments.kind} yet; packages bring some by the entry point ros2_loc.{arguments.kind}")
        return 0
    print(table(rows, ("kind", "name", "usable here", "weights", "commercial", "what it is")))
    print("\nWeights and their licences: ros2-loc weights list")
    if remedies:
        print("\nNot usable here:\n  " + "\n  ".join(remedies))
    return 0


def missing(kind: str, name: str, component: Component) -> str:
    """What keeps a plugin from being used with its usual weights, and what to type; "" when nothing does."""
    from ros2_loc import registry
    from ros2_loc.errors import Ros2LocError
    from ros2_loc.models.weight_files import locate

    try:
        registry.resolve(kind, name)
        if component.weights:
            locate(component.weights)
        return ""
    except Ros2LocError as error:
        return str(error) if repr(name) in str(error) else f"{kind} {name!r}: {error}"


def commercial(component: Component) -> str:
    """Whether the licence of a plugin's usual weights allows commercial use."""
    from ros2_loc.models.weight_table import TABLE

    if not component.weights:
        return "-" if component.requires else "yes"
    row = TABLE.get(component.weights)
    return "?" if row is None else "yes" if row.commercial else "no"
