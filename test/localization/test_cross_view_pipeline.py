"""The configuration of cross-view localization, and its fit to an encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.localization.cross_view_pipeline import VideoConfig, load_cross_view_pipeline
from ros2_loc.localization.filter_calibration import ScoreSample, fit_filter, sample_scores
from ros2_loc.localization.tile_filter import TileFilter


def test_the_pipeline_of_the_package_loads_and_can_be_overridden() -> None:
    config = load_cross_view_pipeline()
    assert config.encoder["name"] == "cvlnet" and isinstance(config.filter, TileFilter.Config)
    changed = load_cross_view_pipeline("cross_view", ["localizer.frames=16", "filter.likelihood.temperature=0.7"])
    assert changed.localizer.frames == 16 and changed.filter.likelihood.temperature == 0.7
    assert replace(changed, localizer=config.localizer, filter=config.filter) == config


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("filter.cell=1", "cell"),
        ("localizer.min_frames=99", "min_frames"),
        ("localizer.heading=guessed", "measured or odometry"),
        ("localizer.spacing_m=0", "spacing_m"),
        ("filter.min_mass=1.5", "min_mass"),
        ("filter.likelihood.outlier_share=0", "outlier_share"),
    ],
)
def test_wrong_settings_are_said_in_one_line(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        load_cross_view_pipeline("cross_view", [override])
    assert "\n" not in str(error.value)


def labelled(drive: Any) -> Iterator[tuple[Frame, Pose]]:
    for i, odom_from_base in enumerate(drive.odometry()):
        yield replace(drive.frame(i), odom_from_base=odom_from_base), drive.truth(i)


def test_a_fit_knows_a_clear_view_from_a_poor_one(field: SimpleNamespace) -> None:
    """The true place stands out less in noise, and the same noise in one video after the other is not news."""
    video, fitted, truth = VideoConfig(), [], []
    for noise in (0.3, 3.0):
        world = field.FieldWorld(side_m=160.0, seed=5, noise=noise, query_noise=noise)
        tiles, encoder = world.tiles(), field.FieldEncoder(world)
        drives = [field.Drive(field.wander(160.0, s, length_m=70, border_m=20.0), scale=1.02) for s in (4, 5)]
        samples = [sample_scores(labelled(d), tiles, encoder, video) for d in drives]
        truth.append(np.mean([s.at_truth.mean() for s in samples]))
        assert all(s.elsewhere.shape[1] == len(s.at_truth) >= 11 for s in samples)
        assert abs(np.mean([s.elsewhere.mean() for s in samples])) < 0.4
        fitted.append(fit_filter(samples, TileFilter.Config(), video))
    assert truth[0] > truth[1] + 1 > 1.5
    assert fitted[0].likelihood.log_ratio(3.0) > 2 and fitted[0].likelihood.temperature < fitted[1].likelihood.temperature
    assert all(10 < f.independent_m < 60 for f in fitted)


def test_a_fit_without_enough_data_is_refused(field: SimpleNamespace) -> None:
    config, video = TileFilter.Config(), VideoConfig()
    with pytest.raises(DataError, match="at least one drive"):
        fit_filter([], config, video)
    with pytest.raises(DataError, match="too short"):
        fit_filter([ScoreSample(np.ones(4), np.zeros((9, 4)))] * 9, config, video)
    world = field.FieldWorld(side_m=160.0)
    drive = field.Drive(field.wander(160.0, 4, length_m=30, border_m=20.0) + np.array([500.0, 0.0, 0.0]))
    with pytest.raises(DataError, match="frame"):
        sample_scores(labelled(drive), world.tiles(), field.FieldEncoder(world), video)
    with pytest.raises(DataError, match="odometry"):
        sample_scores([(drive.frame(0), drive.truth(0))], world.tiles(), field.FieldEncoder(world), video)
