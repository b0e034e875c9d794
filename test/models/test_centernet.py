"""CenterNet: its pooling, its shapes, the authors' names, what is decoded of maps; what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import random_networks
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ros2_loc.core.labels import COCO
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.centernet import CenterNet, Heads, LastHeads, decode, load_published, normalized
from ros2_loc.models.centernet.decode import REFUSED, SCORE
from ros2_loc.models.centernet.official import config_of, renamed
from ros2_loc.models.centernet.pooling import (
    CentrePooling,
    CornerPooling,
    Direction,
    corner_pool,
    cross_pool,
    maximum_by_cummax,
    maximum_by_shifts,
    maximum_in_place,
)
from ros2_loc.models.folding import folded
from ros2_loc.models.weights import load_model, save_model
from ros2_loc.perception.signal_stack import own_signal_stack

DIRECTIONS: dict[Direction, tuple[int, bool]] = {"top": (2, True), "bottom": (2, False), "left": (3, True), "right": (3, False)}
ABOUT = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}


def one_by_one(features: Tensor, direction: Direction) -> Tensor:
    """The definition: at each place the maximum over all rows below, above, columns to the right, to the left, and its own."""
    dim, after = DIRECTIONS[direction]
    size = features.shape[dim]
    sides = [features.narrow(dim, place, size - place) if after else features.narrow(dim, 0, place + 1) for place in range(size)]
    return torch.stack([side.amax(dim=dim) for side in sides], dim=dim)


class Pooled(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([corner_pool(features, direction) for direction in DIRECTIONS])


@given(height=st.integers(1, 19), width=st.integers(1, 19), seed=st.integers(0, 1000))
def test_corner_pooling_is_the_maximum_of_one_side(height: int, width: int, seed: int) -> None:
    features = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed)).round(decimals=1)  # with ties
    kept = features.clone()
    for direction in DIRECTIONS:
        expected = one_by_one(features, direction)
        assert torch.equal(corner_pool(features, direction), expected)
        assert torch.equal(corner_pool(features.clone().requires_grad_(), direction).detach(), expected)
        for maximum in (maximum_by_cummax, maximum_in_place, maximum_by_shifts):
            assert torch.equal(maximum(features, *DIRECTIONS[direction]), expected), maximum.__name__
    assert torch.equal(features, kept)
    assert torch.equal(cross_pool(features, 2), corner_pool(corner_pool(features, "top"), "bottom"))
    assert torch.equal(cross_pool(features, 3), corner_pool(corner_pool(features, "left"), "right"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_go_to_the_place_of_the_maximum(direction: Direction) -> None:
    features = torch.randperm(35, generator=torch.Generator().manual_seed(1)).double().reshape(1, 1, 5, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: corner_pool(values, direction), features, eps=1e-3)
    corner_pool(features, direction).sum().backward()
    assert features.grad is not None and features.grad.sum() == 35


@pytest.mark.slow
def test_exported_pooling_is_the_same_at_every_size(tmp_path: Path) -> None:
    """Maxima with shifted copies, in the runtimes that a robot has; odd sizes, and larger and smaller ones than what was traced."""
    sides = {index: torch.export.Dim(name, min=2, max=2000) for index, name in ((2, "rows"), (3, "columns"))}
    program = torch.onnx.export(Pooled().eval(), (torch.randn(1, 2, 9, 12),), dynamo=True, dynamic_shapes=(sides,), verbose=False)
    program.save(str(tmp_path / "pool.onnx"))  # type: ignore[union-attr]
    session = onnxruntime.InferenceSession(str(tmp_path / "pool.onnx"), providers=["CPUExecutionProvider"])
    with own_signal_stack():
        compiled = openvino.compile_model(openvino.Core().read_model(tmp_path / "pool.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in ((2, 3), (9, 12), (31, 70), (5, 311)):
        features = torch.randn(1, 2, height, width)
        expected = torch.cat([one_by_one(features, direction) for direction in DIRECTIONS]).numpy()
        np.testing.assert_array_equal(session.run(None, {session.get_inputs()[0].name: features.numpy()})[0], expected)
        np.testing.assert_array_equal(compiled([features.numpy()])[0], expected)


def test_a_corner_sees_what_is_inside_of_its_object() -> None:
    """Cascade corner pooling looks along a border and from there inside: one strong place tells itself to corners on its upper left."""
    torch.manual_seed(0)
    pool = CornerPooling(4, 4, ("top", "left")).eval()
    quiet, loud = torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)
    loud[:, :, 20, 22] = 10.0
    with torch.inference_mode():
        seen = (pool(loud) - pool(quiet)).abs().amax(dim=1)[0] > 1e-5
    assert seen[:17, :19].any() and not seen[26:].any() and not seen[:, 28:].any()
    with torch.inference_mode():
        centre = CentrePooling(4, 4).eval()
        seen = (centre(loud) - centre(quiet)).abs().amax(dim=1)[0] > 1e-5
    assert seen[20].all() and seen[:, 22].all() and not seen[:16, :18].any()


def test_published_sizes_are_those_of_the_paper() -> None:
    """Of Hourglass-52: stride 4, whole halvings down to 128 px."""
    with torch.device("meta"):
        network = CenterNet(CenterNet.Config(COCO, stacks=1)).eval()
        heads = network(torch.zeros(1, 3, 127, 255))
    assert round(sum(value.numel() for value in network.parameters()) / 1e6, 1) == 104.8 and network.multiple == 128
    assert len(heads) == 1 and heads[0].tl_heat.shape == (1, 80, 32, 64)


def test_the_small_one_is_small_and_a_file_of_it_knows_its_labels(tmp_path: Path) -> None:
    network = CenterNet(CenterNet.Config.small(("car", "person")))
    save_model(tmp_path / "small.safetensors", network, ABOUT)
    assert (tmp_path / "small.safetensors").stat().st_size < 5e6
    assert load_model(tmp_path / "small.safetensors").config.labels == ("car", "person")
    with torch.inference_mode():
        heads = network.eval()(torch.zeros(2, 3, 64, 96))[-1]
    channels = {"heat": 2, "tag": 1, "offset": 2}
    assert {name: tuple(value.shape) for name, value in heads._asdict().items()} == {
        name: (2, channels[name.partition("_")[2]], 16, 24) for name in Heads._fields
    }


def test_each_stack_has_maps_while_learning_and_the_last_alone_afterwards() -> None:
    torch.manual_seed(0)
    config = CenterNet.Config(("car",), dims=(8, 12), modules=(1, 1), stacks=2, stem=4, pool_width=4, head_width=4)
    network, images = CenterNet(config), torch.rand(2, 3, 32, 40)
    assert len(network(images)) == 2 and network.multiple == 8
    with torch.inference_mode():
        heads = network.eval()(images)
        assert len(heads) == 1
        for found, expected in zip(LastHeads(folded(network))(images), heads[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.sigmoid(network.stacks[1].tl_heat[-1].bias).item() == pytest.approx(0.1, abs=0.01)


def test_images_are_bgr_less_the_mean() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    expected = [(0 - 0.40789654) / 0.28863828, (0 - 0.44719302) / 0.27408164, (1 - 0.47026115) / 0.27809835]
    torch.testing.assert_close(normalized(red).flatten(), torch.tensor(expected))


def authors_name(key: str) -> str:
    """A name of `CenterNet` -> the authors'."""
    words = key.split(".")
    number, part, rest = words[1], words[2], words[3:]
    if words[0] == "stem":
        return ".".join(["module.pre", *words[1:]])
    if words[0] == "between":
        return ".".join([{"before": "module.inters_", "after": "module.cnvs_", "residual": "module.inters"}[part], number, *rest])
    if part == "hourglass":
        of = {"past": "up1", "down": "low1", "inner": "low2", "up": "low3"}
        return ".".join(["module.kps", number, *(of.get(word, word) for word in rest)])
    if part == "neck":
        return ".".join(["module.cnvs", number, *rest])
    corner, kind = part.split("_")
    if kind == "pool":
        inside = ".".join(rest)
        of = {"look1": "look_conv1", "look2": "look_conv2", "inside1": "P1_look_conv", "inside2": "P2_look_conv", "merge.out": "conv2"}
        of |= {"border1": "p1_conv1", "border2": "p2_conv1", "vertical": "p1_conv1", "horizontal": "p2_conv1"}
        of |= {"merge.pooled.0": "p_conv1", "merge.pooled.1": "p_bn1", "merge.skip.0": "conv1", "merge.skip.1": "bn1"}
        own = next(name for name in of if re.match(rf"{name}\.", inside))
        return f"module.{corner}_cnvs.{number}.{of[own]}{inside.removeprefix(own)}"
    kinds = {"heat": "heats", "tag": "tags", "offset": "regrs"}
    return ".".join([f"module.{corner}_{kinds[kind]}", number, {"0": "0.conv", "2": "1"}[rest[0]], *rest[1:]])


