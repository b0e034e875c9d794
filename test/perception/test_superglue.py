"""SuperGlue as a matcher, with random weights: batches, limits, and whose features it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros2_loc import registry
from ros2_loc.core.interfaces import Matcher
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import ConfigError, DataError

Make = Callable[..., Matcher]


@pytest.fixture(scope="module")
def make(random_weights: Callable[[str], Path]) -> Make:
    """The matcher, with settings."""

    def made(**settings: Any) -> Matcher:
        section = {"name": "superglue", "weights": str(random_weights("superglue")), "sinkhorn_iterations": 30, **settings}
        return registry.create("matcher", section)  # type: ignore[no-any-return]

    return made


def features(count: int, seed: int, dimension: int = 256, extractor: str = "superpoint") -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, dimension)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints = rng.uniform(0, [320, 240], size=(count, 2)).astype(np.float32)
    scores = np.sort(rng.uniform(size=count).astype(np.float32))[::-1].copy()
    return LocalFeatures(keypoints, descriptors, scores, np.ones(count, np.float32), extractor, (320, 240))


def blurred(one: LocalFeatures, kept: np.ndarray, seed: int) -> LocalFeatures:
    """Some of the features, with noise."""
    noise = np.random.default_rng(seed).normal(scale=0.02, size=one.descriptors[kept].shape).astype(np.float32)
    chosen = one.select(kept)
    described = chosen.descriptors + noise
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    return LocalFeatures(chosen.keypoints, described, chosen.scores, chosen.scales, one.extractor, one.size)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_references_of_any_number_of_keypoints_go_together(batch_size: int, make: Make) -> None:
    query = features(40, 0)
    chosen = [np.random.default_rng(seed).permutation(40)[:count] for seed, count in enumerate((30, 7, 0, 40, 1))]
    references = [blurred(query, kept, seed) for seed, kept in enumerate(chosen)]
    together, alone = make(batch_size=batch_size).match_many(query, references), make()
    for matches, reference, kept in zip(together, references, chosen, strict=True):
        one = alone.match(query, reference)
        np.testing.assert_array_equal(matches.indices, one.indices)
        np.testing.assert_allclose(matches.scores, one.scores, atol=1e-4)
        assert len(matches) >= 0.9 * len(kept) and (kept[matches.indices[:, 1]] == matches.indices[:, 0]).all()


def test_only_the_best_keypoints_take_part(make: Make) -> None:
    query = features(50, 0)
    matches = make(max_keypoints=20).match(query, blurred(query, np.arange(50), 1))
    assert len(matches) >= 15 and matches.indices.max() < 20


def test_a_higher_threshold_keeps_some_of_the_matches(make: Make) -> None:
    query, reference = features(60, 0), features(60, 1)
    loose, strict = (make(match_threshold=threshold).match(query, reference) for threshold in (0.0, 0.2))
    assert len(loose) > 0 and (strict.scores > 0.2).all()
    np.testing.assert_array_equal(loose.indices[loose.scores > 0.2], strict.indices)


def test_the_size_of_the_image_is_what_positions_are_measured_by(make: Make) -> None:
    query, reference = features(40, 0), features(40, 1)
    matcher = make(match_threshold=0.0)
    doubled = LocalFeatures(
        2.0 * query.keypoints - 0.5, query.descriptors, query.scores, query.scales, query.extractor, (2 * query.size[0], 2 * query.size[1])
    )
    one, other = matcher.match(query, reference), matcher.match(doubled, reference)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_features_of_other_extractors_are_refused_in_one_line(make: Make) -> None:
    matcher, query = make(), features(5, 0)
    with pytest.raises(ConfigError, match=r"superglue: matches features of superpoint with 256 numbers, got sift with 128"):
        matcher.match(query, features(5, 1, 128, "sift"))
    with pytest.raises(ConfigError, match="got superpoint with 64"):
        matcher.match_many(features(5, 1, 64), [query])


@pytest.mark.parametrize("settings", [{"sinkhorn_iterations": 0}, {"match_threshold": 1.0}, {"max_keypoints": 0}, {"half": True}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], make: Make) -> None:
    with pytest.raises(ConfigError, match="superglue"):
        make(**settings)


def test_missing_weights_are_named_with_the_command_that_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="ros2-loc weights pull superglue_outdoor"):
        registry.create("matcher", {"name": "superglue"})
