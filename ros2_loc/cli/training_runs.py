"""What every verb of `ros2-loc train` has: recipe, output folder, resuming, and what is said in the end."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.arguments import Parser

if TYPE_CHECKING:
    from ros2_loc.training.runs import Trained


def add_common(parser: Parser) -> None:
    """`--out`, `--recipe`, `--set`, `--resume`, `--device`."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for weights, checkpoint, recipe, history")
    parser.add_argument("--recipe", metavar="NAME", help="small, paper, or a YAML file (default: small; with --resume: the one in --out)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override, such as loop.epochs=5")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda; under torchrun a GPU for each process")


def check_recipe(arguments: argparse.Namespace) -> None:
    """Raise ConfigError where the arguments of `add_common` contradict each other."""
    from ros2_loc.errors import ConfigError

    if arguments.resume and arguments.recipe:
        raise ConfigError("--resume goes on with the recipe in --out: leave --recipe out, and change single values by --set")
    for override in arguments.overrides:
        if "=" not in override:
            raise ConfigError(f"--set {override}: give KEY=VALUE, for instance loop.epochs=5")


def finished(train: Callable[[], Trained], resume: str) -> int:
    """Train, and say where the weights are; on Ctrl-C, the command to go on with."""
    first = os.environ.get("RANK", "0") == "0"
    try:
        trained = train()
    except KeyboardInterrupt:
        if first:
            print(f"\nros2-loc: stopped; go on with: {resume}", file=sys.stderr)
        return 130
    if first:
        print(f"{trained.weights}: best after step {trained.best_step}, {trained.monitor} {trained.best:.4g}")
    return 0


def source_name(arguments: argparse.Namespace) -> str:
    """What goes into the header of the weights: `--data` without the folders' parents."""
    return " ".join(Path(word).name for word in arguments.data)


def resume_command(arguments: argparse.Namespace, verb: str, options: Sequence[str]) -> str:
    """The command that goes on with a training; `options` are those of the verb itself, as argparse stores them."""
    words = ["ros2-loc", "train", verb, "--data", *arguments.data, "--out", str(arguments.out), "--resume"]
    for name in options:
        value = getattr(arguments, name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)] if values else []
    words += [] if arguments.device == "auto" else ["--device", arguments.device]
    return shlex.join(words)
