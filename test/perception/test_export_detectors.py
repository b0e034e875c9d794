"""Exports of detectors against PyTorch, and files of several parts. Exporting takes seconds: whole networks are slow tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
for package, extra in (("torchvision", "torch"), ("onnx", "test"), ("onnxscript", "test"), ("onnxruntime", "onnx")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[{extra}]'")

from ros2_loc import registry  # noqa: E402
from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Detection, Frame  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.perception.backends import FORMAT, BackendConfig  # noqa: E402
from ros2_loc.perception.export import ExportJob, export  # noqa: E402
from ros2_loc.perception.parts import merged, open_parts  # noqa: E402

METADATA = {"format": FORMAT, "network": "two", "weights_sha256": "ab" * 32, "multiple": "1"}
METADATA |= {"parts": "first second", "whole_images": "first"}


def frame(width: int, height: int, seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    for _ in range(8):
        x, y, w, h = rng.integers([0, 0, 8, 8], [width - 10, height - 10, 60, 50])
        image[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity())


def two_parts() -> Any:
    """`first`: y = 2 a + b; `second`: z = y + 1, of the same names inside."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info

    def model(inputs: list[str], nodes: list[Any], number: float) -> Any:
        arrays = [numpy_helper.from_array(np.array([number], np.float32), "number")]
        of = [value(name, TensorProto.FLOAT, ["n", 3]) for name in inputs]
        graph = helper.make_graph(nodes, "part", of, [value("y", TensorProto.FLOAT, ["n", 3])], arrays)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    first = [helper.make_node("Mul", ["a", "number"], ["t"]), helper.make_node("Add", ["t", "b"], ["y"])]
    second = [helper.make_node("Add", ["a", "number"], ["y"])]
    return merged({"first": model(["a", "b"], first, 2.0), "second": model(["a"], second, 1.0)})


def write_two(path: Path, **changed: str) -> str:
    import onnx

    model = two_parts()
    onnx.helper.set_model_props(model, METADATA | changed)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_parts_lie_side_by_side_and_run_alone(tmp_path: Path, backend: Any) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed: pip install '.[{backend}]'")
    config = BackendConfig(backend=backend, model=write_two(tmp_path / "two.onnx"), threads=1)
    parts = open_parts(config, "two", "ab" * 32, "cpu")
    assert list(parts) == ["first", "second"]
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    np.testing.assert_allclose(parts["first"](a, b)[0], 2 * a + b)
    np.testing.assert_allclose(parts["second"](a)[0], a + 1)
    assert parts["first"](a[:0], b[:0])[0].shape == (0, 3)


def test_files_of_others_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write_two(tmp_path / "two.onnx")
    for config, network, digest, expected in (
        (BackendConfig(backend="onnxruntime"), "two", "ab" * 32, "needs model: FILE"),
        (BackendConfig(backend="onnxruntime", model=path), "d2det", "ab" * 32, "is no export of d2det but two"),
        (BackendConfig(backend="onnxruntime", model=path), "two", "cd" * 32, "was exported from weights abab"),
        (BackendConfig(backend="onnxruntime", model=str(tmp_path / "none.onnx")), "two", "ab" * 32, "no such file"),
        (BackendConfig(backend="onnxruntime", model=write_two(tmp_path / "whole.onnx", parts="")), "d2det", "", "no export of d2det"),
    ):
        with pytest.raises((ConfigError, DataError), match=expected):
            open_parts(config, network, digest, "cpu")
    (tmp_path / "bad.onnx").write_bytes(b"this is no network")
    with pytest.raises(DataError, match=r"bad\.onnx: can't be read as ONNX"):
        open_parts(BackendConfig(backend="onnxruntime", model=str(tmp_path / "bad.onnx")), "two", "", "cpu")


def test_a_detector_of_two_stages_has_no_fixed_size(random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="d2det: is exported for images of any size: leave --width and --height out"):
        export(ExportJob("d2det", str(random_weights("d2det")), tmp_path / "net.onnx", size=(64, 64)))
    assert not list(tmp_path.iterdir())


def assert_alike(found: list[Detection], expected: list[Detection]) -> None:
    """The same boxes within 0.1 px and nearly all pixels of their masks; order may differ where scores are alike."""
    assert len(found) == len(expected)
    for one in expected:
        near = [other for other in found if other.label == one.label and np.abs(other.box - one.box).max() < 0.1]
        assert near and min(abs(other.score - one.score) for other in near) < 1e-3, one
        if one.mask is not None:
            assert min((one.mask != other.mask).mean() for other in near if other.mask is not None) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("name", ["centernet", "d2det"])
