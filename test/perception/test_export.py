"""Exports of every network against PyTorch. Exporting takes seconds: one quick test with the smallest, the others are slow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
for package, extra in (("torchvision", "torch"), ("onnx", "test"), ("onnxscript", "test"), ("onnxruntime", "onnx")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[{extra}]'")

from ros2_loc import registry  # noqa: E402
from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Frame  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.models.weights import save_model  # noqa: E402
from ros2_loc.perception import export as exporting  # noqa: E402
from ros2_loc.perception.export import ExportJob, export  # noqa: E402
from ros2_loc.perception.exportable import TABLE  # noqa: E402

META = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}


def write_weights(name: str, folder: Path) -> str:
    """A file of a small network without training."""
    from ros2_loc.models.aliked import Aliked
    from ros2_loc.models.context_r2d2 import ContextR2D2
    from ros2_loc.models.d2net import D2Net
    from ros2_loc.models.hrnet import HRNet
    from ros2_loc.models.r2d2 import R2D2
    from ros2_loc.models.superpoint import SuperPoint
    from ros2_loc.models.xfeat import XFeat

    torch.manual_seed(5)
    ours = {
        "r2d2": lambda: R2D2(R2D2.Config(mchan=1)),
        "fast": lambda: R2D2(R2D2.Config("fast", mchan=1)),
        "context_r2d2": lambda: ContextR2D2(
            ContextR2D2.Config(context_channels=8, semantic=HRNet.Config((4, 4, 4, 4), (1, 1, 1), 1, 8, 4, 1), r2d2=R2D2.Config(mchan=1))
        ),
        "d2net": lambda: D2Net(D2Net.Config(width=4)),
    }
    if name in ours:
        path = folder / f"{name}.safetensors"
        save_model(path, ours[name](), META)
        return str(path)
    theirs = {"aliked": lambda: Aliked(Aliked.Config("t16")), "xfeat": lambda: XFeat(XFeat.Config())}
    network = theirs.get(name, lambda: SuperPoint(SuperPoint.Config()))()
    torch.save(network.state_dict(), folder / f"{name}.pth")
    return str(folder / f"{name}.pth")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder = tmp_path_factory.mktemp("weights")
    return lambda name: write_weights(name, folder)


def noise(width: int, height: int) -> Frame:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TABLE if name in registry.components()["extractor"]])
def test_the_extractor_gives_the_same_with_the_export(name: str, weights: Callable[[str], str], tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install '.[openvino]'")
    section = {"name": name, "weights": weights(name)} | ({"score_threshold": 0.01} if name in ("aliked", "xfeat") else {})
    if "r2d2" in name:
        section |= {"min_reliability": 0.0, "min_repeatability": 0.0, "min_scale": 0.6}
    path = tmp_path / "net.onnx"
    done = export(ExportJob(name, str(section["weights"]), path))
    assert [output for output, _ in done.errors] == list(TABLE[name].outputs) and max(e for _, e in done.errors) < 1e-4
    frames = [noise(128, 96), noise(160, 64)]
    expected = registry.create("extractor", section | {"backend": "torch"}).extract_many(frames)
    for backend in ("onnxruntime", "openvino"):
        found = registry.create("extractor", section | {"backend": backend, "model": str(path), "threads": 1}).extract_many(frames)
        for ours, theirs in zip(found, expected, strict=True):
            assert len(theirs) > 10 and abs(len(ours) - len(theirs)) <= max(2, len(theirs) // 50)
            distance = np.linalg.norm(theirs.keypoints[:, None] - ours.keypoints[None], axis=2)
            nearest, same = distance.argmin(axis=1), distance.min(axis=1) < 0.05
            assert same.mean() > 0.95
            cosines = (theirs.descriptors[same] * ours.descriptors[nearest[same]]).sum(axis=1)
            assert np.median(cosines) > 0.999


@pytest.mark.slow
def test_fast_r2d2_wants_even_sides(weights: Callable[[str], str], tmp_path: Path) -> None:
    path = weights("fast")
    with pytest.raises(ConfigError, match="multiples of 2, for instance 64x50"):
        export(ExportJob("r2d2", path, tmp_path / "net.onnx", size=(64, 49)))
    export(ExportJob("r2d2", path, tmp_path / "net.onnx", size=(64, 48)))


@pytest.mark.slow
def test_openvino_has_its_own_files(weights: Callable[[str], str], tmp_path: Path) -> None:
    from ros2_loc.models.weight_files import sha256
    from ros2_loc.perception.backends import BackendConfig, open_exported

    pytest.importorskip("openvino", reason="openvino is not installed: pip install '.[openvino]'")
    path = weights("xfeat")
    done = export(ExportJob("xfeat", path, tmp_path / "net.xml", "openvino", (96, 64), "fp16"))
    assert 1e-6 < max(error for _, error in done.errors) < 5e-2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    runner = open_exported(BackendConfig(backend="openvino", model=str(done.path)), "xfeat", sha256(Path(path)), "cpu")
    assert runner.size == (96, 64) and runner.metadata["precision"] == "fp16"


@pytest.mark.slow
def test_fewer_bits(weights: Callable[[str], str], tmp_path: Path) -> None:
    path = weights("r2d2")
    half = export(ExportJob("r2d2", path, tmp_path / "half.onnx", precision="fp16"))
    assert 1e-6 < max(error for _, error in half.errors) < 5e-2
    images = [np.random.default_rng(k).random((3, 70, 90), dtype=np.float32) for k in range(3)]
    whole = export(ExportJob("r2d2", path, tmp_path / "int8.onnx", precision="int8", calibration=images))
    assert 1e-4 < max(error for _, error in whole.errors) < 1.0
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * export(ExportJob("r2d2", path, tmp_path / "full.onnx")).path.stat().st_size


@pytest.mark.slow
def test_a_file_that_is_off_is_not_written(weights: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exporting.TOLERANCE, "fp32", 0.0)
    with pytest.raises(DataError, match=r"not written: its .* differ by .* of their largest value from PyTorch's"):
        export(ExportJob("xfeat", weights("xfeat"), tmp_path / "net.onnx", size=(64, 64)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "sift"}, "no export of 'sift'; there are: r2d2, "),
        ({"out": Path("net.xml")}, r"net\.xml: a file of format onnx ends in \.onnx"),
        ({"format": "openvino"}, r"net\.onnx: a file of format openvino ends in \.xml"),
        ({"precision": "int8"}, "int8 needs images to calibrate"),
        ({"calibration": [np.zeros((3, 8, 8), np.float32)]}, "the others take none"),
    ],
)
def test_jobs_that_can_not_be_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExportJob(**({"network": "xfeat", "weights": "xfeat", "out": Path("net.onnx")} | values))


def test_sizes_and_missing_providers_are_refused(weights: Callable[[str], str], tmp_path: Path) -> None:
    path = weights("xfeat")
    with pytest.raises(ConfigError, match="xfeat: width and height are multiples of 32, for instance 64x96"):
        export(ExportJob("xfeat", path, tmp_path / "net.onnx", size=(60, 90)))
    import onnxruntime

    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ConfigError, match="no TensorrtExecutionProvider"):
            export(ExportJob("xfeat", path, tmp_path / "net.onnx", format="tensorrt"))
    with pytest.raises(DataError, match="context_r2d2 has no published weights"):
        export(ExportJob("context_r2d2", path, tmp_path / "net.onnx"))
    assert not list(tmp_path.iterdir())
