"""Re-ranking by Patch-NetVLAD: what its settings mean, what it keeps of an image, where it looks, which scores come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Candidate, Frame, PlaceEvidence
from ros2_loc.errors import ConfigError
from ros2_loc.retrieval.rerankers.patch_netvlad import PatchComparison, PatchNetvlad
from ros2_loc.retrieval.rerankers.patch_scores import grid

SIZE = (192, 128)  # 12 x 8 cells
SETTINGS = {"num_pcs": 32, "image_size": SIZE, "patch_sizes": (2, 3), "patch_weights": (0.7, 0.3)}


@pytest.fixture(scope="module")
def weights(random_weights: Callable[[str], Path]) -> str:
    return str(random_weights("patch_netvlad"))


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    """A picture, the same moved by two cells, another."""
    rng = np.random.default_rng(0)
    blocks = [np.kron(rng.integers(0, 255, (8, 12, 3)), np.ones((16, 16, 1))) for _ in range(2)]
    noisy = [np.clip(block + rng.normal(0, 20, block.shape), 0, 255).astype(np.uint8) for block in blocks]
    return [noisy[0], np.roll(noisy[0], (16, 32), axis=(0, 1)), noisy[1]]


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    return Frame(0, image, Camera.pinhole(image.shape[1], image.shape[0], 100, 100, 50, 50), Pose.identity(), mask=mask)


def evidence(descriptors: NDArray, cells: NDArray | None = None, size: tuple[int, int] = SIZE) -> PlaceEvidence:
    """Patches of two cells."""
    cells = grid(11, 7)[: len(descriptors)] if cells is None else cells
    return PlaceEvidence("patch_netvlad", {"descriptors2": descriptors, "cells2": cells, "size": np.array(size)})


def candidates(count: int) -> list[Candidate]:
    return [Candidate(index, 1.0 - 0.01 * index) for index in range(count)]


def test_presets_are_the_authors_and_each_setting_can_be_another() -> None:
    config = PatchNetvlad.Config()
    assert (config.patch_sizes, config.patch_weights, config.num_pcs, config.scoring) == ((2, 5, 8), (0.45, 0.15, 0.4), 4096, "ransac")
    config = PatchNetvlad.Config(preset="storage", num_pcs=64)
    assert (config.patch_sizes, config.patch_weights, config.num_pcs, config.scoring) == ((5,), (1.0,), 64, "rapid")
    with pytest.raises(ConfigError, match="performance, speed, storage"):
        PatchNetvlad.Config(preset="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="patch_weights"):
        PatchNetvlad.Config(patch_sizes=(2, 3))
    with pytest.raises(ConfigError, match="multiples of 16 px of at least 128"):
        PatchNetvlad.Config(image_size=(640, 112))
    with pytest.raises(ConfigError, match="threshold_px"):
        PatchNetvlad.Config(threshold_px=0)


@pytest.mark.parametrize("scoring", ["ransac", "rapid"])
@pytest.mark.parametrize("fusion", ["plain", "zscore"])
def test_the_moved_copy_beats_another_image(scoring: str, fusion: str, weights: str, images: list[NDArray[np.uint8]]) -> None:
    reranker = PatchNetvlad(PatchNetvlad.Config(weights=weights, scoring=scoring, fusion=fusion, **SETTINGS))  # type: ignore[arg-type]
    query, *places = reranker.describe_many([frame(image) for image in images], None)
    found = reranker.score(query, candidates(2), places)
    assert found.scores[0] > found.scores[1] and reranker.listwise == (fusion == "zscore")
    assert (found.inliers is None) == (scoring == "rapid")
    if found.inliers is not None:
        assert found.inliers[0] > found.inliers[1] + 10


def test_matches_lie_in_the_pixels_of_the_full_images(weights: str, images: list[NDArray[np.uint8]]) -> None:
    """The same picture by a camera of other pixels."""
    reranker = PatchNetvlad(PatchNetvlad.Config(weights=weights, **SETTINGS))  # type: ignore[arg-type]
    large = np.repeat(np.repeat(images[0], 3, axis=0), 2, axis=1)
    query, place = reranker.describe(frame(large), None), reranker.describe(frame(images[0]), None)
    seen = reranker.matches(query, place)
    assert seen.inliers.sum() > 60
    np.testing.assert_allclose(np.median(seen.place_px[seen.inliers] - seen.query_px[seen.inliers] / [2.0, 3.0], axis=0), 0.0, atol=1e-4)
    keypoints = reranker.keypoints(query)
    assert len(keypoints) == 11 * 7 + 10 * 6
    np.testing.assert_allclose(keypoints[[0, 76]], [[32.0, 48.0], [352.0, 336.0]])


def test_patches_that_mostly_move_are_left_out(weights: str, images: list[NDArray[np.uint8]]) -> None:
    reranker = PatchNetvlad(PatchNetvlad.Config(weights=weights, **SETTINGS))  # type: ignore[arg-type]
    mask = np.ones((128, 192), dtype=bool)
    mask[:, 96:] = False
    kept, whole = reranker.describe(frame(images[0], mask), None), reranker.describe(frame(images[0]), None)
    assert kept.arrays["cells2"][:, 0].max() == 5 and kept.arrays["cells3"][:, 0].max() == 4  # half of the patch at 5 may be used
    rows = (whole.arrays["cells2"][:, 0] <= 5).nonzero()[0]
    np.testing.assert_array_equal(kept.arrays["descriptors2"], whole.arrays["descriptors2"][rows])
    assert kept.arrays["descriptors2"].dtype == np.float16 and kept.num_bytes < whole.num_bytes


def test_components_decide_the_memory(weights: str, images: list[NDArray[np.uint8]]) -> None:
    settings = SETTINGS | {"num_pcs": 8}
    small = PatchNetvlad(PatchNetvlad.Config(weights=weights, **settings)).describe(frame(images[0]), None)  # type: ignore[arg-type]
    assert small.num_bytes == (77 + 60) * (8 * 2 + 2 * 2) + 2 * 4
    with pytest.raises(ConfigError, match="whitens to 32 numbers, not 33"):
        PatchNetvlad(PatchNetvlad.Config(weights=weights, **SETTINGS | {"num_pcs": 33}))  # type: ignore[arg-type]


def one_size(scoring: str, **settings: object) -> PatchComparison:
    of_two = {"patch_sizes": (2,), "patch_weights": (1.0,), "image_size": SIZE, "scoring": scoring}
    return PatchComparison(PatchNetvlad.Config(**of_two | settings))  # type: ignore[arg-type]


def test_the_rapid_score_is_that_of_the_paper_on_grid_indices() -> None:
    """Against a loop; patches i of the query match patches order[i] of the place."""
    rng = np.random.default_rng(0)
    order = np.arange(77)
    order[:19] = rng.permutation(19)
    query, place = np.eye(77, dtype=np.float16)[:60], np.zeros((77, 77), dtype=np.float16)
    place[order] = np.eye(77)
    cells = grid(11, 7).astype(float)
    displacements = [cells[order[row]] - cells[row] for row in range(60)]
    mean = np.mean(displacements, axis=0)
    expected = sum((10 - abs(x - mean[0])) ** 2 + (6 - abs(y - mean[1])) ** 2 for x, y in displacements) / 60
    np.testing.assert_allclose(one_size("rapid").score(evidence(query), [evidence(place)]).scores[0], expected, rtol=1e-5)


def test_identical_images_have_the_largest_scores_there_are() -> None:
    query = evidence(np.eye(77, dtype=np.float16))
    np.testing.assert_allclose(one_size("rapid").score(query, [query]).scores, [10.0**2 + 6.0**2])
    found = one_size("ransac").score(query, [query])
    np.testing.assert_allclose(found.scores, [1.0])
    assert found.inliers is not None and found.inliers.tolist() == [77]


@pytest.mark.parametrize("fusion", ["plain", "zscore"])
@pytest.mark.parametrize("scoring", ["ransac", "rapid"])
def test_images_without_patches_come_last_and_give_numbers(scoring: str, fusion: str) -> None:
    comparison = one_size(scoring, fusion=fusion)
    some, none = evidence(np.eye(77, dtype=np.float16)), evidence(np.zeros((0, 77), dtype=np.float16))
    scores = comparison.score(some, [none, some, none]).scores
    assert scores[1] > scores[0] == scores[2]
    assert len(set(comparison.score(none, [none, some, none]).scores.tolist())) == 1
    assert comparison.score(some, []).scores.shape == (0,)
    assert comparison.matches(none, some).query_px.shape == (0, 2) == comparison.keypoints(none).shape


def test_scores_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    query = rng.normal(size=(77, 16)).astype(np.float16)
    noisy = [(query * share + rng.normal(size=query.shape)).astype(np.float16) for share in (3, 1, 0, 9)]
    places = [evidence(descriptors[: 77 - 7 * row]) for row, descriptors in enumerate(noisy)]
    for scoring in ("ransac", "rapid"):
        comparison = one_size(scoring)
        together = comparison.score(evidence(query), places)
        alone = [comparison.score(evidence(query), [place]) for place in places]
        np.testing.assert_allclose(together.scores, [one.scores[0] for one in alone], rtol=1e-6)
        assert together.scores.argmax() in (0, 3) and together.scores.argmin() == 2
