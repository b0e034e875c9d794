"""The whole network with random weights: shapes, batches, invisible ground, strides of any backbone, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ros2_loc.models.cvlnet import CVLNet, random
from ros2_loc.models.cvlnet.backbones import make_backbone
from ros2_loc.models.cvlnet.fusion import FUSIONS

TINY = {"cells": 8, "coverage_m": 25.6, "shift_cells": 1, "tile_px": 32, "image_px": (16, 32)}


def tiny(**changes: object) -> CVLNet:
    return random(CVLNet.Config(**{**TINY, **changes}), seed=0).eval()  # type: ignore[arg-type]


def batch(b: int = 2, n: int = 3, m: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, where they see the cells, which they see, tiles."""
    generator = torch.Generator().manual_seed(4)
    sampling = torch.rand(b, n, 8, 8, 2, generator=generator) * torch.tensor([32.0, 16.0])
    visible = torch.rand(b, n, 8, 8, generator=generator) < 0.5
    return torch.rand(b, n, 3, 16, 32, generator=generator), sampling, visible, torch.rand(m, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("view_projection", ["gvp", "none", "unet"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_setting_compares_videos_with_tiles(view_projection: str, fusion: str) -> None:
    network = tiny(view_projection=view_projection, fusion=fusion)
    with torch.no_grad():
        scores = network(*batch(m=3))
    assert scores.shape == (3, 2, 3, 3) and torch.isfinite(scores).all()


def test_without_shifts_there_is_one_score_and_without_uncertainty_a_cosine() -> None:
    centre = tiny(shifts=False, uncertainty=False)
    assert centre.grid.num_shifts == 1 and centre.uncertainty is None
    with torch.no_grad():
        scores = centre(*batch())
        features, uncertainty = centre.tile_features(batch()[3])
    assert scores.shape == (2, 2, 1, 1) and scores.abs().max() <= 1 + 1e-5
    assert (uncertainty == 1).all() and uncertainty.shape == (2, 1, 1)
    torch.testing.assert_close(features.flatten(1).norm(dim=1), torch.ones(2))


def test_a_batch_gives_what_each_gives_alone() -> None:
    network = tiny()
    images, sampling, visible, tiles = batch(b=3, m=3)
    with torch.no_grad():
        together = network(images, sampling, visible, tiles)
        for i in range(3):
            one = network(images[i : i + 1], sampling[i : i + 1], visible[i : i + 1], tiles[i : i + 1])
            torch.testing.assert_close(together[i, i], one[0, 0], atol=1e-4, rtol=1e-4)


def test_cells_that_no_frame_sees_are_zero_and_frames_that_see_nothing_are_ignored() -> None:
    network = tiny()
    images, sampling, visible, _ = batch()
    visible[:, :, :3] = False
    visible[:, 2] = False
    with torch.no_grad():
        ground = network.ground_features(images.flatten(0, 1)).unflatten(0, (2, 3))
        features, seen = network.query_features(ground, sampling, visible)
        fewer, _ = network.query_features(ground[:, :2], sampling[:, :2], visible[:, :2])
        nothing, none_seen = network.query_features(ground, sampling, torch.zeros_like(visible))
    assert torch.equal(seen, visible.any(dim=1)) and (features.permute(0, 2, 3, 1)[~seen] == 0).all()
    torch.testing.assert_close(features.flatten(1).norm(dim=1), torch.ones(2))
    torch.testing.assert_close(features, fewer, atol=1e-5, rtol=1e-5)
    assert not nothing.any() and not none_seen.any()


def test_gradients_reach_every_weight_also_beside_a_video_that_sees_nothing() -> None:
    network = tiny().train()
    images, sampling, visible, tiles = batch()
    visible[1] = False
    scores = network(images, sampling, visible, tiles)
    scores.amax(dim=(2, 3)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


def test_a_few_steps_teach_a_tiny_network_its_pairs() -> None:
    network = tiny().train()
    inputs = batch()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    gaps = []
    for _ in range(40):
        best = network(*inputs).amax(dim=(2, 3))
        gap = best.diagonal() - best.flip(0).diagonal()
        gaps.append(gap.mean().item())
        optimizer.zero_grad()
        nn.functional.softplus(-10 * gap).mean().backward()
        optimizer.step()
    assert gaps[-1] > gaps[0] + 0.5


class _Averages(nn.Module):
    """A backbone that averages squares of 2 px and starts `late` px later, as strided convolutions with odd kernels do."""

    stride = 2

    def __init__(self, late: int) -> None:
        super().__init__()
        self.late, self.first_centre_px = late, 1.0 + late

    def forward(self, images: Tensor) -> Tensor:
        later = nn.functional.pad(images[..., self.late :, self.late :], (0, self.late, 0, self.late))
        return nn.functional.avg_pool2d(later, 2)


@pytest.mark.parametrize("late", [0, 1])
def test_features_lie_where_the_backbone_says(late: int) -> None:
    """Ramps of the pixel coordinates, read at a cell, are the coordinates of the cell's centre, whatever stride and start."""
    network = tiny()
    network.ground_backbone = network.tile_backbone = _Averages(late)
    ramp = torch.stack(torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij"))[None]
    at_cells = network._at_cells(network.tile_backbone(ramp), 32)
    centres = torch.arange(8) * 4.0 + 2.0
    torch.testing.assert_close(at_cells[0, 0, :, 3], centres)
    torch.testing.assert_close(at_cells[0, 1, 5, :], centres)
    px = torch.tensor([11.3, 20.9]).expand(1, 1, 8, 8, 2)
    views, _ = network._overhead_views(network.ground_features(ramp)[None], px, torch.ones(1, 1, 8, 8, dtype=torch.bool))
    torch.testing.assert_close(views[0, 0, :, 0, 0], torch.tensor([20.9, 11.3]))


def test_the_small_backbone_is_centred_on_its_pixels() -> None:
    """What one feature depends on lies around the px that `first_centre_px` and `stride` name."""
    torch.manual_seed(0)
    backbone = make_backbone("small", 4)
    image = torch.rand(1, 3, 64, 128, requires_grad=True)
    backbone(image)[0, :, 8, 16].sum().backward()
    assert image.grad is not None
    rows, columns = image.grad.abs().sum(dim=1)[0].nonzero().T
    middle = [0.5 * (x.min() + x.max() + 1).item() for x in (rows, columns)]
    assert middle == [8 * backbone.stride + backbone.first_centre_px, 16 * backbone.stride + backbone.first_centre_px]


def test_the_same_seed_gives_the_same_network_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    first, second, other = random(CVLNet.Config(**TINY), 3), random(CVLNet.Config(**TINY), 3), random(CVLNet.Config(**TINY), 4)
    assert torch.rand(1) == before
    pairs = zip(first.parameters(), second.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b, _ in pairs) and not torch.equal(first.fusion.shared.weight, other.fusion.shared.weight)


@pytest.mark.parametrize("wrong", [{"fusion": "sum"}, {"view_projection": "polar"}, {"tile_px": 130}, {"channels": 15}])
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="one of|multiple"):
        CVLNet.Config(**wrong)


def test_the_small_network_is_small() -> None:
    assert sum(p.numel() for p in random(CVLNet.Config(), 0).parameters()) < 1_000_000
    assert CVLNet.Config().descriptor_channels * CVLNet.Config().cells ** 2 == 4096
