"""Encoders with a network: sizes, masks, what is not finite; CosPlace stands for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

from ros2_loc import registry  # noqa: E402
from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Frame  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402


def picture(width: int = 96, height: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity(), mask=mask)


@pytest.fixture
def encoder(random_weights: Callable[[str], Path]) -> Callable[..., Any]:
    return lambda **settings: registry.create("encoder", {"name": "cosplace", "weights": str(random_weights("cosplace")), **settings})


def test_a_blanked_mask_hides_what_moves_and_a_kept_one_does_not(encoder: Callable[..., Any]) -> None:
    image, changed = picture(), picture()
    changed[:32, :48] = picture(seed=1)[:32, :48]
    mask = np.ones((64, 96), dtype=bool)
    mask[:32, :48] = False
    for masked, same in (("blank", True), ("keep", False)):
        one = encoder(masked=masked)
        a, b = (one.encode(frame(each, mask), None).vector for each in (image, changed))
        assert (np.abs(a - b).max() < 1e-6) == same
        assert (np.abs(a - one.encode(frame(image), None).vector).max() < 1e-6) != same


def test_images_are_made_smaller_or_of_one_size(encoder: Callable[..., Any]) -> None:
    large = np.kron(picture(), np.ones((2, 2, 1), dtype=np.uint8))
    plain, shrunk, fixed = encoder(), encoder(max_edge_px=96), encoder(size=[96, 64])
    expected = plain.encode(frame(picture()), None).vector
    np.testing.assert_allclose(shrunk.encode(frame(large), None).vector, expected, atol=1e-5)
    assert np.abs(plain.encode(frame(large), None).vector - expected).max() > 1e-3
    several = fixed.encode_many([frame(large), frame(picture()), frame(picture(160, 64))], None)
    np.testing.assert_allclose(several[1].vector, expected, atol=1e-5)
    assert several[0].vector @ expected > 0.95 and several[2].vector.shape == expected.shape  # smoothed as it is made smaller


def test_batches_of_any_size_give_the_same(encoder: Callable[..., Any]) -> None:
    frames = [frame(picture(seed=seed)) for seed in range(5)]
    for one, other in zip(encoder(batch_size=2).encode_many(frames, None), encoder(batch_size=5).encode_many(frames, None), strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5)


def test_numbers_that_are_not_finite_never_reach_an_index(encoder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoder()
    monkeypatch.setattr(one, "_vectors", lambda images: torch.full((len(images), 8), torch.nan))
    with pytest.raises(DataError, match="cosplace: the descriptor of an image is not finite: the weights may be damaged"):
        one.encode(frame(picture()), None)
    monkeypatch.setattr(one, "_vectors", lambda images: torch.zeros(len(images), 8))
    np.testing.assert_array_equal(one.encode(frame(picture()), None).vector, np.eye(8)[0])


def test_what_another_encoder_learned_is_refused(encoder: Callable[..., Any]) -> None:
    one = encoder()
    one.restore(one.fit([]))
    with pytest.raises(DataError, match="the map holds words of another encoder than cosplace"):
        one.restore({"words": np.zeros((2, 3))})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": [96]}, "size is"),
        ({"size": [0, 64]}, "size is"),
        ({"size": [96, 64], "max_edge_px": 96}, "without max_edge_px"),
        ({"batch_size": 0}, "batch_size is positive"),
        ({"half": True}, "half: true needs a GPU"),
        ({"masked": "hide"}, "masked"),
        ({"backend": "onnxruntime"}, "needs model: FILE, which `ros2-loc export cosplace"),
    ],
)
def test_settings_that_can_not_be_are_refused(encoder: Callable[..., Any], values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(**values)


def test_weights_of_another_network_are_refused(encoder: Callable[..., Any], random_weights: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="is of superpoint, here only CosPlace fits"):
        encoder(weights=str(random_weights("superpoint")))
