"""Which detector a verb uses: `--detector`, `--weights`, `--set`, `--device`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ros2_loc.core.interfaces import Detector


def add_detector(parser: argparse.ArgumentParser, default: str = "centernet") -> None:
    """The arguments that `detector_of` reads."""
    group = parser.add_argument_group("detector")
    group.add_argument("--detector", default=default, metavar="NAME", help=f"of `ros2-loc components --kind detector` (default: {default})")
    group.add_argument("--weights", metavar="NAME", help="name or path of its weights (default: those of its section)")
    group.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="a setting of it, for instance scales=[0.8,1,1.2]"
    )
    group.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")


def section_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The section of a pipeline that says the same; raises ConfigError for an override without a value."""
    from omegaconf import OmegaConf

    from ros2_loc.errors import ConfigError

    for override in arguments.overrides:
        if not override.partition("=")[2]:
            raise ConfigError(f"--set {override}: give KEY=VALUE, for instance min_score=0.3")
    settings: Any = OmegaConf.to_container(OmegaConf.from_dotlist(arguments.overrides))
    return {"name": arguments.detector, **({"weights": arguments.weights} if arguments.weights else {}), **settings}


def detector_of(arguments: argparse.Namespace) -> Detector:
    """The detector; raises ConfigError, DataError, MissingDependencyError as `registry.create`."""
    from ros2_loc import registry

    return registry.create("detector", section_of(arguments), arguments.device)  # type: ignore[no-any-return]
