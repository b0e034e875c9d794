"""Movers in pictures: boxes and masks come from one buffer, what hides what is told, and pictures without movers stay what they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.errors import ConfigError
from ros2_loc.world.domains import domain_light
from ros2_loc.world.light import Light
from ros2_loc.world.movers import LABELS, PlacedMover, parked_cars
from ros2_loc.world.objects import MIN_PIXELS, box_of
from ros2_loc.world.recording import demo_camera
from ros2_loc.world.render import View, render
from ros2_loc.world.town import Town
from ros2_loc.world.ways import street_network

CAMERA = demo_camera(200, 120)
PLAIN = Light.afternoon()


class Street:
    """A street of the town, with a camera that looks along it."""

    def __init__(self, town: Town) -> None:
        network = street_network(town)
        a, b = network.ends(network.streets[0])
        self.length_m = float(np.linalg.norm(b - a))
        self.map_from_start = Pose(so3_exp([0, 0, float(np.arctan2(b[1] - a[1], b[0] - a[0]))]), np.append(a, 0.0))
        self.town, self.first = town, len(town.furniture.cars) + 1

    def mover(self, x_m: float, y_m: float = 0.0, yaw: float = 0.0, label: str = "car", look: int = 0, number: int = 0) -> PlacedMover:
        pose = self.map_from_start @ Pose(so3_exp([0, 0, yaw]), np.array([x_m, y_m, 0.0]))
        return PlacedMover(self.first + number, label, pose, look=look)

    def view(self, *movers: PlacedMover, camera: Camera = CAMERA, light: Light = PLAIN, x_m: float = 3.0) -> View:
        pose = self.map_from_start @ Pose(so3_exp([0, 0.06, 0]) @ BODY_FROM_OPTICAL, np.array([x_m, 0.0, 1.5]))
        return render(self.town, camera, pose, light, None, movers)

    def camera_from_map(self, x_m: float = 3.0) -> Pose:
        return (self.map_from_start @ Pose(so3_exp([0, 0.06, 0]) @ BODY_FROM_OPTICAL, np.array([x_m, 0.0, 1.5]))).inverse()


@pytest.fixture(scope="module")
def street(town: Town) -> Street:
    return Street(town)


@settings(max_examples=5, deadline=None)
@given(
    x_m=st.floats(7, 25), y_m=st.floats(-3, 3), yaw=st.floats(0, 6.28), look=st.integers(0, 2**31 - 1), label=st.sampled_from(LABELS)
)
def test_boxes_mask_and_projection_agree(street: Street, x_m: float, y_m: float, yaw: float, look: int, label: str) -> None:
    mover = street.mover(x_m, y_m, yaw, label, look)
    view = street.view(mover)
    seen = {thing.id: thing for thing in view.seen}
    mask = view.objects == mover.id
    if mask.sum() < MIN_PIXELS:
        assert mover.id not in seen
        return
    x0, y0, x1, y1 = seen[mover.id].box_px
    assert (x0, y0, x1, y1) == box_of(mask) and seen[mover.id].label == label and seen[mover.id].moving
    rows, columns = np.nonzero(mask)
    assert columns.min() == x0 and columns.max() + 1 == x1 and rows.min() == y0 and rows.max() + 1 == y1
    corners = street.camera_from_map().apply(mover.corners_m)
    pixels = CAMERA.project(corners)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    assert (low <= np.array([x0, y0]) + 0.51).all() and (high >= np.array([x1, y1]) - 0.51).all()  # rays go through the middles of pixels
    nearest, farthest = corners[:, 2].min(), corners[:, 2].max()
    assert nearest - 1e-3 <= view.depth_m[mask].min() and view.depth_m[mask].max() <= farthest + 1e-3


@pytest.mark.parametrize("label", LABELS)
def test_in_the_open_all_of_a_mover_is_seen(street: Street, label: str) -> None:
    (seen,) = [thing for thing in street.view(street.mover(12.0, label=label)).seen if thing.moving]
    assert seen.visible_share > 0.995


def test_a_car_hides_another_and_a_house_hides_all(street: Street, town: Town) -> None:
    behind, before = street.mover(22.0, number=1), street.mover(12.0, look=4, number=2)
    alone = {thing.id: thing for thing in street.view(behind).seen}
    both = {thing.id: thing for thing in street.view(behind, before).seen}
    assert alone[behind.id].visible_share > 0.995 and both[before.id].visible_share > 0.995
    assert behind.id not in both or both[behind.id].visible_share < 0.5
    camera_from_map = street.camera_from_map()
    houses = [camera_from_map.apply(np.append(house.lot.corners.mean(axis=0), 0.5)) for house in town.houses]
    ahead = [k for k, at in enumerate(houses) if at[2] > 8 and abs(at[0]) < 0.8 * at[2]]
    inside = town.houses[ahead[0]].lot.corners.mean(axis=0)
    hidden = PlacedMover(street.first, "person", Pose(np.eye(3), np.append(inside, 0.0)))
    view = street.view(hidden)
    assert hidden.id not in view.objects and all(thing.id != hidden.id for thing in view.seen)


def test_without_movers_parked_cars_are_told_and_the_picture_is_the_towns(street: Street, town: Town, district: Town) -> None:
    view = street.view()
    assert {thing.label for thing in view.seen} <= {"car"} and not any(thing.moving for thing in view.seen)
    found = 0
    for car in parked_cars(district)[:3]:
        pose = car.map_from_mover @ Pose(so3_exp([0, 0.1, 0.4]) @ BODY_FROM_OPTICAL, np.array([-7.0, -3.0, 1.6]))
        plain = render(district, CAMERA, pose, PLAIN)
        far = PlacedMover(len(parked_cars(district)) + 1, "person", Pose(np.eye(3), np.array([900.0, 900.0, 0.0])))
        fine = render(district, CAMERA, pose, PLAIN, None, (far,))
        shares = [[t for t in view.seen if t.id == car.id] for view in (plain, fine)]
        for (one,), (other,) in [shares] if all(shares) else []:
            found += 1
            assert np.abs(np.array(one.box_px) - other.box_px).max() < 12  # another shape of about the same size in the same place
    assert found


def test_depth_is_that_of_the_nearer_thing_and_nothing_else_changes(street: Street) -> None:
    empty, full = street.view(street.mover(900.0)), street.view(street.mover(12.0))
    there = full.objects == street.first
    assert there.any() and (full.depth_m[there] <= empty.depth_m[there]).all()
    assert np.array_equal(full.depth_m[~there], empty.depth_m[~there])


def test_cars_throw_shade_by_day_and_light_by_night(street: Street) -> None:
    for domain, brighter in (("day", False), ("night", True)):
        light = replace(domain_light(domain), noise=0.0)
        mover = street.mover(14.0, 2.0, np.pi)
        empty, full = (street.view(m, light=light).rgb.astype(int).sum(axis=2) for m in (street.mover(900.0), mover))
        objects = street.view(mover, light=light).objects
        rows, _ = np.nonzero(objects == mover.id)
        ground = (np.arange(objects.shape[0])[:, None] > rows.max() - 4) & (objects == 0)
        change = (full - empty)[ground]
        assert (change.max() > 30) if brighter else (change.min() < -60 and change.max() < 30)


def test_people_step_as_they_walk(street: Street) -> None:
    one, other = (replace(street.mover(9.0, yaw=1.57, label="person"), travelled_m=way) for way in (0.0, 0.36))
    assert not np.array_equal(one.solid().triangles_m, other.solid().triangles_m)
    assert np.array_equal(one.solid().triangles_m, one.solid().triangles_m)
    assert 1.4 < street.mover(9.0, label="person", look=0).size_m[2] < 2.0


@pytest.mark.parametrize("number", [1, 0])
def test_numbers_that_can_not_be(street: Street, number: int) -> None:
    with pytest.raises(ConfigError):
        street.view(replace(street.mover(9.0), id=number))
    with pytest.raises(ConfigError, match="numbers of their own"):
        street.view(street.mover(9.0), street.mover(12.0))


def test_labels_that_do_not_exist(street: Street) -> None:
    with pytest.raises(ConfigError, match="car, truck, person, cyclist"):
        street.mover(9.0, label="ufo")
