"""Images and masks at the one size of a network."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.perception.fixed_size import at_size, usable_shares


def frame(image: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    return Frame(0, image, Camera.pinhole(image.shape[1], image.shape[0], 50, 50, 20, 20), Pose.identity(), mask=mask)


def test_an_image_of_that_size_stays_as_it_is_and_others_have_their_colours() -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    small = np.full((7, 9, 3), (255, 51, 0), dtype=np.uint8)
    images = at_size([frame(image), frame(small)], (48, 32))
    assert images.shape == (2, 3, 32, 48)
    np.testing.assert_allclose(images[0].numpy(), image.transpose(2, 0, 1) / 255.0, atol=1e-6)
    np.testing.assert_allclose(images[1].numpy(), np.broadcast_to(np.array([1.0, 0.2, 0.0])[:, None, None], (3, 32, 48)), atol=1e-6)


def test_antialiasing_is_what_pil_does() -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    expected = np.asarray(image.fromarray(pixels).resize((48, 32), image.Resampling.BILINEAR))
    smooth, rough = (255.0 * at_size([frame(pixels)], (48, 32), antialias=wanted)[0].permute(1, 2, 0).numpy() for wanted in (True, False))
    assert np.abs(smooth - expected).max() < 1.1 and smooth.std() < 0.6 * rough.std()


def test_shares_say_how_much_of_a_cell_may_be_used() -> None:
    mask = np.ones((40, 60), dtype=bool)
    mask[:, :25] = False
    shares = usable_shares(frame(np.zeros((40, 60, 3), np.uint8), mask), (6, 4))
    np.testing.assert_allclose(shares, np.tile([0, 0, 0.5, 1, 1, 1], (4, 1)), atol=1e-6)
    assert usable_shares(frame(np.zeros((40, 60, 3), np.uint8)), (6, 4)) is None
