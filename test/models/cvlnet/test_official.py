"""The authors' setting: its grid, its projection and its matching beside the right ones, every fusion, missing frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ros2_loc.core.camera import Camera
from ros2_loc.core.overhead import project_overhead
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.models.cvlnet import matching
from ros2_loc.models.cvlnet.official import OfficialCVLNet, OfficialGrid, authors_similarity, best_shift
from ros2_loc.models.cvlnet.official_fusion import FUSE_METHODS, make_fusion
from ros2_loc.models.cvlnet.official_projection import CAMERA_HEIGHT_M, METRES_PER_CELL, authors_uv

GRID = OfficialGrid(32, METRES_PER_CELL, 3)
INTRINSICS = ((582.98, 0.0, 496.24), (0.0, 482.71, 125.0), (0.0, 0.0, 1.0))


@pytest.fixture(scope="module")
def network() -> OfficialCVLNet:
    torch.manual_seed(0)
    return OfficialCVLNet(OfficialCVLNet.Config()).eval()


@pytest.mark.parametrize("heading_rad", [0.0, 0.7, -2.4])
def test_the_grid_makes_our_projection_the_authors(heading_rad: float) -> None:
    # ours has the centre of the first pixel at 0.5, theirs at 0
    camera = Camera.pinhole(1024, 256, INTRINSICS[0][0], INTRINSICS[1][1], INTRINSICS[0][2] + 0.5, INTRINSICS[1][2] + 0.5)
    base_from_camera = Pose(BODY_FROM_OPTICAL, np.array([0.0, 0.0, CAMERA_HEIGHT_M]))
    query_from_base = Pose(so3_exp(np.array([0.0, 0.0, heading_rad])), np.array([-3.0, 2.0, 0.0]))
    px, visible = project_overhead(GRID, camera, base_from_camera, query_from_base)
    uv = authors_uv(torch.tensor([INTRINSICS]), torch.tensor([[[-3.0, 2.0]]]), torch.tensor([[heading_rad]]))[0, 0].numpy()
    assert visible.sum() > 50
    np.testing.assert_allclose(uv[visible] * 16 + 0.5, px[visible], atol=0.02)


def test_the_callers_intrinsics_stay() -> None:
    intrinsics = torch.tensor([INTRINSICS])
    arguments = torch.zeros(1, 1, 2), torch.zeros(1, 1)
    first, second = authors_uv(intrinsics, *arguments), authors_uv(intrinsics, *arguments)
    assert torch.equal(intrinsics, torch.tensor([INTRINSICS])) and torch.equal(first, second)


def test_the_grid_has_whole_cells_at_its_centre_and_no_shift_of_zero() -> None:
    np.testing.assert_allclose(GRID.cell_centres_m()[16, 16], 0.0, atol=1e-12)
    half = 0.5 * 32 * METRES_PER_CELL / 38
    np.testing.assert_allclose(GRID.shift_offset_m(3, 3), [-half, half])


def test_the_grid_and_the_authors_metres_agree() -> None:
    for row, column in ((0, 0), (2, 5), (6, 3)):
        scores = torch.zeros(1, 1, 7, 7)
        scores[0, 0, row, column] = 1.0
        north, east = best_shift(scores)[1][0, 0].tolist()
        np.testing.assert_allclose(GRID.shift_offset_m(row, column), [east, north], rtol=1e-6)


def test_the_matching_is_a_normalized_correlation_over_the_cells_in_the_tile() -> None:
    generator = torch.Generator().manual_seed(1)
    query, tile = torch.randn(2, 4, 32, 32, generator=generator)
    uncertainty = torch.rand(1, 7, 7, generator=generator) + 0.1
    similarity = authors_similarity(query[None], tile[None], uncertainty)[0, 0]
    for row, column in ((3, 3), (0, 5), (6, 1)):
        down, right = row - 3, column - 3
        inside = tile[:, max(down, 0) : 32 + min(down, 0), max(right, 0) : 32 + min(right, 0)]
        beside = query[:, max(-down, 0) : 32 + min(-down, 0), max(-right, 0) : 32 + min(-right, 0)]
        cosine = (inside * beside).sum() / (inside.norm() * query.norm())
        torch.testing.assert_close(similarity[row, column], cosine / uncertainty[0, row, column], rtol=1e-4, atol=1e-6)


def test_the_matching_is_ours_at_no_shift() -> None:
    generator = torch.Generator().manual_seed(1)
    query, tiles = (torch.randn(n, 4, 32, 32, generator=generator) for n in (2, 3))
    everywhere = torch.ones(2, 32, 32, dtype=torch.bool)
    ours = matching.similarity(matching.unit_length(query), everywhere, matching.unit_length(tiles), None, 3)
    theirs = authors_similarity(query, tiles, torch.ones(3, 7, 7))
    torch.testing.assert_close(theirs[..., 3, 3], ours[..., 3, 3], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fuse_method", FUSE_METHODS)
def test_every_fusion_takes_any_number_of_frames(fuse_method: str) -> None:
    torch.manual_seed(0)
    fusion = make_fusion(fuse_method).eval()
    for frames in (1, 2, 5):
        fused = fusion(torch.randn(2, frames, 16, 6, 6))
        assert fused.shape == (2, 16, 6, 6) and torch.isfinite(fused).all()


def test_a_weighted_fusion_stays_between_the_frames() -> None:
    torch.manual_seed(0)
    frames = torch.randn(1, 4, 16, 6, 6)
    fused = make_fusion("vis_Conv2D")(frames)
    assert (fused <= frames.amax(dim=1) + 1e-5).all() and (fused >= frames.amin(dim=1) - 1e-5).all()


def test_frames_that_pad_a_batch_change_nothing(network: OfficialCVLNet) -> None:
    ground = torch.randn(1, 3, 16, 16, 64)
    sampling, visible = torch.rand(1, 3, 32, 32, 2) * torch.tensor([1024.0, 256.0]), torch.ones(1, 3, 32, 32, dtype=torch.bool)
    visible[:, 2] = False
    with torch.inference_mode():
        padded, seen = network.query_features(ground, sampling, visible)
        alone, _ = network.query_features(ground[:, :2], sampling[:, :2], visible[:, :2])
    torch.testing.assert_close(padded, alone)
    assert seen.all() and math.isclose(float(padded.norm()), 1.0, rel_tol=1e-5)


def test_it_serves_as_the_network_of_an_encoder() -> None:
    network = OfficialCVLNet(OfficialCVLNet.Config()).eval()
    network.tile_branch = nn.Conv2d(3, 16, 16, 16)  # VGG16 takes seconds
    with torch.inference_mode():
        tiles, uncertainty = network.tile_features(torch.rand(1, 3, 512, 512))
        similarity = network.similarity(tiles, torch.ones(1, 32, 32, dtype=torch.bool), tiles, torch.ones(1, 7, 7))
    assert tiles.shape == (1, 4, 32, 32) and ((uncertainty > 0) & (uncertainty < 1)).all()
    assert similarity.flatten().argmax() == 24 and float(similarity.max()) == pytest.approx(1.0, abs=1e-5)


def test_an_unknown_fuse_method_lists_the_known() -> None:
    with pytest.raises(ValueError, match="vis_Conv3D"):
        OfficialCVLNet.Config("fuse_Mean")
