"""What no map should be made of: black images, tiny ones, and extractors whose numbers are none. One line says which image it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.errors import DataError
from ros2_loc.io.features import append_features
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.fusion import PoseFusion
from ros2_loc.localization.map_localizer import MapLocalizer
from ros2_loc.localization.offline import localize_offline
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.mapping.sparse_map import SparseMap

PLUGIN = """
from dataclasses import dataclass, replace
import numpy as np
from ros2_loc.perception.extractors.sift import Sift


class Doubtful(Sift):
    @dataclass(frozen=True)
    class Config(Sift.Config):
        factor: float = float("nan")

    batch_size = 4

    def extract(self, frame):
        features = super().extract(frame)
        with np.errstate(invalid="ignore"):
            descriptors = features.descriptors * np.float32(self._config.factor if frame.image[0, 0, 0] == 7 else 1.0)
        return replace(features, descriptors=descriptors)
"""


@pytest.fixture(autouse=True)
def doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extractor `doubtful`: SIFT, but for images whose first byte is 7 its descriptors are multiplied by `factor`."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "doubtful_extractor.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    monkeypatch.setitem(registry.TABLE["extractor"], "doubtful", registry.Component("doubtful_extractor:Doubtful", "for this test"))


def marked(sequence: ImageSequence, rows: set[int]) -> ImageSequence:
    """The sequence with a 7 as the first byte of some images, and none else."""

    def load(i: int) -> np.ndarray:
        image = sequence.load(i).copy()
        image[0, 0, 0] = 7 if i in rows else 0
        return image

    return dataclasses.replace(sequence, load=load)


def pipeline_with(small_pipeline: PipelineConfig, **section: object) -> PipelineConfig:
    return dataclasses.replace(small_pipeline, extractor={**small_pipeline.extractor, "name": "doubtful", **section})


@pytest.mark.parametrize(
    ("factor", "said"), [("nan", "are not finite; leave the image out, or use other weights"), ("inf", "not finite"), (1e6, "float16")]
)
def test_a_build_stops_at_descriptors_that_are_no_numbers(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, tmp_path: Path, factor: str, said: str
) -> None:
    sequence = marked(town_sequence.subset(range(6)), {4})
    with pytest.raises(DataError, match=said) as caught:
        build_map(sequence, pipeline_with(small_pipeline, factor=float(factor)), tmp_path / "map", show_progress=False)
    said_all = str(caught.value)
    assert sequence.names[4] in said_all and "sift" in said_all and "\n" not in said_all
    assert not (tmp_path / "map").exists()


def test_localizing_names_the_image_whose_features_are_no_numbers(
    town_map: SparseMap, town_sequence: ImageSequence, small_pipeline: PipelineConfig
) -> None:
    localizer = MapLocalizer(town_map, small_pipeline)
    localizer._extractor = registry.create("extractor", {"name": "doubtful", "max_keypoints": 800})
    steps = localize_offline(marked(town_sequence.subset([1, 3]), {1}), localizer, PoseFusion(small_pipeline.fusion))
    assert next(steps).localization.result is not None
    with pytest.raises(DataError, match=f"{town_sequence.names[3]}: features of sift are not finite"):
        next(steps)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (320, 200)])
def test_black_images_make_no_map(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, tmp_path: Path, size: tuple[int, int]
) -> None:
    camera = Camera.pinhole(*size, 300, 300, size[0] / 2, size[1] / 2)
    black = dataclasses.replace(town_sequence, camera=camera, load=lambda _: np.zeros((size[1], size[0], 3), np.uint8)).subset(range(4))
    with pytest.raises(DataError, match=rf"sift finds no keypoint in 4 images of {size[0]}x{size[1]}: are they black"):
        build_map(black, small_pipeline, tmp_path / "map", show_progress=False)


@pytest.mark.slow
def test_a_black_image_among_others_does_no_harm(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, town_map: SparseMap, tmp_path: Path
) -> None:
    sequence = town_sequence.subset(range(0, 20, 2))
    lens_cap = dataclasses.replace(sequence, load=lambda i: sequence.load(i) * (i != 9))
    built = build_map(lens_cap, small_pipeline, tmp_path / "map", show_progress=False)
    assert len(built.points_m) > 0.6 * len(town_map.points_m)
    (step,) = localize_offline(lens_cap.subset([9]), MapLocalizer(built, small_pipeline), PoseFusion(small_pipeline.fusion))
    assert "keypoints" in step.localization.result.detail  # type: ignore[union-attr]


def test_descriptors_that_float16_can_not_hold_are_not_stored(tmp_path: Path, town_map: SparseMap) -> None:
    features = town_map.places[0].features
    large = dataclasses.replace(features, descriptors=features.descriptors * np.float32(1e6))
    with pytest.raises(DataError, match="a.png: descriptors of sift exceed what float16 holds"):
        append_features(tmp_path / "features.h5", "a.png", large)
    assert not (tmp_path / "features.h5").exists()
