"""The filter on scores that are made, not computed: what it believes, when it says so, and when it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.types import RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.localization.belief_view import Position, Undecided
from ros2_loc.localization.tile_filter import TileFilter
from ros2_loc.localization.tile_likelihood import TileLikelihood

GRID = OverheadGrid(cells=16, metres_per_cell=3.2, shift_cells=3)
CONFIG = TileFilter.Config(metres_per_cell=2.0, margin_m=20.0, independent_m=10.0, likelihood=TileLikelihood(0.4, 1.25, 0.05, 6.0))
STILL = np.eye(2) * 1e-4
CENTRES = np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1).reshape(-1, 2) * 10.0


def bump(places_m: np.ndarray, where_m: np.ndarray, width_m: float = 4.0) -> np.ndarray:
    """1 at a place, falling off around it."""
    return np.exp(-0.5 * ((places_m - where_m) ** 2).sum(axis=-1) / width_m**2)


class Scene:
    """Tiles in a world that is turned by quarters and moved, and a vehicle whose scores have a bump at its place.

    All random numbers come in the axes of the scene: a scene elsewhere, turned, is the same scene.
    """

    def __init__(
        self, config: TileFilter.Config = CONFIG, quarters: int = 0, shift_m: tuple[float, float] = (0.0, 0.0), seed: int = 0
    ) -> None:
        c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters % 4]
        self.turn, self.shift = np.array([[c, -s], [s, c]], dtype=float), np.array(shift_m)
        self.filter = TileFilter(config, self.world(CENTRES), GRID)
        self.places = self.world_inverse(self.world(CENTRES)[:, None, None] + GRID.shift_offsets_m())
        self.random = np.random.default_rng(seed)
        self.position = np.array([60.0, 70.0])

    def world(self, places_m: np.ndarray) -> np.ndarray:
        return places_m @ self.turn.T + self.shift

    def world_inverse(self, places_m: np.ndarray) -> np.ndarray:
        return (places_m - self.shift) @ self.turn

    def drive(self, step_m: tuple[float, float], heading_error_rad: float = 0.0) -> None:
        """Truly moves by a step; odometry and compass say it turned by the heading error the other way."""
        self.position = self.position + step_m
        c, s = np.cos(-heading_error_rad), np.sin(-heading_error_rad)
        measured = np.array([[c, -s], [s, c]]) @ step_m
        self.filter.predict(self.turn @ measured, STILL, 0.5)

    def query(self, strength: float = 4.0, noise: float = 1.0, more: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Scores with a bump at the vehicle under every heading."""
        ids, headings = self.filter.tiles_to_score(), self.filter.headings_to_score()
        signal = strength * bump(self.places, self.position)
        if more is not None:
            signal = signal + more(self.places)
        scores = signal + noise * self.random.standard_normal(signal.shape)
        self.filter.update(np.repeat(scores[None, ids], len(headings), axis=0).astype(np.float32), ids, headings)

    def error_m(self) -> float:
        found = self.filter.position()
        assert isinstance(found, Position), found
        return float(np.linalg.norm(self.world_inverse(found.mean[:2]) - self.position))


def mass_of(scene: Scene) -> float:
    return scene.filter.view().mass + scene.filter.elsewhere


def test_nothing_is_known_at_first() -> None:
    scene = Scene()
    view, found = scene.filter.view(), scene.filter.position()
    assert isinstance(found, Undecided) and found.reason is RejectionReason.AMBIGUOUS
    assert view.mass == pytest.approx(1 - CONFIG.elsewhere_prior, abs=1e-4)
    covered = view.probability[view.probability > 0]
    assert covered.std() < 1e-3 * covered.mean() and len(scene.filter.tiles_to_score()) == len(CENTRES)
    headings = -(scene.filter._heading_prior * np.log(scene.filter._heading_prior)).sum()
    inside = np.log(len(covered)) + headings
    expected = 0.8 * (inside - np.log(0.8)) + 0.2 * (np.log(len(covered) * 9) - np.log(0.2))
    assert view.entropy_nats == pytest.approx(expected, abs=0.01)


def test_a_drive_narrows_the_belief_and_only_its_tiles_are_scored() -> None:
    scene = Scene(replace(CONFIG, background_cells=4))
    entropies = []
    for _ in range(8):
        scene.drive((5.0, 2.0))
        scene.query()
        entropies.append(scene.filter.view().entropy_nats)
    assert scene.error_m() < 3.0 and entropies[-1] < entropies[0] - 2 < 7
    scored = CENTRES[scene.filter.tiles_to_score()]
    near = np.abs(CENTRES - scene.position).max(axis=1) < 12.0
    assert len(scored) < 40 and set(map(tuple, CENTRES[near])) <= set(map(tuple, scored))
    view = scene.filter.view()
    west, south, east, north = view.bounds_m
    assert west < scene.position[0] < east and south < scene.position[1] < north and view.probability.size < 3000


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8)), min_size=1, max_size=4), st.floats(0, 6))
def test_the_belief_is_a_probability(seed: int, steps: list[tuple[float, float]], strength: float) -> None:
    scene = Scene(seed=seed)
    for step in steps:
        scene.drive(step)
        assert mass_of(scene) == pytest.approx(1.0, abs=1e-4)
        scene.query(strength)
        view = scene.filter.view()
        assert mass_of(scene) == pytest.approx(1.0, abs=1e-4) and view.probability.min() >= 0 and np.isfinite(view.probability).all()
        assert view.entropy_nats > -1e-6 and 0 <= scene.filter.elsewhere <= 1
        assert all(np.linalg.eigvalsh(m.covariance).min() > 0 for m in view.modes)
        assert sum(m.mass for m in view.modes) <= 1.0 + 1e-4


