"""Features of boxes: where samples lie, what counts, how they are weighed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.models.d2det.backbone import level_of
from ros2_loc.models.d2det.roi_pooling import (
    LEVELS,
    OFFSET_SHARE,
    AdaptiveWeights,
    BoxFeatures,
    DiscriminativePooling,
    aligned,
    deformable_pooled,
)

STRIDE = 4
BOXES = torch.tensor([[3.0, 5.0, 61.0, 47.0], [-9.0, -6.0, 30.5, 20.25], [40.0, 30.0, 90.0, 70.0], [10.0, 10.0, 10.2, 10.1]])


def ramp(height: int = 12, width: int = 16, stride: float = STRIDE) -> Tensor:
    """(2, height, width): each cell's centre, x and y px."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return stride * torch.stack([columns, rows])


def naive(features: NDArray, box: NDArray, cells: int, samples: int, offsets: NDArray | None, legacy: bool) -> NDArray:
    """The operation of Dai et al. as loops, `legacy` as mmdet's kernel has it."""
    channels, height, width = features.shape
    x0, y0, x1, y1 = (np.floor(box + 0.5) if legacy else box) / STRIDE - 0.5
    wide, high = max(x1 - x0, 0.1), max(y1 - y0, 0.1)
    result = np.zeros((channels, cells, cells))
    for row in range(cells):
        for column in range(cells):
            dx, dy = (0.0, 0.0) if offsets is None else OFFSET_SHARE * offsets[:, row, column]
            taken = []
            for i in range(samples):
                for j in range(samples):
                    shift = 0.0 if legacy else 0.5
                    x = x0 + wide * ((column + (j + shift) / samples) / cells + dx)
                    y = y0 + high * ((row + (i + shift) / samples) / cells + dy)
                    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                        continue
                    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
                    left, top = min(int(x), width - 2), min(int(y), height - 2)
                    u, v = x - left, y - top
                    near = features[:, top : top + 2, left : left + 2]
                    taken.append((near * np.outer([1 - v, v], [1 - u, u])).sum(axis=(1, 2)))
            if taken:
                result[:, row, column] = np.mean(taken, axis=0)
    return result


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(("cells", "samples", "moved"), [(3, 2, False), (6, 1, True), (4, 2, True)])
def test_deformable_pooling_is_the_mean_of_the_samples_that_lie_inside(legacy: bool, cells: int, samples: int, moved: bool) -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 12, 16, dtype=torch.float64)
    offsets = 3.0 * torch.randn(len(BOXES), 2, cells, cells, dtype=torch.float64) if moved else None
    boxes = BOXES.double()
    pooled = deformable_pooled(features, boxes, cells, samples, STRIDE, offsets, legacy)
    for k, box in enumerate(boxes):
        own = None if offsets is None else offsets[k].numpy()
        np.testing.assert_allclose(pooled[k], naive(features.numpy(), box.numpy(), cells, samples, own, legacy), atol=1e-9)


@given(st.floats(6, 20), st.floats(6, 20), st.floats(15, 25), st.floats(15, 25))
def test_samples_lie_about_the_centres_of_cells(x0: float, y0: float, width: float, height: float) -> None:
    box = torch.tensor([[x0, y0, x0 + width, y0 + height]])
    share = (torch.arange(7) + 0.5) / 7
    for pooled in (
        deformable_pooled(ramp(), box, 7, 2, STRIDE, None, legacy=False),
        aligned([ramp()[None], *[torch.zeros(1, 2, 4, 4)] * 3], [box], 7, 56.0, legacy=False),
    ):
        torch.testing.assert_close(pooled[0, 0], (x0 + width * share).expand(7, 7), atol=1e-3, rtol=0)
        torch.testing.assert_close(pooled[0, 1], (y0 + height * share)[:, None].expand(7, 7), atol=1e-3, rtol=0)


def test_the_first_version_of_mmdet_aligns_half_a_cell_further() -> None:
    box = torch.tensor([[8.0, 8.0, 40.0, 36.0]])
    levels = [ramp()[None], *[torch.zeros(1, 2, 4, 4)] * 3]
    ours, theirs = (aligned(levels, [box], 7, 56.0, legacy) for legacy in (False, True))
    torch.testing.assert_close(theirs, ours + STRIDE / 2, atol=1e-3, rtol=0)


def test_offsets_move_samples_right_and_down() -> None:
    box = torch.tensor([[16.0, 12.0, 36.0, 28.0]])
    offsets = torch.zeros(1, 2, 7, 7)
    offsets[:, 0], offsets[:, 1] = 1.0, -2.0
    still, moved = (deformable_pooled(ramp(), box, 7, 1, STRIDE, one, legacy=False) for one in (None, offsets))
    torch.testing.assert_close(moved[0, 0], still[0, 0] + OFFSET_SHARE * 20.0, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[0, 1], still[0, 1] - 2.0 * OFFSET_SHARE * 16.0, atol=1e-3, rtol=0)


def test_weights_leave_what_is_the_same_everywhere_as_it_is() -> None:
    torch.manual_seed(0)
    weights = AdaptiveWeights(5)
    constant = torch.randn(3, 5, 1, 1).expand(3, 5, 14, 14)
    torch.testing.assert_close(weights(constant), constant[..., :7, :7], atol=1e-4, rtol=1e-4)
    samples = torch.randn(3, 5, 14, 14)
    pooled = weights(samples)
    assert pooled.shape == (3, 5, 7, 7) and (pooled <= samples.amax(dim=(2, 3), keepdim=True)).all()


@given(st.floats(1, 2000), st.floats(1, 2000), st.floats(0, 500))
def test_levels_follow_the_size_of_boxes(width: float, height: float, corner: float) -> None:
    level = int(level_of(torch.tensor([[corner, corner, corner + width, corner + height]], dtype=torch.float64), 56.0, LEVELS))
    side = (width * height) ** 0.5
    assert 0 <= level < LEVELS
    assert level == LEVELS - 1 or side < 56.0 * 2 ** (level + 1) * (1 + 1e-5)
    assert level == 0 or side >= 56.0 * 2**level * (1 - 1e-5)


def test_each_box_is_pooled_at_the_level_of_its_size_in_its_own_image() -> None:
    torch.manual_seed(0)
    pooling = BoxFeatures(4, 8, 1, 28.0, legacy=False).eval()
    levels = [torch.randn(2, 4, 64 // 2**i, 96 // 2**i) for i in range(5)]
    boxes = [torch.tensor([[10.0, 10, 30, 40], [50, 50, 250, 200]]), torch.tensor([[100.0, 20, 180, 90]])]
    pooled = pooling(levels, boxes)
    for row, (image, box) in enumerate([(0, boxes[0][:1]), (0, boxes[0][1:]), (1, boxes[1])]):
        own = int(level_of(box, 28.0, LEVELS))
        alone = pooling.levels[own](levels[own][image][None], [box])
        torch.testing.assert_close(pooled[row], alone[0])
    assert pooling(levels, [torch.zeros(0, 4)] * 2).shape == (0, 4, 7, 7)


def test_gradients_reach_offsets_and_weights() -> None:
    torch.manual_seed(0)
    pooling = DiscriminativePooling(3, 8, STRIDE, 2, legacy=False)
    features = torch.randn(1, 3, 12, 16, requires_grad=True)
    pooling(features, [BOXES]).square().sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0
    for parameter in (pooling.offsets[-1].bias, pooling.weights.conv.weight):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0  # type: ignore[union-attr]
