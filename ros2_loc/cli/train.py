"""`ros2-loc train`: networks from recipes."""

from __future__ import annotations

import argparse

from ros2_loc.cli import train_cvlnet, train_features
from ros2_loc.cli.arguments import Parser
from ros2_loc.cli.training_runs import add_common

EXAMPLE = f"{train_cvlnet.EXAMPLE}\n  {train_features.EXAMPLES['r2d2']}"


def add_arguments(parser: Parser) -> None:
    """One verb for each network."""
    features = {name: (train_features.SUMMARIES[name], example) for name, example in train_features.EXAMPLES.items()}
    cvlnet = {"cvlnet": (train_cvlnet.SUMMARY, f"{train_cvlnet.EXAMPLE}\n  {train_cvlnet.MORE}")}
    for name, verb in parser.add_verbs({**cvlnet, **features}).items():
        train_cvlnet.add_arguments(verb) if name == "cvlnet" else train_features.add_arguments(verb, name)
        add_common(verb)


def run(arguments: argparse.Namespace) -> int:
    """Train, and say where the weights are; on Ctrl-C, how to go on."""
    return train_cvlnet.run(arguments) if arguments.action == "cvlnet" else train_features.run(arguments)
