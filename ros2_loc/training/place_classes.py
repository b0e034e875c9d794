"""Places as classes: cells of the ground and of the heading, in groups without neighbours.

Source: Berton et al. 2022, CosPlace, section 3.2 (classes, equation 1; groups, equation 2); the re-ranking paper tells of it in 4.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import ConfigError, DataError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


class PlaceClasses:
    """Classes of images, and groups in which no two classes lie side by side.

    Attributes:
        cells: (C, 4) of each class: area, east, north, heading, in cells.
        groups: tuples of classes, the largest group first: each class is in one of them.
        images: of each class, the rows of its images.
    """

    @dataclass(frozen=True)
    class Config:
        """How places are cut.

        Attributes:
            cell_m: M, side of a cell.
            heading_deg: alpha, extent of a class in heading; 360: headings don't count.
            apart_cells: N; two classes of a group are at least so many cells apart,
            apart_headings: L, or at least so many headings.
            min_images: classes with fewer are left out.
            groups: how many of the N x N x L groups are trained on, the largest first; 0: all.
        """

        cell_m: float = 10.0
        heading_deg: float = 30.0
        apart_cells: int = 5
        apart_headings: int = 2
        min_images: int = 10
        groups: int = 8

        def __post_init__(self) -> None:
            if min(self.apart_cells, self.apart_headings, self.min_images) < 1 or self.groups < 0 or not self.cell_m > 0:
                raise ConfigError(f"{self}: needs a positive cell_m, apart_cells, apart_headings, min_images from 1, groups from 0")
            around = 360.0 / self.heading_deg if self.heading_deg > 0 else 0.0
            if around < 1 or abs(around - round(around)) > 1e-9 or round(around) % self.apart_headings:
                raise ConfigError(
                    f"heading_deg {self.heading_deg:g}: must divide the circle, and apart_headings {self.apart_headings} "
                    "the number of headings, or the last one would lie beside the first in one group"
                )

    def __init__(self, config: Config, positions_m: Array, headings_deg: Array, areas: Numbers) -> None:
        """Sort images into classes.

        Args:
            positions_m: (N, 2) east, north.
            headings_deg: (N,) clockwise from north; NaN where it is not known.
            areas: (N,) images of different areas (UTM zones, towns, maps) are never in one class, whatever their positions.

        Raises:
            DataError: a position that is no number, a heading that is needed and not known, or no class with enough images.
        """
        self.config = config
        cells = cells_of(config, positions_m, headings_deg, areas)
        found, owner, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        kept = np.flatnonzero(counts >= config.min_images)
        if len(kept) < 2:
            raise DataError(
                f"{len(kept)} of {len(found)} classes have {config.min_images} images or more: give more images, "
                "or larger classes (classes.cell_m, classes.heading_deg), or lower classes.min_images"
            )
        self.cells = found[kept]
        order = np.argsort(owner.reshape(-1), kind="stable")
        rows = np.split(order, np.cumsum(counts)[:-1])
        self.images: tuple[Numbers, ...] = tuple(rows[k] for k in kept)
        self.groups = self._chosen_groups()

    def __len__(self) -> int:
        return len(self.cells)

    def _chosen_groups(self) -> tuple[Numbers, ...]:
        groups = sorted(groups_of(self.config, self.cells), key=len, reverse=True)
        useful = [group for group in groups if len(group) > 1]  # of one class there is nothing to tell apart
        if not useful:
            raise DataError(f"no group has two of the {len(self)} classes: lower classes.apart_cells and classes.apart_headings")
        return tuple(useful[: self.config.groups] if self.config.groups else useful)


def cells_of(config: PlaceClasses.Config, positions_m: Array, headings_deg: Array, areas: Numbers) -> Numbers:
    """(N, 4) area, floor(east / M), floor(north / M), floor(heading / alpha) of each image; arguments and errors as of `PlaceClasses`."""
    if not np.isfinite(positions_m).all():
        raise DataError(f"image {int(np.argmin(np.isfinite(positions_m).all(axis=1)))}: its position is not a number")
    around = round(360.0 / config.heading_deg)
    unknown = ~np.isfinite(headings_deg)
    if around > 1 and unknown.any():
        raise DataError(
            f"{int(unknown.sum())} of {len(headings_deg)} images have no heading: "
            "give images with headings in their names, or set classes.heading_deg=360 and classes.apart_headings=1"
        )
    headings = np.where(unknown, 0.0, headings_deg) % 360.0
    east, north = np.floor(positions_m / config.cell_m).astype(np.int64).T
    heading = np.floor(headings / config.heading_deg).astype(np.int64) % around  # 360 less a rounding error is 0
    return np.stack([areas.astype(np.int64), east, north, heading], axis=1)


def groups_of(config: PlaceClasses.Config, cells: Numbers) -> list[Numbers]:
    """All groups that are not empty: classes whose cells leave the same remainders of N, N and L.

    Args:
        cells: (C, 4) as of `PlaceClasses`.
    """
    remainders = np.stack([cells[:, 1] % config.apart_cells, cells[:, 2] % config.apart_cells, cells[:, 3] % config.apart_headings])
    number = np.ravel_multi_index(tuple(remainders), (config.apart_cells, config.apart_cells, config.apart_headings))
    return [np.flatnonzero(number == k) for k in np.unique(number)]
