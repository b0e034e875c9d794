"""Day or night by brightness and by EXIF, and networks of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ros2_loc.errors import DataError
from ros2_loc.perception.photo_classifiers import DAY, NIGHT, BrightnessDayNight, OnnxClassifier


def _street(sky: int, ground: int) -> np.ndarray:
    image = np.full((120, 200, 3), ground, np.uint8)
    image[:50] = sky
    return image


@pytest.mark.parametrize(
    ("sky", "ground", "label"), [(220, 90, DAY), (150, 60, DAY), (115, 50, DAY), (40, 45, NIGHT), (25, 70, NIGHT), (60, 55, NIGHT)]
)
def test_a_bright_sky_is_day(sky: int, ground: int, label: str) -> None:
    verdict = BrightnessDayNight().classify(_street(sky, ground), None)
    assert verdict.label == label and 0.5 <= verdict.score <= 1


def test_lamps_make_no_day() -> None:
    image = _street(20, 60)
    image[10:20, 30:50] = 255  # a lamp, and a window
    image[30:50, 150:180] = 230
    assert BrightnessDayNight().classify(image, None).label == NIGHT


@pytest.mark.parametrize(("light_value", "label"), [(15.0, DAY), (10.0, DAY), (4.0, NIGHT), (0.0, NIGHT)])
def test_the_light_value_knows_better(light_value: float, label: str) -> None:
    for image in (_street(220, 90), _street(20, 20)):  # a long exposure makes a night bright
        assert BrightnessDayNight().classify(image, light_value).label == label


def test_real_days(shared_data: Path) -> None:
    from ros2_loc.io.images import read_image

    paths = [*sorted((shared_data / "kitti/03").rglob("*.jpg"))[::60], *sorted((shared_data / "vpr/toy_gmberton").rglob("*.jpg"))[::4]]
    labels = [BrightnessDayNight().classify(read_image(path), None).label for path in paths]
    assert labels.count(DAY) >= len(labels) - 1


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of two outputs: the mean of its input, and minus that."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
    make = onnx.helper
    path = tmp_path_factory.mktemp("network") / "light.onnx"
    nodes = [
        make.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0),
        make.make_node("Neg", ["mean"], ["minus"]),
        make.make_node("Concat", ["mean", "minus"], ["y"], axis=0),
    ]
    ends = (("x", [1, 3, "h", "w"]), ("y", [2]))
    x, y = (make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ends)
    onnx.save(make.make_model(make.make_graph(nodes, "light", [x], [y]), opset_imports=[make.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_network_takes_its_place(network: Path) -> None:
    classifier = OnnxClassifier(network, ("day", "night"))
    assert classifier.classify(np.full((40, 60, 3), 250, np.uint8), None).label == "day"
    dark = classifier.classify(np.zeros((40, 60, 3), np.uint8), 15.0)
    mean = float(np.mean(-np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]))
    assert dark.label == "night" and dark.score == pytest.approx(1 / (1 + np.exp(2 * mean)), abs=1e-5)


def test_labels_may_lie_beside_it(network: Path) -> None:
    with pytest.raises(DataError, match="labels, one in a line"):
        OnnxClassifier(network)
    network.with_suffix(".txt").write_text("day_outdoors\nnight_outdoors\n")
    try:
        assert OnnxClassifier(network).labels == ("day_outdoors", "night_outdoors")
    finally:
        network.with_suffix(".txt").unlink()


def test_a_label_for_each_output(network: Path) -> None:
    with pytest.raises(DataError, match="gives 2 numbers for 3 labels"):
        OnnxClassifier(network, ("a", "b", "c")).classify(np.zeros((8, 8, 3), np.uint8), None)
