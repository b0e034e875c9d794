"""LoFTR: parts that need no other image, filling, several pairs at once, the authors' names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models import loftr
from ros2_loc.models.loftr import BORDER_CELLS, CellMatches, Cells, LoFTR

CONFIG = LoFTR.Config(widths=(16, 24, 32), coarse_rounds=2, heads=4)


@pytest.fixture(scope="module")
def network() -> LoFTR:
    torch.manual_seed(0)
    return LoFTR(CONFIG).eval()


def cells_of(tokens: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Cells:
    return Cells(tokens, size, valid)


@torch.inference_mode()
def test_pairs_together_are_pairs_alone(network: LoFTR) -> None:
    images = torch.rand(3, 1, 48, 64)
    first, second = network.cells(network.coarse_features(images)), network.cells(network.features(images.flip(0))[0])
    together = network.attended(first, second)
    confidence = loftr.confidences(*together)
    found = loftr.matched(confidence, *together, threshold=1e-3)
    for index in range(3):
        pair = [Cells(each.tokens[index : index + 1], each.size) for each in (first, second)]
        alone = network.attended(*pair)
        torch.testing.assert_close(alone[1].tokens[0], together[1].tokens[index], atol=1e-4, rtol=1e-4)
        own = loftr.matched(loftr.confidences(*alone), *alone, threshold=1e-3)
        assert own.first.tolist() == found.first[found.pair == index].tolist()


@torch.inference_mode()
def test_what_fills_an_image_changes_nothing(network: LoFTR) -> None:
    """Cells that are not valid may hold anything and match nothing."""
    coarse, other = torch.rand(1, 32, 8, 8), torch.rand(1, 32, 8, 8)
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[:, :, 6:] = False
    filled = [torch.where(valid[:, None], coarse, filling) for filling in (torch.zeros(()), 9.0 * torch.rand(1, 32, 8, 8))]
    results = []
    for each in filled:
        first, second = network.attended(network.cells(each, valid), network.cells(other))
        results.append((loftr.confidences(first, second), second.tokens))
        found = loftr.matched(results[-1][0], first, second, threshold=1e-4)
        assert (found.first % 8 < 6 - BORDER_CELLS).all() and (found.first % 8 >= BORDER_CELLS).all()
    torch.testing.assert_close(results[0][1], results[1][1])
    inside = valid.flatten(1)[0]
    torch.testing.assert_close(results[0][0][0, inside], results[1][0][0, inside])


def test_cells_that_choose_each_other_match_once_and_off_the_border() -> None:
    torch.manual_seed(1)
    size = (8, 9)
    tokens = 3.0 * torch.randn(1, 72, 32)
    order = torch.randperm(72)
    first, second = cells_of(tokens, size), cells_of(tokens[:, order], size)
    found = loftr.matched(loftr.confidences(first, second), first, second)
    assert (order[found.second] == found.first).all() and len(found.first) >= 2
    for index in (found.first, found.second):
        rows, columns = index // 9, index % 9
        assert ((rows >= 2) & (rows < 6) & (columns >= 2) & (columns < 7)).all()
        assert len(index.unique()) == len(index)
    torch.testing.assert_close(loftr.positions(torch.tensor([10]), size), torch.tensor([[8.0, 8.0]]))


def test_the_window_says_where_its_centre_has_gone() -> None:
    centre = 9.0 * torch.nn.functional.normalize(torch.randn(1, 32), dim=1)
    first, second = torch.zeros(1, 25, 32), torch.zeros(1, 25, 32)
    first[:, 12], second[:, 3 * 5 + 4] = centre, centre  # two columns to the right, one row down
    expectation = loftr.refined((first, second))
    torch.testing.assert_close(expectation[:, :2], torch.tensor([[1.0, 0.5]]), atol=1e-3, rtol=0)
    position = loftr.refined_positions(torch.tensor([0]), (4, 4), expectation)
    torch.testing.assert_close(position, torch.tensor([[4.0, 2.0]]), atol=4e-3, rtol=0)


@torch.inference_mode()
def test_no_match_is_no_window(network: LoFTR) -> None:
    none = CellMatches(*(torch.zeros(0, dtype=torch.long) for _ in range(3)), torch.zeros(0))  # type: ignore[arg-type]
    fine, cells = torch.rand(1, 16, 24, 32), cells_of(torch.rand(1, 48, 32), (6, 8))
    windows = network.windows((fine, fine), (cells, cells), none)
    assert loftr.refined(windows).shape == (0, 3)


def test_encodings_differ_and_take_images_of_any_size() -> None:
    fixed, buggy = (loftr.position_encoding(32, (300, 5), kind) for kind in ("fixed", "buggy"))  # type: ignore[arg-type]
    assert fixed.shape == buggy.shape == (32, 300, 5)
    torch.testing.assert_close(fixed[:4], buggy[:4])
    assert (fixed[4:] - buggy[4:]).abs().max() > 0.1


@pytest.mark.slow
def test_checkpoints_have_the_authors_names(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = LoFTR(LoFTR.Config())
    back = {ours: theirs for theirs, ours in loftr._NAMES.items() if ours}
    state = {}
    for key, value in network.state_dict().items():
        prefix = next((ours for ours in back if key.startswith(ours)), "")
        state[f"matcher.{back.get(prefix, 'fine_preprocess.')}{key.removeprefix(prefix)}"] = value
    torch.save({"state_dict": state}, tmp_path / "outdoor_ds.ckpt")
    for encoding in ("buggy", "fixed"):
        loaded = loftr.load_published(tmp_path / "outdoor_ds.ckpt", encoding)  # type: ignore[arg-type]
        assert loaded.config.encoding == encoding and not loaded.training
        torch.testing.assert_close(loaded.state_dict(), network.state_dict())
    torch.save({"state_dict": state | {"matcher.pe": torch.zeros(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r"other.ckpt: matcher.pe: is no weight of LoFTR's authors"):
        loftr.load_published(tmp_path / "other.ckpt")


def test_names_of_others_are_refused() -> None:
    assert set(loftr.renamed({"matcher.fine_preprocess.down_proj.bias": torch.zeros(1)})) == {"down_proj.bias"}
    with pytest.raises(DataError, match=r"matcher.pe: is no weight of LoFTR's authors"):
        loftr.renamed({"matcher.pe": torch.zeros(1)})


@pytest.mark.parametrize("values", [{"encoding": "none"}, {"widths": (16, 24)}, {"widths": (12, 24, 32)}, {"coarse_rounds": 0}])
def test_settings_that_can_not_be_are_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="loftr: "):
        LoFTR.Config(**values)