@pytest.mark.parametrize(("quarters", "shift_m"), [(1, (0.0, 0.0)), (2, (1000.0, -300.0)), (3, (-50.0, 7.0)), (0, (3.7, 11.1))])
def test_turned_and_moved_worlds_are_the_same(quarters: int, shift_m: tuple[float, float]) -> None:
    """East and north, rows and columns, signs: whatever is mixed up breaks this. Without noise, which would fall on other tiles."""
    plain, other = Scene(), Scene(quarters=quarters, shift_m=shift_m)
    for scene in (plain, other):
        for step in ((5.0, 1.0), (4.0, 3.0), (0.0, 6.0), (-2.0, 6.0)):
            scene.drive(step, np.radians(5))
            scene.query(noise=0.0)
    a, b = plain.filter.position(), other.filter.position()
    assert isinstance(a, Position) and isinstance(b, Position)
    assert np.allclose(other.world(a.mean[:2]), b.mean[:2], atol=0.3) and a.mean[2] == pytest.approx(b.mean[2], abs=2e-3)
    j = np.eye(3)
    j[:2, :2] = other.turn
    assert np.allclose(j @ a.covariance @ j.T, b.covariance, rtol=0.1, atol=0.5)


def test_the_way_tells_the_heading_error() -> None:
    scene = Scene()
    scene.position = np.array([15.0, 70.0])
    for _ in range(21):
        scene.drive((6.0, 0.0), np.radians(-5))
        scene.query(5.0, 0.5)
    found = scene.filter.position()
    assert isinstance(found, Position) and scene.error_m() < 2.0
    assert np.degrees(found.mean[2]) == pytest.approx(-5, abs=2.0) and 0.5 < np.degrees(np.sqrt(found.covariance[2, 2])) < 4


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 40), marks=pytest.mark.slow)])
def test_noise_alone_is_never_a_position(seeds: range) -> None:
    for seed in seeds:
        scene = Scene(seed=seed)
        for i in range(40):
            scene.drive((5.0, 0.0) if i % 20 < 10 else (-5.0, 0.0))
            scene.query(strength=0.0)
            assert isinstance(scene.filter.position(), Undecided), (seed, i)


def test_a_repetitive_map_stays_ambiguous() -> None:
    scene = Scene()
    twin = np.array([0.0, 60.0])
    for _ in range(12):
        scene.drive((4.0, -2.0))
        scene.query(more=lambda places: 4.0 * bump(places, scene.position + twin))
        found = scene.filter.position()
        assert isinstance(found, Undecided) and found.reason is RejectionReason.AMBIGUOUS
    modes = scene.filter.view().modes[:2]
    assert "2 modes" in scene.filter.position().detail and min(m.mass for m in modes) > 0.1  # type: ignore[union-attr]
    assert abs(modes[0].north_m - modes[1].north_m) == pytest.approx(60.0, abs=4.0)


def test_evidence_counts_by_the_way_not_by_the_number_of_queries() -> None:
    peaks = []
    for queries in (1, 30):
        scene = Scene()
        scene.query(0.0, 0.0)
        for _ in range(queries):
            scene.drive((6.0 / queries, 0.0))
            scene.query(3.0, 0.0)
        view = scene.filter.view()
        peaks.append(view.probability.max() / view.mass)
    assert peaks[0] > 10 / scene.filter.view().probability.size and peaks[1] == pytest.approx(peaks[0], rel=0.25)


def test_standing_still_adds_nothing() -> None:
    scene = Scene()
    scene.query()
    before = scene.filter.view()
    for _ in range(20):
        scene.query()
    after = scene.filter.view()
    assert after.entropy_nats == pytest.approx(before.entropy_nats, abs=0.05) and after.mass == pytest.approx(before.mass, abs=5e-3)


def test_a_fix_and_one_query_are_enough_and_a_wrong_fix_does_not_kill() -> None:
    scene = Scene()
    scene.filter.weigh([62.0, 68.0], np.eye(2) * 9.0)
    view = scene.filter.view()
    assert view.modes[0].mass == pytest.approx(0.94, abs=0.03)  # fixes are wrong with a probability of 5 %
    assert (view.modes[0].east_m, view.modes[0].north_m) == pytest.approx((62.0, 68.0), abs=0.1)
    assert np.allclose(view.modes[0].covariance, np.eye(2) * 9.0, atol=1.0)
    scene.query()
    assert scene.error_m() < 4.0
    wrong = Scene()
    wrong.filter.weigh([120.0, 20.0], np.eye(2) * 9.0)
    for i in range(30):
        wrong.drive((3.0, 0.0) if i % 20 < 10 else (-3.0, 0.0))
        wrong.query(5.0)
    assert wrong.error_m() < 3.0