@pytest.mark.parametrize("stacks", [1, 2])
def test_every_name_of_the_authors_has_one_place(stacks: int) -> None:
    with torch.device("meta"):
        own = CenterNet(CenterNet.Config(COCO, stacks=stacks)).state_dict()
    theirs = {authors_name(key): value for key, value in own.items()}
    assert len(theirs) == len(own) == 630 * stacks
    placed = renamed(theirs)
    assert {key: value.shape for key, value in placed.items()} == {key: value.shape for key, value in own.items()}
    assert config_of(placed) == CenterNet.Config(COCO, stacks=stacks)


@pytest.mark.slow  # 420 MB
def test_a_checkpoint_of_theirs_opens_as_it_is(tmp_path: Path) -> None:
    own = CenterNet(CenterNet.Config(COCO, stacks=1)).state_dict()
    torch.save({authors_name(key): value for key, value in own.items()}, tmp_path / "CenterNet-52_480000.pkl")
    network = load_published(tmp_path / "CenterNet-52_480000.pkl")
    assert network.config.labels == COCO and not network.training
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"module.pre.0.conv.weight": torch.zeros(2, 3)}, "has no stacks.0.tl_heat.2.weight"),
        ({"module.tl_heats.0.1.weight": torch.zeros(3, 256, 1, 1)}, "finds 3 kinds of objects, the authors' weights 80"),
        ({"pre.0.conv.weight": torch.zeros(2, 3)}, "pre.0.conv.weight: is no weight of CenterNet's authors"),
        ({"module.backbone.weight": torch.zeros(1)}, "module.backbone.weight: is no weight of CenterNet's authors"),
    ],
)
def test_other_weights_are_refused(state: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "weights.pkl")
    with pytest.raises(DataError, match=rf"weights.pkl: {message}"):
        load_published(tmp_path / "weights.pkl")


