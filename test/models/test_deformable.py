"""Deformable convolution as sampling, which exports use: the numbers of torchvision's operation."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

from torchvision.ops import deform_conv2d  # noqa: E402

from ros2_loc.models.deformable import sampled_convolution  # noqa: E402


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("size", [(9, 12), (8, 7), (1, 1)])
def test_samples_give_what_the_operation_gives(stride: int, modulated: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, *size), torch.randn(5, 4, 3, 3)
    rows, columns = (-(-side // stride) for side in size)
    offsets = 3.0 * torch.randn(2, 18, rows, columns)
    shares = torch.rand(2, 9, rows, columns) if modulated else None
    expected = deform_conv2d(x, offsets, weight, stride=stride, padding=1, mask=shares)
    torch.testing.assert_close(sampled_convolution(x, offsets, weight, shares, stride), expected, atol=1e-4, rtol=1e-4)
