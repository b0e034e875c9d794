"""The paper's protocol (section 4.1): a model of known poses triangulated anew from a method's features, then queries registered to it.

Folders are those of the local feature challenge of Aachen Day-Night (https://www.visuallocalization.net): a COLMAP model with the poses of
the database images, the images, lists of queries with intrinsics, and the list of pairs to match.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, rotation_angle_rad
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.features import keep
from ros2_loc.evaluation.features_methods import Features, Method
from ros2_loc.evaluation.features_records import Cell, QueryResult
from ros2_loc.evaluation.features_registration import FeatureStore, Registration, retrieved_pairs, triangulated
from ros2_loc.io import colmap_models, localization_lists
from ros2_loc.io.image_pairs import View, file_view

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LocalizationOptions:
    """How the model is triangulated and queries are registered.

    Attributes:
        covisible: model images that each is matched with, those that share most points; where no list says it.
        retrieved: model images matched with a query, by VLAD of the method's own features; where no list says it.
        max_epipolar_px: matches of the model must agree with its poses this well.
        max_error_px: reprojection error of an inlier.
        min_inliers: fewer do not register a query.
    """

    covisible: int = 20
    retrieved: int = 20
    max_epipolar_px: float = 4.0
    max_error_px: float = 8.0
    min_inliers: int = 12

    def __post_init__(self) -> None:
        if min(self.covisible, self.retrieved, self.max_epipolar_px, self.max_error_px) <= 0 or self.min_inliers < 4:
            raise ConfigError("localization: numbers of images and errors in px must be positive, and min_inliers at least 4")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What is to be localized in what.

    Attributes:
        model: a `pycolmap.Reconstruction`; its poses are used, its points only to choose pairs.
        images: folder that all names are relative to.
        queries: list's name -> query's name -> intrinsics.
        pairs: to match, or None where nobody listed them.
        truth: camera_from_world by the query's name; queries without are registered, but not measured.
    """

    folder: Path
    model: Any
    images: Path
    queries: dict[str, dict[str, Camera]]
    pairs: Pairs | None
    truth: dict[str, Pose]

    @cached_property
    def model_views(self) -> dict[str, View]:
        """Images of the model by name."""
        return {posed.view.name: posed.view for posed in colmap_models.model_views(self.model, self.images)}

    @cached_property
    def query_views(self) -> dict[str, View]:
        """Queries by name."""
        return {name: file_view(self.images / name, camera, name) for listed in self.queries.values() for name, camera in listed.items()}

    def settings(self) -> dict[str, Any]:
        """What distinguishes this benchmark from others."""
        names = [*self.model_views, *self.query_views, *(f"{a} {b}" for a, b in self.pairs or [])]
        return {"path": str(self.folder), "names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16], "truth": len(self.truth)}


def open_benchmark(
    folder: Path,
    model: Path | None = None,
    images: Path | None = None,
    queries: Sequence[Path] = (),
    pairs: Path | None = None,
    truth: Path | None = None,
) -> Benchmark:
    """The files of a folder, each at its usual place where it is not given.

    Raises:
        DataError: something is missing or damaged, in one line.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one with a COLMAP model, its images and lists of queries")
    found = model or colmap_models.find_colmap_model(folder)
    if found is None:
        raise DataError(f"{folder}: has no COLMAP model in sparse/ or 3D-models/: give --model DIR")
    lists = list(queries) or sorted((folder / "queries").glob("*with_intrinsics.txt"))
    if not lists:
        raise DataError(f"{folder}: has no queries/*with_intrinsics.txt: give --queries FILE with rows `name MODEL width height params...`")
    usual_pairs, usual_truth = folder / "image_pairs_to_match.txt", folder / "truth.txt"
    pairs = pairs or (usual_pairs if usual_pairs.is_file() else None)
    truth = truth or (usual_truth if usual_truth.is_file() else None)
    asked = {_group(path): localization_lists.read_queries(path) for path in lists}
    return Benchmark(
        folder=folder,
        model=colmap_models.read_colmap_model(found),
        images=images or next((p for p in (folder / "images" / "images_upright", folder / "images") if p.is_dir()), folder),
        queries=asked,
        pairs=None if pairs is None else localization_lists.read_pairs(pairs),
        truth={} if truth is None else _truth(truth, asked),
    )


def _group(path: Path) -> str:
    """ "night" of `night_time_queries_with_intrinsics.txt`."""
    return path.stem.removesuffix("_with_intrinsics").removesuffix("_queries").removesuffix("_time")


def _truth(path: Path, queries: dict[str, dict[str, Camera]]) -> dict[str, Pose]:
    """By the queries' full names, whether the file has these or names without folders."""
    poses = localization_lists.read_poses(path)
    names = [name for listed in queries.values() for name in listed]
    found = {name: poses.get(name, poses.get(Path(name).name)) for name in names}
    known = {name: pose for name, pose in found.items() if pose is not None}
    if not known:
        raise DataError(f"{path}: has no pose of any of the {len(names)} queries; give the poses of these images")
    return known


def evaluate_localization(
    methods: Sequence[Method],
    benchmark: Benchmark,
    options: LocalizationOptions,
    device: str = "cpu",
    kept: Path | None = None,
    submissions: Path | None = None,
    show_progress: bool = True,
) -> list[Cell]:
    """A cell for each method; with `submissions` a file `<method>.txt` of poses for the benchmark's web page, too.

    Raises:
        ConfigError, DataError, MissingDependencyError: a method or the folder can't be used.
    """
    working = [Features(method, device) for method in methods]
    cells = []
    for features in working:
        settings = {**features.method.settings, "benchmark": benchmark.settings(), "options": asdict(options)}
        cell = keep(kept, settings, lambda f=features, s=settings: _in_folder(f, benchmark, options, kept, s, show_progress))  # type: ignore[misc]
        cells.append(cell)
        if submissions is not None:
            write_submission(submissions / f"{_file_name(cell.method)}.txt", cell)
    return cells


def write_submission(path: Path, cell: Cell) -> None:
    """Poses of the queries that were registered, `name qw qx qy qz tx ty tz`."""
    poses = {}
    for result in cell.queries():
        if result.camera_from_world is not None:
            qw, qx, qy, qz, *translation = result.camera_from_world
            poses[result.name] = Pose.from_quaternion_xyzw([qx, qy, qz, qw], translation)
    localization_lists.write_poses(path, poses)


def _in_folder(
    features: Features, benchmark: Benchmark, options: LocalizationOptions, kept: Path | None, settings: dict[str, Any], show: bool
) -> Cell:
    """In a folder of its own, which an interrupted call leaves with the features found so far."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="ros2_loc_features_") as scratch:
            return localize(features, benchmark, options, Path(scratch), show)
    told = json.dumps({"features": features.method.extractor, "names": settings["benchmark"]["names"]}, sort_keys=True, default=str)
    work = kept / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.work"
    work.mkdir(parents=True, exist_ok=True)
    cell = localize(features, benchmark, options, work, show)
    shutil.rmtree(work)
    return cell


def localize(features: Features, benchmark: Benchmark, options: LocalizationOptions, work: Path, show: bool) -> Cell:
    """Extract, match, triangulate, register."""
    features.begin()
    store = FeatureStore(features, {**benchmark.model_views, **benchmark.query_views}, work / "features.h5")
    label = features.method.label
    for name in _progress(sorted(store.views), f"{label}: features", show):
        store.ensure(name)
    inner, asking = _pairs(store, benchmark, options)
    matched = {pair: store.match(*pair) for pair in _progress(inner, f"{label}: model", show)}
    points = triangulated(benchmark.model, store, matched, options.max_epipolar_px, work)
    registration = Registration(store, points, options.max_error_px, options.min_inliers)
    results = []
    for group, listed in benchmark.queries.items():
        for name, camera in _progress(list(listed.items()), f"{label}: {group}", show):
            results.append(_query(registration, name, group, camera, asking.get(name, []), benchmark.truth.get(name)))
    seconds = {**features.seconds, "register": float(np.median(registration.seconds)) if registration.seconds else 0.0}
    facts = {"points": float(points.count), "megabytes": store.megabytes(benchmark.model_views)}
    keypoints = float(np.mean([len(store[name]) for name in store.views]))
    return Cell(label, f"{benchmark.folder.resolve().name}: localization", "localization", tuple(results), seconds, keypoints, facts)


def _pairs(store: FeatureStore, benchmark: Benchmark, options: LocalizationOptions) -> tuple[Pairs, dict[str, list[str]]]:
    """Pairs within the model, and the model images that each query is matched with."""
    known, asked = benchmark.model_views, benchmark.query_views
    listed = benchmark.pairs or []
    inner = [pair for pair in listed if pair[0] in known and pair[1] in known]
    asking: dict[str, list[str]] = {}
    for a, b in listed:
        for query, place in ((a, b), (b, a)):
            if query in asked and place in known:
                asking.setdefault(query, []).append(place)
    if not inner:
        inner = colmap_models.covisible_pairs(benchmark.model, options.covisible)
    if not inner:
        raise DataError(f"{benchmark.folder}: the model has no points to choose pairs by: give --match-pairs FILE")
    return inner, asking or retrieved_pairs(store, list(known), list(asked), options.retrieved)


def _query(registration: Registration, name: str, group: str, camera: Camera, places: list[str], truth: Pose | None) -> QueryResult:
    found = registration.register(name, camera, places)
    pose = found.camera_from_world
    position_m = rotation_deg = None
    if truth is not None and pose is not None:
        position_m = float(np.linalg.norm(pose.inverse().translation - truth.inverse().translation))
        rotation_deg = float(np.degrees(rotation_angle_rad(truth.rotation.T @ pose.rotation)))
    return QueryResult(
        name=name,
        group=group,
        keypoints=found.keypoints,
        matches=found.matches,
        inliers=found.inliers,
        has_truth=truth is not None,
        position_m=position_m,
        rotation_deg=rotation_deg,
        camera_from_world=None if pose is None else _numbers(pose),
    )


def _numbers(pose: Pose) -> tuple[float, ...]:
    x, y, z, w = pose.quaternion_xyzw.tolist()
    return (w, x, y, z, *pose.translation.tolist())


def _progress(items: Sequence[Any], words: str, show: bool) -> Any:
    return tqdm(items, desc=words, disable=not show, leave=False, dynamic_ncols=True)


def _file_name(label: str) -> str:
    """A label as the name of a file."""
    return re.sub(r"[^\w.+-]+", "_", label)
