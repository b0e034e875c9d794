"""What moves is masked in maps and in queries: a street with painted vehicles that a detector finds without fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc import registry
from ros2_loc.core.types import PoseEstimate, Rejection, RejectionReason
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.map_localizer import MapLocalizer
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.perception.scene_context import SceneContext

BOX = (40, 90, 140, 170)
Paint = Callable[..., np.ndarray]


@pytest.fixture
def paint(painted_movers: str) -> Paint:
    from painted_movers import paint as painted

    return painted  # type: ignore[no-any-return]


@pytest.fixture
def masking(small_pipeline: PipelineConfig, painted_movers: str) -> PipelineConfig:
    return replace(small_pipeline, detector={"name": painted_movers})


def with_vehicles(sequence: ImageSequence, paint: Paint, box: tuple[int, int, int, int] = BOX) -> ImageSequence:
    """The same vehicle in the same place of each image: one that drives ahead."""
    return replace(sequence, load=lambda i: paint(sequence.load(i), box))


def inside(points_px: np.ndarray, box: tuple[int, int, int, int] = BOX) -> np.ndarray:
    x0, y0, x1, y1 = box
    return (points_px > (x0, y0)).all(axis=1) & (points_px < (x1, y1)).all(axis=1)


def test_a_query_has_no_keypoints_on_what_moves(
    town_map: SparseMap, town_sequence: ImageSequence, small_pipeline: PipelineConfig, masking: PipelineConfig, paint: Paint
) -> None:
    frame = with_vehicles(town_sequence, paint).frame(5)
    without = MapLocalizer(town_map, small_pipeline).localize(frame)
    found = MapLocalizer(town_map, masking).localize(frame)
    assert inside(without.keypoints_px).sum() > 50 and not inside(found.keypoints_px).any()
    assert [d.label for d in found.detections] == ["car"] and found.stage_s["detect"] > 0
    assert without.detections == () and "detect" not in without.stage_s and without.masked_share == 0.0
    assert 80 * 100 / 64_000 < found.masked_share < 1.5 * 80 * 100 / 64_000
    assert isinstance(found.result, PoseEstimate)
    truth = town_sequence.map_from_base[5]
    assert truth is not None and np.linalg.norm(truth.difference(found.result.map_from_base)[:3]) < 0.06


def test_a_vehicle_that_fills_the_image_leaves_too_few_keypoints(
    town_map: SparseMap, town_sequence: ImageSequence, masking: PipelineConfig, paint: Paint
) -> None:
    frame = with_vehicles(town_sequence, paint, (5, 5, 315, 195)).frame(5)
    result = MapLocalizer(town_map, masking).localize(frame).result
    assert isinstance(result, Rejection) and result.reason is RejectionReason.TOO_FEW_KEYPOINTS
    assert "% of the image is masked" in result.detail


def test_weights_say_whose_matches_are_drawn_first(
    town_map: SparseMap, town_sequence: ImageSequence, masking: PipelineConfig, paint: Paint
) -> None:
    weighing = replace(masking, context=SceneContext.Config(weights={"car": 0.1}, max_keypoints=300))
    frame = with_vehicles(town_sequence, paint).frame(5)
    localizer = MapLocalizer(town_map, weighing)
    found = localizer.localize(frame)
    assert len(found.keypoints_px) == 300 and found.masked_share == 0.0 and isinstance(found.result, PoseEstimate)
    features = localizer._extractor.extract(frame)
    alike, distrusted = (
        localizer._match(features, localizer._search.search(frame, features, _clock(), None, _none()).candidates, trust)
        for trust in (None, np.where(inside(features.keypoints), 0.1, 1.0).astype(np.float32))
    )
    assert set(alike.query) == set(distrusted.query)
    on_car = inside(features.keypoints[distrusted.query])
    assert not on_car[: (~on_car).sum()].any(), "matches on the vehicle come last"
    assert (np.diff(distrusted.score) <= 0).all()


def _clock() -> object:
    from ros2_loc.localization.stage_clock import StageClock

    return StageClock()


def _none() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@pytest.fixture
def masked_map(town_sequence: ImageSequence, masking: PipelineConfig, paint: Paint, tmp_path: Path) -> SparseMap:
    sequence = with_vehicles(town_sequence.subset(range(0, 20, 2)), paint)
    return build_map(sequence, masking, tmp_path / "map", show_progress=False)


def test_a_map_has_no_points_on_what_moves_and_says_who_masked_it(
    masked_map: SparseMap, town_sequence: ImageSequence, masking: PipelineConfig
) -> None:
    assert len(masked_map.points_m) > 200
    assert not any(inside(place.features.keypoints).any() for place in masked_map.places)
    assert masked_map.provenance["detector"] == {"name": "painted", "labels": ["car"]}
    assert masked_map.provenance["pipeline"]["detector"] == masking.detector
    assert 80 * 100 / 64_000 < masked_map.provenance["summary"]["masked_share"] < 1.5 * 80 * 100 / 64_000
    found = MapLocalizer(masked_map, masking).localize(town_sequence.frame(5))
    assert isinstance(found.result, PoseEstimate)


def test_a_map_with_masks_serves_pipelines_without_and_says_so(
    masked_map: SparseMap, town_map: SparseMap, town_sequence: ImageSequence, small_pipeline: PipelineConfig, masking: PipelineConfig
) -> None:
    assert masked_map.masked_otherwise(masking.detector) == "" == town_map.masked_otherwise({})
    assert "built with detector painted, the pipeline has none" in masked_map.masked_otherwise({})
    assert "built without a detector, the pipeline has painted" in town_map.masked_otherwise(masking.detector)
    assert isinstance(MapLocalizer(masked_map, small_pipeline).localize(town_sequence.frame(5)).result, PoseEstimate)


def test_each_image_is_detected_once_though_a_build_was_interrupted(
    town_sequence: ImageSequence, masking: PipelineConfig, paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painted_movers import PaintedMovers

    sequence = with_vehicles(town_sequence.subset(range(0, 20, 2)), paint)
    loaded: list[int] = []

    def failing(i: int) -> np.ndarray:
        loaded.append(i)
        if len(loaded) == 8:
            raise KeyboardInterrupt
        return sequence.load(i)

    monkeypatch.setattr(PaintedMovers, "detected", 0)
    with pytest.raises(KeyboardInterrupt):
        build_map(replace(sequence, load=failing), masking, tmp_path / "map", show_progress=False)
    assert PaintedMovers.detected == 6, "two batches of three"
    built = build_map(sequence, masking, tmp_path / "map", show_progress=False)
    assert PaintedMovers.detected == 10, "and not once more to measure the map's errors"
    assert not any(inside(place.features.keypoints).any() for place in built.places)
    assert not (tmp_path / "map" / "masks.h5").exists()


def test_another_detector_begins_an_interrupted_build_anew(
    town_sequence: ImageSequence, masking: PipelineConfig, small_pipeline: PipelineConfig, paint: Paint, tmp_path: Path
) -> None:
    from painted_movers import PaintedMovers

    sequence = with_vehicles(town_sequence.subset(range(0, 20, 2)), paint)

    def failing(i: int) -> np.ndarray:
        if i == 8:
            raise KeyboardInterrupt
        return sequence.load(i)

    with pytest.raises(KeyboardInterrupt):
        build_map(replace(sequence, load=failing), small_pipeline, tmp_path / "map", show_progress=False)
    before = PaintedMovers.detected
    build_map(sequence, masking, tmp_path / "map", show_progress=False)
    assert PaintedMovers.detected - before == 10


def test_masks_of_a_sequence_hold_for_a_map_without_detector(
    town_sequence: ImageSequence, small_pipeline: PipelineConfig, tmp_path: Path
) -> None:
    mask = np.ones((200, 320), dtype=bool)
    mask[:, 160:] = False
    built = build_map(
        replace(town_sequence.subset(range(0, 20, 2)), load_mask=lambda i: mask), small_pipeline, tmp_path / "map", show_progress=False
    )
    assert all((place.features.keypoints[:, 0] < 162).all() for place in built.places)
    assert built.provenance["summary"]["masked_share"] == 0.5 and "detector" not in built.provenance


def test_a_detector_of_whole_frames_goes_with_an_encoder_of_images(
    town_sequence: ImageSequence, masking: PipelineConfig, paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoders and re-rankers that look at images get the masks too."""
    from ros2_loc.perception.encoders.vlad import Vlad

    seen: list[float] = []

    class Looking(Vlad):
        needs_image = True

        def encode_many(self, frames, features):  # type: ignore[no-untyped-def]
            seen.extend(1.0 - frame.mask.mean() for frame in frames)
            return super().encode_many(frames, features)

        def encode(self, frame, features):  # type: ignore[no-untyped-def]
            if frame is not None:
                seen.append(1.0 - frame.mask.mean())
            return super().encode(frame, features)

    monkeypatch.setattr(registry, "resolve", _instead(registry.resolve, "vlad", Looking))
    sequence = with_vehicles(town_sequence.subset(range(0, 20, 2)), paint)
    pipeline = replace(masking, mapping=replace(masking.mapping, calibration_images=1))
    built = build_map(sequence, pipeline, tmp_path / "map", show_progress=False)
    MapLocalizer(built, pipeline).localize(sequence.frame(3))
    assert len(seen) == 12 and min(seen) > 80 * 100 / 64_000


def _instead(resolve: Callable[[str, str], type], name: str, plugin: type) -> Callable[[str, str], type]:
    return lambda kind, asked: plugin if (kind, asked) == ("encoder", name) else resolve(kind, asked)
