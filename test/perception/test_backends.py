"""Exported networks and what runs them: sizes, metadata, refusals. The network is one convolution with stride 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[onnx]'")

from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.perception.backends import (  # noqa: E402
    FORMAT,
    BackendConfig,
    OnnxRunner,
    OpenVinoRunner,
    open_exported,
    open_runner,
    require_tensorrt,
    run_at,
)
from ros2_loc.perception.quantization import fitted, in_half_precision, quantized  # noqa: E402

METADATA = {"format": FORMAT, "network": "tiny", "weights_sha256": "ab" * 32, "multiple": "2"}
ONNXRUNTIME = BackendConfig(backend="onnxruntime")


def write(path: Path, height: Any = "height", width: Any = "width", batch: Any = "batch", metadata: dict[str, str] | None = None) -> Path:
    """y = 2x2 convolution with stride 2 of (B, 3, H, W), and half of it."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["images", "w"], ["y"], strides=[2, 2]),
        onnx.helper.make_node("Mul", ["y", "half"], ["z"]),
    ]
    value = onnx.helper.make_tensor_value_info
    outputs = [value(name, onnx.TensorProto.FLOAT, [None, 4, None, None]) for name in ("y", "z")]
    arrays = [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(np.array([0.5], np.float32), "half")]
    inputs = [value("images", onnx.TensorProto.FLOAT, [batch, 3, height, width])]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "tiny", inputs, outputs, arrays), opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.helper.set_model_props(model, METADATA if metadata is None else metadata)
    onnx.save(model, path)
    return path


def images(width: int, height: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).random((count, 3, height, width), dtype=np.float32)


