"""XFeat on frames: its arithmetic against PyTorch's, its published files, its backends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.perception.extractors.scaling import Prepared
from ros2_loc.perception.extractors.xfeat import XFeat, _heat, _maxima, sampled

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")


@pytest.fixture
def published(shared_data: Path) -> Path:
    folder = shared_data.parent / "weights"
    if not (folder / "xfeat" / "xfeat.onnx").is_file():
        pytest.skip(f"the published xfeat.onnx is not in {folder / 'xfeat'}")
    return folder


def frame_of(image: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity(), mask=mask)


def photo(shared_data: Path, width: int, height: int, index: int = 0) -> np.ndarray:
    from ros2_loc.io.image_folders import image_files
    from ros2_loc.io.images import read_image, resize_image

    return resize_image(read_image(image_files(shared_data / "matching" / "sacre_coeur")[index]), width, height)


@given(st.integers(0, 1000), st.sampled_from(["linear", "cubic"]), st.integers(1, 9), st.integers(1, 9))
def test_reading_between_cells_is_that_of_grid_sample(seed: int, kind: str, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(3, height, width)).astype(np.float32)
    points = rng.uniform(-1.5, 1.5 + max(width, height), size=(20, 2))
    grid = torch.from_numpy(2.0 * points / [width, height] - 1.0).float()[None, None]
    mode = {"linear": "bilinear", "cubic": "bicubic"}[kind]
    expected = torch.nn.functional.grid_sample(torch.from_numpy(maps)[None], grid, mode=mode, align_corners=False)[0, :, 0].T
    np.testing.assert_allclose(sampled(maps, points, kind), expected, atol=1e-4)  # type: ignore[arg-type]


def test_cells_become_pixels_row_by_row() -> None:
    logits = np.random.default_rng(0).normal(size=(65, 3, 4)).astype(np.float32)
    expected = torch.nn.functional.pixel_shuffle(torch.softmax(torch.from_numpy(logits), 0)[:64], 8)[0]
    np.testing.assert_allclose(_heat(logits), expected, atol=1e-6)


def test_maxima_are_alone_in_their_window_inside_of_image_and_mask() -> None:
    heat = np.zeros((16, 24), np.float32)
    for column, row, value in ((5, 5, 0.9), (7, 5, 0.8), (12, 5, 0.7), (20, 12, 0.6), (22, 3, 0.5), (3, 14, 0.01)):
        heat[row, column] = value
    mask = np.ones((14, 22), bool)
    mask[:, :9] = False
    image = np.zeros((14, 22, 3), np.uint8)
    assert _maxima(heat, 0.05, Prepared(image, None, np.ones(2))).tolist() == [[5, 5], [12, 5], [20, 12]]
    assert _maxima(heat, 0.05, Prepared(image, mask, np.ones(2))).tolist() == [[12, 5], [20, 12]]


@pytest.mark.slow
def test_backends_agree_and_equal_the_published_extractor(published: Path, shared_data: Path) -> None:
    """The other published file extracts by itself, from images of 360 x 640 px, which it makes 352 px wide."""
    import cv2

    image = photo(shared_data, 360, 640)
    narrow = frame_of(cv2.resize(image, (352, 640), interpolation=cv2.INTER_LINEAR))
    weights = str(published / "xfeat" / "xfeat.onnx")
    ours = XFeat(XFeat.Config(weights=weights, max_keypoints=4000)).extract(narrow)
    for backend in ("torch", "openvino"):
        other = XFeat(XFeat.Config(weights=weights, max_keypoints=4000, backend=backend)).extract(narrow)  # type: ignore[arg-type]
        assert abs(len(other) - len(ours)) <= 2
        np.testing.assert_allclose(other.keypoints[:100], ours.keypoints[:100])
        np.testing.assert_allclose(other.descriptors[:100], ours.descriptors[:100], atol=1e-3)
    session = onnxruntime.InferenceSession(str(published / "xfeat_lighterglue" / "xfeat_2048_640x360.onnx"))
    points, descriptors, _ = session.run(None, {"images": image.transpose(2, 0, 1)[None].astype(np.float32) / 255})
    distance = np.linalg.norm(points[:, None] * [352 / 360, 1] + 0.5 - ours.keypoints[None], axis=2)
    nearest = distance.argmin(axis=1)
    same = distance.min(axis=1) < 0.01
    assert same.mean() > 0.95  # they resize in floating point, we in bytes
    assert (ours.descriptors[nearest[same]] * descriptors[same]).sum(axis=1).min() > 0.99


def test_the_published_graph_takes_any_size(published: Path) -> None:
    from ros2_loc.perception.extractors.xfeat_graph import any_size

    path = published / "xfeat" / "xfeat.onnx"
    content = any_size(path)
    model = onnx.load_from_string(content)
    assert len(model.graph.node) < 100
    session = onnxruntime.InferenceSession(content)
    image = np.random.default_rng(0).random((2, 3, 64, 96), dtype=np.float32)
    shapes = [one.shape for one in session.run(None, {session.get_inputs()[0].name: image})]
    assert shapes == [(2, 64, 8, 12), (2, 65, 8, 12), (2, 1, 8, 12)]


@pytest.mark.slow
def test_the_freed_graph_says_of_its_own_size_what_the_published_one_does(published: Path) -> None:
    from ros2_loc.perception.extractors.xfeat_graph import any_size

    path = published / "xfeat" / "xfeat.onnx"
    image = np.random.default_rng(0).random((1, 3, 640, 640), dtype=np.float32)
    both = [onnxruntime.InferenceSession(source).run(None, {"input": image}) for source in (str(path), any_size(path))]
    for found, wanted in zip(*both, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_larger_image_gives_the_same_places(published: Path, shared_data: Path) -> None:
    weights = str(published / "xfeat" / "xfeat.onnx")
    small = photo(shared_data, 192, 160)
    large = np.kron(small, np.ones((2, 2, 1), np.uint8))
    a = XFeat(XFeat.Config(weights=weights)).extract(frame_of(small))
    b = XFeat(XFeat.Config(weights=weights, max_edge_px=192)).extract(frame_of(large))
    np.testing.assert_allclose(b.keypoints, 2 * a.keypoints, atol=1e-3)
    assert b.size == (384, 320) and len(a) > 50


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "xfeat.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="can't be read as ONNX"):
        XFeat(XFeat.Config(weights=str(tmp_path / "xfeat.onnx")))
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(DataError, match="is not the published XFeat"):
        XFeat(XFeat.Config(weights=str(tmp_path / "other.onnx")))
    (tmp_path / "xfeat.pt").write_bytes(b"weights")
    with pytest.raises(ConfigError, match="is no ONNX file: backend torch"):
        XFeat(XFeat.Config(weights=str(tmp_path / "xfeat.pt")))
    with pytest.raises(ConfigError, match="score_threshold in"):
        XFeat.Config(score_threshold=1.5)