def test_objects_in_a_pickle_are_not_run(tmp_path: Path) -> None:
    torch.save({"module.pre": nn.Linear(1, 1)}, tmp_path / "weights.pkl")
    with pytest.raises(DataError, match="can't be read as weights"):
        load_published(tmp_path / "weights.pkl")


@pytest.mark.parametrize("values", [{"labels": []}, {"labels": ["a", "a"]}, {"dims": [8]}, {"modules": [1, 2]}, {"stacks": 0}])
def test_settings_that_can_not_be_are_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="centernet: "):
        CenterNet.Config(**values)


def maps(labels: int = 2, height: int = 12, width: int = 16) -> Heads:
    heat, tag, offset = (torch.full((1, channels, height, width), value) for channels, value in ((labels, -9.0), (1, 0.0), (2, 0.0)))
    return Heads(*(heat.clone() for _ in range(3)), *(tag.clone() for _ in range(2)), *(offset.clone() for _ in range(3)))


def put(heads: Heads, label: int, box: tuple[int, int, int, int], tag: float, logit: float = 4.0) -> None:
    x0, y0, x1, y1 = box
    for heat, x, y in ((heads.tl_heat, x0, y0), (heads.br_heat, x1, y1), (heads.ct_heat, (x0 + x1) // 2, (y0 + y1) // 2)):
        heat[0, label, y, x] = logit
    heads.tl_tag[0, 0, y0, x0] = heads.br_tag[0, 0, y1, x1] = tag


def test_corners_of_one_label_and_one_tag_are_paired() -> None:
    heads = maps()
    put(heads, 0, (1, 2, 5, 7), tag=0.0)
    put(heads, 0, (3, 1, 12, 10), tag=2.0)
    put(heads, 1, (8, 2, 14, 8), tag=2.0)
    heads.tl_offset[0, :, 2, 1] = torch.tensor([0.25, 0.5])
    pairs, centres = decode(heads, top_k=4)
    good = pairs[0][pairs[0, :, SCORE] > 0.9]
    assert sorted(tuple(row) for row in good[:, [0, 1, 2, 3, 7]].tolist()) == [
        (1.25, 2.5, 5.0, 7.0, 0.0),
        (3.0, 1.0, 12.0, 10.0, 0.0),
        (8.0, 2.0, 14.0, 8.0, 1.0),
    ]
    assert sorted(tuple(row) for row in centres[0, :3, :3].tolist()) == [(3.0, 4.0, 0.0), (7.0, 5.0, 0.0), (11.0, 5.0, 1.0)]
    assert torch.equal(pairs[..., SCORE], pairs[..., SCORE].sort(descending=True).values)


def test_corners_on_the_wrong_side_are_no_pair() -> None:
    heads = maps(labels=1)
    heads.tl_heat[0, 0, 8, 9] = heads.br_heat[0, 0, 3, 4] = 5.0
    assert (decode(heads, top_k=1).pairs[..., SCORE] == REFUSED).all()


def test_a_neighbour_of_a_greater_cell_is_no_keypoint() -> None:
    heads = maps(labels=1)
    heads.ct_heat[0, 0, 4, 4:7] = torch.tensor([3.0, 5.0, 4.0])
    assert (decode(heads, top_k=3).centres[0, :, 3] > 0.5).tolist() == [True, False, False]


def test_maps_with_fewer_cells_than_keypoints_are_decoded() -> None:
    pairs, centres = decode(maps(labels=1, height=2, width=3))
    assert pairs.shape == (1, 36, 8) and centres.shape == (1, 6, 4)


def test_images_of_a_batch_do_not_know_of_each_other() -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network, images = random_networks.centernet().eval(), torch.randn(3, 3, 64, 96)
        together = decode(network(images)[-1])
        for index in range(3):
            alone = decode(network(images[index : index + 1])[-1])
            torch.testing.assert_close(together.centres[index], alone.centres[0], rtol=1e-3, atol=1e-4)
