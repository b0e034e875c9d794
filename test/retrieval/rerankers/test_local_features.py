"""Re-ranking by local features: what the public code computes, combinations by configuration, and evidence that does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, Frame, GlobalDescriptor, LocalFeatures, PlaceEvidence
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.retrieval.rerankers.local_features import LocalFeatureReranker
from ros2_loc.retrieval.scoring.ransac_opencv import fit_each

SIZE = (640, 480)


def make(**section: Any) -> LocalFeatureReranker:
    return registry.create("reranker", {"name": "local_features", **section})  # type: ignore[no-any-return]


def features(count: int, seed: int, extractor: str = "test", dimension: int = 32) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, dimension)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    ones = np.ones(count, dtype=np.float32)
    return LocalFeatures(rng.uniform(0, SIZE, (count, 2)).astype(np.float32), descriptors, ones, ones, extractor, SIZE)


def seen_again(query: LocalFeatures, shared: int, seed: int) -> LocalFeatures:
    """A place of as many keypoints, of which the first are the query's, moved and with noise in position and descriptor."""
    rng, place = np.random.default_rng(seed), features(len(query), seed)
    place.keypoints[:shared] = 0.9 * query.keypoints[:shared] + [30, -12] + rng.normal(size=(shared, 2))
    noisy = query.descriptors[:shared] + 0.05 * rng.normal(size=query.descriptors[:shared].shape)
    place.descriptors[:shared] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return place


def scores_of(reranker: LocalFeatureReranker, query: LocalFeatures, places: list[LocalFeatures]) -> Any:
    candidates = [Candidate(index, 0.0) for index in range(len(places))]
    return reranker.score(reranker.describe(None, query), candidates, reranker.describe_many(None, places))


QUERY = features(120, 0)
PLACES = [features(120, 9), seen_again(QUERY, 90, 1), seen_again(QUERY, 40, 2), features(0, 3), features(3, 4)]


def one_after_another(query: LocalFeatures, place: LocalFeatures) -> int:
    """Inliers as in the public code."""
    if not len(place):
        return 0
    products = query.descriptors.astype(np.float16).astype(np.float32) @ place.descriptors.astype(np.float16).astype(np.float32).T
    forward, backward = products.argmax(axis=1), products.argmax(axis=0)
    rows = np.flatnonzero((backward[forward] == np.arange(len(query))) & (products.max(axis=1) >= 0))
    pairs = query.keypoints[rows], place.keypoints[forward[rows]]
    return int(fit_each(*pairs, np.zeros(len(rows), int), 1, "homography", 24.0).inliers_per_place[0])


def test_scores_are_those_of_the_public_code() -> None:
    found = scores_of(make(), QUERY, PLACES)
    expected = np.array([one_after_another(QUERY, place) for place in PLACES])
    assert (np.abs(found.inliers - expected) <= np.maximum(2, 0.05 * expected)).all(), (found.inliers, expected)
    np.testing.assert_allclose(found.scores, found.inliers / 120, rtol=1e-6)
    assert found.scores[1] > found.scores[2] > found.scores[0] > found.scores[3] == 0
    assert found.inliers[4] <= 3  # too few for a homography: the matches themselves
    assert set(found.stage_s) == {"matching", "scoring"}


@pytest.mark.parametrize(
    "scoring", [{"name": "ransac", "model": "affine", "threshold_px": 12}, {"name": "count"}, {"name": "rapid"}], ids=lambda s: s["name"]
)
def test_other_scorings_put_the_right_place_first_too(scoring: dict[str, Any]) -> None:
    found = scores_of(make(scoring=scoring), QUERY, PLACES)
    assert found.scores.argmax() == 1 and found.scores[3] == found.scores.min() == 0
    assert (found.inliers is not None) == (scoring["name"] == "ransac")
    if scoring["name"] != "count":
        assert (found.scores <= 1.0).all()


def test_a_matcher_of_its_own_section_replaces_mutual_neighbours() -> None:
    strict = make(matcher={"name": "mutual_nearest", "min_cosine": 0.8, "max_ratio": 0.9}, scoring={"name": "count"})
    found = scores_of(strict, QUERY, PLACES)
    assert found.scores[0] == found.scores[3] == found.scores[4] == 0 and 85 <= found.scores[1] <= 90 and 35 <= found.scores[2] <= 40
    assert len(scores_of(strict, QUERY, []).scores) == 0


def test_only_the_best_keypoints_take_part_in_half_floats() -> None:
    evidence = make(max_keypoints=50).describe(None, QUERY)
    assert evidence.arrays["descriptors"].dtype == np.float16 and evidence.arrays["descriptors"].shape == (50, 32)
    np.testing.assert_array_equal(make(max_keypoints=50).keypoints(evidence), QUERY.keypoints[:50])
    assert evidence.num_bytes < 50 * (2 * 32 + 8) + 50


