"""Where everything of a demo lies, and how it talks."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ros2_loc.localization.cross_view_pipeline import CrossViewPipelineConfig
    from ros2_loc.localization.pipeline import PipelineConfig

_MARKER = ".ros2_loc_demo"


@dataclass(frozen=True)
class Places:
    """Where everything lies."""

    out: Path

    @property
    def first_bag(self) -> Path:
        """The drive that is mapped."""
        return self.out / "first_drive"

    @property
    def second_bag(self) -> Path:
        """The drive that is localized."""
        return self.out / "second_drive"

    @property
    def map(self) -> Path:
        """The map of the first."""
        return self.out / "map"

    @property
    def tiles(self) -> Path:
        """The town from above."""
        return self.out / "tiles"

    @property
    def recorded(self) -> Path:
        """What the nodes published."""
        return self.out / "recorded"

    @property
    def pipeline(self) -> Path:
        """The pipeline as the nodes read it, overrides included."""
        return self.out / "pipeline.yaml"

    @property
    def cross_view_pipeline(self) -> Path:
        """The same of cross_view_localizer."""
        return self.out / "cross_view.yaml"

    def claim(self, pipeline: PipelineConfig, cross_view: CrossViewPipelineConfig | None) -> None:
        """Make the folder with the pipelines; one that holds something else is left alone.

        Raises:
            ConfigError: it holds something that no demo has left there.
        """
        from omegaconf import OmegaConf

        from ros2_loc.config import to_dict
        from ros2_loc.errors import ConfigError

        marker = self.out / _MARKER
        if self.out.exists() and not marker.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ConfigError(f"{self.out}: holds something that is no demo of ours; name another folder with --out")
        self.out.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for config, path in ((pipeline, self.pipeline), (cross_view, self.cross_view_pipeline)):
            if config is not None:
                OmegaConf.save(OmegaConf.create(to_dict(config)), path)


def say(text: str) -> None:
    """A line for people, at once."""
    print(text, flush=True)


def program() -> str:
    """How to call this command line from here: `make demo` runs it from a venv that is not on the user's PATH."""
    installed = Path(sys.executable).with_name("ros2-loc")
    return os.path.relpath(installed) if installed.exists() else "ros2-loc"
