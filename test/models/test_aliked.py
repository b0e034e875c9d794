"""ALIKED: against kornia's, its detection on made-up maps, its deformable convolution in two forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

from ros2_loc.errors import DataError  # noqa: E402
from ros2_loc.models.aliked import Aliked, detect, load_published  # noqa: E402
from ros2_loc.models.deformable import sampled_convolution  # noqa: E402


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.7, 4.0, 40.0]))
def test_sampling_says_the_same_as_the_deformable_convolution(seed: int, reach: float) -> None:
    g = torch.Generator().manual_seed(seed)
    x, offsets = torch.rand(2, 3, 7, 9, generator=g), reach * torch.randn(2, 18, 7, 9, generator=g)
    weight = torch.randn(4, 3, 3, 3, generator=g)
    torch.testing.assert_close(
        sampled_convolution(x, offsets, weight), torchvision.ops.deform_conv2d(x, offsets, weight, padding=1), atol=1e-4, rtol=1e-4
    )


def test_equals_kornias() -> None:
    feature = pytest.importorskip("kornia.feature", reason="kornia is not installed: pip install '.[torch]'")
    if not hasattr(feature, "ALIKED"):
        pytest.skip("this kornia has no ALIKED: Python 3.11 and kornia 0.8.3 or newer do")
    torch.manual_seed(0)
    ours = Aliked(Aliked.Config("t16")).eval()
    theirs = feature.ALIKED("aliked-t16", detection_threshold=0.5).eval()
    missing, unknown = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ["dkd.hw_grid"] and not unknown
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        maps, expected = ours(images), theirs.extract_dense_map(images)
        for found, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        keypoints = detect(maps.scores, [None, None], 0.5, 1000, 2)
        descriptors = ours.describe(maps.features, [points for points, _ in keypoints])
        for (points, scores), described, one in zip(keypoints, descriptors, theirs(images), strict=True):
            assert len(points) == one.n > 5
            distance = (points[:, None] - 0.5 - one.keypoints[None]).norm(dim=2)
            nearest = distance.argmin(dim=1)
            assert distance.amin(dim=1).max() < 1e-3
            torch.testing.assert_close(scores, one.keypoint_scores[nearest], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(described, one.descriptors[nearest], atol=1e-3, rtol=1e-2)


def bump(x: float, y: float, height: float = 0.9) -> torch.Tensor:
    """A score map (1, 1, 40, 60) with a peak at a point, the first pixel's centre being at (0.5, 0.5)."""
    rows, columns = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    return (height * torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2.0))[None, None]


@given(st.floats(10, 50), st.floats(10, 30))
def test_finds_a_peak_between_pixels(x: float, y: float) -> None:
    ((points, scores),) = detect(bump(x, y), [None], 0.2, 10, 2)
    # two pixels are equal where the peak is on their border
    assert 1 <= len(points) <= 4 and (points - torch.tensor([x, y])).abs().max() < 0.35 and scores.min() > 0.5


def test_detection_knows_thresholds_masks_edges_and_limits() -> None:
    scores = torch.maximum(torch.maximum(bump(20.5, 20.5, 0.9), bump(40.5, 20.5, 0.6)), bump(1.5, 10.5, 0.8))
    ((points, values),) = detect(scores, [None], 0.2, 10, 2)
    assert len(points) == 2
    torch.testing.assert_close(points, torch.tensor([[20.5, 20.5], [40.5, 20.5]]), atol=0.01, rtol=0)
    assert values[0] > values[1]
    assert len(detect(scores, [None], 0.7, 10, 2)[0][0]) == 1 == len(detect(scores, [None], 0.2, 1, 2)[0][0])
    right = torch.arange(60).expand(40, 60) >= 30
    torch.testing.assert_close(detect(scores, [right], 0.2, 10, 2)[0][0], points[1:])
    assert len(detect(scores, [None], 0.95, 10, 2)[0][0]) == 0
    assert len(detect(torch.rand(1, 1, 3, 3), [None], 0.0, 10, 2)[0][0]) == 0


@pytest.mark.parametrize("variant", ["t16", "n16", "n32"])
def test_tells_the_variant_from_the_file(variant: str, tmp_path: Path) -> None:
    network = Aliked(Aliked.Config(variant))  # type: ignore[arg-type]
    torch.save(network.state_dict(), tmp_path / "aliked.pth")
    loaded = load_published(tmp_path / "aliked.pth")
    assert loaded.config.variant == variant and not loaded.training
    torch.testing.assert_close(loaded.state_dict()["block4.conv2.regular_conv.weight"], network.block4.conv2.regular_conv.weight.data)


def test_refuses_what_is_not_all_of_it(tmp_path: Path) -> None:
    state = Aliked(Aliked.Config("t16")).state_dict()
    torch.save({key: value for key, value in state.items() if key != "conv3.weight"}, tmp_path / "short.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"conv3\.weight missing"):
        load_published(tmp_path / "short.pth")
    with pytest.raises(DataError, match="no descriptor head of ALIKED"):
        load_published(tmp_path / "other.pth")
