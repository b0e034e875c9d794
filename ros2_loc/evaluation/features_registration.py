"""A model of known poses from one method's features, and queries registered to it."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import DataError
from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation.features_methods import Features
from ros2_loc.io.features import append_features, read_features, stored_names
from ros2_loc.io.image_pairs import View
from ros2_loc.localization.pose_solver import Correspondences, Failure, PoseSolver
from ros2_loc.mapping.sfm import quiet_colmap
from ros2_loc.retrieval.index import PlaceIndex

Array = NDArray[np.float64]
NamePair = tuple[str, str]

_IN_MEMORY = 64
_MIN_MATCHES = 8
_MIN_ANGLE_DEG = 1.0
_MAX_REPROJECTION_PX = 4.0
_WORDS = 64


class FeatureStore:
    """Features of a method's images in a file: thousands of images do not fit into memory."""

    def __init__(self, features: Features, views: Mapping[str, View], path: Path) -> None:
        self.views, self._features, self._path = views, features, path
        self._done = stored_names(path)
        self._known: OrderedDict[str, LocalFeatures] = OrderedDict()

    def ensure(self, name: str) -> None:
        """Extract, unless an interrupted call did it."""
        if _key(name) not in self._done:
            append_features(self._path, _key(name), self._features.of(self.views[name]))
            self._done.add(_key(name))

    def __getitem__(self, name: str) -> LocalFeatures:
        if name not in self._known:
            self.ensure(name)
            self._known[name] = read_features(self._path, [_key(name)])[0]
            if len(self._known) > _IN_MEMORY:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return self._known[name]

    @property
    def label(self) -> str:
        """Of the method."""
        return self._features.method.label

    def match(self, first: str, second: str) -> NDArray[np.int32]:
        """(M, 2) keypoints of two images that belong together."""
        return self._features.matches(self[first], self[second])

    def megabytes(self, names: Iterable[str]) -> float:
        """What the features of these images take in a file."""
        sizes = (len(f) * (2 * f.descriptors.shape[1] + 16) for f in (self[name] for name in names))
        return sum(sizes) / 1e6


def _key(name: str) -> str:
    return name.replace("/", "|")  # a slash would make groups within groups


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Triangulated points: positions (N, 3) m, and for each image the point of each keypoint, -1 where there is none."""

    positions_m: Array
    of_keypoints: dict[str, NDArray[np.int64]]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.positions_m)


def triangulated(
    model: Any, store: FeatureStore, matches: Mapping[NamePair, NDArray[np.int32]], max_epipolar_px: float, work: Path
) -> Points:
    """Points by COLMAP's triangulation from matches that agree with the model's poses.

    Raises:
        DataError: no points came out.
    """
    empty, ids = _without_points(model, store)
    database = work / "database.db"
    _write_database(database, empty, store, ids, _verified(model, store, ids, matches, max_epipolar_px))
    options = pycolmap.IncrementalPipelineOptions()
    options.triangulation.ignore_two_view_tracks = False
    options.triangulation.min_angle = _MIN_ANGLE_DEG
    options.mapper.filter_max_reproj_error = _MAX_REPROJECTION_PX
    options.extract_colors = False
    for drawing in (options, options.mapper, options.triangulation):
        drawing.random_seed = 0
    out = work / "triangulated"
    out.mkdir(exist_ok=True)
    with quiet_colmap():
        done = pycolmap.triangulate_points(empty, str(database), str(work), str(out), True, options)
    if done.num_points3D() == 0:
        raise DataError(f"{store.label}: no point could be triangulated from {len(matches)} pairs of the model's images")
    return _points(done, ids)


def _points(model: Any, ids: Mapping[str, int]) -> Points:
    rows = {point_id: row for row, point_id in enumerate(model.points3D)}
    none = np.iinfo(np.uint64).max
    found = {}
    for name, image_id in ids.items():
        of = [point.point3D_id for point in model.image(image_id).points2D]
        found[name] = np.array([-1 if p == none else rows.get(p, -1) for p in of], dtype=np.int64)
    return Points(np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3), found)


def _without_points(model: Any, store: FeatureStore) -> tuple[Any, dict[str, int]]:
    """The model's cameras and poses with our keypoints; image ids by name."""
    empty, ids = pycolmap.Reconstruction(), {}
    for camera_id in sorted({model.image(i).camera_id for i in model.reg_image_ids()}):
        empty.add_camera_with_trivial_rig(model.camera(camera_id))
    for image_id in sorted(model.reg_image_ids()):
        image = model.image(image_id)
        keypoints = store[image.name].keypoints.astype(np.float64)
        fresh = pycolmap.Image(name=image.name, keypoints=keypoints, camera_id=image.camera_id, image_id=image_id)
        empty.add_image_with_trivial_frame(fresh, image.cam_from_world())
        ids[str(image.name)] = image_id
    return empty, ids


