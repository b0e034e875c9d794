"""CenterNet as a detector: images in, boxes out; central regions; both procedures; settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

import random_networks  # noqa: E402

from ros2_loc import registry  # noqa: E402
from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Detection, Frame  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.models.centernet.decode import REFUSED, SCORE  # noqa: E402
from ros2_loc.perception.detectors.centernet import Centernet  # noqa: E402
from ros2_loc.perception.detectors.centernet_steps import best_boxes, boxes_of, confirmed, in_picture, view_of  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_networks.write("centernet", tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def detector(weights: Path) -> Callable[..., Any]:
    return lambda **settings: registry.create("detector", {"name": "centernet", "weights": str(weights), **settings})


def frame(width: int = 128, height: int = 96, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell in (4, 12, 24):
        total += np.kron(rng.random((-(-height // cell), -(-width // cell), 3)), np.ones((cell, cell, 1)))[:height, :width]
    image: NDArray[np.uint8] = np.ascontiguousarray(255 * total / np.max(total)).astype(np.uint8)
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity())


def pair(x0: float, y0: float, x1: float, y1: float, score: float = 0.9, label: int = 0) -> list[float]:
    return [x0, y0, x1, y1, score, score, score, label]


def table(found: list[Detection]) -> list[tuple[Any, ...]]:
    return [(*(round(float(side), 1) for side in one.box), one.label, round(one.score, 3)) for one in found]


def test_boxes_lie_in_the_image_the_best_first(detector: Callable[..., Any]) -> None:
    plugin = detector(max_detections=20)
    assert plugin.labels == ("car", "person")
    for size in ((128, 96), (131, 85), (40, 64)):
        found = plugin.detect(frame(*size))
        assert found and len(found) <= 20
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True) and min(scores) >= 0.05 and max(scores) <= 1.0
        for one in found:
            assert 0 <= one.box[0] < one.box[2] <= size[0] and 0 <= one.box[1] < one.box[3] <= size[1]
            assert one.label in plugin.labels and one.mask is None


def test_several_frames_are_as_one_by_one(detector: Callable[..., Any]) -> None:
    plugin, frames = detector(batch_size=2, flip=True), [frame(seed=1), frame(100, 72, 2), frame(seed=3), frame(seed=4)]
    assert [table(found) for found in plugin.detect_many(frames)] == [table(plugin.detect(one)) for one in frames]
    assert plugin.detect_many([]) == []


def test_a_mirrored_image_has_mirrored_boxes(detector: Callable[..., Any]) -> None:
    plain = frame()
    mirrored = Frame(0, np.ascontiguousarray(plain.image[:, ::-1]), plain.camera, plain.base_from_camera)
    plugin = detector(flip=True)
    found = plugin.detect(mirrored)
    boxes = [(128 - one.box[2], one.box[1], 128 - one.box[0], one.box[3]) for one in found]
    there = [(*(round(float(side), 1) for side in box), one.label) for box, one in zip(boxes, found, strict=True)]
    here = [row[:5] for row in table(plugin.detect(plain))]
    assert len(set(here) & set(there)) > 0.8 * len(here) > 4


def test_boxes_are_those_of_the_full_image_whatever_the_network_sees(detector: Callable[..., Any]) -> None:
    large = frame(256, 192)
    found = detector(max_edge_px=128).detect(large)
    assert found and max(one.box[2] for one in found) > 128
    assert table(found) != table(detector().detect(large))


def test_images_without_anything_and_of_a_pixel_are_no_error(detector: Callable[..., Any]) -> None:
    for size in ((1, 1), (3, 200), (64, 64)):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        blank = Frame(0, image, Camera.pinhole(*size, 10, 10, size[0] / 2, size[1] / 2), Pose.identity())
        for procedure in ("exact", "authors"):
            assert isinstance(detector(procedure=procedure, scales=[0.6, 1.0]).detect(blank), list)


def test_a_network_at_hand_needs_no_file(detector: Callable[..., Any]) -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = random_networks.centernet()
    assert network.training
    own = Centernet.of_network(network, Centernet.Config())
    assert table(own.detect(frame())) == table(detector().detect(frame())) and network.training


def test_numbers_that_are_none_are_an_error() -> None:
    with torch.random.fork_rng(), torch.no_grad():
        network = random_networks.centernet()
        network.stacks[0].tl_tag[-1].bias.fill_(torch.nan)
    with pytest.raises(DataError, match="not finite"):
        Centernet.of_network(network, Centernet.Config()).detect(frame())


@pytest.mark.parametrize(
    "settings",
    [
        {"scales": []},
        {"scales": [0.5]},
        {"scales": [1.0, -1.0]},
        {"scales": [1.0, 1.0]},
        {"min_score": 1.5},
        {"max_detections": 0},
        {"batch_size": 0},
        {"max_edge_px": -1},
        {"procedure": "authors", "backend": "onnxruntime"},
    ],
)
def test_settings_that_can_not_be_are_refused(settings: dict[str, Any], detector: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="centernet: "):
        detector(**settings)


@pytest.mark.parametrize("procedure", ["exact", "authors"])
@given(width=st.integers(1, 300), height=st.integers(1, 300), scale=st.sampled_from([0.6, 1.0, 1.5]), x=st.floats(0, 1), y=st.floats(0, 1))
def test_places_come_back_from_cells(procedure: Any, width: int, height: int, scale: float, x: float, y: float) -> None:
    """A point of the image, taken through the view's geometry to cells, comes back where it was; also from the mirror image."""
    if min(width, height) * scale < 1:
        return
    view = view_of(np.zeros((height, width, 3), np.uint8), scale, 32, procedure)
    point = np.array([x * width, y * height])
    cells = (point * view.scale + view.corner) * view.cells_per_px
    mirrored = np.array([view.columns - cells[0], cells[1]])
    centres = np.array([[[*cells, 0, 0.5]], [[*mirrored, 0, 0.5]]])
    corners = np.array([[pair(*cells, *cells)], [pair(*mirrored, *mirrored)]])
    pairs, back = in_picture(corners, centres, view)
    # sizes are rounded down there, and what is cut off comes to lie at the border
    limit = np.minimum(point, view.size / view.scale) if procedure == "authors" else point
    for found in (pairs[:, :2], pairs[:, 2:4], back[:, :2]):
        np.testing.assert_allclose(found, [limit, limit], atol=0.01)


