"""Re-ranking by TransVPR: what is attended to, where it looks, which scores come of it."""

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
from ros2_loc.retrieval.rerankers.patch_scores import Patches, grid
from ros2_loc.retrieval.rerankers.transvpr import TokenComparison, Transvpr

SIZE = (192, 128)  # 12 x 8 cells


@pytest.fixture(scope="module")
def reranker(random_weights: Callable[[str], Path]) -> Transvpr:
    return Transvpr(Transvpr.Config(weights=str(random_weights("transvpr")), image_size=SIZE, batch_size=2))


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    """A picture, the same moved by two cells, another."""
    rng = np.random.default_rng(0)
    first, other = (rng.integers(0, 255, (128, 192, 3), dtype=np.uint8) for _ in range(2))
    return [first, np.roll(first, (16, 32), axis=(0, 1)), other]


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    return Frame(0, image, Camera.pinhole(image.shape[1], image.shape[0], 100, 100, 50, 50), Pose.identity(), mask=mask)


def evidence(descriptors: NDArray) -> PlaceEvidence:
    return PlaceEvidence("transvpr", {"descriptors": descriptors, "cells": grid(12, 8)[: len(descriptors)], "size": np.array(SIZE)})


def test_the_moved_copy_beats_another_image(reranker: Transvpr, images: list[NDArray[np.uint8]]) -> None:
    query, *places = reranker.describe_many([frame(image) for image in images], None)
    found = reranker.score(query, [Candidate(0, 0.9), Candidate(1, 0.8)], places)
    assert found.inliers is not None and found.scores.tolist() == found.inliers.tolist()
    assert found.scores[0] > 40 > 2 * found.scores[1] and set(found.stage_s) == {"matching", "scoring"}


def test_matches_lie_in_the_pixels_of_the_full_images(random_weights: Callable[[str], Path], images: list[NDArray[np.uint8]]) -> None:
    """The same picture by a camera of other pixels, which without smoothing becomes the very same again."""
    reranker = Transvpr(Transvpr.Config(weights=str(random_weights("transvpr")), image_size=SIZE, antialias=False))
    large = np.repeat(np.repeat(images[0], 3, axis=0), 2, axis=1)
    query, place = reranker.describe(frame(large), None), reranker.describe(frame(images[1]), None)
    seen = reranker.matches(query, place)
    assert seen.inliers.sum() > 40
    difference = seen.place_px[seen.inliers] - seen.query_px[seen.inliers] / [2.0, 3.0]
    np.testing.assert_allclose(np.median(difference, axis=0), [32.0, 16.0])
    assert set(map(tuple, reranker.keypoints(query).tolist())) <= {(16.0 + 32 * x, 24.0 + 48 * y) for x in range(12) for y in range(8)}


def test_what_is_masked_or_not_attended_to_takes_no_part(reranker: Transvpr, images: list[NDArray[np.uint8]]) -> None:
    mask = np.ones((128, 192), dtype=bool)
    mask[:, :64] = False
    whole, kept = reranker.describe(frame(images[0]), None), reranker.describe(frame(images[0], mask), None)
    assert kept.arrays["cells"][:, 0].min() == 4 and len(whole.arrays["cells"]) < 96 and whole.arrays["descriptors"].dtype == np.float16
    # attention is that of the whole image
    rows = (whole.arrays["cells"][:, 0] >= 4).nonzero()[0]
    np.testing.assert_array_equal(kept.arrays["cells"], whole.arrays["cells"][rows])
    np.testing.assert_array_equal(kept.arrays["descriptors"], whole.arrays["descriptors"][rows])


def test_the_published_code_keeps_zeros_where_ours_removes() -> None:
    patches, attention = Patches(np.ones((3, 4), np.float32), grid(3, 1)), np.array([0.02, 0.5, 0.021])
    ours = TokenComparison(Transvpr.Config()).attended(patches, attention)
    theirs = TokenComparison(Transvpr.Config(geometry="authors")).attended(patches, attention)
    assert ours.cells.tolist() == [[1, 0], [2, 0]] and ours.descriptors.shape == (2, 4)
    assert len(theirs) == 3 and theirs.descriptors[0].tolist() == [0.0] * 4 and (theirs.descriptors[1:] == 1.0).all()


def test_images_without_patches_come_last_and_scores_of_many_are_those_of_each() -> None:
    rng, comparison = np.random.default_rng(0), TokenComparison(Transvpr.Config(image_size=SIZE))
    query = rng.choice([-1, 1], size=(96, 64)).astype(np.float16)
    places = [evidence(query[:0]), evidence(query), evidence(query[:50]), evidence(rng.choice([-1, 1], size=(96, 64)).astype(np.float16))]
    together = comparison.score(evidence(query), places)
    assert together.scores[0] == 0 and together.scores[1:3].tolist() == [96.0, 50.0] and together.scores[3] < 40
    np.testing.assert_array_equal(together.scores, [comparison.score(evidence(query), [place]).scores[0] for place in places])
    assert comparison.score(evidence(query[:0]), places).scores.tolist() == [0.0] * 4
    assert comparison.score(evidence(query), []).scores.shape == (0,)


def test_settings_that_can_t_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_attention"):
        Transvpr.Config(min_attention=1.0)
    with pytest.raises(ConfigError, match="multiples of 16 px"):
        Transvpr.Config(image_size=(640, 470))
