"""One cross-view pipeline: encoder, tiles, localizer and filter; read alike by the command line and by the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros2_loc.config import build, read_yaml
from ros2_loc.localization.odometry_buffer import DriftModel, HoldModel
from ros2_loc.localization.pipeline import pipeline_path
from ros2_loc.localization.tile_filter import TileFilter


@dataclass(frozen=True)
class TilesConfig:
    """How tiles are cut where a build does not say otherwise; what a tile covers is the encoder's affair.

    Attributes:
        spacing_m: between the centres of neighbours.
        min_valid: tiles of which a smaller share is imagery are left out.
    """

    spacing_m: float = 10.0
    min_valid: float = 0.5


@dataclass(frozen=True)
class VideoConfig:
    """Which images make the video that is compared with the tiles, and when.

    Attributes:
        frames: at most so many of the last images.
        min_frames: the first query waits for so many; 1: it does not wait.
        spacing_m: way between images that are kept.
        refresh_s: standing still, the newest image is replaced after this time.
        query_every_m: way between two queries.
        query_every_s: time between two queries where there is no odometry.
        require_odometry: without odometry there is no pose; else each image is a video of its own.
        heading: "measured": from `add_heading`; "odometry": the yaw of the odometry, whose frame is then north-aligned (x east).
        heading_max_age_s: a heading older than this is too old even where odometry carries it.
        use_tilt: roll and pitch of the odometry count in the projection to the ground.
        fix_sigma_m: standard deviation of a fix that states none.
        ground_sigma_m, tilt_sigma_deg: how far base_link may be from the plane z = 0 of the tiles, which nothing here measures, and how
            wrong its roll and pitch.
        heading_sigma_deg: noise of the heading after its average over heading_max_age_s; constant errors are the filter's affair.
        min_visible_cells: cells of the overhead grid that a video must see.
        odometry_history_s: how long the odometry is kept.
        jump_back_s, jump_forward_s: odometry that is older or newer than the newest by more than this starts the clock anew.
        max_speed_m_s: odometry that needs more was reset.
        drift, hold: errors of the odometry; the filter's own scale error comes on top, drift.scale_error stays 0.
    """

    frames: int = 8
    min_frames: int = 4
    spacing_m: float = 3.0
    refresh_s: float = 5.0
    query_every_m: float = 5.0
    query_every_s: float = 2.0
    require_odometry: bool = True
    heading: str = "measured"
    heading_max_age_s: float = 5.0
    use_tilt: bool = True
    fix_sigma_m: float = 10.0
    ground_sigma_m: float = 2.0
    tilt_sigma_deg: float = 3.0
    heading_sigma_deg: float = 0.5
    min_visible_cells: int = 20
    odometry_history_s: float = 120.0
    jump_back_s: float = 1.0
    jump_forward_s: float = 30.0
    max_speed_m_s: float = 80.0
    drift: DriftModel = field(default_factory=lambda: DriftModel(scale_error=0.0))
    hold: HoldModel = field(default_factory=HoldModel)

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.frames:
            raise ValueError(f"localizer.min_frames must be in 1 to frames, got {self.min_frames} of {self.frames}")
        if self.heading not in ("measured", "odometry"):
            raise ValueError(f"localizer.heading is measured or odometry, got {self.heading!r}")
        for name, value in self.__dict__.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"localizer.{name} must be positive, got {value}")


@dataclass(frozen=True)
class CrossViewPipelineConfig:
    """The sections of config/pipelines/cross_view.yaml; `encoder` is `{name: ..., key: value}`."""

    encoder: dict[str, Any] = field(default_factory=lambda: {"name": "cvlnet"})
    tiles: TilesConfig = field(default_factory=TilesConfig)
    localizer: VideoConfig = field(default_factory=VideoConfig)
    filter: TileFilter.Config = field(default_factory=TileFilter.Config)


def load_cross_view_pipeline(name_or_path: str | Path = "cross_view", overrides: Sequence[str] = ()) -> CrossViewPipelineConfig:
    """A cross-view pipeline by its name in config/pipelines or by the path of a YAML file; overrides as `localizer.frames=16`.

    Raises:
        ConfigError: no such pipeline, or a key or value that is wrong (said in one line).
    """
    path = pipeline_path(name_or_path)
    return build(CrossViewPipelineConfig, read_yaml(path, overrides), str(path))
