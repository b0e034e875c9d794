"""The encoders with networks of their own: sizes of descriptors and images, scales, exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

from ros2_loc import registry  # noqa: E402
from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Frame  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402


def noise(width: int = 96, height: int = 64, seed: int = 0) -> Frame:
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    image: NDArray[np.uint8] = np.kron(coarse, np.ones((4, 4, 1), dtype=np.uint8))[:height, :width]
    return Frame(0, np.ascontiguousarray(image), Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity())


@pytest.fixture(scope="module")
def encoder(random_weights: Callable[[str], Path]) -> Callable[..., Any]:
    return lambda name, **settings: registry.create("encoder", {"name": name, "weights": str(random_weights(name)), **settings})


def test_netvlad_keeps_the_leading_components(encoder: Callable[..., Any]) -> None:
    whole, short = (encoder("netvlad", num_pcs=count, size=[96, 64]).encode(noise(), None).vector for count in (0, 8))
    assert whole.shape == (32,) and short.shape == (8,)
    np.testing.assert_allclose(short, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-5)
    with pytest.raises(ConfigError, match="whitens to 32 numbers, not 64"):
        encoder("netvlad", num_pcs=64)
    with pytest.raises(ConfigError, match="num_pcs is not negative"):
        encoder("netvlad", num_pcs=-1)


def test_transvpr_takes_multiples_of_its_patches(encoder: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="size is of multiples of 16 px and at least 32, got \\[100, 64\\]"):
        encoder("transvpr", size=[100, 64])
    any_size = encoder("transvpr", size=[])
    cut = encoder("transvpr", size=[96, 64]).encode(noise(103, 70), None).vector
    np.testing.assert_allclose(any_size.encode(noise(103, 70), None).vector, cut, atol=1e-5)
    assert any_size.encode(noise(40, 16), None).vector.shape == (32,)


@pytest.mark.slow  # of a ResNet-50
@pytest.mark.parametrize("name", ["delg", "cvnet"])
def test_the_descriptor_is_the_mean_of_its_scales(encoder: Callable[..., Any], name: str) -> None:
    both, one, other = (encoder(name, scales=scales).encode(noise(), None).vector for scales in ([0.7071, 1.0], [0.7071], [1.0]))
    mean = one + other
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean), atol=1e-5)
    with pytest.raises(ConfigError, match="scales are positive"):
        encoder(name, scales=[])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_export_describes_images_as_pytorch_does(
    encoder: Callable[..., Any], random_weights: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[test]'")
    from ros2_loc.perception.export import ExportJob, export

    weights = str(random_weights("cosplace"))
    done = export(ExportJob("cosplace", weights, tmp_path / "any.onnx"))
    assert [name for name, _ in done.errors] == ["descriptor"] and done.errors[0][1] < 1e-4
    frames = [noise(), noise(81, 50), noise(seed=1), noise(32, 32)]
    run = {"backend": backend, "threads": 1}
    exported = encoder("cosplace", model=str(tmp_path / "any.onnx"), **run)
    for found, expected in zip(exported.encode_many(frames, None), encoder("cosplace").encode_many(frames, None), strict=True):
        np.testing.assert_allclose(found.vector, expected.vector, atol=1e-4)

    export(ExportJob("cosplace", weights, tmp_path / "one.onnx", size=(96, 64)))
    with pytest.raises(ConfigError, match=r"is for images of one size: set size: \[96, 64\]"):
        encoder("cosplace", model=str(tmp_path / "one.onnx"), **run)
    fixed = encoder("cosplace", model=str(tmp_path / "one.onnx"), size=[96, 64], **run)
    for found, expected in zip(
        fixed.encode_many(frames, None), encoder("cosplace", size=[96, 64]).encode_many(frames, None), strict=True
    ):
        np.testing.assert_allclose(found.vector, expected.vector, atol=1e-4)
    with pytest.raises(DataError, match=r"was exported from weights .* export it again"):
        registry.create("encoder", {"name": "eigenplaces", "weights": other_weights(tmp_path), "model": str(tmp_path / "any.onnx"), **run})


def other_weights(folder: Path) -> str:
    from ros2_loc.models.cosplace import CosPlace
    from ros2_loc.models.weights import save_model

    torch.manual_seed(3)
    network = CosPlace(CosPlace.Config("resnet18", 8, truncate=3))
    save_model(folder / "other.safetensors", network, {"recipe": "random", "seed": 3, "licence": "Apache-2.0"})
    return str(folder / "other.safetensors")
