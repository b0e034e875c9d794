"""Batches for re-rankers: a query, another view of its place and a different place. The same number gives the same batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import RGB
from ros2_loc.models.rrt import Described, scale_indices
from ros2_loc.training.covisibility import LabelledPlaces
from ros2_loc.training.place_batches import resized

Pick = tuple[int, int, int, int]

_PLANT_NOISE = 0.05  # of each of the numbers of a unit descriptor: of 128, a cosine of about 0.87


@dataclass(frozen=True)
class Curriculum:
    """What gets harder with the training, from its first batch to its last, in a straight line (CVNet, the re-ranking paper in 4.5.1.2).

    Attributes:
        hard: share of the different places that are among the `pool` most similar by global descriptor; first and last.
        plant: for RRT the share of the features of a same place that are taken from the query, somewhat disturbed; for CVNet the share of
            the queries whose same place is their own image. First and last: random weights need an easy beginning.
        hide: share of the images of which parts are hidden (Singh and Lee 2017, Hide-and-Seek); first and last. For images only.
        hide_cells: an image has so many cells by so many, of which each is hidden with
        hide_chance: this chance.
    """

    hard: tuple[float, float] = (0.0, 1.0)
    pool: int = 10
    plant: tuple[float, float] = (0.0, 0.0)
    hide: tuple[float, float] = (0.0, 0.5)
    hide_cells: int = 8
    hide_chance: float = 0.3

    def __post_init__(self) -> None:
        for name in ("hard", "plant", "hide"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        pairs = (self.hard, self.plant, self.hide)
        shares = [share for pair in pairs for share in pair] + [self.hide_chance]
        if min(shares) < 0 or max(shares) > 1 or any(len(pair) != 2 for pair in pairs) or min(self.pool, self.hide_cells) < 1:
            raise ConfigError(f"{self}: hard, plant and hide are two shares from 0 to 1 each, pool and hide_cells from 1")

    def rates(self, way: float) -> tuple[float, float, float]:
        """Shares of hard negatives, planted features and hidden images when `way` (0 to 1) of the training is done."""
        way = min(max(way, 0.0), 1.0)
        hard, plant, hide = (first + (last - first) * way for first, last in (self.hard, self.plant, self.hide))
        return hard, plant, hide


class Triplets:
    """Draws (map, query, same place, different place)."""

    def __init__(self, maps: Sequence[LabelledPlaces], curriculum: Curriculum) -> None:
        """Raises DataError where no place can be asked for."""
        self._maps, self._curriculum = maps, curriculum
        self._asked = [(m, int(row)) for m, places in enumerate(maps) for row in places.askable]
        if not self._asked:
            raise DataError("no place of the maps has another view of the same place and a different place")
        self._pools = [hardest(places, curriculum.pool) for places in maps]

    def draw(self, count: int, way: float, rng: np.random.Generator) -> list[Pick]:
        """So many of them, when `way` of the training is done."""
        rate, _, _ = self._curriculum.rates(way)
        return [self._one(rate, rng) for _ in range(count)]

    def _one(self, rate: float, rng: np.random.Generator) -> Pick:
        which, query = self._asked[int(rng.integers(len(self._asked)))]
        places = self._maps[which]
        others = self._pools[which][query] if rng.random() < rate else np.flatnonzero(places.other[query])
        return which, query, int(rng.choice(np.flatnonzero(places.same[query]))), int(rng.choice(others))


def hardest(places: LabelledPlaces, pool: int) -> list[NDArray[np.int64]]:
    """Of each place the rows of the different places that look most like it, by global descriptor."""
    similarity = np.where(places.other, places.vectors @ places.vectors.T, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :pool]
    return [row[: min(pool, int(count))] for row, count in zip(order, places.other.sum(axis=1), strict=True)]


class FeaturePairBatches:
    """For RRT: `query_*`, `place_*` with descriptors (2B, L, D), scales, valid (2B, L) and vector (2B, G), and `label` (2B,) 1 or 0."""

    @dataclass(frozen=True)
    class Config:
        """`batch_size` queries, each with another view and with a different place; `max_features` of each image, best first."""

        batch_size: int = 16
        max_features: int = 500
        seed: int = 0

        def __post_init__(self) -> None:
            if min(self.batch_size, self.max_features) < 1:
                raise ConfigError(f"{self}: batch_size and max_features are at least 1")

    def __init__(
        self, config: Config, maps: Sequence[LabelledPlaces], curriculum: Curriculum, scale_px: float, with_vector: bool, total: int
    ) -> None:
        """`total` batches are the whole training, of all processes."""
        self.config, self._maps, self._curriculum, self._total = config, maps, curriculum, total
        self._triplets, self._scale_px, self._with_vector = Triplets(maps, curriculum), scale_px, with_vector

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number`, on the CPU."""
        rng = np.random.default_rng([self.config.seed, 71, number])
        way = number / self._total
        picks = self._triplets.draw(self.config.batch_size, way, rng)
        queries = [(which, query) for which, query, _, _ in picks]
        places = [(which, same) for which, _, same, _ in picks] + [(which, other) for which, _, _, other in picks]
        asked = self._described(queries + queries, lambda places, row: places.found[row])
        given = self._described(places, lambda places, row: places.mapped[row])
        if rate := self._curriculum.rates(way)[1]:
            _plant(asked, given, len(picks), rate, rng)
        batch = {f"query_{name}": value for name, value in asked._asdict().items()}
        batch |= {f"place_{name}": value for name, value in given._asdict().items()}
        return {**batch, "label": torch.tensor([1.0, 0.0]).repeat_interleave(len(picks))}

    def _described(self, rows: Sequence[tuple[int, int]], of: Callable[[LabelledPlaces, int], LocalFeatures]) -> Described:
        features = [of(self._maps[which], row) for which, row in rows]
        vectors = [self._maps[which].vectors[row] for which, row in rows]
        return described(features, vectors if self._with_vector else None, self._scale_px, self.config.max_features)


