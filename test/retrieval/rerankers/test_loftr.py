"""LoFTR as a re-ranker: places of several sizes, masks, what is kept of an image, pixels of the full image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("kornia", reason="kornia is not installed: pip install '.[torch]'")

from ros2_loc import registry  # noqa: E402
from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Candidate, Frame  # noqa: E402
from ros2_loc.errors import ConfigError  # noqa: E402

CANDIDATES = [Candidate(k, 0.5) for k in range(8)]


def picture(seed: int = 0, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    layers = [np.kron(rng.random((height // cell + 2, width // cell + 2, 3)), np.ones((cell, cell, 1))) for cell in (4, 8, 16)]
    total = sum(layer[:height, :width] for layer in layers)
    return (255 * total / np.max(total)).astype(np.uint8)


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, np.ascontiguousarray(image), Camera.pinhole(width, height, 100, 100, 60, 50), Pose.identity(), mask=mask)


@pytest.fixture(scope="module")
def reranker(random_weights: Callable[[str], Path]) -> Callable[..., Any]:
    return lambda **settings: registry.create("reranker", {"name": "loftr", "weights": str(random_weights("loftr")), **settings})


def test_places_of_several_sizes_are_scored_in_their_order(reranker: Callable[..., Any]) -> None:
    one = reranker(batch_size=2)
    images = [picture(1), picture(2)[:60], picture(), picture(3)[:60], picture(4), np.roll(picture(), (8, 16), (0, 1))]
    places = one.describe_many([frame(image) for image in images], None)
    scores = one.score(one.describe(frame(picture()), None), CANDIDATES[:6], places).scores
    assert np.argsort(-scores)[:2].tolist() == [2, 5]
    reordered = one.score(one.describe(frame(picture()), None), CANDIDATES[:6], places[::-1]).scores
    np.testing.assert_array_equal(reordered, scores[::-1])


def test_the_image_alone_says_the_same_in_less_memory(reranker: Callable[..., Any]) -> None:
    frames = [frame(picture()), frame(picture(1)), frame(np.roll(picture(), 8, axis=1))]
    scores, size = [], []
    for keep in ("features", "image"):
        one = reranker(keep=keep)
        query, *places = one.describe_many(frames, None)
        scores.append(one.score(query, CANDIDATES[:2], places).scores)
        size.append(query.num_bytes)
        assert query.arrays["image"].dtype == np.uint8
    np.testing.assert_allclose(scores[0], scores[1], atol=2)
    assert size[1] < size[0] and size[1] < 1.1 * 96 * 128


def test_masked_cells_match_nothing(reranker: Callable[..., Any]) -> None:
    one = reranker()
    mask = np.ones((96, 128), dtype=bool)
    mask[:, 64:] = False
    query, place = one.describe(frame(picture(), mask), None), one.describe(frame(picture()), None)
    seen = one.matches(query, place)
    assert len(seen.query_px) > 10 and (seen.query_px[:, 0] < 64).all()
    assert one.score(query, CANDIDATES[:1], [place]).scores[0] == len(seen.query_px)
    nothing = one.describe(frame(picture(), np.zeros((96, 128), dtype=bool)), None)
    assert one.score(nothing, CANDIDATES[:1], [place]).scores.tolist() == [0.0]
    assert one.score(query, CANDIDATES[:2], [nothing, place]).scores[0] == 0.0 and len(one.matches(nothing, place).inliers) == 0


def test_matches_are_in_pixels_of_the_full_images(reranker: Callable[..., Any]) -> None:
    one = reranker(max_edge_px=128)
    large = np.kron(picture(), np.ones((2, 2, 1), dtype=np.uint8))
    seen = one.matches(one.describe(frame(large), None), one.describe(frame(np.roll(picture(), (8, 16), (0, 1))), None))
    moved = seen.place_px - seen.query_px / 2.0
    assert len(moved) > 20 and np.abs(np.median(moved, axis=0) - [16, 8]).max() < 1.5


def test_ransac_leaves_those_of_one_transform(reranker: Callable[..., Any]) -> None:
    one, plain = reranker(verify="homography"), reranker()
    images = [picture(), picture(1), np.roll(picture(), (8, 16), (0, 1))]
    query, *places = one.describe_many([frame(image) for image in images], None)
    found, counted = (each.score(query, CANDIDATES[:2], places) for each in (one, plain))
    assert counted.inliers is None and found.inliers is not None
    np.testing.assert_array_equal(found.scores, found.inliers)
    assert (found.scores <= counted.scores).all() and found.scores[1] > 2 * found.scores[0]
    assert set(found.stage_s) == {"matching", "scoring"}
    assert not one.matches(query, places[0]).inliers.all() and one.matches(query, places[1]).inliers.sum() > 20


def test_the_smallest_images_pass(reranker: Callable[..., Any]) -> None:
    one = reranker()
    query, place = one.describe_many([frame(picture()[:1, :1]), frame(picture()[:9, :40])], None)
    assert one.score(query, CANDIDATES[:1], [place]).scores.tolist() == [0.0]


@pytest.mark.parametrize(
    "values", [{"min_confidence": 1.0}, {"threshold_px": 0.0}, {"batch_size": 0}, {"max_edge_px": -1}, {"verify": "all"}]
)
def test_settings_that_can_not_be_are_refused(reranker: Callable[..., Any], values: dict) -> None:
    with pytest.raises(ConfigError, match="loftr"):
        reranker(**values)
