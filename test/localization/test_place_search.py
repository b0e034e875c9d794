"""From an image to places: re-ranking with what the map has, or with what it keeps for a re-ranker that looks at images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ros2_loc.core.types import PoseEstimate
from ros2_loc.errors import DataError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.build_map import build_map
from ros2_loc.localization.map_localizer import Localization, MapLocalizer
from ros2_loc.localization.pipeline import LocalizerConfig, PipelineConfig
from ros2_loc.mapping.sparse_map import EVIDENCE_FILE, SparseMap, read_meta, verify_checksums
from ros2_loc.retrieval.reranking import AdaptiveReranking

FEW = LocalizerConfig(matched_places=2)
SCORING = {"scoring": {"threshold_px": 12.0}}


@pytest.fixture(scope="module")
def reranking(small_pipeline: PipelineConfig) -> PipelineConfig:
    """With the map's own features, of every image, to the last candidate."""
    adaptive = AdaptiveReranking.Config(skip_margin=0.0, same_place_m=4.0, stop_inliers=10_000)
    return replace(small_pipeline, reranker={"name": "local_features", **SCORING}, reranking=adaptive, localizer=FEW)


def nearest_place(sparse_map: SparseMap, found: Localization) -> bool:
    """Whether the first candidate is one of the two nearest to the pose."""
    assert isinstance(found.result, PoseEstimate)
    distance = [np.linalg.norm(p.map_from_base.translation - found.result.map_from_base.translation) for p in sparse_map.places]
    return found.places.candidates[0].source in np.argsort(distance)[:2]


def test_places_are_verified_and_the_right_one_comes_first(
    town_map: SparseMap, town_sequence: ImageSequence, reranking: PipelineConfig
) -> None:
    localizer = MapLocalizer(town_map, reranking)
    for i in (3, 7, 15):
        found = localizer.localize(town_sequence.frame(i))
        places = found.places
        assert places.reranking == "all" and len(places.candidates) == 2 and "rerank" in found.stage_s
        assert 0.5 < places.confidence <= 1.0 and places.verified[0] > 20 and np.isfinite(places.similarity).all()
        assert nearest_place(town_map, found)


def test_a_clear_retrieval_is_not_re_ranked(town_map: SparseMap, town_sequence: ImageSequence, reranking: PipelineConfig) -> None:
    eager = replace(reranking, reranking=replace(reranking.reranking, skip_margin=1e-6))
    found = MapLocalizer(town_map, eager).localize(town_sequence.frame(6))
    assert found.places.reranking == "clear" and not found.places.verified.any()
    assert found.places.candidates[0].score == pytest.approx(found.places.similarity[0])


def test_without_a_re_ranker_nobody_claims_a_confidence(
    town_map: SparseMap, town_sequence: ImageSequence, small_pipeline: PipelineConfig
) -> None:
    found = MapLocalizer(town_map, small_pipeline).localize(town_sequence.frame(6))
    assert found.places.reranking == "" and np.isnan(found.places.confidence) and "rerank" not in found.stage_s


def test_a_hidden_place_is_not_brought_back_by_the_frames_before(
    town_map: SparseMap, town_sequence: ImageSequence, small_pipeline: PipelineConfig
) -> None:
    localizer = MapLocalizer(town_map, replace(small_pipeline, localizer=LocalizerConfig(sequence=True, matched_places=3)))
    for i in range(2, 9):
        frame = town_sequence.frame(i)
        found = localizer.localize_features(frame, localizer._extractor.extract(frame), without_place=4)
        assert "sequence" in found.stage_s and len(found.places.candidates) == 3
        assert all(c.source != 4 for c in found.places.candidates)
    assert isinstance(found.result, PoseEstimate)


def test_a_map_keeps_what_a_re_ranker_that_looks_at_images_compares(
    town_map: SparseMap, town_sequence: ImageSequence, reranking: PipelineConfig, tmp_path: Path
) -> None:
    own = replace(reranking, reranker={"name": "local_features", "extractor": {"name": "orb", "max_keypoints": 300}, **SCORING})
    with pytest.raises(DataError, match="built with re-ranker none.*looks at images: choose the same or build again"):
        MapLocalizer(town_map, own)
    built = build_map(town_sequence.subset(range(0, 20, 2)), own, tmp_path / "map", show_progress=False)
    verify_checksums(built.folder, read_meta(built.folder))
    assert built.evidence is not None and len(built.evidence) == len(built.places)
    found = MapLocalizer(built, own).localize(town_sequence.frame(7))
    assert found.places.reranking == "all" and found.places.verified[0] > 10 and nearest_place(built, found)
    (built.folder / EVIDENCE_FILE).write_bytes(b"")
    with pytest.raises(DataError, match=r"evidence\.h5: differs from its checksum"):
        SparseMap.load(built.folder)
