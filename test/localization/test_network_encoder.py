"""A map whose places are found by a network: built, opened again, localized in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

from ros2_loc.core.types import PoseEstimate
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.map_localizer import MapLocalizer
from ros2_loc.localization.pipeline import PipelineConfig


@pytest.mark.slow
def test_a_map_is_built_and_localized_in_with_a_network_as_its_encoder(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, random_weights: Callable[[str], Path], tmp_path: Path
) -> None:
    encoder = {"name": "cosplace", "weights": str(random_weights("cosplace")), "max_edge_px": 160, "batch_size": 4}
    pipeline = replace(small_pipeline, encoder=encoder)
    built = build_map(town_sequence.subset(range(0, 20, 2)), pipeline, tmp_path / "map", source="test", show_progress=False)
    localizer = MapLocalizer(built, pipeline)
    for i in (5, 11):
        found = localizer.localize(town_sequence.frame(i))
        truth = town_sequence.map_from_base[i]
        assert isinstance(found.result, PoseEstimate) and truth is not None
        assert np.linalg.norm(found.result.map_from_base.difference(truth)[:3]) < 0.1
