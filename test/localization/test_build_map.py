"""Building maps: resumption, refusals, structure from motion without poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.alignment import align
from ros2_loc.errors import DataError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.mapping.sparse_map import SparseMap


def without_poses(sequence: ImageSequence) -> ImageSequence:
    none = (None,) * len(sequence)
    return ImageSequence(sequence.names, sequence.stamps_ns, sequence.camera, sequence.base_from_camera, none, none, (), sequence.load)


def test_an_interrupted_build_goes_on_where_it_was(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, town_map: SparseMap, tmp_path: Path
) -> None:
    sequence = town_sequence.subset(range(0, 20, 2))
    loaded: list[int] = []

    def failing(i: int) -> np.ndarray:
        loaded.append(i)
        if len(loaded) == 7:
            raise KeyboardInterrupt
        return sequence.load(i)

    def with_loader(load: object) -> ImageSequence:
        s = sequence
        return ImageSequence(s.names, s.stamps_ns, s.camera, s.base_from_camera, s.map_from_base, s.odom_from_base, s.fixes, load)  # type: ignore[arg-type]

    out = tmp_path / "map"
    with pytest.raises(KeyboardInterrupt):
        build_map(with_loader(failing), small_pipeline, out, show_progress=False)
    assert not out.exists()
    again: list[int] = []
    built = build_map(with_loader(lambda i: again.append(i) or sequence.load(i)), small_pipeline, out, show_progress=False)
    assert again[:4] == [6, 7, 8, 9], "features of the first six images were there already"
    assert [p.name for p in tmp_path.iterdir()] == ["map"], "nothing half-written is left"
    np.testing.assert_allclose(built.points_m, town_map.points_m)


def test_refusals_say_what_to_do(town_sequence: ImageSequence, small_pipeline: PipelineConfig, town_map: SparseMap, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists"):
        build_map(town_sequence, small_pipeline, town_map.folder, show_progress=False)
    with pytest.raises(DataError, match=r"no poses.*--method"):
        build_map(without_poses(town_sequence), small_pipeline, tmp_path / "a", show_progress=False)
    rng = np.random.default_rng(0)
    nothing_in_common = replace(town_sequence.subset([0, 19]), load=lambda _: rng.integers(0, 255, (200, 320, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="overlap"):
        build_map(nothing_in_common, small_pipeline, tmp_path / "b", show_progress=False)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["incremental", "global"])
def test_structure_from_motion_has_the_shape_of_the_truth(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, tmp_path: Path, method: str
) -> None:
    pipeline = replace(small_pipeline, extractor={"name": "sift", "max_keypoints": 1500})
    built = build_map(without_poses(town_sequence), pipeline, tmp_path / "map", poses=method, show_progress=False)  # type: ignore[arg-type]
    assert len(built.places) >= 15 and not built.metric
    truth = dict(zip(town_sequence.names, town_sequence.map_from_base, strict=True))
    target = np.array([truth[p.name].translation for p in built.places])  # type: ignore[union-attr]
    source = np.array([p.map_from_base.translation for p in built.places])
    error = np.linalg.norm(align(source, target, with_scale=True).apply(source) - target, axis=1)
    assert np.median(error) < 0.15
