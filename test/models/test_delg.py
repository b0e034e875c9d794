"""DELG and its trunk: cells lie in the middle of what they see, branches, boxes, and files."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_networks
import torch
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import delg, pycls_resnet
from ros2_loc.models.delg import Autoencoder, Delg, best_boxes, load_published, receptive_boxes
from ros2_loc.models.pycls_resnet import GeM, PyclsResNet


@pytest.fixture(scope="module")
def network() -> Delg:
    """Turned images have turned features."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return random_networks.delg().eval()


def test_a_turned_image_has_its_cells_turned(network: Delg) -> None:
    """A side of 16 n + 1 px has n + 1 cells: with cell c at pixel 16 c + b, 16 (n - c) + b = 16 n - (16 c + b), that is b = 0."""
    image = torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, turned = network.local_maps(image), network.local_maps(image.flip(2, 3))
    assert maps.attention.shape == (1, 1, 5, 7)
    for a, b in zip(maps, turned, strict=True):
        torch.testing.assert_close(b.flip(2, 3), a, atol=1e-4, rtol=1e-3)
    boxes = receptive_boxes(5, 7, 1.0)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    torch.testing.assert_close(torch.tensor([64.0, 96.0]) - middles.flip(0), middles)


def test_boxes_hold_what_a_cell_sees_and_no_more(network: Delg) -> None:
    """Along a row: what lies beyond the box changes nothing."""
    image = torch.rand(1, 3, 32, 481, generator=torch.Generator().manual_seed(0))
    first, last = (int(x) for x in receptive_boxes(2, 31, 1.0)[15, [1, 3]])
    beyond, within = image.clone(), image.clone()
    beyond[..., :first], beyond[..., last + 1 :] = 0.0, 1.0
    within[..., first : first + 60] = 0.0
    with torch.inference_mode():
        middle, same, other = (network.s3(x)[0, :, 0, 15] for x in (image, beyond, within))
    torch.testing.assert_close(same, middle, atol=1e-5, rtol=1e-4)
    assert (other - middle).abs().max() > 1e-3


def test_boxes_grow_as_the_level_shrinks() -> None:
    boxes = receptive_boxes(2, 3, 0.5)
    assert boxes.shape == (6, 4)
    torch.testing.assert_close(boxes[4], 2.0 * torch.tensor([16.0 - 145, 16.0 - 145, 16.0 + 145, 16.0 + 145]))


def test_of_boxes_that_overlap_the_better_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 11], [0, 30, 10, 40], [0, 31, 10, 41]])
    scores = torch.tensor([1.0, 2.0, 4.0, 3.0])
    assert best_boxes(boxes, scores, 0.5, 10).tolist() == [2, 1]
    assert best_boxes(boxes, scores, 0.9, 10).tolist() == [2, 3, 1, 0]
    assert best_boxes(boxes, scores, 0.5, 2).tolist() == [2]


def test_attention_is_positive_and_descriptors_are_of_unit_length(network: Delg) -> None:
    with torch.inference_mode():
        vector, maps = network(torch.randn(2, 3, 64, 48))
    assert vector.shape == (2, 512) and maps.descriptors.shape == (2, 128, 4, 3) and (maps.attention > 0).all()
    torch.testing.assert_close(maps.descriptors.norm(dim=1), torch.ones(2, 4, 3))


def test_an_autoencoder_learns_to_rebuild() -> None:
    torch.manual_seed(0)
    branch, basis = Autoencoder(8, channels=64), torch.rand(64, 4)
    s3 = torch.einsum("ck,bkhw->bchw", basis, torch.rand(2, 4, 6, 6))
    optimizer = torch.optim.Adam(branch.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = (branch.rebuilt(s3) - s3).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_generalized_mean_lies_between_mean_and_maximum() -> None:
    features = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeM(1.0)(features), features.mean((2, 3)))
    torch.testing.assert_close(GeM(60.0)(features), features.amax((2, 3)), atol=0.1, rtol=0)
    assert (GeM(3.0)(features) > features.mean((2, 3))).all()


def authors_state(depth: int, dimension: int = 512) -> dict[str, Tensor]:
    """With the authors' names and shapes, made of ours."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Delg(Delg.Config(depth, dimension)).state_dict().items()}
    names = {"local.projection.0": "localmodel.conv1", "local.projection.1": "localmodel.bn", "local.attention": "localmodel.conv2"}
    parts = {"conv1": "f.a", "bn1": "f.a_bn", "conv2": "f.b", "bn2": "f.b_bn", "conv3": "f.c", "bn3": "f.c_bn"}
    state = {}
    for key, shape in shapes.items():
        words = key.removeprefix("resnet.").split(".")
        if key.startswith("local."):
            stem, _, last = key.rpartition(".")
            name = f"{names[stem]}.{last}"
        elif words[0] in ("pool", "fc"):
            name = f"globalmodel.head.{'.'.join(words)}"
        elif words[0] == "stem":
            name = f"globalmodel.stem.{('conv', 'bn')[int(words[1])]}.{words[2]}"
        elif words[2] == "downsample":
            name = f"globalmodel.{words[0]}.b{int(words[1]) + 1}.{('proj', 'bn')[int(words[3])]}.{words[4]}"
        else:
            name = f"globalmodel.{words[0]}.b{int(words[1]) + 1}.{parts[words[2]]}.{words[3]}"
        state[name] = torch.zeros(()).expand(shape)
    return state


@pytest.mark.parametrize(("depth", "dimension"), [(50, 512), pytest.param(101, 2048, marks=pytest.mark.slow)])
def test_a_published_file_is_loaded_whole_or_not_at_all(depth: int, dimension: int, tmp_path: Path) -> None:
    state = authors_state(depth, dimension)
    training = {"att_cls.fc.weight": torch.zeros(10, 512), "desc_cls.weight": torch.zeros(10, 512)}
    torch.save({"epoch": 1, "model_state": state | training}, tmp_path / "delg.pyth")
    config = load_published(tmp_path / "delg.pyth").config
    assert (config.depth, config.dimension, config.local, config.local_dimension) == (depth, dimension, "projected", 512)
    torch.save({"model_state": {key: value for key, value in state.items() if "s2.b2.f.b." not in key}}, tmp_path / "cut.pyth")
    with pytest.raises(DataError, match=r"s2.1.conv2.weight missing"):
        load_published(tmp_path / "cut.pyth")


def test_files_of_others_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="backbone.0.weight"):
        delg.renamed({"backbone.0.weight": torch.zeros(1)})
    with pytest.raises(DataError, match="layer1"):
        pycls_resnet.renamed({"layer1.0.conv1.weight": torch.zeros(1)})
    trunk_only = {key: value for key, value in authors_state(50).items() if key.startswith("globalmodel.")}
    torch.save({"model_state": trunk_only}, tmp_path / "trunk.pyth")
    with pytest.raises(DataError, match="local branch"):
        load_published(tmp_path / "trunk.pyth")
    with pytest.raises(ConfigError, match="50 or 101"):
        PyclsResNet.Config(depth=34)


def test_the_head_continues_where_the_local_branch_looks(network: Delg) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        sums = network.resnet.s3_sums(image)
        assert (sums < 0).any()
        torch.testing.assert_close(network.resnet.descriptor(sums.relu()), network.resnet(image))
        torch.testing.assert_close(network(image)[0], network.resnet(image))