def test_onnxruntime_and_openvino_say_the_same_of_any_size(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install '.[openvino]'")
    path = write(tmp_path / "tiny.onnx")
    runners = [OnnxRunner(path, threads=1), OpenVinoRunner(path, threads=1), OnnxRunner(path.read_bytes())]
    for x in (images(8, 6, 2), images(12, 4)):
        first, *others = (runner.run(x) for runner in runners)
        assert first[0].shape == (len(x), 4, x.shape[2] // 2, x.shape[3] // 2)
        np.testing.assert_allclose(first[1], 0.5 * first[0])
        for other in others:
            for a, b in zip(first, other, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5)
    assert all(runner.size is None and runner.multiple == 2 and runner.metadata["network"] == "tiny" for runner in runners)


def test_images_are_filled_up_to_what_the_network_takes_and_its_maps_cut_back(tmp_path: Path) -> None:
    free = OnnxRunner(write(tmp_path / "free.onnx"))
    fixed = OnnxRunner(write(tmp_path / "fixed.onnx", height=8, width=12, batch=1))
    assert fixed.size == (12, 8)
    whole = free.run(images(12, 8, 2))
    for a, b in zip(whole, run_at(fixed, images(12, 8, 2)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    part = np.ascontiguousarray(images(12, 8, 2)[:, :, :5, :6])
    for runner in (free, fixed):
        found = run_at(runner, part)[0]
        assert found.shape == (2, 4, 3, 3)
        np.testing.assert_allclose(found[:, :, :2], whole[0][:, :, :2, :3], atol=1e-6)
    np.testing.assert_allclose(run_at(free, part)[0], run_at(fixed, part)[0], atol=1e-6)
    with pytest.raises(DataError, match="exported for 12x8 px and the image has 14x8"):
        run_at(fixed, images(14, 8))


def test_an_export_of_another_network_or_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.onnx")
    config = BackendConfig(backend="onnxruntime", model=str(path))
    assert open_exported(config, "tiny", "ab" * 32, "cpu").metadata == METADATA
    with pytest.raises(DataError, match="is no export of r2d2 but tiny: write it by `ros2-loc export r2d2`"):
        open_exported(config, "r2d2", "ab" * 32, "cpu")
    with pytest.raises(DataError, match=r"from weights abababababab\.\.\., the pipeline has cdcdcdcdcdcd"):
        open_exported(config, "tiny", "cd" * 32, "cpu")
    foreign = BackendConfig(backend="onnxruntime", model=str(write(tmp_path / "foreign.onnx", metadata={})))
    with pytest.raises(DataError, match="but of someone else"):
        open_exported(foreign, "tiny", "ab" * 32, "cpu")
    with pytest.raises(ConfigError, match="backend onnxruntime needs model: FILE"):
        open_exported(ONNXRUNTIME, "tiny", "", "cpu")


def test_what_this_machine_can_not_run_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.onnx")
    with pytest.raises(ConfigError, match="tensorrt needs device cuda"):
        open_runner(BackendConfig(backend="tensorrt"), path, "cpu")
    with pytest.raises(ConfigError, match="openvino runs on device cpu"):
        open_runner(BackendConfig(backend="openvino"), path, "cuda")
    import onnxruntime

    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ConfigError, match="no TensorrtExecutionProvider, only .*CPUExecutionProvider"):
            require_tensorrt()
        with pytest.raises(ConfigError, match="no TensorrtExecutionProvider"):
            open_runner(BackendConfig(backend="tensorrt"), path, "cuda")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ConfigError, match="no CUDAExecutionProvider"):
            open_runner(ONNXRUNTIME, path, "cuda")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.onnx: no such file"):
        open_runner(ONNXRUNTIME, tmp_path / "nothing.onnx", "cpu")
    (tmp_path / "bad.onnx").write_bytes(b"this is no network")
    with pytest.raises(DataError, match=r"bad\.onnx: ONNX Runtime .* can't open it"):
        open_runner(ONNXRUNTIME, tmp_path / "bad.onnx", "cpu")
    (tmp_path / "bad.bin").write_bytes(b"this is no network")
    with pytest.raises(DataError, match=r"OpenVINO reads \.xml and \.onnx files"):
        open_runner(BackendConfig(backend="openvino"), tmp_path / "bad.bin", "cpu")


@pytest.mark.parametrize("values", [{"threads": -1}, {"model": "x.onnx"}])
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="backend torch has no model"):
        BackendConfig(**values)


def test_fewer_bits_stay_close(tmp_path: Path) -> None:
    exact = OnnxRunner(write(tmp_path / "tiny.onnx")).run(images(16, 16))[0]
    in_half_precision(write(tmp_path / "half.onnx"))
    quantized(write(tmp_path / "int8.onnx"), iter([images(15, 20), images(16, 16)]), None, 2)
    for name, limit in (("half", 2e-3), ("int8", 0.05)):
        found = OnnxRunner(tmp_path / f"{name}.onnx").run(images(16, 16))[0]
        assert found.dtype == np.float32
        assert 0 < np.abs(found - exact).max() / np.abs(exact).max() < limit


def test_calibration_images_are_made_to_fit() -> None:
    x = images(7, 5)
    assert fitted(x, None, 4).shape == (1, 3, 8, 8) and fitted(x, (12, 4), 4).shape == (1, 3, 4, 12)
    np.testing.assert_array_equal(fitted(x, None, 4)[:, :, :5, :7], x)


def test_neither_pytorch_nor_a_runtime_is_imported_before_it_is_asked_for() -> None:
    import subprocess
    import sys

    modules = ["extractors.xfeat", "matchers.lighterglue", "matchers.mutual_nearest", "backends"]
    lines = [f"import ros2_loc.perception.{module}" for module in modules]
    names = "('torch', 'onnx', 'onnxruntime', 'openvino', 'kornia')"
    code = "\n".join(["import sys", *lines, f"print(*(name for name in {names} if name in sys.modules))"])
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == []


OPENED = """
import ctypes, sys
from pathlib import Path
from ros2_loc.perception.backends import OpenVinoRunner
from ros2_loc.perception.signal_stack import _Stack

def stack():
    found = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.pointer, found.flags, found.size

before = stack()
runner = OpenVinoRunner(Path(sys.argv[1]), threads=1)
print(stack() == before)
"""


@pytest.mark.parametrize("handlers", ["", "faulthandler"])
def test_openvino_leaves_the_stack_of_signals_alone(tmp_path: Path, handlers: str) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install '.[openvino]'")
    path = write(tmp_path / "tiny.onnx")
    options = ["-X", handlers] if handlers else []
    done = subprocess.run([sys.executable, *options, "-c", OPENED, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
