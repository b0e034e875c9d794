"""Every detector in the table keeps the promises of core/interfaces.py, with random weights: promises don't depend on training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.interfaces import Detector
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection, Frame
from ros2_loc.errors import ConfigError, DataError

pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")

WIDTH, HEIGHT = 160, 112
# all that untrained networks believe to see
SETTINGS: dict[str, dict[str, Any]] = {"d2det": {"min_score": 0.0}}
NAMES = [name for name, row in sorted(registry.components()["detector"].items()) if row.requires]


@pytest.fixture(scope="module", params=NAMES)
def section(request: pytest.FixtureRequest, random_weights: Callable[[str], Path]) -> dict[str, Any]:
    """The section of a detector with random weights."""
    name = request.param
    return {"name": name, "weights": str(random_weights(name)), "min_score": 0.01, **SETTINGS.get(name, {})}


@pytest.fixture(scope="module")
def detector(section: dict[str, Any]) -> Detector:
    return registry.create("detector", section)  # type: ignore[no-any-return]


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, image, Camera.pinhole(width, height, 300, 300, width / 2, height / 2), Pose.identity(), mask=mask)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """Boxes of one colour on noise."""
    rng = np.random.default_rng(5)
    image = rng.integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for _ in range(9):
        x, y, w, h = rng.integers([0, 0, 8, 8], [WIDTH - 10, HEIGHT - 10, 70, 60])
        image[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    return image


def check(found: list[Detection], detector: Detector, size: tuple[int, int]) -> None:
    """What a list of detections must be, for an image of (width, height) px."""
    width, height = size
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True) and all(0.0 <= score <= 1.0 for score in scores)
    for one in found:
        x0, y0, x1, y1 = one.box
        assert 0.0 <= x0 < x1 <= width and 0.0 <= y0 < y1 <= height and one.box.dtype == np.float32, one.box
        assert one.label in detector.labels
        if one.mask is None:
            continue
        assert one.mask.shape == (height, width) and one.mask.dtype == bool
        rows, columns = np.nonzero(one.mask)
        if len(rows):  # a mask lies in its box
            assert columns.min() >= x0 - 1.0 and columns.max() <= x1 and rows.min() >= y0 - 1.0 and rows.max() <= y1


def assert_alike(first: list[Detection], second: list[Detection], atol: float = 0.0) -> None:
    """The same objects, up to `atol` px; in another order only where scores are alike."""
    assert len(first) == len(second)

    def apart(one: Detection, other: Detection) -> float:
        return np.inf if one.label != other.label else max(np.abs(one.box - other.box).max(), 1e3 * abs(one.score - other.score))

    for one in first:
        distance = [apart(one, other) for other in second]
        nearest = second[int(np.argmin(distance))]
        assert min(distance) <= atol, (one, nearest)
        assert (one.mask is None) == (nearest.mask is None)
        if one.mask is not None and nearest.mask is not None:
            assert (one.mask != nearest.mask).mean() <= (0.002 if atol else 0.0)


def test_what_it_finds_lies_in_the_image_best_first_with_labels_it_knows(detector: Detector, image: NDArray[np.uint8]) -> None:
    assert isinstance(detector, Detector) and detector.batch_size >= 1
    assert detector.labels and len(set(detector.labels)) == len(detector.labels)
    found = detector.detect(frame(image))
    assert len(found) > 3
    check(found, detector, (WIDTH, HEIGHT))


def test_the_same_image_gives_the_same_whatever_its_mask(detector: Detector, image: NDArray[np.uint8]) -> None:
    """A frame's mask says where keypoints may be used; an object is one wherever it stands."""
    first, again = detector.detect(frame(image)), detector.detect(frame(image.copy()))
    assert_alike(first, again)
    assert_alike(first, detector.detect(frame(image, np.zeros((HEIGHT, WIDTH), dtype=bool))))


def test_several_give_what_each_gives(detector: Detector, image: NDArray[np.uint8]) -> None:
    images = [image, np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(image[:70, :90]), np.zeros_like(image), image[::-1].copy()]
    frames = [frame(one) for one in images]
    together = detector.detect_many(frames)
    assert detector.detect_many([]) == [] and len(together) == len(frames)
    for one, found in zip(frames, together, strict=True):
        assert_alike(detector.detect(one), found, atol=0.05)
        check(found, detector, one.image.shape[1::-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (150, 3), (9, 40)], ids=str)
def test_images_of_any_size_and_shape(detector: Detector, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    check(detector.detect(frame(noise)), detector, (size[1], size[0]))


@pytest.mark.parametrize("value", [0, 255], ids=["black", "white"])
def test_odd_images_give_numbers(detector: Detector, value: int) -> None:
    even = np.full((64, 80, 3), value, np.uint8)
    check(detector.detect(frame(even)), detector, (80, 64))
    point = even.copy()
    point[30, 50] = 255 - value
    check(detector.detect(frame(point)), detector, (80, 64))


def test_fewer_are_asked_for(section: dict[str, Any], image: NDArray[np.uint8], detector: Detector) -> None:
    every = detector.detect(frame(image))
    few = registry.create("detector", section | {"max_detections": 3}).detect(frame(image))
    assert [one.score for one in few] == [one.score for one in every[:3]]
    middle = every[len(every) // 2].score
    good = registry.create("detector", section | {"min_score": middle}).detect(frame(image))
    assert [one.score for one in good] == [one.score for one in every if one.score >= middle]


def test_an_image_without_pixels_is_refused_in_one_line() -> None:
    with pytest.raises((DataError, ValueError)) as told:
        frame(np.zeros((0, 0, 3), np.uint8))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_and_other_weights_are_refused_in_one_line(name: str, random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    for weights, expected in (
        ("/no/such.safetensors", "neither a file nor the name of weights"),
        (str(random_weights("cosplace")), "here only"),
        (str(tmp_path / "text.pth"), "text.pth"),
    ):
        with pytest.raises((ConfigError, DataError), match=expected) as told:
            registry.create("detector", {"name": name, "weights": weights})
        assert "\n" not in str(told.value)


def test_a_class_list_that_does_not_fit_the_weights_is_refused(section: dict[str, Any], tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    with safe_open(section["weights"], "pt") as file:
        header, tensors = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
    config = json.loads(header["config"])
    config["labels"] = [*config["labels"], "unicorn"]
    save_file(tensors, path, header | {"config": json.dumps(config)})
    with pytest.raises(DataError) as told:
        registry.create("detector", section | {"weights": str(path)})
    assert "\n" not in str(told.value) and "other.safetensors" in str(told.value) and "another" in str(told.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "values", [{"min_score": 1.5}, {"max_detections": 0}, {"batch_size": 0}, {"nonsense": 1}, {"backend": "onnxruntime"}], ids=str
)
def test_settings_that_can_not_be_are_refused(name: str, values: dict[str, Any], random_weights: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError) as told:
        registry.create("detector", {"name": name, "weights": str(random_weights(name)), **values})
    assert "\n" not in str(told.value)


def test_the_config_is_frozen(section: dict[str, Any]) -> None:
    plugin = registry.resolve("detector", section["name"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        plugin.Config().min_score = 0.5  # type: ignore[attr-defined]
