"""XFeat: against kornia's, and its weights in the forms in which they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")

from ros2_loc.errors import DataError  # noqa: E402
from ros2_loc.models.xfeat import XFeat, load_published, renamed  # noqa: E402


def random_network() -> XFeat:
    torch.manual_seed(1)
    network = XFeat(XFeat.Config())
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2.0)
    return network.eval()


def test_equals_kornias() -> None:
    module = pytest.importorskip("kornia.feature.xfeat", reason="this kornia has no XFeat: Python 3.11 and kornia 0.8.3 or newer do")
    ours, theirs = random_network(), module.XFeatModel().eval()
    state = {f"net.{key}": value for key, value in theirs.state_dict().items()}
    ours.load_state_dict(renamed(state))
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        for found, wanted in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_reads_a_checkpoint_and_leaves_out_the_semi_dense_part_by_name(tmp_path: Path) -> None:
    state = {f"net.{key}": value for key, value in random_network().state_dict().items()}
    torch.save(state | {"net.fine_matcher.0.weight": torch.zeros(2, 2)}, tmp_path / "xfeat.pt")
    torch.save(state | {"net.coarse.0.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    assert not load_published(tmp_path / "xfeat.pt").training
    with pytest.raises(DataError, match=r"coarse\.0\.weight unknown"):
        load_published(tmp_path / "other.pt")


def test_reads_weights_with_folded_normalization(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
    network = random_network()
    path = tmp_path / "folded.onnx"
    onnx.save(folded_graph(onnx, network), path)
    loaded = load_published(path)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for found, wanted in zip(loaded(images), network(images), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    model = onnx.load(path)
    del model.graph.node[-1]
    onnx.save(model, path)
    with pytest.raises(DataError, match="has 26 convolutions, XFeat has 27"):
        load_published(path)
    path.write_bytes(b"no network")
    with pytest.raises(DataError, match="can't be read as ONNX"):
        load_published(path)


def folded_graph(onnx, network: XFeat):  # type: ignore[no-untyped-def]
    """The convolutions in the order in which an image runs through them, as the published file has them."""
    from ros2_loc.models.folding import folded

    order = ("block1", "skip1", "block2", "block3", "block4", "block5", "block_fusion", "heatmap_head", "keypoint_head")
    plain = folded(network)
    layers = [layer for part in order for layer in plain.get_submodule(part).modules() if isinstance(layer, torch.nn.Conv2d)]
    arrays, nodes = [], []
    for index, layer in enumerate(layers):
        for kind, value in (("w", layer.weight), ("b", layer.bias)):
            arrays.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value.detach().numpy()), f"{kind}{index}"))
        nodes.append(onnx.helper.make_node("Conv", [f"x{index}", f"w{index}", f"b{index}"], [f"x{index + 1}"]))
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], arrays))
