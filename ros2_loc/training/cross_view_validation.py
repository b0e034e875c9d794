"""How good a CVLNet is on drives it has not seen: recall among the tiles of the place, and the error of the shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.overhead import OverheadGrid, subcell_peak
from ros2_loc.core.pose import Array
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvlnet import CVLNet
from ros2_loc.training.cross_view_batches import FrameChoice, Places, video
from ros2_loc.training.cross_view_objective import as_images
from ros2_loc.training.drives import CachedDrive

_CHUNK = 32
_MIN_VALID = 0.3  # of a tile's picture


class CrossViewValidation:
    """Called with a network, it searches every query among the tiles of its own place, north known, nothing disturbed."""

    @dataclass(frozen=True)
    class Config:
        """Size of the search; the paper has tiles every 10 m and counts a tile as right within 10 m."""

        queries: int = 160  # evenly chosen over all drives
        spacing_m: float = 10.0
        max_tiles: int = 1500  # of each place: the nearest ones of the queries, then others at random
        success_m: float = 10.0
        seed: int = 0

        def __post_init__(self) -> None:
            if min(self.queries, self.max_tiles) < 1 or min(self.spacing_m, self.success_m) <= 0:
                raise ConfigError(f"{self}: queries and max_tiles must be at least 1, spacing_m and success_m positive")

    def __init__(self, config: Config, frames: FrameChoice, grid: OverheadGrid, tile_px: int, drives: Sequence[CachedDrive]) -> None:
        """Nothing is read yet; raises DataError when there are no drives."""
        if not drives:
            raise DataError("there is no drive to validate with")
        self.config, self._frames, self._grid, self._tile_px, self._drives = config, frames, grid, tile_px, tuple(drives)
        self._places = Places(drives)
        self._chosen = np.unique(np.linspace(0, len(self._places) - 1, min(config.queries, len(self._places))).astype(int))

    @torch.no_grad()
    def __call__(self, network: CVLNet) -> dict[str, float]:
        """Recalls at 1, 5, 10 of tiles within `success_m`; median errors "displacement_m" in the nearest tile and "top1_m" in the best."""
        device = next(network.parameters()).device
        worlds = self._places.world[self._chosen]
        found = [self._search(network, self._chosen[worlds == world], device) for world in np.unique(worlds)]
        ranks = np.concatenate([rank for rank, _, _ in found])
        return {
            **{f"recall_at_{k}": float((ranks < k).mean()) for k in (1, 5, 10)},
            "displacement_m": float(np.median(np.concatenate([error for _, error, _ in found]))),
            "top1_m": float(np.median(np.concatenate([error for _, _, error in found]))),
        }

    def _search(self, network: CVLNet, rows: NDArray[np.intp], device: torch.device) -> tuple[NDArray, Array, Array]:
        """Of the queries in one place: rank of the first tile that is right, error in the nearest tile, error of the best one."""
        positions = self._places.positions_m[rows]
        centres = self._tiles(rows)
        query, seen = self._describe(network, rows, device)
        similarity = np.concatenate(
            [self._score(network, query, seen, rows[0], centres[first : first + _CHUNK]) for first in range(0, len(centres), _CHUNK)]
        )  # (T, Q, K, K)
        distance = np.linalg.norm(centres[:, None] - positions[None], axis=2)
        best = similarity.max(axis=(2, 3))
        right = np.where(distance <= self.config.success_m, best, -np.inf).max(axis=0)
        ranks = (best > right).sum(axis=0)
        nearest = self._errors(similarity, centres, positions, distance.argmin(axis=0))
        return ranks, nearest, self._errors(similarity, centres, positions, best.argmax(axis=0))

    def _score(self, network: CVLNet, query: Tensor, seen: Tensor, row: int, centres: Array) -> NDArray:
        """(T, Q, K, K) of the tiles at these centres; -inf where the imagery has a hole."""
        imagery = self._drives[int(self._places.drive[row])].imagery
        images, valid = zip(*(imagery.crop(c, self._tile_px, self._grid.coverage_m / self._tile_px) for c in centres), strict=True)
        tiles = network.tile_features(as_images(torch.from_numpy(np.stack(images)).to(query.device)))
        scores = network.similarity(query, seen, *tiles).cpu().numpy()
        scores[[v.mean() < _MIN_VALID for v in valid]] = -np.inf
        return scores

    def _errors(self, similarity: NDArray, centres: Array, positions: Array, tiles: NDArray[np.intp]) -> Array:
        """m between truth and what the best shift in the given tile of each query says."""
        said = [centres[t] + self._grid.shift_offset_m(*subcell_peak(similarity[t, q])) for q, t in enumerate(tiles)]
        return np.asarray(np.linalg.norm(np.array(said) - positions, axis=1))

    def _tiles(self, rows: NDArray[np.intp]) -> Array:
        """(T, 2) centres on a grid over the place, of which `max_tiles` stay, the nearest one of every query among them."""
        imagery = self._drives[int(self._places.drive[rows[0]])].imagery
        e0, n0, e1, n1 = imagery.bounds_m
        step = self.config.spacing_m
        grid = np.stack(np.meshgrid(np.arange(e0 + step / 2, e1, step), np.arange(n0 + step / 2, n1, step)), axis=-1).reshape(-1, 2)
        if not len(grid):
            raise DataError(f"imagery of {e1 - e0:.0f} x {n1 - n0:.0f} m has no room for tiles {step:g} m apart; give more")
        near = np.array([np.linalg.norm(grid - place, axis=1).argmin() for place in self._places.positions_m[rows]])
        others = np.random.default_rng([self.config.seed, 37]).permutation(np.setdiff1d(np.arange(len(grid)), near))
        kept = np.unique(near)
        return grid[np.concatenate([kept, others[: max(0, self.config.max_tiles - len(kept))]])]

    def _describe(self, network: CVLNet, rows: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
        parts = []
        spacing = float(np.mean(self._frames.spacing_m))
        for first in range(0, len(rows), _CHUNK // 4):
            videos = []
            for row in rows[first : first + _CHUNK // 4]:
                drive = self._drives[int(self._places.drive[row])]
                chosen = self._frames.choose(drive.travelled_m, int(self._places.image[row]), spacing)
                videos.append(video(drive, chosen, self._frames, self._grid))
            images, sampling, visible = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*videos, strict=True))
            ground = network.ground_features(as_images(images).flatten(0, 1)).unflatten(0, images.shape[:2])
            parts.append(network.query_features(ground, sampling, visible))
        query, seen = (torch.cat(part) for part in zip(*parts, strict=True))
        return query, seen
