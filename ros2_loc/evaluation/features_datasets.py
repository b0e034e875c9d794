"""Which pairs of images a path stands for: told apart by what lies there."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ros2_loc.core.pose import Pose
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import features_synthetic
from ros2_loc.io import colmap_models, hpatches, strecha
from ros2_loc.io.bag_reader import is_bag
from ros2_loc.io.image_pairs import HomographyPair, PosedPair, PosedView, image_views, posed_views
from ros2_loc.io.kitti import is_odometry_folder
from ros2_loc.io.kitti_raw import is_raw_drive
from ros2_loc.io.pair_lists import read_pair_list
from ros2_loc.io.sequences import open_sequence
from ros2_loc.io.seven_scenes import is_seven_scenes

T = TypeVar("T")

_SAYS_NOTHING = ("images", "sparse", "dense")
_MIN_BASELINE = 0.05  # m in recordings: nearer, the direction of the motion is that of the noise in the truth


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How pairs are made where the data does not list them.

    Attributes:
        limit: at most so many pairs of a data set, evenly chosen; None: all.
        per_image: pairs made of each image of a plain folder.
        distances: how many images apart the two of a recording are.
        per_distance: pairs of a recording for each of these.
        neighbours: images of a COLMAP model that each is paired with, those that share most points.
        images: folder of the images of a list or a model, where it is not the usual one.
        seed: of homographies and lights that are drawn.
    """

    limit: int | None = None
    per_image: int = 2
    distances: tuple[int, ...] = (2, 5, 10)
    per_distance: int = 40
    neighbours: int = 4
    images: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.per_image, self.per_distance, self.neighbours, *self.distances, 1 if self.limit is None else self.limit) < 1:
            raise ConfigError("numbers of pairs and of images between them must be positive")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pairs of one kind.

    Attributes:
        title: for people.
        protocol: "homography" or "two-view".
        settings: what it takes to make the same pairs again.
    """

    title: str
    protocol: str
    pairs: tuple[HomographyPair, ...] | tuple[PosedPair, ...]
    settings: dict[str, Any]


def homography_dataset(path: Path, options: PairOptions) -> Dataset:
    """HPatches, one folder with `H_1_k`, or pairs made from a folder of images.

    Raises:
        DataError: none of these.
    """
    if hpatches.is_hpatches(path):
        kind, pairs = "HPatches", hpatches.open_hpatches(path)
    elif hpatches.is_homography_sequence(path):
        kind, pairs = "homographies", hpatches.open_homography_sequence(path)
    else:
        kind, pairs = "made homographies", features_synthetic.made_pairs(path, options.per_image, options.seed)
    kept = thinned(pairs, options.limit)
    return Dataset(f"{title_of(path)}: {kind}", "homography", tuple(kept), _settings(path, kind, options, kept))


def two_view_dataset(path: Path, options: PairOptions) -> Dataset:
    """Strecha's scenes, a list of pairs, a COLMAP model, or a recording with poses (KITTI, 7-Scenes, bag).

    A plain folder of images without poses gives all its pairs, without truth.

    Raises:
        DataError: none of these.
    """
    kind, pairs = _two_view_pairs(path, options)
    kept = thinned(pairs, options.limit)
    return Dataset(f"{title_of(path)}: {kind}", "two-view", tuple(kept), _settings(path, kind, options, kept))


def _two_view_pairs(path: Path, options: PairOptions) -> tuple[str, list[PosedPair]]:
    if path.suffix == ".txt":
        return "listed pairs", read_pair_list(path, options.images or _images_beside(path))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a scene, a list of pairs, a COLMAP model or a recording with poses")
    if strecha.is_strecha(path):
        return "all pairs", all_pairs(strecha.open_strecha(path))
    model = colmap_models.find_colmap_model(path) if path.is_dir() else None
    if model is not None:
        return "COLMAP model", _model_pairs(model, options.images or _images_of_model(path), options.neighbours)
    if path.is_dir() and _is_plain(path):
        views = [PosedView(view, Pose.identity()) for view in image_views(path)]
        return "pairs without truth", [PosedPair(p.first, p.second, "", None) for p in all_pairs(views)]
    return "recorded frames", recorded_pairs(posed_views(open_sequence(path)), options)


def title_of(path: Path) -> str:
    """Name of a folder or file; with that of its parent, where its own says nothing."""
    path = path.resolve()
    return f"{path.parent.name}/{path.name}" if path.name in _SAYS_NOTHING or path.name.isdigit() else path.name


def all_pairs(views: Sequence[PosedView]) -> list[PosedPair]:
    """Each view with each other."""
    return [posed_pair(a, b) for i, a in enumerate(views) for b in views[i + 1 :]]


def recorded_pairs(views: Sequence[PosedView], options: PairOptions) -> list[PosedPair]:
    """Pairs of images that are so and so many apart, evenly along the recording; those at one place are left out.

    Raises:
        DataError: the recording is too short, or stands still.
    """
    found: list[PosedPair] = []
    for distance in options.distances:
        pairs = [posed_pair(a, b, f"{distance} apart") for a, b in zip(views, views[distance:], strict=False)]
        found += thinned([p for p in pairs if _baseline(p) >= _MIN_BASELINE], options.per_distance)
    if not found:
        raise DataError(f"{len(views)} images with poses: no two of them are {min(options.distances)} apart and at different places")
    return found


def posed_pair(a: PosedView, b: PosedView, group: str = "") -> PosedPair:
    """The pair with its relative pose."""
    return PosedPair(a.view, b.view, group, b.camera_from_world @ a.camera_from_world.inverse())


def thinned(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` of them, evenly chosen."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def _model_pairs(folder: Path, images: Path, neighbours: int) -> list[PosedPair]:
    model = colmap_models.read_colmap_model(folder)
    views = {v.view.name: v for v in colmap_models.model_views(model, images)}
    return [posed_pair(views[a], views[b]) for a, b in colmap_models.covisible_pairs(model, neighbours)]


def _baseline(pair: PosedPair) -> float:
    return 0.0 if pair.second_from_first is None else float(np.linalg.norm(pair.second_from_first.translation))


def _images_beside(path: Path) -> Path:
    """Where the images of a list lie: in the only folder beside it whose name goes as the list's does, else beside it."""
    start = path.stem.removesuffix("_pairs").removesuffix("_gt")
    beside = [p for p in path.parent.iterdir() if p.is_dir() and p.name.startswith(start)]
    return beside[0] if len(beside) == 1 else path.parent


def _images_of_model(path: Path) -> Path:
    usual = (path / "images" / "images_upright", path / "images", path.parent / "images", path.parent.parent / "images")
    return next((p for p in usual if p.is_dir()), path)


def _is_plain(path: Path) -> bool:
    return not any(told(path) for told in (is_bag, is_seven_scenes, is_raw_drive, is_odometry_folder))


def _settings(path: Path, kind: str, options: PairOptions, pairs: Sequence[HomographyPair | PosedPair]) -> dict[str, Any]:
    names = "\n".join(f"{p.first.name} {p.second.name}" for p in pairs)
    chosen = {k: v if isinstance(v, int | type(None)) else str(v) for k, v in asdict(options).items()}
    return {"path": str(path), "kind": kind, "pairs": len(pairs), "names": f"{zlib.crc32(names.encode()):08x}", **chosen}
