"""CVNet as a re-ranker: order, sizes and batches of places change nothing, and what is kept of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, Frame, PlaceEvidence
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.pycls_resnet import normalized
from ros2_loc.retrieval.rerankers import cvnet
from ros2_loc.retrieval.rerankers.cvnet import Cvnet


@pytest.fixture(scope="module")
def weights(random_weights: Callable[[str], Path]) -> Iterator[str]:
    """A file that is read once only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cvnet, "open_network", cache(cvnet.open_network))
        yield str(random_weights("cvnet"))


@pytest.fixture(scope="module")
def reranker(weights: str) -> Cvnet:
    return Cvnet(Cvnet.Config(weights=weights, max_edge_px=96, scales=(1.0,), batch_size=2))


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 255, (-(-height // 16), -(-width // 16), 3))
    return np.kron(coarse, np.ones((16, 16, 1)))[:height, :width].astype(np.uint8)


def frame(image: NDArray[np.uint8]) -> Frame:
    return Frame(0, image, Camera.pinhole(image.shape[1], image.shape[0], 100, 100, 40, 30), Pose.identity())


def candidates(count: int) -> list[Candidate]:
    return [Candidate(index, 1.0 - 0.1 * index) for index in range(count)]


@pytest.fixture(scope="module")
def evidence(reranker: Cvnet) -> list[PlaceEvidence]:
    sizes = [(64, 96), (72, 96), (64, 96), (8, 8), (64, 96), (72, 96), (64, 96)]
    return reranker.describe_many([frame(picture(*size, seed)) for seed, size in enumerate(sizes)], None)


def scores(reranker: Cvnet, query: PlaceEvidence, places: list[PlaceEvidence]) -> NDArray[np.float32]:
    return reranker.score(query, candidates(len(places)), places).scores


def test_the_order_of_places_and_their_sizes_change_nothing(reranker: Cvnet, evidence: list[PlaceEvidence]) -> None:
    query, places = evidence[0], evidence[1:]
    found = scores(reranker, query, places)
    order = np.random.default_rng(0).permutation(len(places))
    np.testing.assert_allclose(scores(reranker, query, [places[index] for index in order]), found[order], atol=1e-6)
    alone = np.concatenate([scores(reranker, query, [place]) for place in places])
    np.testing.assert_allclose(alone, found, atol=1e-6)
    assert np.ptp(found) > 1e-3


def test_bounded_memory_changes_nothing(reranker: Cvnet, evidence: list[PlaceEvidence], monkeypatch: pytest.MonkeyPatch) -> None:
    found = scores(reranker, evidence[0], evidence)
    seen: list[int] = []
    step = cvnet.resized
    monkeypatch.setattr(cvnet, "resized", lambda maps: seen.append(len(maps[0])) or step(maps))
    monkeypatch.setattr(cvnet, "_CPU_BYTES", 2 * 36 * 24 * 24)
    np.testing.assert_allclose(scores(reranker, evidence[0], evidence), found, atol=1e-6)
    assert max(seen) == 2 and sum(seen) == 1 + len(evidence)


def test_numbers_of_16_bits_change_scores_by_less_than_a_thousandth(reranker: Cvnet, evidence: list[PlaceEvidence]) -> None:
    images = [frame(picture(64, 96, seed)) for seed in (0, 2, 4, 6)]
    network = reranker._network
    pixels = torch.from_numpy(np.stack([one.image for one in images])).permute(0, 3, 1, 2) / 255.0
    with torch.inference_mode():
        vectors, maps = network.describe(normalized(pixels))
        logits = network(tuple(one[:1] for one in maps), maps)
        exact = (vectors @ vectors[0] + 0.5 * logits.softmax(dim=1)[:, 1]).numpy()
    rounded = scores(reranker, evidence[0], [evidence[index] for index in (0, 2, 4, 6)])
    np.testing.assert_allclose(rounded, exact, atol=1e-3)


def test_memory_of_an_image_is_what_the_setting_says(reranker: Cvnet, evidence: list[PlaceEvidence], weights: str) -> None:
    channels = reranker._network.config.channels
    cells = 24 + (3 * 4) + (2 * 3)
    assert evidence[0].num_bytes == 2 * (channels * cells + 32) + 8
    large = Cvnet(Cvnet.Config(weights=weights, max_edge_px=48)).describe(frame(picture(64, 96, 0)), None)
    assert large.arrays["map2"].shape == (channels, 2, 3)
    assert large.arrays["ratio"].tolist() == [2.0, 2.0]


def test_three_scales_make_another_global_descriptor(weights: str) -> None:
    one, three = (Cvnet(Cvnet.Config(weights=weights, scales=scales)) for scales in ((1.0,), (0.7071, 1.0, 1.4142)))
    image = frame(picture(64, 96, 0))
    vectors = [each.describe(image, None).arrays["vector"].astype(np.float32) for each in (one, three)]
    np.testing.assert_allclose([np.linalg.norm(vector) for vector in vectors], 1.0, atol=2e-3)
    assert 0.3 < vectors[0] @ vectors[1] < 0.999


@pytest.mark.parametrize("cosine", ["retrieval", "none"])
def test_without_its_own_global_descriptor(cosine: str, reranker: Cvnet, evidence: list[PlaceEvidence], weights: str) -> None:
    other = Cvnet(Cvnet.Config(weights=weights, max_edge_px=96, cosine=cosine))  # type: ignore[arg-type]
    pictures = [other.describe(frame(picture(64, 96, seed)), None) for seed in (0, 2)]
    assert pictures[0].arrays["vector"].shape == (0,)
    cosines = [float(one.arrays["vector"].astype(np.float32) @ evidence[0].arrays["vector"]) for one in (evidence[0], evidence[2])]
    before = scores(reranker, evidence[0], [evidence[0], evidence[2]])
    found = scores(other, pictures[0], pictures) - (np.array([1.0, 0.9]) if cosine == "retrieval" else 0.0)
    np.testing.assert_allclose(found, before - cosines, atol=2e-3)


def test_numbers_that_are_not_finite_are_an_error(reranker: Cvnet, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = reranker._network.maps
    monkeypatch.setattr(reranker._network, "maps", lambda features: [torch.nan * one for one in maps(features)])
    with pytest.raises(DataError, match="cvnet: the maps of an image are not finite"):
        reranker.describe(frame(picture(64, 96, 0)), None)


def test_images_described_with_other_weights_are_refused(reranker: Cvnet, evidence: list[PlaceEvidence]) -> None:
    for name, array in (("map2", np.zeros((8, 2, 3), np.float16)), ("vector", np.zeros(0, np.float16))):
        other = PlaceEvidence("cvnet", {**evidence[0].arrays, name: array})
        with pytest.raises(DataError, match=r"gives \(16, 32\): build the map again"):
            scores(reranker, evidence[0], [evidence[1], other])


def test_matches_are_the_cells_that_moved(reranker: Cvnet, weights: str) -> None:
    image = picture(160, 320, 0)
    large = Cvnet(Cvnet.Config(weights=weights, max_edge_px=320, scales=(1.0,)))
    query, moved = (large.describe(frame(one), None) for one in (image, np.ascontiguousarray(np.roll(image, 16, axis=1))))
    seen = reranker.matches(query, moved)
    assert len(seen.inliers) > 100 and (seen.place_px - seen.query_px == [16.0, 0.0]).all(axis=1).mean() > 0.6
    assert reranker.keypoints(query).shape == (0, 2)


@pytest.mark.parametrize("settings", [{"scales": []}, {"scales": [0.0]}, {"rerank_weight": -1.0}, {"batch_size": 0}, {"max_edge_px": -1}])
def test_settings_that_can_not_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cvnet"):
        registry.create("reranker", {"name": "cvnet", **settings})


def test_weights_of_another_network_are_refused(random_weights: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="only CvNet fits"):
        Cvnet(Cvnet.Config(weights=str(random_weights("rrt"))))
