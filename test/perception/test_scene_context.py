"""Which keypoints detections take away, and which they make count less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.labels import COCO, KITTI
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection, Frame, LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.perception.scene_context import SceneContext, masked, provenance_of, static_mask

SIZE = (40, 60)
BARE = SceneContext.Config(margin_px=0.0, margin_share=0.0)


def detection(box: tuple[float, float, float, float], label: str = "car", score: float = 0.9, mask: np.ndarray | None = None) -> Detection:
    return Detection(np.array(box, dtype=np.float32), label, score, mask)


def frame(mask: np.ndarray | None = None) -> Frame:
    height, width = SIZE
    camera = Camera.pinhole(width, height, 50.0, 50.0, width / 2, height / 2)
    return Frame(0, np.zeros((height, width, 3), np.uint8), camera, Pose.identity(), None, mask)


def features(points: list[tuple[float, float]], scores: list[float]) -> LocalFeatures:
    n = len(points)
    height, width = SIZE
    keypoints = np.array(points, dtype=np.float32).reshape(-1, 2)
    descriptors = np.arange(n, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    return LocalFeatures(keypoints, descriptors, np.array(scores, np.float32), np.ones(n, np.float32), "test", (width, height))


class Knows:
    """A detector that knows names and sees what it is told."""

    name, batch_size = "knows", 2

    def __init__(self, *labels: str) -> None:
        self.labels = labels

    def detect(self, frame: Frame) -> list[Detection]:
        return []

    def detect_many(self, frames: list[Frame]) -> list[list[Detection]]:
        return [[] for _ in frames]


def test_a_box_masks_the_pixels_whose_centres_it_holds() -> None:
    hidden = ~static_mask([detection((10.0, 5.0, 20.0, 9.0))], SIZE, BARE)
    assert hidden.sum() == 40 and hidden[5:9, 10:20].all()
    assert not ~static_mask([detection((10.6, 5.0, 11.4, 9.0))], SIZE, BARE).any(), "no pixel's centre lies in it"


def test_the_margin_grows_with_the_box_and_ends_with_the_image() -> None:
    config = SceneContext.Config(margin_px=2.0, margin_share=0.5)
    hidden = ~static_mask([detection((10.0, 10.0, 20.0, 14.0))], SIZE, config)
    rows, columns = np.nonzero(hidden)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 17, 6, 23)
    assert (~static_mask([detection((-10.0, -5.0, 3.0, 100.0))], SIZE, config)).any(axis=0).sum() == 3 + 2 + 6


@given(st.tuples(*[st.floats(-30, 90)] * 4), st.floats(0, 8), st.floats(0, 0.5))
def test_a_mask_is_grown_as_a_box_is_and_never_less_than_itself(box: tuple[float, ...], margin_px: float, share: float) -> None:
    x0, y0, x1, y1 = box
    config = SceneContext.Config(margin_px=margin_px, margin_share=share)
    box_hides = ~static_mask([detection((x0, y0, x1, y1))], SIZE, config)
    if x1 <= x0 or y1 <= y0:
        assert not box_hides.any()
        return
    inside = ~static_mask([detection((x0, y0, x1, y1))], SIZE, BARE)
    assert (box_hides | ~inside).all()
    with_mask = detection((x0, y0, x1, y1), mask=inside)
    mask_hides = ~static_mask([with_mask], SIZE, config)
    assert (mask_hides | ~inside).all() and (box_hides | ~mask_hides).all(), "between the object and its grown box"
    assert np.array_equal(~static_mask([with_mask], SIZE, replace(config, shape="box")), box_hides)


def test_the_grown_mask_reaches_as_far_as_the_margin() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[20, 30] = True
    hidden = ~static_mask([detection((30, 20, 31, 21), mask=mask)], SIZE, SceneContext.Config(margin_px=3.0, margin_share=0.0))
    rows, columns = np.indices(SIZE)
    assert np.array_equal(hidden, (rows - 20) ** 2 + (columns - 30) ** 2 <= 9)


def test_what_is_masked() -> None:
    seen = [detection((0, 0, 5, 5), "person", 0.2), detection((10, 0, 15, 5), "bench"), detection((20, 0, 25, 5), "truck")]
    hidden = ~static_mask(seen, SIZE, replace(BARE, min_score=0.3))
    assert hidden.sum() == 25 and hidden[0, 20], "no bench, and no person of score 0.2"
    assert (~static_mask(seen, SIZE, replace(BARE, min_score=0.0, labels=("person", "bench")))).sum() == 50
    assert static_mask([], SIZE, BARE).all()
    assert BARE.masks("Pedestrian") and BARE.masks("PEDESTRIAN") and BARE.masks("Small Vehicle") and not BARE.masks("traffic light")


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 5, 5, 9), (-20, 0, -10, 9), (70, 0, 80, 9)])
def test_boxes_without_area_and_outside_mask_nothing(box: tuple[float, float, float, float]) -> None:
    assert static_mask([detection(box)], SIZE, BARE).all()


def test_a_mask_of_another_size_is_refused() -> None:
    wrong = detection((0, 0, 5, 5), mask=np.ones((4, 4), dtype=bool))
    with pytest.raises(DataError, match=r"4x4, its image 60x40"):
        static_mask([wrong], SIZE, BARE)


def test_a_frame_keeps_what_was_masked_before() -> None:
    before = np.ones(SIZE, dtype=bool)
    before[:, :10] = False
    given_frame = frame(before)
    result = masked(given_frame, [detection((20, 0, 30, 40))], BARE)
    assert result.mask is not None and not result.mask[:, :10].any() and not result.mask[:, 20:30].any() and result.mask[:, 30:].all()
    assert given_frame.mask is before and before[:, 20:].all(), "the frame given stays"
    assert SceneContext(BARE, Knows("car")).masked(frame(), []).mask.all()  # type: ignore[union-attr]


def test_weights_say_which_keypoints_are_kept() -> None:
    config = replace(BARE, weights={"car": 0.1, "sign": 3.0}, max_keypoints=3)
    context = SceneContext(config, Knows("car", "sign", "person"))
    found = features([(5, 5), (25, 5), (45, 5), (55, 35)], [1.0, 0.9, 0.5, 0.2])
    seen = [detection((0, 0, 10, 10)), detection((40, 0, 50, 10), "sign")]
    np.testing.assert_allclose(context.factors(found, seen), [0.1, 1.0, 3.0, 1.0])
    kept = context.weighted(found, seen)
    np.testing.assert_array_equal(kept.keypoints, [(45, 5), (25, 5), (55, 35)])
    np.testing.assert_allclose(kept.scores, [1.5, 0.9, 0.2])
    np.testing.assert_array_equal(kept.descriptors[:, 0], [2, 1, 3])
    assert context.masked(frame(), seen).mask.all(), "what is weighted is not masked"  # type: ignore[union-attr]
    assert not context.masked(frame(), [detection((0, 0, 9, 9), "person")]).mask.all()  # type: ignore[union-attr]


def test_where_two_objects_overlap_the_surer_one_weighs() -> None:
    context = SceneContext(replace(BARE, weights={"car": 0.5, "sign": 2.0}), Knows("car", "sign"))
    found = features([(5, 5)], [1.0])
    overlapping = [detection((0, 0, 10, 10), "sign", 0.8), detection((0, 0, 10, 10), "car", 0.4)]
    assert context.factors(found, overlapping) == 2.0 == context.factors(found, overlapping[::-1])
    assert context.factors(found, [detection((0, 0, 10, 10), "car", 0.1)]) == 1.0, "below min_score"


def test_without_weights_features_stay_as_they_are() -> None:
    found = features([(5, 5), (25, 5)], [0.1, 0.9])
    assert SceneContext(BARE, Knows("car")).weighted(found, [detection((0, 0, 10, 10))]) is found
    none = features([], [])
    assert len(SceneContext(replace(BARE, weights={"car": 0.5}), Knows("car")).weighted(none, [detection((0, 0, 10, 10))])) == 0


def test_provenance_names_what_is_masked() -> None:
    assert SceneContext(BARE, Knows(*COCO)).provenance["labels"][:3] == ["person", "bicycle", "car"]
    assert "traffic light" not in SceneContext(BARE, Knows(*COCO)).provenance["labels"]
    assert SceneContext(BARE, Knows(*KITTI)).provenance == {"name": "knows", "labels": list(KITTI)}
    assert SceneContext(replace(BARE, weights={"car": 0.5}), Knows("car", "person")).provenance["labels"] == ["person"]


def test_a_section_without_a_detector_is_no_context(painted_movers: str) -> None:
    assert SceneContext.open({}, BARE) is None
    context = SceneContext.open({"name": painted_movers}, BARE)
    assert context is not None and context.provenance == {"name": "painted", "labels": ["car"]}
    assert provenance_of({"name": painted_movers, "score": 0.5}) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ("lorry",)}, "does not know 'lorry'; it knows car, bench"),
        ({"weights": {"lorry": 0.5}}, "does not know 'lorry'"),
    ],
)
def test_labels_that_the_detector_lacks_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SceneContext(replace(BARE, **change), Knows("car", "bench"))  # type: ignore[arg-type]


def test_a_detector_of_nothing_that_moves_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"can move \(bench, oven\): name what to mask"):
        SceneContext(BARE, Knows("bench", "oven"))
    SceneContext(replace(BARE, labels=("oven",)), Knows("bench", "oven"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"min_score": 1.5}, "min_score lies in 0 to 1"),
        ({"margin_px": -1.0}, "not negative"),
        ({"weights": {"car": 0.0}}, "weight of 'car' is above 0"),
        ({"weights": {"car": float("nan")}}, "weight of 'car' is above 0"),
        ({"weights": {"car": 0.5}, "labels": ("car",)}, "either masked or weighted"),
    ],
)
def test_values_that_make_no_sense_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(BARE, **change)
