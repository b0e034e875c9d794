"""One localization pipeline: which plugins, with which settings; read alike by the command line and by the node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros2_loc.config import build, read_yaml, share_folder
from ros2_loc.errors import ConfigError
from ros2_loc.localization.fusion import PoseFusion
from ros2_loc.localization.pose_solver import PoseSolver
from ros2_loc.mapping.config import MappingConfig
from ros2_loc.perception.scene_context import SceneContextConfig
from ros2_loc.retrieval.reranking import AdaptiveReranking
from ros2_loc.retrieval.sequence import SequenceMatcher


@dataclass(frozen=True)
class LocalizerConfig:
    """How a query is compared with the map."""

    min_keypoints: int = 50
    retrieved_places: int = 20  # by global descriptor
    matched_places: int = 6  # of these, after re-ranking
    sequence: bool = False  # weigh them by what the last frames showed
    prior_places: int = 3  # matched when a prior is given
    prior_radius_m: float = 15.0  # plus three sigma of the prior
    prior_max_angle_deg: float = 75.0
    search_all_when_lost: bool = True
    guided: bool = True  # a second pass over the points around the first pose
    guided_places: int = 5
    guided_radius_px: float = 8.0
    guided_neighbours: int = 4
    guided_min_cosine: float = 0.85
    guided_min_beside: float = 8.0  # matches beyond chance outside the one spot of the image that has most
    max_sigma_m: float = 2.0
    max_distance_to_place_m: float = 10.0  # or twice as far as the map's errors were measured, where that is farther


@dataclass(frozen=True)
class PipelineConfig:
    """The sections of config/pipelines/*.yaml; each plugin section is `{name: ..., key: value}`."""

    extractor: dict[str, Any] = field(default_factory=lambda: {"name": "sift"})
    encoder: dict[str, Any] = field(default_factory=lambda: {"name": "vlad"})
    matcher: dict[str, Any] = field(default_factory=lambda: {"name": "mutual_nearest"})
    reranker: dict[str, Any] = field(default_factory=dict)
    detector: dict[str, Any] = field(default_factory=dict)  # of what moves; empty for none
    context: SceneContextConfig = field(default_factory=SceneContextConfig)
    reranking: AdaptiveReranking.Config = field(default_factory=AdaptiveReranking.Config)
    sequence: SequenceMatcher.Config = field(default_factory=SequenceMatcher.Config)
    solver: PoseSolver.Config = field(default_factory=PoseSolver.Config)
    localizer: LocalizerConfig = field(default_factory=LocalizerConfig)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    fusion: PoseFusion.Config = field(default_factory=PoseFusion.Config)


def load_pipeline(name_or_path: str | Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """A pipeline by its name in config/pipelines (`default`, `fast`) or by the path of a YAML file; overrides as `solver.min_inliers=20`.

    Raises:
        ConfigError: no such pipeline, or a key or value that is wrong (said in one line).
    """
    path = pipeline_path(name_or_path)
    return build(PipelineConfig, read_yaml(path, overrides), str(path))


def pipeline_path(name_or_path: str | Path) -> Path:
    """The YAML file of a pipeline.

    Raises:
        ConfigError: there is none of that name.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    folder = share_folder() / "config" / "pipelines"
    named = folder / f"{name_or_path}.yaml"
    if not named.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"there is no pipeline {str(name_or_path)!r}; there are: {names}; or give the path of a YAML file")
    return named
