"""RRT as a re-ranker: order, numbers and batches of keypoints change nothing; which descriptors it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, Frame, LocalFeatures, PlaceEvidence
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import rrt as network_of
from ros2_loc.models.rrt import Described, Rrt
from ros2_loc.models.weights import save_model
from ros2_loc.retrieval.rerankers import rrt
from ros2_loc.retrieval.rerankers.rrt import NOTHING, RerankingTransformer

ABOUT = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of local features of 12 numbers alone; as random networks are nearly blind, its answers are made larger."""
    network = network_of.random(Rrt.Config(0, 12, 16, 2, 3, 32, scale_px=2.0), 0)
    with torch.no_grad():
        network.classifier.weight.mul_(5.0)
    path = tmp_path_factory.mktemp("weights") / "rrt.safetensors"
    save_model(path, network, ABOUT)
    return str(path)


@pytest.fixture(scope="module")
def reranker(weights: str) -> RerankingTransformer:
    return RerankingTransformer(RerankingTransformer.Config(weights=weights, max_keypoints=20))


def features(count: int, seed: int, dimension: int = 12, size: tuple[int, int] = (320, 240)) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, dimension)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints, scales = rng.uniform(0, 200, (count, 2)), rng.uniform(0.5, 9.0, count)
    scores = np.linspace(1.0, 0.5, count)
    return LocalFeatures(*(array.astype(np.float32) for array in (keypoints, descriptors, scores, scales)), "test", size)


def evidence(reranker: RerankingTransformer, *counts: int) -> list[PlaceEvidence]:
    return reranker.describe_many(None, [features(count, seed) for seed, count in enumerate(counts)])


def scores(reranker: RerankingTransformer, query: PlaceEvidence, places: list[PlaceEvidence]) -> NDArray[np.float32]:
    return reranker.score(query, [Candidate(index, 0.5) for index in range(len(places))], places).scores


@settings(max_examples=15)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_order_and_company_change_nothing(weights: str, counts: list[int], random: Any) -> None:
    reranker = RerankingTransformer(RerankingTransformer.Config(weights=weights))
    query, *places = evidence(reranker, 9, *counts)
    found = scores(reranker, query, places)
    order = list(range(len(places)))
    random.shuffle(order)
    np.testing.assert_allclose(scores(reranker, query, [places[index] for index in order]), found[order], atol=1e-4)
    np.testing.assert_allclose(np.concatenate([scores(reranker, query, [place]) for place in places]), found, atol=1e-4)
    assert [score == NOTHING for score in found] == [count == 0 for count in counts]