@pytest.mark.parametrize("procedure", ["exact", "authors"])
def test_pixels_of_a_view_are_where_its_geometry_says(procedure: Any) -> None:
    image = np.zeros((50, 70, 3), np.uint8)
    image[20, 31] = 255
    view = view_of(image, 1.0, 32, procedure)
    row, column = np.argwhere((view.image == 255).all(axis=2))[0]
    middle = np.array([column + 0.5, row + 0.5]) * view.cells_per_px
    np.testing.assert_allclose(view.to_image(middle), [31.5, 20.5], atol=1e-5)
    sides = view.image.shape[:2]
    assert sides == ((64, 96) if procedure == "exact" else (127, 127))


def test_boxes_far_beyond_the_border_are_refused_and_others_cut() -> None:
    view = view_of(np.zeros((96, 128, 3), np.uint8), 1.0, 32, "exact")
    pairs = np.array([[pair(-1.1, 2, 10, 12), pair(-1.3, 2, 10, 12), pair(2, 2, 33.2, 12), pair(2, 2, 33.3, 12)]])
    found, _ = in_picture(pairs, np.zeros((1, 0, 4)), view)
    assert (found[:, SCORE] > REFUSED).tolist() == [True, False, True, False]
    assert found[0, 0] == 0 and found[2, 2] == 128


def test_central_regions_are_of_a_third_or_a_fifth() -> None:
    """Boxes up to 150^2 px have larger ones (equation 1)."""
    small, large = [pair(0, 0, 150, 150)], [pair(0, 0, 150, 151)]
    for boxes, parts in ((small, 3), (large, 5)):
        side = 150.0
        begin, end = side * (parts - 1) / 2 / parts, side * (parts + 1) / 2 / parts
        for x, expected in ((begin - 0.1, 0), (begin + 0.1, 1), (end - 0.1, 1), (end + 0.1, 0)):
            centres = np.array([[x, 75.0, 0, 0.6]], np.float32)
            found = confirmed(np.array(boxes, np.float32), centres, "exact")
            assert len(found) == expected, (parts, x)
            if expected:
                assert found[0, SCORE] == pytest.approx((0.9 + 0.9 + 0.6) / 3)


def test_a_centre_of_another_label_confirms_nothing() -> None:
    centres = np.array([[50.0, 50.0, 1, 0.6]], np.float32)
    assert len(confirmed(np.array([pair(0, 0, 100, 100)], np.float32), centres, "exact")) == 0
    assert len(confirmed(np.zeros((0, 8), np.float32), centres, "exact")) == 0
    assert len(confirmed(np.array([pair(0, 0, 100, 100)], np.float32), np.zeros((0, 4), np.float32), "authors")) == 0


def test_the_authors_take_the_first_centre_and_we_the_best() -> None:
    centres = np.array([[50.0, 50.0, 0, 0.3], [51.0, 50.0, 0, 0.9]], np.float32)
    pairs = np.array([pair(0, 0, 100, 100)], np.float32)
    assert confirmed(pairs, centres, "authors")[0, SCORE] == pytest.approx((2 * 0.9 + 0.3) / 3)
    assert confirmed(pairs, centres, "exact")[0, SCORE] == pytest.approx((2 * 0.9 + 0.9) / 3)


def test_labels_do_not_suppress_each_other_and_the_limit_holds() -> None:
    pairs = np.array([pair(0, 0, 10, 10, 0.9, 0), pair(0, 0, 10, 10, 0.8, 1), pair(0, 0, 10, 10, 0.7, 0)], np.float32)
    rows = best_boxes(pairs, "exact", None, 100)
    np.testing.assert_allclose(rows[:, 4], [0.9, 0.8, 0.7 * np.exp(-2)], rtol=1e-5)
    assert rows[:, 5].tolist() == [0, 1, 0]
    assert len(best_boxes(pairs, "exact", None, 2)) == 2
    ties = np.array([pair(40 * k, 0, 40 * k + 10, 10, 0.5, 0) for k in range(5)], np.float32)
    assert len(best_boxes(ties, "exact", None, 3)) == 3 and len(best_boxes(ties, "authors", None, 3)) == 5


def test_centres_are_those_of_scale_one() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    whole, half = view_of(image, 1.0, 32, "exact"), view_of(image, 0.5, 32, "exact")
    box, centre = np.array([[pair(2, 2, 22, 20)]]), np.array([[[12, 11, 0, 0.9]]])
    nothing = np.array([[[0, 0, 1, 0.1]]])
    no_pair = np.array([[pair(0, 0, 1, 1, REFUSED)]])
    scaled = np.array([[pair(1, 1, 11, 10)]])
    assert len(boxes_of([(whole, no_pair, centre), (half, scaled, nothing)], "exact", 10.0, 100)) == 1
    assert len(boxes_of([(whole, no_pair, nothing), (half, scaled, np.array([[[6, 5.5, 0, 0.9]]]))], "exact", 10.0, 100)) == 0
    both = boxes_of([(whole, box, centre), (half, scaled, nothing)], "exact", 10.0, 100)
    np.testing.assert_allclose(both[0, :4], [8, 8, 88, 80], atol=1e-3)