def test_the_detector_finds_the_same_with_the_export(name: str, random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install '.[openvino]'")
    section = {"name": name, "weights": str(random_weights(name)), "min_score": 0.1}
    done = export(ExportJob(name, section["weights"], tmp_path / "net.onnx"))
    assert max(error for _, error in done.errors) < 1e-4
    frames = [frame(160, 112, 0), frame(96, 70, 1), frame(160, 112, 2)]
    expected = registry.create("detector", section).detect_many(frames)
    for backend in ("onnxruntime", "openvino"):
        detector = registry.create("detector", section | {"backend": backend, "model": str(done.path), "threads": 1})
        for found, wanted in zip(detector.detect_many(frames), expected, strict=True):
            assert len(wanted) > 2
            assert_alike(found, wanted)


@pytest.mark.slow
def test_a_network_as_deep_as_the_published_ones_is_exported(tmp_path: Path) -> None:
    from ros2_loc.models.centernet import CenterNet
    from ros2_loc.models.weights import save_model

    torch.manual_seed(0)
    network = CenterNet(CenterNet.Config(("car",), (8,) * 6, (1,) * 6, stacks=2, stem=8, pool_width=8, head_width=8))
    assert network.multiple == 128
    weights = tmp_path / "deep.safetensors"
    save_model(weights, network, {"recipe": {}, "seed": 0, "licence": "none"})
    done = export(ExportJob("centernet", str(weights), tmp_path / "deep.onnx"))
    assert max(error for _, error in done.errors) < 1e-4
    section = {"name": "centernet", "weights": str(weights), "min_score": 0.0, "backend": "onnxruntime", "model": str(done.path)}
    assert registry.create("detector", section).detect(frame(200, 90, 0)) is not None


@pytest.mark.slow
def test_fewer_bits_of_parts(random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    weights = str(random_weights("d2det"))
    half = dict(export(ExportJob("d2det", weights, tmp_path / "half.onnx", precision="fp16")).errors)
    assert 1e-6 < max(half.values()) < 5e-2 and half["pooling0"] < 1e-4  # its weights reach exp(12), beyond 16 bits
    images = [frame(90, 70, k).image.transpose(2, 0, 1).astype(np.float32) / np.float32(255.0) for k in range(2)]
    whole = dict(export(ExportJob("d2det", weights, tmp_path / "int8.onnx", precision="int8", calibration=images)).errors)
    assert 1e-4 < whole["pyramid"] < 1.0 and whole["pooling0"] < 1e-4
    found = registry.create(
        "detector", {"name": "d2det", "weights": weights, "backend": "onnxruntime", "model": str(tmp_path / "int8.onnx"), "min_score": 0.1}
    ).detect(frame(160, 112, 0))
    assert found and all(np.isfinite(one.box).all() for one in found)


@pytest.mark.slow
def test_openvino_has_files_of_its_own(random_weights: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install '.[openvino]'")
    section = {"name": "d2det", "weights": str(random_weights("d2det")), "min_score": 0.1}
    export(ExportJob("d2det", section["weights"], tmp_path / "net.xml", "openvino"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    detector = registry.create("detector", section | {"backend": "openvino", "model": str(tmp_path / "net.xml")})
    assert_alike(detector.detect(frame(160, 112, 0)), registry.create("detector", section).detect(frame(160, 112, 0)))


@pytest.mark.slow
def test_deformable_convolutions_are_exported_as_sampling(tmp_path: Path) -> None:
    from torch.export import Dim

    from ros2_loc.models.d2det.backbone import ModulatedDeformableConv2d
    from ros2_loc.perception.backends import OnnxRunner
    from ros2_loc.perception.tracing import trace

    torch.manual_seed(0)
    layers = [ModulatedDeformableConv2d(torch.nn.Conv2d(*sizes)) for sizes in ((4, 6, 3, 2, 1), (6, 6, 3, 1, 1))]
    for layer in layers:
        torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    network = torch.nn.Sequential(*layers).eval()
    free = {0: Dim("images", min=1, max=64), 2: 32 * Dim("rows", min=1, max=64), 3: 32 * Dim("columns", min=1, max=64)}
    trace(network, (torch.randn(2, 4, 64, 96),), (free,), (["images"], ["features"]), tmp_path / "net.onnx", "deformable")
    runner = OnnxRunner(tmp_path / "net.onnx", threads=1)
    for images in (torch.randn(1, 4, 64, 32), torch.randn(3, 4, 32, 160)):
        with torch.inference_mode():
            expected = network(images).numpy()
        np.testing.assert_allclose(runner.run(images.numpy())[0], expected, atol=1e-4 * np.abs(expected).max())
