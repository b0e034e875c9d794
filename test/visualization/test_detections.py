"""Pictures of detections: where the pixels are, and what none, many and odd ones give."""

from __future__ import annotations

import numpy as np
import pytest

from ros2_loc.core.types import Detection
from ros2_loc.visualization.detections import Drawing, draw_detections, label_color

BARE = Drawing(masks=True, words=False, scale=1.0)


def gray(height: int = 100, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def found(box: tuple[float, ...], label: str = "car", score: float = 0.9, mask: np.ndarray | None = None) -> Detection:
    return Detection(np.array(box, np.float32), label, score, mask)


def test_a_box_is_drawn_on_its_outermost_pixels() -> None:
    image = gray()
    picture = draw_detections(image, [found((20.0, 30.0, 60.0, 50.0))], BARE)
    painted = np.argwhere((picture == label_color("car")).all(axis=2))
    np.testing.assert_array_equal(painted.min(axis=0), [30, 20])
    np.testing.assert_array_equal(painted.max(axis=0), [49, 59])
    assert (image == 90).all() and picture.shape == image.shape


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_a_mask_is_filled_and_nothing_else(scale: float) -> None:
    mask = np.zeros((100, 200), dtype=bool)
    mask[40:80, 100:160] = True
    detection = found((0.0, 0.0, 2.0, 2.0), mask=mask)
    picture = draw_detections(gray(), [detection], Drawing(words=False, scale=scale))
    h, w = picture.shape[:2]
    assert (h, w) == (100 * scale, 200 * scale)
    left = int(50 * scale)
    changed = np.argwhere((picture[:, left:] != 90).any(axis=2))
    np.testing.assert_array_equal(changed.min(axis=0), np.array([40, 50]) * scale)
    np.testing.assert_array_equal(changed.max(axis=0) + 1, np.array([80, 110]) * scale)
    assert (draw_detections(gray(), [detection], Drawing(masks=False, words=False, scale=1.0))[:, 50:] == 90).all()


def test_words_cover_no_other_words() -> None:
    crowd = [found((90.0 + k, 40.0, 110.0 + k, 60.0), "person", 0.9 - 0.01 * k) for k in range(30)]
    apart = draw_detections(gray(), crowd, Drawing(scale=1.0), texts=["person 90"] + [""] * 29)
    crowded = draw_detections(gray(), crowd, Drawing(scale=1.0))
    plate = apart[20:39, 90:130]
    np.testing.assert_array_equal(crowded[20:38, 92:130], plate[:18, 2:])


def test_small_images_are_enlarged_until_words_can_be_read() -> None:
    assert draw_detections(gray(60, 80), [found((2, 2, 30, 30))]).shape == (240, 320, 3)
    assert draw_detections(gray(300, 600), []).shape == (300, 600, 3)
    assert (draw_detections(gray(300, 600), []) == 90).all()


def test_odd_detections_are_drawn_as_far_as_they_can_be() -> None:
    empty = np.zeros((20, 30), dtype=bool)
    odd = [
        found((-50, -50, 500, 500)),
        found((29, 19, 30, 20), mask=empty),
        found((10, 10, 10, 10), "naïve – Fußgänger"),
        found((1e9, -1e9, 1e9, 1e9), mask=~empty),
        found((12, 12, 5, 5), ""),
    ]
    for height, width in ((20, 30), (1, 1), (3, 900)):
        image = gray(height, width)
        fitting = [one if one.mask is None else found(tuple(one.box), mask=np.ones((height, width), bool)) for one in odd]
        picture = draw_detections(image, fitting)
        assert picture.dtype == np.uint8 and picture.shape[0] >= height


def test_labels_keep_their_colours() -> None:
    assert label_color("car") == label_color("Car") == label_color("van") != label_color("person")
    assert label_color("zebra") == label_color("zebra")
    own = draw_detections(gray(), [found((20, 30, 60, 50))], BARE, colors=[(1, 2, 3)])
    assert tuple(own[30, 20]) == (1, 2, 3)
