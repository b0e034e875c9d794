"""`ros2-loc train`: networks from recipes."""

from __future__ import annotations

import argparse
from typing import Any

from ros2_loc.cli import train_cvlnet, train_detection, train_features, train_places
from ros2_loc.cli.arguments import Parser
from ros2_loc.cli.training_runs import add_common

_FEW = (train_features.EXAMPLES["r2d2"], train_places.EXAMPLES["cosplace"], train_detection.EXAMPLES["centernet"])
EXAMPLE = "\n  ".join((train_cvlnet.EXAMPLE, *_FEW))

_MODULES: Any = (train_features, train_places, train_detection)


def add_arguments(parser: Parser) -> None:
    """One verb for each network."""
    verbs = {"cvlnet": (train_cvlnet.SUMMARY, f"{train_cvlnet.EXAMPLE}\n  {train_cvlnet.MORE}")}
    for module in _MODULES:
        verbs |= {name: (module.SUMMARIES[name], example) for name, example in module.EXAMPLES.items()}
    for name, verb in parser.add_verbs(verbs).items():
        if name == "cvlnet":
            train_cvlnet.add_arguments(verb)
        else:
            _module_of(name).add_arguments(verb, name)
        add_common(verb)


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    return train_cvlnet.run(arguments) if arguments.action == "cvlnet" else int(_module_of(arguments.action).run(arguments))


def _module_of(name: str) -> Any:
    return next(module for module in _MODULES if name in module.EXAMPLES)