def test_small_batches_change_nothing(reranker: RerankingTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    query, *places = evidence(reranker, 9, 4, 0, 20, 7, 13)
    found = scores(reranker, query, places)
    assert np.ptp(found[found > NOTHING]) > 0.01
    monkeypatch.setattr(rrt, "_CPU_TOKENS", 25)
    np.testing.assert_allclose(scores(reranker, query, places), found, atol=1e-4)


def test_an_image_without_features_is_last_and_no_error(reranker: RerankingTransformer) -> None:
    query, nothing = evidence(reranker, 9, 0)
    assert scores(reranker, query, [nothing, query]).tolist()[0] == NOTHING < scores(reranker, query, [query])[0]
    assert scores(reranker, nothing, [query, nothing]).tolist() == [NOTHING, NOTHING]
    assert scores(reranker, query, []).shape == (0,)
    assert len(reranker.matches(query, nothing).inliers) == 0 == len(reranker.keypoints(nothing))


def plain(one: LocalFeatures) -> Described:
    """Without rounding."""
    arrays = (np.zeros(0, np.float32), one.descriptors, network_of.scale_indices(one.scales, 2.0), np.ones(len(one), dtype=bool))
    return Described(*(torch.from_numpy(array[None]) for array in arrays))


def test_numbers_of_16_bits_change_logits_by_less_than_a_hundredth(reranker: RerankingTransformer) -> None:
    one, other = features(20, 0), features(15, 1)
    network = reranker._network
    with torch.inference_mode():
        exact = float(network(plain(one), plain(other)))
    query, place = reranker.describe_many(None, [one, other])
    assert scores(reranker, query, [place])[0] == pytest.approx(exact, abs=1e-2)


def test_only_the_best_features_are_kept(reranker: RerankingTransformer) -> None:
    many = features(50, 0)
    kept = reranker.describe(None, many)
    np.testing.assert_array_equal(reranker.keypoints(kept), many.keypoints[:20])
    assert kept.num_bytes == 20 * (8 + 2 * 16 + 1)
    assert not reranker.needs_image and reranker.needs_features and not reranker.listwise


def test_descriptors_of_another_length_are_refused(reranker: RerankingTransformer) -> None:
    with pytest.raises(ConfigError, match=r"takes 12 numbers of a keypoint and 0 of an image, test and the encoder give 32 and 0"):
        reranker.describe(None, features(5, 0, dimension=32))


def test_images_described_with_other_weights_are_refused(reranker: RerankingTransformer) -> None:
    (query,) = evidence(reranker, 5)
    other = PlaceEvidence("rrt", {**query.arrays, "descriptors": np.zeros((5, 128), np.float16)})
    with pytest.raises(DataError, match=r"by \(128, 0\) numbers, .* gives \(16, 0\): build the map again"):
        scores(reranker, query, [query, other])


def test_matches_are_mutual_neighbours(reranker: RerankingTransformer) -> None:
    one = features(20, 0)
    order = np.random.default_rng(0).permutation(20)
    query, place = reranker.describe_many(None, [one, one.select(order)])
    seen = reranker.matches(query, place)
    assert len(seen.inliers) == 20
    np.testing.assert_array_equal(seen.query_px, seen.place_px)


def frame(seed: int, height: int = 60, width: int = 80) -> Frame:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, 40, 30), Pose.identity())


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory, random_weights: Callable[[str], Path]) -> RerankingTransformer:
    """With an extractor and an encoder of its own."""
    path = tmp_path_factory.mktemp("weights") / "both.safetensors"
    save_model(path, network_of.random(Rrt.Config(64, 128, 16, 2, 2, 32), 0), ABOUT)
    encoder = {"name": "cosplace", "weights": str(random_weights("cosplace"))}
    extractor = {"name": "sift", "max_keypoints": 30}
    return registry.create(  # type: ignore[no-any-return]
        "reranker", {"name": "rrt", "weights": str(path), "extractor": extractor, "encoder": encoder}
    )


def test_with_parts_of_its_own_it_looks_at_images(of_images: RerankingTransformer) -> None:
    assert of_images.needs_image and not of_images.needs_features
    alone = [of_images.describe(frame(seed), None) for seed in (0, 1)]
    together = of_images.describe_many([frame(0), frame(1)], None)
    for one, other in zip(alone, together, strict=True):
        for name in one.arrays:
            np.testing.assert_allclose(one.arrays[name], other.arrays[name], atol=2e-3)
    assert alone[0].arrays["vector"].shape == (16,) and 0 < len(of_images.keypoints(alone[0])) <= 30
    assert scores(of_images, alone[0], alone).shape == (2,)


def test_scales_are_those_of_the_image_that_the_extractor_saw(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "create", lambda *_: SimpleNamespace(batch_size=1))
    with_own, of_map = (
        RerankingTransformer(RerankingTransformer.Config(weights=weights, extractor=extractor))
        for extractor in ({"name": "delg", "max_edge_px": 160}, {})
    )
    full = features(4, 0, size=(640, 480))
    assert with_own._unit_px(full) == 4.0 * of_map._unit_px(full) == 8.0
    assert with_own._unit_px(features(4, 0, size=(100, 80))) == 2.0


def test_encoder_and_weights_must_go_together(weights: str, random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    save_model(tmp_path / "both.safetensors", network_of.random(Rrt.Config(64, 128, 16, 2, 2, 32), 0), ABOUT)
    for section, said in (
        ({"weights": str(tmp_path / "both.safetensors")}, "global descriptors of 64 numbers: name their encoder"),
        ({"weights": weights, "encoder": {"name": "vlad"}}, "leave the encoder out"),
        ({"weights": str(tmp_path / "both.safetensors"), "encoder": {"name": "vlad"}}, "learns from each map"),
        ({"weights": weights, "max_keypoints": 0}, "max_keypoints is positive"),
    ):
        with pytest.raises(ConfigError, match=said):
            registry.create("reranker", {"name": "rrt", **section})
