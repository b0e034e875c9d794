"""SAFA: unit vectors, the polar transform's geometry, gradients in both branches."""

from __future__ import annotations

import pytest
import torch

from ros2_loc.models.cvlnet.projection import project_features
from ros2_loc.models.safa import Safa, SpatialAggregation, polar_sampling_px

SMALL = {"channels": 8, "position_maps": 3, "tile_px": 32, "image_px": (16, 32)}


@pytest.mark.parametrize("polar", [True, False])
def test_descriptors_are_unit_vectors_of_one_length(polar: bool) -> None:
    network = Safa(Safa.Config(polar=polar, **SMALL))
    ground, tiles = network.ground_descriptor(torch.rand(2, 3, 16, 32)), network.tile_descriptor(torch.rand(3, 3, 32, 32))
    assert ground.shape == (2, 24) and tiles.shape == (3, 24)
    torch.testing.assert_close(torch.cat([ground, tiles]).norm(dim=1), torch.ones(5))
    similarity = network(torch.rand(2, 3, 16, 32), torch.rand(3, 3, 32, 32))
    assert similarity.shape == (3, 2) and (similarity.abs() <= 1 + 1e-6).all()


def test_training_reaches_every_weight() -> None:
    network = Safa(Safa.Config(**SMALL))
    network(torch.rand(2, 3, 16, 32), torch.rand(2, 3, 32, 32))[0, 1].backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_columns_of_an_unrolled_tile_go_clockwise_from_north() -> None:
    tile = torch.zeros(1, 4, 64, 64)
    tile[0, 0, :16, 24:40] = tile[0, 1, 24:40, 48:] = tile[0, 2, 48:, 24:40] = tile[0, 3, 24:40, :16] = 1.0  # north, east, south, west
    px = polar_sampling_px(64, (16, 128))
    unrolled = project_features(tile, px[None], torch.ones(1, 16, 128, dtype=torch.bool))[0, :, :4]
    peaks = [unrolled[:, :, column % 128].mean(dim=1).argmax().item() for column in (0, 32, 64, 96)]
    assert peaks == [0, 1, 2, 3]


def test_the_last_row_of_an_unrolled_tile_is_its_centre_and_the_first_its_rim() -> None:
    radius = (polar_sampling_px(64, (16, 128)) - 32.0).norm(dim=-1)
    torch.testing.assert_close(radius[0], torch.full((128,), 31.0))
    torch.testing.assert_close(radius[-1], torch.ones(128))


def test_aggregation_sees_where_features_lie() -> None:
    torch.manual_seed(0)
    aggregation = SpatialAggregation(16, 2)
    torch.nn.init.normal_(aggregation.first_weight)
    torch.nn.init.normal_(aggregation.second_weight)
    features = torch.rand(1, 3, 4, 4)
    assert not torch.allclose(aggregation(features), aggregation(features.flip(3)), atol=1e-3)


def test_full_size_has_4096_numbers() -> None:
    config = Safa.Config.full()
    assert config.position_maps * config.channels == 4096
