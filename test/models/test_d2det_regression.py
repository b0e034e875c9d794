"""Dense local regression and masks: what cells should say, boxes of what they say, masks in images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from ros2_loc.models.d2det import losses
from ros2_loc.models.d2det.dense_regression import DenseRegression, Regression, boxes_of, centres_of, targets_of
from ros2_loc.models.d2det.masks import MASK_CELLS, MaskHead, covered, in_image

edges = st.floats(-50, 200)
sides = st.floats(5, 300)
boxes = st.tuples(edges, edges, sides, sides).map(lambda box: torch.tensor([[box[0], box[1], box[0] + box[2], box[1] + box[3]]]))


def said_of(box: Tensor, truth: Tensor) -> Regression:
    """What a perfect network says."""
    wanted = targets_of(box, truth)
    width, height = (box[:, 2:] - box[:, :2]).T
    shares = wanted.distances / torch.stack([width, width, height, height], dim=1)[..., None, None]
    return Regression(shares, 2.0 * wanted.overlap - 1.0, torch.zeros(len(box), 1, 7, 7))


@given(boxes, boxes)
def test_boxes_of_what_the_cells_should_say_are_the_true_ones(box: Tensor, truth: Tensor) -> None:
    wanted = targets_of(box, truth)
    found = boxes_of(box, said_of(box, truth))
    if wanted.overlap.any():
        torch.testing.assert_close(found, truth, atol=0.02, rtol=1e-4)
    else:
        assert (found == 0.0).all()
    assert (wanted.distances[:, :, wanted.overlap[0, 0] > 0] > 0).all()


def test_cells_near_the_sides_are_no_object() -> None:
    box = torch.tensor([[10.0, 20.0, 80.0, 90.0]])
    overlap = targets_of(box, box).overlap[0, 0]
    assert (overlap[1:6, 1:6] == 1).all() and overlap.sum() == 25
    columns, rows = centres_of(box)
    np.testing.assert_allclose(columns[0, 0], 15.0 + 10.0 * np.arange(7), rtol=1e-6)
    np.testing.assert_allclose(rows[0, :, 0], 25.0 + 10.0 * np.arange(7), rtol=1e-6)


def test_cells_off_the_object_do_not_count() -> None:
    box, truth = torch.tensor([[0.0, 0.0, 70.0, 70.0]]), torch.tensor([[5.0, 5.0, 60.0, 66.0]])
    right = said_of(box, truth)
    wrong = torch.where(right.overlap > 0, right.distances, 100.0)
    torch.testing.assert_close(boxes_of(box, right._replace(distances=wrong)), truth, atol=1e-3, rtol=0)


@given(st.lists(st.floats(0.01, 5), min_size=8, max_size=8))
def test_iou_of_distances_is_that_of_the_boxes(values: list[float]) -> None:
    one, two = torch.tensor(values, dtype=torch.float64).view(2, 1, 4)

    def box(distances: Tensor) -> Tensor:
        left, right, top, bottom = distances.T
        return torch.stack([-left, -top, right, bottom], dim=1)

    torch.testing.assert_close(losses.iou_of_distances(one, two), box_iou(box(one), box(two))[0])


def test_losses_vanish_for_what_is_right_only() -> None:
    box, truth = torch.tensor([[0.0, 0, 70, 70], [5, 5, 40, 60]]), torch.tensor([[5.0, 5, 60, 66], [2, 8, 44, 58]])
    right = said_of(box, truth)
    found = losses.regression_losses(right._replace(overlap=20.0 * right.overlap), targets_of(box, truth), box)
    assert all(float(value) < 1e-5 for value in found.values())
    off = losses.regression_losses(right._replace(distances=1.3 * right.distances), targets_of(box, truth), box)
    assert float(off["loss_distance"]) > 0.1 and float(off["loss_overlap"]) > 0.1


def test_a_regression_without_objects_has_no_distance() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    far = torch.tensor([[200.0, 200.0, 210.0, 210.0]])
    found = losses.regression_losses(said_of(box, box), targets_of(box, far), box)
    assert float(found["loss_distance"]) == 0.0 and torch.isfinite(found["loss_overlap"])


def test_mask_losses_know_how_much_of_the_object_the_box_sees() -> None:
    truth = torch.zeros(2, 28, 28)
    truth[:, :14] = 1.0
    logits = 20.0 * (2.0 * truth - 1.0)
    right = losses.mask_losses(logits, torch.tensor([1.0, 0.5]), truth, torch.tensor([1.0, 0.5]))
    assert all(float(value) < 1e-5 for value in right.values())
    assert float(losses.mask_losses(logits, torch.tensor([1.0, 1.0]), truth, torch.tensor([1.0, 0.5]))["loss_mask_iou"]) > 0.05


def test_heads_say_something_for_each_cell() -> None:
    torch.manual_seed(0)
    said = DenseRegression(8, 16, 3, 4)(torch.randn(5, 8, 14, 14))
    assert said.distances.shape == (5, 4, 7, 7) and (said.distances >= 0).all() and said.overlap.shape == (5, 1, 7, 7)
    head = MaskHead(16, 8, 12, 4, 3)
    labels = torch.tensor([1, 2, 2, 1, 1])
    logits, overlaps = head(said.features, labels)
    assert logits.shape == (5, MASK_CELLS, MASK_CELLS) and overlaps.shape == (5,)
    torch.testing.assert_close(logits, head.logits(said.features)[torch.arange(5), labels])


@pytest.mark.parametrize("box", [[8.0, 6.0, 40.0, 34.0], [-7.5, -4.25, 20.0, 16.0], [30.3, 20.2, 71.9, 55.5]])
def test_masks_lie_in_the_image_where_their_box_says(box: list[float]) -> None:
    x0, y0, x1, y1 = box
    cell = (torch.arange(MASK_CELLS) + 0.5) / MASK_CELLS
    disc = ((cell[None] - 0.5) ** 2 + (cell[:, None] - 0.5) ** 2 < 0.16).float()
    found = in_image(disc[None], torch.tensor([box]), (40, 60))[0] >= 0.5
    rows, columns = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    wanted = ((columns - x0) / (x1 - x0) - 0.5) ** 2 + ((rows - y0) / (y1 - y0) - 0.5) ** 2 < 0.16
    assert (found != wanted).sum() <= 0.05 * wanted.sum()
    torch.testing.assert_close(covered(disc[None], torch.tensor([box]), (40, 60))[0], found)


def test_a_full_mask_covers_the_pixels_of_its_box_and_no_others() -> None:
    full = torch.ones(1, MASK_CELLS, MASK_CELLS)
    found = covered(full, torch.tensor([[3.0, 2.0, 9.0, 7.0]]), (10, 12))[0]
    wanted = torch.zeros(10, 12, dtype=torch.bool)
    wanted[2:7, 3:9] = True
    torch.testing.assert_close(found, wanted)
    for nothing in ([5.0, 5.0, 5.0, 9.0], [20.0, 0.0, 30.0, 5.0], [-9.0, -9.0, -2.0, -2.0], [0.0, 0.0, 0.0, 0.0]):
        assert not covered(full, torch.tensor([nothing]), (10, 12)).any()
    assert covered(full[:0], torch.zeros(0, 4), (10, 12)).shape == (0, 10, 12)
