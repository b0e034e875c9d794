"""Places as classes: cells, groups without neighbours, and the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.training.place_classes import PlaceClasses, cells_of, groups_of
from ros2_loc.training.place_losses import LargeMarginClassifier

CONFIGS = st.builds(
    lambda cell, heading, cells, headings: PlaceClasses.Config(cell, heading, cells, headings, min_images=1, groups=0),
    st.sampled_from([5.0, 10.0, 13.7]),
    st.sampled_from([30.0, 45.0, 60.0, 90.0]),
    st.integers(1, 5),
    st.sampled_from([1, 2]),
)


def _scattered(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-60, 60, (count, 2)), rng.uniform(-400, 400, count), rng.integers(0, 2, count)


@given(CONFIGS, st.integers(0, 10_000))
def test_no_two_classes_of_a_group_are_neighbours_and_each_class_is_in_one(config: PlaceClasses.Config, seed: int) -> None:
    cells = np.unique(cells_of(config, *_scattered(seed)), axis=0)
    groups = groups_of(config, cells)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(cells)))
    assert len(groups) <= config.apart_cells**2 * config.apart_headings
    around = round(360 / config.heading_deg)
    for group in groups:
        area, east, north, heading = cells[group].T
        turn = np.abs(heading[:, None] - heading[None])
        apart = (
            (area[:, None] != area[None])
            | (np.abs(east[:, None] - east[None]) >= config.apart_cells)
            | (np.abs(north[:, None] - north[None]) >= config.apart_cells)
            | (np.minimum(turn, around - turn) >= config.apart_headings)
        )
        assert apart[~np.eye(len(group), dtype=bool)].all()


@given(CONFIGS, st.integers(0, 10_000))
def test_an_image_lies_in_its_cell(config: PlaceClasses.Config, seed: int) -> None:
    positions, headings, areas = _scattered(seed)
    classes = PlaceClasses(config, positions, headings, areas)
    for number, rows in enumerate(classes.images):
        area, east, north, heading = classes.cells[number]
        inside = positions[rows] / config.cell_m - (east, north)
        turn = (headings[rows] - heading * config.heading_deg) % 360
        assert (areas[rows] == area).all() and (inside >= 0).all() and (inside < 1).all() and (turn < config.heading_deg).all()
    assert sum(map(len, classes.images)) == len(positions)


def test_the_largest_groups_and_the_full_classes_are_kept() -> None:
    config = PlaceClasses.Config(10.0, 90.0, 2, 1, min_images=2, groups=1)
    positions = np.array([[1, 1], [2, 2], [21, 1], [22, 2], [11, 1], [12, 2], [31, 31]], float)
    classes = PlaceClasses(config, positions, np.full(7, 10.0), np.zeros(7, int))
    assert len(classes) == 3 and len(classes.groups) == 1, "one image makes no class, one class no group"
    assert classes.cells[classes.groups[0]][:, 1].tolist() == [0, 2]
    assert sorted(np.concatenate(classes.images).tolist()) == [0, 1, 2, 3, 4, 5]


def test_what_makes_no_classes_is_refused() -> None:
    config = PlaceClasses.Config(min_images=1)
    positions, headings, areas = _scattered(0, 20)
    with pytest.raises(DataError, match="have no heading.*classes.heading_deg=360"):
        PlaceClasses(config, positions, np.where(np.arange(20) == 3, np.nan, headings), areas)
    whole = PlaceClasses.Config(heading_deg=360.0, apart_headings=1, apart_cells=2, min_images=1)
    assert (PlaceClasses(whole, positions, np.full(20, np.nan), areas).cells[:, 3] == 0).all()
    with pytest.raises(DataError, match="not a number"):
        PlaceClasses(config, np.full((20, 2), np.nan), headings, areas)
    with pytest.raises(DataError, match="give more images"):
        PlaceClasses(PlaceClasses.Config(min_images=50), positions, headings, areas)
    with pytest.raises(DataError, match="lower classes.apart_cells"):
        PlaceClasses(PlaceClasses.Config(min_images=1), np.array([[1, 1], [11, 1]], float), np.zeros(2), np.zeros(2, int))
    for wrong in ({"heading_deg": 50.0}, {"heading_deg": 40.0, "apart_headings": 2}, {"cell_m": 0.0}, {"apart_cells": 0}):
        with pytest.raises(ConfigError):
            PlaceClasses.Config(**wrong)


def test_the_margin_is_taken_from_the_right_class_only() -> None:
    classifier = LargeMarginClassifier(3, 2, scale=10.0, margin=0.2)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]]))
    loss, right = classifier(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    logits = torch.tensor([10 * (1.0 - 0.2), 0.0, -10.0])
    assert float(loss.detach()) == pytest.approx(float(-torch.log_softmax(logits, 0)[0]), rel=1e-5) and float(right) == 1.0
    assert float(classifier(torch.tensor([[3.0, 0.0]]), torch.tensor([1]))[1]) == 0.0
