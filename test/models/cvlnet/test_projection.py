"""Features land on the ground where the scene is: against exact pictures of the synthetic town, from the street and from above."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.overhead import OverheadGrid, project_overhead
from ros2_loc.core.pose import Pose
from ros2_loc.models.cvlnet.projection import UNet, project_features
from ros2_loc.world.drive import make_drive, street_route
from ros2_loc.world.layout import TownSize
from ros2_loc.world.light import Light
from ros2_loc.world.recording import demo_camera, demo_mounting
from ros2_loc.world.render import View, render, render_satellite
from ros2_loc.world.town import Town

GRID = OverheadGrid(64, 0.4, 3)
CAMERAS = [demo_camera(480, 300), Camera("OPENCV_FISHEYE", 480, 300, (230, 228, 241, 150, -0.02, 0.004, 0.0, 0.0))]


class Scene(NamedTuple):
    """A street seen by a car, and from above around the car."""

    view: View
    camera: Camera
    query_from_base: Pose  # with the car's roll and pitch
    ground_height_m: float
    above: np.ndarray


@pytest.fixture(scope="module", params=CAMERAS, ids=lambda c: c.model)
def scene(request: pytest.FixtureRequest) -> Scene:
    town = Town.generate(5, TownSize.small())
    drive = make_drive(street_route(town.plan, [(1, 1), (2, 1), (2, 2)], start=0.1, end=0.8))
    map_from_base = drive.at(int(drive.stamps_ns[200]))
    light = Light.overcast()
    view = render(town, request.param, map_from_base @ demo_mounting(), light)
    east, north, up = map_from_base.translation
    half, pixel = 0.5 * GRID.coverage_m, 0.1
    above = render_satellite(town, pixel, (east - half, north - half, east + half, north + half), light).rgb
    cells = cv2.resize(above[:, :, :3], (GRID.cells, GRID.cells), interpolation=cv2.INTER_AREA)
    return Scene(view, request.param, Pose(map_from_base.rotation, np.zeros(3)), -up, cells)


def projected(scene: Scene, image: np.ndarray, grid: OverheadGrid = GRID) -> tuple[np.ndarray, np.ndarray]:
    """(c, S, S) and (S, S) of a (c, H, W) image."""
    px, visible = project_overhead(grid, scene.camera, demo_mounting(), scene.query_from_base, scene.ground_height_m)
    features = torch.from_numpy(image.astype(np.float32))[None]
    out = project_features(features, torch.from_numpy(px)[None], torch.from_numpy(visible)[None])
    return out[0].numpy(), visible


def ground_cells(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Relative error of the inverse depth that is read for each visible cell, and which cells show the ground and not what hides it."""
    inverse, visible = projected(scene, 1.0 / scene.view.depth_m[None])
    east_north = GRID.cell_centres_m().reshape(-1, 2)
    points = np.column_stack([east_north, np.full(len(east_north), scene.ground_height_m)])
    z = (scene.query_from_base @ demo_mounting()).inverse().apply(points)[:, 2].reshape(visible.shape)
    error = (inverse[0] * z - 1.0)[visible]
    return error, np.abs(error) < 0.2


def test_the_depth_that_is_read_at_a_cell_is_the_depth_of_the_cell(scene: Scene) -> None:
    """Inverse depth is linear in a pinhole's image of a plane, so bilinear reading is exact where it is the carriageway (z = 0) that one
    sees; half a pixel would be 3 % at 20 m.
    """
    error, ground = ground_cells(scene)
    assert len(error) > 400 and ground.mean() > 0.5
    assert np.median(np.abs(error[ground])) < 0.004
    assert (np.abs(error) < 0.01).mean() > 0.3


def test_colours_from_the_street_match_those_from_above_best_without_a_shift(scene: Scene) -> None:
    picture = scene.view.rgb.transpose(2, 0, 1) / 255.0
    street, visible = projected(scene, picture)
    error, _ = ground_cells(scene)
    use = np.zeros_like(visible)
    use[visible] = np.abs(error) < 0.01
    use &= np.hypot(*GRID.cell_centres_m().transpose(2, 0, 1)) < 10.0  # nearer than where the image is coarser than the cells
    rows, columns = np.nonzero(use)
    above, seen = scene.above.mean(axis=2), street.mean(axis=0)[rows, columns]
    score = {
        (dy, dx): np.corrcoef(seen, above[(rows + dy) % GRID.cells, (columns + dx) % GRID.cells])[0, 1]
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    }
    assert len(seen) > 60
    assert max(score, key=lambda k: score[k]) == (0, 0) and score[0, 0] > 0.6, score


@given(st.floats(0.5, 6.5), st.floats(0.5, 4.5))
def test_reading_follows_the_pixel_convention(x: float, y: float) -> None:
    """A ramp whose value is the pixel's coordinate gives the coordinate back."""
    ramp = torch.stack(torch.meshgrid(torch.arange(5) + 0.5, torch.arange(7) + 0.5, indexing="ij"))[None]
    px = torch.tensor([x, y]).expand(1, 2, 2, 2)
    out = project_features(ramp, px, torch.ones(1, 2, 2, dtype=torch.bool))
    np.testing.assert_allclose(out[0, :, 0, 0], [y, x], atol=1e-5)


def test_invisible_cells_are_zero_and_edges_keep_their_value() -> None:
    features = torch.ones(1, 3, 4, 4)
    px = torch.tensor([[[[0.0, 0.0], [4.0, 4.0]], [[2.0, 2.0], [1e8, -1e8]]]])
    visible = torch.tensor([[[True, True], [False, False]]])
    out = project_features(features, px, visible)
    assert (out[0, :, 0] == 1).all() and (out[0, :, 1] == 0).all()


@pytest.mark.parametrize("size", [32, 18, 7])
def test_the_u_net_keeps_the_size(size: int) -> None:
    assert UNet(8)(torch.zeros(2, 8, size, size)).shape == (2, 8, size, size)
