"""LighterGlue by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")

from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Frame, LocalFeatures  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.perception.extractors.xfeat import XFeat  # noqa: E402
from ros2_loc.perception.matchers.lighterglue import LighterGlue, normalized  # noqa: E402


def features_of(keypoints: np.ndarray, extractor: str = "xfeat", dimension: int = 64) -> LocalFeatures:
    n = len(keypoints)
    descriptors = np.random.default_rng(0).normal(size=(n, dimension)).astype(np.float32)
    ones = np.ones(n, np.float32)
    return LocalFeatures(np.asarray(keypoints, np.float32).reshape(-1, 2), descriptors, ones, ones, extractor, (640, 480))


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    folder = shared_data.parent / "weights"
    if not (folder / "xfeat_lighterglue" / "lighterglue_L3.onnx").is_file():
        pytest.skip(f"the published lighterglue_L3.onnx is not in {folder}")
    return folder


@pytest.fixture(scope="module")
def matcher(published: Path) -> LighterGlue:
    return LighterGlue(LighterGlue.Config(weights=str(published / "xfeat_lighterglue" / "lighterglue_L3.onnx")))


def test_the_longer_side_runs_from_minus_one_to_one() -> None:
    found = normalized(features_of(np.array([[0.5, 0.5], [320.5, 240.5], [640.5, 480.5]])))
    np.testing.assert_allclose(found, [[-1, -0.75], [0, 0], [1, 0.75]], atol=1e-6)


def test_refuses_other_features(matcher: LighterGlue) -> None:
    with pytest.raises(ConfigError, match=r"64-d descriptors of xfeat, got 128-d ones of sift: choose extractor xfeat"):
        matcher.match(features_of(np.ones((3, 2))), features_of(np.ones((3, 2)), "sift", 128))
    assert len(matcher.match(features_of(np.zeros((0, 2))), features_of(np.ones((3, 2))))) == 0


def test_other_files_are_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    sides = [[value(name, onnx.TensorProto.FLOAT, [1])] for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", *sides)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(DataError, match="is no LighterGlue with the inputs desc0, desc1, kpts0, kpts1"):
        LighterGlue(LighterGlue.Config(weights=str(tmp_path / "other.onnx")))
    with pytest.raises(ConfigError, match="min_score"):
        LighterGlue.Config(min_score=-0.1)


def test_pairs_a_turned_photograph_with_itself(matcher: LighterGlue, published: Path, shared_data: Path) -> None:
    from ros2_loc.io.image_folders import image_files
    from ros2_loc.io.images import read_image, resize_image

    image = resize_image(read_image(image_files(shared_data / "matching" / "sacre_coeur")[0]), 320, 256)
    turn = cv2.getRotationMatrix2D((160, 128), 12, 0.9)
    turned = cv2.warpAffine(image, turn, (320, 256))
    extractor = XFeat(XFeat.Config(weights=str(published / "xfeat" / "xfeat.onnx"), max_keypoints=400))
    camera = Camera.pinhole(320, 256, 300, 300, 160, 128)
    a, b = (extractor.extract(Frame(0, one, camera, Pose.identity())) for one in (image, turned))
    matches = matcher.match(a, b)
    expected = (a.keypoints - 0.5) @ turn[:, :2].T + turn[:, 2] + 0.5
    error = np.linalg.norm(expected[matches.indices[:, 0]] - b.keypoints[matches.indices[:, 1]], axis=1)
    assert len(matches) > 100 and (error < 3.0).mean() > 0.9
    strict = LighterGlue(LighterGlue.Config(weights=str(published / "xfeat_lighterglue" / "lighterglue_L3.onnx"), min_score=0.9))
    sure = strict.match_many(a, [b])[0]
    assert 0 < len(sure) < len(matches) and sure.scores.min() >= 0.9