def test_matches_show_the_pairs_and_which_agree() -> None:
    reranker = make()
    place = seen_again(QUERY, 90, 1)
    seen = reranker.matches(reranker.describe(None, QUERY), reranker.describe(None, place))
    offset = np.linalg.norm(0.9 * seen.query_px + [30, -12] - seen.place_px, axis=1)
    assert seen.inliers.sum() >= 85 and np.median(offset[seen.inliers]) < 3.0
    assert not seen.inliers[offset > 60].any()
    counted = make(scoring={"name": "count"})
    assert counted.matches(counted.describe(None, QUERY), counted.describe(None, place)).inliers.all()


def test_descriptors_of_another_extractor_or_length_are_refused() -> None:
    reranker = make()
    for other in (features(30, 1, "superpoint"), features(30, 1, dimension=64)):
        with pytest.raises(DataError, match=r"build the map"):
            scores_of(reranker, QUERY, [QUERY, other])
        with pytest.raises(DataError, match=f"places have descriptors of {other.extractor}"):
            reranker.matches(reranker.describe(None, QUERY), reranker.describe(None, other))


def image(seed: int) -> Frame:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(np.kron(coarse, np.ones((10, 10, 1), np.uint8)))
    return Frame(0, pixels, Camera.pinhole(160, 120, 150, 150, 80, 60), Pose.identity())


def test_an_extractor_of_its_own_looks_at_the_image_and_keeps_out_what_moves() -> None:
    reranker = make(extractor={"name": "orb", "max_keypoints": 200})
    assert reranker.needs_image and not reranker.needs_features
    places = reranker.describe_many([image(1), image(2)], None)
    found = reranker.score(reranker.describe(image(2), None), [Candidate(4, 0.0), Candidate(7, 0.0)], places)
    assert found.scores.argmax() == 1
    mask = np.zeros((120, 160), dtype=bool)
    mask[:, 80:] = True
    kept = reranker.describe(Frame(0, image(1).image, image(1).camera, Pose.identity(), mask=mask), None)
    assert len(reranker.keypoints(kept)) > 0 and (reranker.keypoints(kept)[:, 0] > 79).all()


class Brightness:
    """An encoder that tells bright images from dark ones."""

    name, needs_image, needs_features, batch_size = "brightness", True, False, 4

    def encode_many(self, frames: list[Frame], features: None) -> list[GlobalDescriptor]:
        angles = [frame.image.mean() / 100.0 for frame in frames]
        return [GlobalDescriptor(np.float32([np.cos(a), np.sin(a)]), self.name) for a in angles]


def test_the_global_score_is_added_with_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    create = registry.create
    monkeypatch.setattr(
        registry, "create", lambda kind, section, device="cpu": Brightness() if kind == "encoder" else create(kind, section, device)
    )
    frames = [image(1), image(2)]
    plain, both = (make(extractor={"name": "orb"}, **more) for more in ({}, {"encoder": {"name": "brightness"}, "global_weight": 0.5}))
    assert both.needs_image and both.batch_size == 4
    candidates = [Candidate(0, 0.0), Candidate(1, 0.0)]
    local, together = (one.score(one.describe(frames[0], None), candidates, one.describe_many(frames, None)) for one in (plain, both))
    cosine = np.cos(frames[0].image.mean() / 100.0 - frames[1].image.mean() / 100.0)
    np.testing.assert_allclose(together.scores - local.scores, [0.5, 0.5 * cosine], atol=1e-3)
    blank = both.describe(Frame(0, np.full_like(frames[0].image, 90), frames[0].camera, Pose.identity()), None)
    assert both.score(both.describe(frames[0], None), candidates, [blank, both.describe(frames[1], None)]).scores.argmin() == 0


@pytest.mark.parametrize(
    "section, words",
    [
        ({"max_keypoints": 0}, "max_keypoints"),
        ({"global_weight": -1.0}, "global_weight"),
        ({"scoring": {"name": "ransac", "threshold_px": 0.0}}, "threshold_px"),
        ({"scoring": {"name": "votes"}}, "votes"),
        ({"encoder": {"name": "vlad"}}, "learns from each map"),
    ],
)
def test_nonsense_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**section)


def test_evidence_of_nothing_scores_nothing_both_ways() -> None:
    reranker = make()
    nothing = reranker.describe(None, features(0, 1, dimension=0))
    assert isinstance(nothing, PlaceEvidence) and nothing.arrays["descriptors"].shape == (0, 0)
    some = reranker.describe(None, QUERY)
    for query, place in ((nothing, some), (some, nothing), (nothing, nothing)):
        assert reranker.score(query, [Candidate(0, 0.0)], [place]).scores[0] == 0
        assert len(reranker.matches(query, place).inliers) == 0
