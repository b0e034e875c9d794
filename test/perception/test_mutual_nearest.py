"""Mutual nearest neighbours against the definition, written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.types import LocalFeatures
from ros2_loc.perception.matchers.mutual_nearest import MutualNearest


def unit_features(count: int, seed: int) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(count, 6)).astype(np.float32)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    z = np.zeros(count, np.float32)
    return LocalFeatures(np.zeros((count, 2), np.float32), d, z, z, "test", (640, 480))


def by_definition(a: LocalFeatures, b: LocalFeatures, ratio: float, min_cosine: float) -> set[tuple[int, int]]:
    pairs = set()
    for i, x in enumerate(a.descriptors):
        distance = np.linalg.norm(b.descriptors - x, axis=1)
        j = int(distance.argmin())
        back = int(np.linalg.norm(a.descriptors - b.descriptors[j], axis=1).argmin())
        second = np.partition(distance, 1)[1] if len(b) > 1 else np.inf
        if back == i and distance[j] < ratio * second and x @ b.descriptors[j] >= min_cosine:
            pairs.add((i, j))
    return pairs


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
def test_equals_the_definition(n: int, m: int, seed: int) -> None:
    a, b = unit_features(n, seed), unit_features(m, seed + 1)
    matcher = MutualNearest(MutualNearest.Config(max_ratio=0.9, min_cosine=0.3))
    expected = by_definition(a, b, 0.9, 0.3)
    assert {tuple(p) for p in matcher.match(a, b).indices.tolist()} == expected


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 1000))
def test_many_references_at_once_equal_one_after_the_other(sizes: list[int], seed: int) -> None:
    query = unit_features(25, seed)
    references = [unit_features(n, seed + 1 + k) for k, n in enumerate(sizes)]
    matcher = MutualNearest(MutualNearest.Config())
    for many, reference in zip(matcher.match_many(query, references), references, strict=True):
        np.testing.assert_array_equal(many.indices, matcher.match(query, reference).indices)


def test_geometry_limits_the_rivals() -> None:
    query = unit_features(20, 0)
    matcher = MutualNearest(MutualNearest.Config(max_ratio=0.8))
    moved = query.descriptors + np.random.default_rng(1).normal(scale=0.02, size=query.descriptors.shape).astype(np.float32)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    d, z = np.concatenate([moved, moved]), np.zeros(40, np.float32)
    doubled = LocalFeatures(np.zeros((40, 2), np.float32), d, z, z, "test", (640, 480))
    assert len(matcher.match(query, doubled)) == 0  # each has a twin: the ratio test refuses
    allowed = np.concatenate([np.eye(20, dtype=bool), np.zeros((20, 20), dtype=bool)], axis=1)
    np.testing.assert_array_equal(matcher.match_where(query, doubled, allowed).indices, np.column_stack([np.arange(20)] * 2))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(0, 12), st.sampled_from([0.8, 1.0]), st.integers(0, 1000))
def test_pytorch_gives_the_same(sizes: list[int], n: int, ratio: float, seed: int) -> None:
    mutual_nearest_torch = pytest.importorskip("ros2_loc.perception.matchers.mutual_nearest_torch", reason="torch is not installed")
    query = unit_features(n, seed)
    references = [unit_features(m, seed + 1 + k) for k, m in enumerate(sizes)]
    config = MutualNearest.Config(max_ratio=ratio, min_cosine=0.2)
    matcher, other = MutualNearest(config), MutualNearest(config)
    other._on_gpu = mutual_nearest_torch.TorchMutualNearest(ratio, 0.2, "cpu")
    for found, wanted in zip(other.match_many(query, references), matcher.match_many(query, references), strict=True):
        np.testing.assert_array_equal(found.indices, wanted.indices)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
    allowed = np.random.default_rng(seed).random((n, sizes[0])) < 0.6
    found, wanted = (one.match_where(query, references[0], allowed) for one in (other, matcher))
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(other.match(query, references[0]).indices, matcher.match(query, references[0]).indices)