def described(
    features: Sequence[LocalFeatures], vectors: Sequence[NDArray[np.float32]] | None, scale_px: float, max_features: int
) -> Described:
    """Images as RRT takes them, the best `max_features` of each; `vectors` None for a network without."""
    longest = max(1, min(max_features, max(len(each) for each in features)))
    dimension = features[0].descriptors.shape[1]
    descriptors = np.zeros((len(features), longest, dimension), np.float32)
    scales, valid = np.zeros((len(features), longest), np.int64), np.zeros((len(features), longest), bool)
    for k, each in enumerate(features):
        count = min(len(each), longest)
        descriptors[k, :count] = each.descriptors[:count]
        scales[k, :count], valid[k, :count] = scale_indices(each.scales[:count], scale_px), True
    whole = np.zeros((len(features), 0), np.float32) if vectors is None else np.stack(vectors).astype(np.float32)
    return Described(*(torch.from_numpy(values) for values in (whole, descriptors, scales, valid)))


def _plant(asked: Described, given: Described, count: int, rate: float, rng: np.random.Generator) -> None:
    """Puts features of the first `count` queries into their places, at the same rows."""
    rows = min(asked.valid.shape[1], given.valid.shape[1])
    chosen = torch.from_numpy(rng.random((count, rows)) < rate) & asked.valid[:count, :rows] & given.valid[:count, :rows]
    noise = _PLANT_NOISE * rng.standard_normal((count, rows, asked.descriptors.shape[2]), dtype=np.float32)
    for name in ("descriptors", "scales"):
        own, others = getattr(asked, name)[:count, :rows], getattr(given, name)[:count, :rows]
        others[chosen] = (own + torch.from_numpy(noise) if name == "descriptors" else own)[chosen]


class ImageTripletBatches:
    """For CVNet: `query`, `same`, `other` (B, 3, H, W) uint8."""

    @dataclass(frozen=True)
    class Config:
        """`batch_size` triplets of images brought to `image_px` (height, width)."""

        batch_size: int = 8
        image_px: tuple[int, int] = (512, 512)
        seed: int = 0

        def __post_init__(self) -> None:
            object.__setattr__(self, "image_px", tuple(self.image_px))
            if self.batch_size < 1 or len(self.image_px) != 2 or min(self.image_px) < 32:
                raise ConfigError(f"{self}: needs batch_size from 1 and image_px (height, width) from 32")

    def __init__(
        self,
        config: Config,
        maps: Sequence[LabelledPlaces],
        load: Sequence[Callable[[str], RGB]],
        curriculum: Curriculum,
        total: int,
    ) -> None:
        """`load` reads an image of each map by its name; `total` batches are the whole training, of all processes."""
        self.config, self._maps, self._load = config, maps, load
        self._triplets, self._curriculum, self._total = Triplets(maps, curriculum), curriculum, total

    def batch(self, number: int) -> dict[str, Tensor]:
        """Batch `number`, on the CPU. Raises DataError where an image can't be read."""
        rng, way = np.random.default_rng([self.config.seed, 73, number]), number / self._total
        picks = self._triplets.draw(self.config.batch_size, way, rng)
        _, plant, hide = self._curriculum.rates(way)
        picks = [(which, query, query if rng.random() < plant else same, other) for which, query, same, other in picks]
        return {name: torch.stack([self._image(pick[0], pick[k], hide, rng) for pick in picks]) for k, name in _PARTS}

    def _image(self, which: int, row: int, rate: float, rng: np.random.Generator) -> Tensor:
        image = resized(self._load[which](self._maps[which].names[row]), self.config.image_px)
        c = self._curriculum
        return hidden(image, c.hide_cells, c.hide_chance, rng) if rng.random() < rate else image


_PARTS = ((1, "query"), (2, "same"), (3, "other"))


def hidden(image: Tensor, cells: int, chance: float, rng: np.random.Generator) -> Tensor:
    """(3, H, W) with some cells of a grid filled with the image's mean colour."""
    height, width = image.shape[-2:]
    rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
    away = torch.from_numpy((rng.random((cells, cells)) < chance)[np.ix_(rows, columns)])
    return torch.where(away, image.float().mean(dim=(1, 2), keepdim=True).to(image.dtype), image)