def test_initialize_starts_anew() -> None:
    scene = Scene()
    scene.filter.initialize([62.0, 68.0], np.diag([16.0, 4.0]))
    found = scene.filter.position()
    assert isinstance(found, Undecided) and "1 mode" in found.detail
    scene.drive((6.0, 0.0))
    scene.query()
    assert scene.error_m() < 4.0


@pytest.mark.parametrize("position", [(500.0, 0.0), (float("nan"), 0.0), (-15.0, 70.0)])
def test_positions_off_the_tiles_are_refused(position: tuple[float, float]) -> None:
    scene = Scene()
    before = scene.filter.view().probability
    for take in (scene.filter.weigh, scene.filter.initialize):
        with pytest.raises(DataError, match="off the tiles"):
            take(position, np.eye(2))
    assert np.array_equal(scene.filter.view().probability, before)


@pytest.mark.parametrize("covariance", [np.zeros((2, 2)), -np.eye(2), np.full((2, 2), np.nan), np.eye(3)])
def test_covariances_that_are_none_are_refused(covariance: np.ndarray) -> None:
    with pytest.raises(DataError, match="covariance"):
        Scene().filter.weigh([60.0, 70.0], covariance)


def test_scores_that_are_not_finite_are_refused() -> None:
    scene = Scene()
    ids, headings = scene.filter.tiles_to_score(), scene.filter.headings_to_score()
    scores = np.zeros((len(headings), len(ids), 7, 7), dtype=np.float32)
    scores[0, 3, 2, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        scene.filter.update(scores, ids, headings)


def test_driving_off_the_tiles_is_said_and_coming_back_works() -> None:
    scene = Scene()
    for _ in range(6):
        scene.drive((8.0, 0.0))
        scene.query()
    assert scene.error_m() < 4.0
    for _ in range(9):
        scene.drive((8.0, 0.0))
        scene.query(4.0 if scene.position[0] < 158 else 0.0)
    found = scene.filter.position()
    assert isinstance(found, Undecided) and found.reason is RejectionReason.OUTSIDE_TILES, found
    for _ in range(24):
        scene.drive((-5.0, 0.0))
        scene.query(4.0 if scene.position[0] < 158 else 0.0)
    assert scene.error_m() < 4.0


def test_a_kidnapped_vehicle_is_missed_soon_and_found_again() -> None:
    scene = Scene()
    for _ in range(6):
        scene.drive((5.0, 0.0))
        scene.query()
    assert scene.error_m() < 3.0
    scene.position = np.array([40.0, 20.0])
    believed_m = 0
    for i in range(24):
        scene.drive((4.0, 1.0))
        scene.query()
        if isinstance(scene.filter.position(), Position) and scene.error_m() > 10.0:
            believed_m = 4 * (i + 1)
    assert believed_m <= 20 and scene.error_m() < 3.0


def test_a_stretch_of_images_that_say_nothing_does_not_lose_the_way() -> None:
    scene = Scene()
    for _ in range(6):
        scene.drive((5.0, 0.0))
        scene.query()
    for _ in range(3):
        scene.drive((5.0, 0.0))
        scene.query(strength=0.0)
    for _ in range(5):
        scene.drive((5.0, 0.0))
        scene.query()
    assert scene.error_m() < 3.0


def test_the_scale_error_of_odometry_widens_along_the_way() -> None:
    config = replace(CONFIG, max_heading_error_deg=0.0, scale_error=0.05, scale_length_m=50.0)
    scene = Scene(config)
    scene.filter.initialize([60.0, 70.0], np.eye(2))
    for _ in range(10):
        scene.drive((5.0, 0.0))
    along, across = np.diag(scene.filter.view().modes[0].covariance)
    assert along - across == pytest.approx(2 * 0.05**2 * 50.0 * 50.0, rel=0.15) and across < 1.0 + 4 / 3 + 0.3


def test_an_unknown_motion_leaves_no_belief() -> None:
    scene = Scene()
    scene.filter.initialize([60.0, 70.0], np.eye(2))
    scene.filter.predict([0.0, 0.0], np.eye(2) * 300.0**2, 20.0)
    assert scene.filter.view().entropy_nats > 8


@pytest.mark.parametrize(
    "values", [{"metres_per_cell": 0.0}, {"min_mass": 1.0}, {"elsewhere_prior": 0.0}, {"scored_headings": 0}, {"heading_step_deg": -1.0}]
)
def test_settings_without_meaning_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        TileFilter.Config(**values)


def test_a_trusted_heading_needs_one_layer() -> None:
    assert np.allclose(TileFilter.Config(max_heading_error_deg=0.0).heading_errors_rad, [0.0])
    assert np.allclose(np.degrees(TileFilter.Config(max_heading_error_deg=5.0).heading_errors_rad), [-5, -2.5, 0, 2.5, 5])
