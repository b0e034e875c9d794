"""A Bayes filter over position and heading error: weak matches with satellite tiles, and odometry, become a position.

A histogram filter (Thrun, Burgard and Fox, "Probabilistic Robotics", section 4.1): any number of modes, until the data decide. Besides
the cells there is one hypothesis more, "elsewhere": off the imagery, carried away, or images that say nothing. A score's likelihood
ratio has the mean 1 over wrong positions, so that elsewhere keeps its probability while every wrong cell loses its own in the long run;
scores that are noise end there and not in a confident cell, and so does a robot that was kidnapped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ros2_loc.core.overhead import OverheadGrid
from ros2_loc.core.pose import largest_sigma
from ros2_loc.core.types import RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.localization.belief_grid import BeliefGrid
from ros2_loc.localization.belief_view import BeliefView, Mode, Position, Undecided, density, entropy, label_modes, moments
from ros2_loc.localization.score_grid import ScoreGrid, between_headings
from ros2_loc.localization.tile_likelihood import TileLikelihood, background, standardized

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_EXCHANGE_SHARE = 0.05  # between headings: collected until it is worth the work
_CONTRADICTED_NATS = -2.0  # by one query
_UNSUPPORTED_NATS = -0.5  # in the mean; a belief that is spread widely stays near 0, whatever the scores
_BACKGROUND_MAX = 4000
_LOST_SIGMA_M = 100.0  # a motion less certain than this leaves nothing of a belief


class TileFilter:
    """The belief about base_link over the tiles. Not thread-safe."""

    @dataclass(frozen=True)
    class Config:
        """Attributes:
        metres_per_cell, margin_m: size of a cell; cells beyond what the tiles cover, in which the motion is still followed.
        max_heading_error_deg, heading_step_deg: the measured heading is wrong by at most this; 0: it is trusted.
        heading_sigma_deg: standard deviation of that error before anything is known.
        heading_walk_deg_per_sqrt_m: how it changes over the way.
        scored_headings: a query is compared under at most so many of these errors; between them scores are interpolated.
        scale_error, scale_length_m: the odometry's way is wrong by this fraction (one standard deviation), and keeps its error over this
            length.
        independent_m: queries this far apart are independent evidence, those nearer count in proportion to the way between them. About
            what a video shows along the way (`fit_independent_m`).
        independent_s: the same in time, where there is no odometry.
        elsewhere_prior: probability, before anything is known, of being elsewhere (see the module).
        leave_per_m, return_per_m: rates from the cells to elsewhere and back, spread over all tiles.
        support_m, leave_per_m_unsupported: the queries of about this way must speak for the belief rather than against it, else it is no
            position, and leaks to elsewhere at this rate; once half is there, that is spread over all tiles and the search starts anew.
        search_all_above: tiles without belief are scored too while the probability of elsewhere is above this.
        fold_mass: cells that together hold less than this go to elsewhere, and their tiles are scored no longer.
        background_cells: so many cells without belief are scored too, to know what a wrong place scores.
        min_mass, max_sigma_m: a mode is a position when it has so much of the belief and is no wider than this.
        fix_outlier_share: share of fixes and of initial poses that are wrong altogether.
        seed: of the choice of background cells.
        """

        metres_per_cell: float = 2.0
        margin_m: float = 40.0
        max_heading_error_deg: float = 10.0
        heading_step_deg: float = 2.5
        heading_sigma_deg: float = 5.0
        heading_walk_deg_per_sqrt_m: float = 0.1
        scored_headings: int = 5
        scale_error: float = 0.03
        scale_length_m: float = 50.0
        independent_m: float = 40.0
        independent_s: float = 60.0
        elsewhere_prior: float = 0.2
        leave_per_m: float = 1e-4
        return_per_m: float = 0.01
        support_m: float = 15.0
        leave_per_m_unsupported: float = 0.03
        search_all_above: float = 0.01
        fold_mass: float = 1e-4
        background_cells: int = 100
        min_mass: float = 0.97
        max_sigma_m: float = 8.0
        fix_outlier_share: float = 0.05
        seed: int = 0
        likelihood: TileLikelihood = field(default_factory=TileLikelihood)

        def __post_init__(self) -> None:
            for name in ("elsewhere_prior", "search_all_above", "fold_mass", "min_mass", "fix_outlier_share"):
                if not 0.0 < getattr(self, name) < 1.0:
                    raise ValueError(f"filter.{name} must be in (0, 1), got {getattr(self, name)}")
            may_be_zero = ("margin_m", "max_heading_error_deg", "heading_walk_deg_per_sqrt_m", "scale_error", "seed")
            for name, value in self.__dict__.items():
                if isinstance(value, (int, float)) and not (value > 0 or (name in may_be_zero and value == 0)):
                    raise ValueError(f"filter.{name} must be positive, got {value}")

        @property
        def heading_errors_rad(self) -> Array:
            """(H,) rad, ascending, symmetric about 0."""
            steps = int(np.floor(self.max_heading_error_deg / self.heading_step_deg + 1e-9))
            return np.radians(np.arange(-steps, steps + 1) * self.heading_step_deg)

    def __init__(self, config: Config, centres_m: ArrayLike, grid: OverheadGrid) -> None:
        """Args:
        config: see `Config`.
        centres_m: (T, 2) of the tiles, ENU of the map.
        grid: the encoder's: what the shifts in its scores mean.
        """
        self.config = config
        self.heading_errors_rad = config.heading_errors_rad
        self._cells = ScoreGrid(np.asarray(centres_m, dtype=np.float64), grid, config.metres_per_cell, config.margin_m)
        prior = np.exp(-0.5 * (self.heading_errors_rad / np.radians(config.heading_sigma_deg)) ** 2)
        self._heading_prior: FloatArray = (prior / prior.sum()).astype(np.float32)
        self._covered_cells = int(self._cells.covered.sum())
        self._background: IntArray = np.zeros(0, dtype=np.int64)
        self._random = np.random.default_rng(config.seed)
        self.reset()

    def reset(self) -> None:
        """Anywhere on the tiles, or elsewhere."""
        self._grid = BeliefGrid(self._cells.shape, len(self.heading_errors_rad))
        self._elsewhere, self._left = self.config.elsewhere_prior, 0.0
        self._add_everywhere(1.0 - self._elsewhere)
        self._walk_rad2, self._support, self._last_evidence = 0.0, 0.0, 0.0
        self._since_update_m, self._since_update_s = np.inf, np.inf

    def initialize(self, position_m: ArrayLike, covariance: ArrayLike) -> None:
        """Starts anew near a position (2,) m with a covariance (2, 2) m^2; wrong with the probability `fix_outlier_share`.

        Raises:
            DataError: the position is off the tiles, or the covariance is none.
        """
        checked = self._checked(position_m, covariance)
        self.reset()
        self.weigh(*checked)

    def weigh(self, position_m: ArrayLike, covariance: ArrayLike) -> None:
        """Takes a measured position (2,) m with a covariance (2, 2) m^2 (a fix) into account.

        Raises:
            DataError: the position is off the tiles, or the covariance is none.
        """
        position, spread = self._checked(position_m, covariance)
        spread = spread + np.eye(2) * self.config.metres_per_cell**2 / 12.0
        outliers = self.config.fix_outlier_share
        self._spread_elsewhere(1.0 - outliers)  # who measures a position on the tiles is on the tiles, or the measurement is an outlier
        area_m2 = self._covered_cells * self.config.metres_per_cell**2
        self._grid.mass *= (1.0 - outliers) * area_m2 * density(*self._positions(), position, spread) + np.float32(outliers)
        self._normalize()
        self._fold()

    def predict(self, displacement_m: ArrayLike, covariance: ArrayLike, seconds: float) -> None:
        """Moves the belief.

        Args:
            displacement_m: (2,) m east and north, if the measured heading was right.
            covariance: (2, 2) m^2 of it, without what the heading error and the odometry's scale do.
            seconds: that it took.
        """
        step, config = np.asarray(displacement_m, dtype=np.float64), self.config
        way_m = float(np.linalg.norm(step))
        spread = np.asarray(covariance, dtype=np.float64) + self._systematic(step)
        self._since_update_m += way_m
        self._since_update_s += seconds
        if largest_sigma(spread) > _LOST_SIGMA_M:
            self.reset()
            return
        before = self._grid.total
        cos, sin = np.cos(self.heading_errors_rad), np.sin(self.heading_errors_rad)
        east, north = cos * step[0] - sin * step[1], sin * step[0] + cos * step[1]
        turn = np.array([[0.0, -1.0], [1.0, 0.0]]) / config.metres_per_cell  # (east, north) -> (row, column)
        self._grid.move(np.stack([east, north], axis=1) @ turn.T, turn @ spread @ turn.T)
        self._left += max(before - self._grid.total, 0.0)
        self._walk_heading(way_m)
        self._exchange_with_elsewhere(way_m)
        self._normalize()

    def tiles_to_score(self) -> IntArray:
        """(M,) ids of the tiles that the next query must be compared with: those with belief, and some others for the background."""
        covered = np.flatnonzero(self._cells.covered)
        believed = self._cells.cells_in(self._grid.box)[self._grid.mass.max(axis=0) > 0]
        if len(believed) > 0.5 * len(covered):
            self._background = self._random.choice(covered, min(_BACKGROUND_MAX, len(covered)), replace=False)
            return np.arange(self._cells.num_tiles)
        others = np.setdiff1d(covered, believed, assume_unique=True)
        self._background = self._random.choice(others, min(self.config.background_cells, len(others)), replace=False)
        return self._cells.tiles_of(np.concatenate([believed, self._background]))

    def headings_to_score(self) -> Array:
        """(Q,) rad, ascending: heading errors under which the next query must be compared."""
        masses = self._grid.by_heading
        believed = np.flatnonzero(masses > 1e-3 * masses.max())
        first, last = int(believed[0]), int(believed[-1])
        count = min(self.config.scored_headings, last - first + 1)
        return self.heading_errors_rad[np.unique(np.rint(np.linspace(first, last, count)).astype(int))]

    def update(self, scores: FloatArray, tile_ids: ArrayLike, heading_errors_rad: ArrayLike, *, with_odometry: bool = True) -> float:
        """Takes the scores of one query.

        Args:
            scores: (Q, M, K, K) similarity under Q headings with M tiles at K x K shifts.
            tile_ids: (M,) of `tiles_to_score`, just asked.
            heading_errors_rad: (Q,) of `headings_to_score`.
            with_odometry: the way since the last query says how much of it is new; else the time.

        Returns:
            Logarithm of how much better the query fits what was believed than positions elsewhere.

        Raises:
            DataError: scores that are not finite.
        """
        if not np.isfinite(scores).all():
            raise DataError("the encoder's scores are not finite: are its weights, or the tiles' descriptors, damaged?")
        ids = np.asarray(tile_ids, dtype=np.int64)
        arranged = self._cells.arranged(scores - scores.mean(), ids)  # what is not scored is then as good as any
        mean, sigma = background(self._cells.scores_of(arranged, self._background))
        z = standardized(self._cells.scores_of(arranged, self._cells.cells_in(self._grid.box)), mean, sigma)
        z = between_headings(z, np.asarray(heading_errors_rad), self.heading_errors_rad)
        ratio = self.config.likelihood.log_ratio(self._grid.sampled(z))
        ratio *= self._cells.covered[self._window]
        inside = max(self._grid.total, 1e-30)
        evidence = float(np.log(np.einsum("hrc,hrc->", self._grid.mass, np.exp(ratio), dtype=np.float64) / inside + 1e-30))
        exponent = self._exponent(with_odometry)
        self._support += (evidence - self._support) * -np.expm1(-exponent * self.config.independent_m / self.config.support_m)
        self._last_evidence = evidence
        ratio *= np.float32(exponent)
        self._grid.mass *= np.exp(ratio, out=ratio)
        self._normalize()
        self._fold()
        self._since_update_m, self._since_update_s = 0.0, 0.0
        if self._is_unsupported and self.elsewhere > 0.5:
            self._search_anew()
        return evidence

    def covers(self, position_m: ArrayLike) -> bool:
        """Whether a position (2,) m lies where tiles are."""
        place = np.asarray(position_m, dtype=np.float64)
        row, column = self._cells.cell_of(place[0], place[1]) if np.isfinite(place).all() else (-1, -1)
        rows, columns = self._cells.shape
        inside = -0.5 <= row < rows - 0.5 and -0.5 <= column < columns - 0.5
        return bool(inside and self._cells.covered[round(float(row)), round(float(column))])

    def view(self) -> BeliefView:
        """The belief for display."""
        grid, cell = self._grid, self.config.metres_per_cell
        probability = grid.marginal()
        labels, masses = label_modes(probability)
        modes = []
        for i, window in enumerate(ndimage.find_objects(labels, len(masses))):
            mean, covariance, mass = self._moments(labels[window] == i + 1, window)
            modes.append(Mode(float(mean[0]), float(mean[1]), mass, covariance[:2, :2]))
        by_heading = grid.by_heading / max(grid.total, 1e-30)
        mean_rad = float(by_heading @ self.heading_errors_rad)
        sigma_rad = float(np.sqrt(by_heading @ (self.heading_errors_rad - mean_rad) ** 2 + self._heading_variance))
        return BeliefView(
            west_m=self._cells.west_m + grid.left * cell,
            north_m=self._cells.north_m - grid.top * cell,
            metres_per_cell=cell,
            probability=probability,
            mass=float(probability.sum(dtype=np.float64)),
            entropy_nats=entropy(grid.mass, self.elsewhere, self._covered_cells * len(self.heading_errors_rad)),
            modes=tuple(modes),
            heading_error_rad=mean_rad,
            heading_sigma_rad=sigma_rad,
        )

    def position(self) -> Position | Undecided:
        """The one mode that holds nearly all of the belief, or why there is none."""
        config = self.config
        probability = self._grid.marginal()
        off = self._left + float(probability[~self._cells.covered[self._window]].sum(dtype=np.float64))
        if off > 0.5:
            return Undecided(RejectionReason.OUTSIDE_TILES, f"{off:.0%} likely off the tiles: build some that cover the way")
        labels, masses = label_modes(probability)
        if not len(masses):
            return Undecided(RejectionReason.AMBIGUOUS, "no place stands out")
        window = ndimage.find_objects(labels, 1)[0]
        mean, covariance, mass = self._moments(labels[window] == 1, window)
        if mass < config.min_mass:
            count = "1 mode" if len(masses) == 1 else f"{len(masses)} modes"
            return Undecided(RejectionReason.AMBIGUOUS, f"{count}, best {mass:.0%}, elsewhere {self.elsewhere:.0%}")
        covariance = covariance / mass
        sigma_m = largest_sigma(covariance[:2, :2])
        if sigma_m > config.max_sigma_m:
            return Undecided(RejectionReason.AMBIGUOUS, f"one mode, its sigma {sigma_m:.1f} m exceeds {config.max_sigma_m:g} m")
        if self._is_unsupported or self._last_evidence < _CONTRADICTED_NATS:
            against = f"{self._last_evidence:.1f} nats, {self._support:.1f} in the mean"
            return Undecided(RejectionReason.AMBIGUOUS, f"the last queries speak against the one mode ({against})")
        return Position(mean, covariance, mass)

    @property
    def elsewhere(self) -> float:
        """Probability of being on none of the cells."""
        return self._elsewhere + self._left

    @property
    def _is_unsupported(self) -> bool:
        return self._support < _UNSUPPORTED_NATS

    @property
    def _window(self) -> tuple[slice, slice]:
        top, left, rows, columns = self._grid.box
        return slice(top, top + rows), slice(left, left + columns)

    @property
    def _heading_variance(self) -> float:
        """Of a uniform error within one step."""
        return float(np.radians(self.config.heading_step_deg) ** 2 / 12.0) if len(self.heading_errors_rad) > 1 else 0.0

    def _positions(self) -> tuple[Array, Array]:
        """(H, columns) east and (H, rows) north of the mass, m."""
        top, left, rows, columns = self._grid.box
        offset = self._grid.offset
        east = self._cells.west_m + (left + np.arange(columns) + 0.5 + offset[:, 1:]) * self.config.metres_per_cell
        north = self._cells.north_m - (top + np.arange(rows) + 0.5 + offset[:, :1]) * self.config.metres_per_cell
        return east, north

    def _checked(self, position_m: ArrayLike, covariance: ArrayLike) -> tuple[Array, Array]:
        position, spread = np.asarray(position_m, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
        if not self.covers(position):
            raise DataError(f"position {position[0]:.0f} m east, {position[1]:.0f} m north lies off the tiles: build tiles that cover it")
        if spread.shape != (2, 2) or not np.isfinite(spread).all() or np.linalg.eigvalsh(spread).min() <= 0:
            raise DataError(f"a position needs a positive definite covariance (2, 2) m^2, got {spread.tolist()}")
        return position, spread

    def _add_everywhere(self, mass: float) -> None:
        """Spreads mass over all covered cells; all cells must be held."""
        share = (mass / self._covered_cells) * self._heading_prior
        self._grid.mass += share.astype(np.float32)[:, None, None] * self._cells.covered

    def _systematic(self, step_m: Array) -> Array:
        """Covariance (2, 2) of errors that keep their value over a length: the odometry's scale, and the heading within one step."""
        along = np.outer(step_m, step_m) / max(float(np.linalg.norm(step_m)), 1e-9)
        across = np.trace(along) * np.eye(2) - along
        # a random walk that is as wide as such an error after a long way
        return 2.0 * self.config.scale_length_m * (self.config.scale_error**2 * along + self._heading_variance * across)

    def _walk_heading(self, way_m: float) -> None:
        self._walk_rad2 += np.radians(self.config.heading_walk_deg_per_sqrt_m) ** 2 * way_m
        share = self._walk_rad2 / np.radians(self.config.heading_step_deg) ** 2
        if share >= _EXCHANGE_SHARE:
            self._grid.exchange(min(share, 0.5))
            self._walk_rad2 = 0.0

    def _exchange_with_elsewhere(self, way_m: float) -> None:
        config = self.config
        if self.elsewhere > config.search_all_above:
            self._spread_elsewhere(-float(np.expm1(-config.return_per_m * way_m)))
        leaving = -np.expm1(-(config.leave_per_m_unsupported if self._is_unsupported else config.leave_per_m) * way_m)
        self._elsewhere += leaving * self._grid.total
        self._grid.mass *= np.float32(1.0 - leaving)

    def _search_anew(self) -> None:
        """What is elsewhere may be anywhere on the tiles; to most of these places the next query is all new."""
        self._spread_elsewhere(1.0 - self.config.elsewhere_prior)
        self._support, self._since_update_m, self._since_update_s = 0.0, np.inf, np.inf

    def _spread_elsewhere(self, share: float) -> None:
        """Brings a share of what is elsewhere back, to anywhere on the tiles."""
        self._grid.expand()
        self._add_everywhere(share * self.elsewhere)
        self._elsewhere, self._left = (1.0 - share) * self._elsewhere, (1.0 - share) * self._left

    def _normalize(self) -> None:
        total = self._grid.total + self.elsewhere
        self._grid.mass *= np.float32(1.0 / total)
        self._elsewhere, self._left = self._elsewhere / total, self._left / total

    def _fold(self) -> None:
        """Gives up cells that hold next to nothing; what they held goes to elsewhere."""
        over_headings = self._grid.mass.sum(axis=0)
        # the smallest cells by powers of two: exact enough, and no sorting of a million numbers
        exponent = np.frexp(over_headings)[1]
        lowest = int(exponent.min())
        by_exponent = np.bincount((exponent - lowest).ravel(), weights=over_headings.ravel())
        given_up = np.cumsum(by_exponent) <= self.config.fold_mass
        keep = (over_headings > 0) & ~given_up[exponent - lowest]
        before = self._grid.total
        self._grid.crop(keep)
        self._elsewhere += max(before - self._grid.total, 0.0)

    def _exponent(self, with_odometry: bool) -> float:
        """Share of a query that is new evidence."""
        if with_odometry:
            return min(self._since_update_m / self.config.independent_m, 1.0)
        return min(self._since_update_s / self.config.independent_s, 1.0)

    def _moments(self, mask: NDArray[np.bool_], window: tuple[slice, slice]) -> tuple[Array, Array, float]:
        """Mean (3,), covariance (3, 3) and mass of the belief within a mask of a window of the box."""
        rows, columns = window
        (east, north), mass = self._positions(), self._grid.mass[:, rows, columns] * mask
        mean, covariance, total = moments(mass, east[:, columns], north[:, rows], self.heading_errors_rad)
        cell_variance = self.config.metres_per_cell**2 / 12.0
        return mean, covariance + np.diag([cell_variance, cell_variance, self._heading_variance]), total