def _verified(
    model: Any, store: FeatureStore, ids: Mapping[str, int], matches: Mapping[NamePair, NDArray[np.int32]], max_px: float
) -> dict[tuple[int, int], NDArray[np.int32]]:
    """Matches near the epipolar lines of the model's poses, by image ids, smaller id first."""
    found = {}
    for (a, b), indices in matches.items():
        sides = [model.image(ids[name]) for name in (a, b)]
        poses = [Pose.from_matrix(image.cam_from_world().matrix()) for image in sides]
        b_from_a = poses[1] @ poses[0].inverse()
        if len(indices) < _MIN_MATCHES or np.linalg.norm(b_from_a.translation) < 1e-9:
            continue
        cameras = [model.camera(image.camera_id) for image in sides]
        rays_a, rays_b = (
            np.asarray(camera.cam_from_img(store[name].keypoints[indices[:, k]].astype(np.float64)))
            for k, (camera, name) in enumerate(zip(cameras, (a, b), strict=True))
        )
        focals = float(cameras[0].mean_focal_length()), float(cameras[1].mean_focal_length())
        kept = indices[fm.epipolar_errors_px(rays_a, rays_b, b_from_a, focals) < max_px]
        if len(kept) >= _MIN_MATCHES:
            found[(ids[a], ids[b]) if ids[a] < ids[b] else (ids[b], ids[a])] = kept if ids[a] < ids[b] else kept[:, ::-1]
    return found


def _write_database(
    path: Path, model: Any, store: FeatureStore, ids: Mapping[str, int], matches: Mapping[tuple[int, int], NDArray[np.int32]]
) -> None:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    database = pycolmap.Database.open(str(path))
    for camera in model.cameras.values():
        database.write_camera(camera, use_camera_id=True)
    for rig in model.rigs.values():
        database.write_rig(rig, use_rig_id=True)
    for name, image_id in ids.items():
        frame = model.frame(model.image(image_id).frame_id)
        database.write_frame(frame, use_frame_id=True)
        camera_id = model.image(image_id).camera_id
        image = pycolmap.Image(name=name, camera_id=camera_id, image_id=image_id, frame_id=frame.frame_id)
        database.write_image(image, use_image_id=True)
        database.write_keypoints(image_id, store[name].keypoints.astype(np.float32))
    for (a, b), indices in matches.items():
        pairs = np.ascontiguousarray(indices, dtype=np.uint32)
        database.write_matches(a, b, pairs)
        geometry = pycolmap.TwoViewGeometry()
        geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
        geometry.inlier_matches = pairs
        database.write_two_view_geometry(a, b, geometry)
    database.close()


def retrieved_pairs(store: FeatureStore, places: Sequence[str], queries: Sequence[str], count: int) -> dict[str, list[str]]:
    """For each query the model images whose VLAD, of the same features, is most alike."""
    encoder = registry.create("encoder", {"name": "vlad", "num_words": _WORDS})
    encoder.fit([store[name] for name in places[:: max(1, len(places) // 200)]])
    vectors = np.stack([encoder.encode(None, store[name]).vector for name in places])
    index = PlaceIndex.build(vectors)
    return {q: [places[c.source] for c in index.search(encoder.encode(None, store[q]), min(count, len(places)))] for q in queries}


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """A query's pose, or None, and what it was made of."""

    camera_from_world: Pose | None
    keypoints: int
    matches: int
    inliers: int


class Registration:
    """Queries against the points of a model; no gates but the number of inliers: what is measured are the features."""

    def __init__(self, store: FeatureStore, points: Points, max_error_px: float, min_inliers: int) -> None:
        self._store, self._points = store, points
        self._solver = PoseSolver(
            PoseSolver.Config(
                max_error_px=max_error_px,
                max_matches=4000,
                max_trials=10_000,
                min_matches=min_inliers,
                min_inliers=min_inliers,
                min_inlier_ratio=0.0,
                min_cells=1,
            )
        )
        self.seconds: list[float] = []

    def register(self, name: str, camera: Camera, places: Sequence[str]) -> Registered:
        """Match a query with these images of the model and solve for its pose."""
        query = self._store[name]
        pairs = self._pairs(name, places)
        if not len(pairs):
            return Registered(None, len(query), 0, 0)
        keypoints, points = pairs[:, 0], pairs[:, 1]
        matches = Correspondences(
            query.keypoints[keypoints].astype(np.float64),
            query.scales[keypoints].astype(np.float64),
            self._points.positions_m[points],
            np.zeros((len(pairs), 3, 3)),
        )
        begin = time.perf_counter()
        found = self._solver.solve(camera, matches)
        self.seconds.append(time.perf_counter() - begin)
        if isinstance(found, Failure):
            return Registered(None, len(query), len(pairs), 0)
        return Registered(found.map_from_camera.inverse(), len(query), len(pairs), int(found.inliers.sum()))

    def _pairs(self, name: str, places: Sequence[str]) -> NDArray[np.int64]:
        """(M, 2) keypoint and point, each pair once; those that most images say come first."""
        votes: Counter[tuple[int, int]] = Counter()
        for place in places:
            indices = self._store.match(name, place)
            points = self._points.of_keypoints[place][indices[:, 1]]
            votes.update(zip(indices[points >= 0, 0].tolist(), points[points >= 0].tolist(), strict=True))
        return np.array([pair for pair, _ in votes.most_common()], dtype=np.int64).reshape(-1, 2)
