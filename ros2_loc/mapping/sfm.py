"""Structure from motion by pycolmap: triangulation with known poses, or incremental and global mapping without.

What comes out is `Structure`: plain arrays, from which the adjustment, the map on disk and its tests work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Array, Pose, skew
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import DataError
from ros2_loc.mapping.config import MappingConfig
from ros2_loc.mapping.pairs import Pair

IntArray = NDArray[np.int64]
MatchTable = Mapping[Pair, NDArray[np.int32]]

_ATTEMPTS = 4  # where images overlap little, every third or so begins badly and comes out bent, or stops after two images


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """Poses and points with who saw what.

    Attributes:
        images: (C,) which of the sequence's images have a pose.
        camera_from_map: their poses.
        points_m: (N, 3); image_index (row of `images`), point_index, keypoint_index: (M,) one row per observation.
    """

    images: IntArray
    camera_from_map: list[Pose]
    points_m: Array
    image_index: IntArray
    point_index: IntArray
    keypoint_index: IntArray

    def keep(self, observations: NDArray[np.bool_]) -> Structure:
        """Only these observations, and only points that two or more images still see."""
        count = np.bincount(self.point_index[observations], minlength=len(self.points_m))
        alive = count >= 2
        row = np.cumsum(alive) - 1
        kept = observations & alive[self.point_index]
        return Structure(
            self.images,
            self.camera_from_map,
            self.points_m[alive],
            self.image_index[kept],
            row[self.point_index[kept]],
            self.keypoint_index[kept],
        )


@contextmanager
def quiet_colmap() -> Any:
    """COLMAP logs a line per image to stderr; only its errors matter here."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def epipolar_error_px(camera: Camera, rays_a: Array, rays_b: Array, a_from_map: Pose, b_from_map: Pose) -> Array:
    """(M,) larger distance to the epipolar lines of the two images of known pose, px; rays (M, 2) normalized coordinates.

    Infinite where the two cameras are at the same place: there is nothing to triangulate.
    """
    essential = _essential(a_from_map, b_from_map)
    if essential is None:
        return np.full(len(rays_a), np.inf)
    a, b = _homogeneous(rays_a), _homogeneous(rays_b)
    line_b, line_a = a @ essential.T, b @ essential
    error = np.abs((b * line_b).sum(axis=1))
    shortest = np.minimum(np.hypot(line_a[:, 0], line_a[:, 1]), np.hypot(line_b[:, 0], line_b[:, 1]))
    return float(np.mean(camera.focal_px)) * error / np.maximum(shortest, 1e-12)


def near_epipolar_lines(
    camera: Camera, rays_a: Array, rays_b: Array, a_from_map: Pose, b_from_map: Pose, max_px: float
) -> NDArray[np.bool_]:
    """(N, M) whether keypoint b of the second image lies within `max_px` of the epipolar line of keypoint a of the first."""
    essential = _essential(a_from_map, b_from_map)
    if essential is None:
        return np.zeros((len(rays_a), len(rays_b)), dtype=bool)
    line = _homogeneous(rays_a) @ essential.T
    line *= float(np.mean(camera.focal_px)) / max_px / np.maximum(np.hypot(line[:, 0], line[:, 1]), 1e-12)[:, None]
    distance = line.astype(np.float32) @ _homogeneous(rays_b).astype(np.float32).T
    return np.abs(distance, out=distance) < 1.0


def _essential(a_from_map: Pose, b_from_map: Pose) -> Array | None:
    b_from_a = b_from_map @ a_from_map.inverse()
    baseline_m = float(np.linalg.norm(b_from_a.translation))
    return None if baseline_m < 1e-6 else skew(b_from_a.translation / baseline_m) @ b_from_a.rotation


def _homogeneous(rays: Array) -> Array:
    return np.column_stack([rays, np.ones(len(rays))])


def triangulate(
    folder: Path,
    camera: Camera,
    names: Sequence[str],
    features: Sequence[LocalFeatures],
    matches: MatchTable,
    camera_from_map: Sequence[Pose],
    config: MappingConfig,
    max_epipolar_px: float,
) -> Structure:
    """Points from images of known pose; matches must agree with these within `max_epipolar_px`."""
    rays = [camera.unproject(f.keypoints) for f in features]
    verified = {}
    for (i, j), pairs in matches.items():
        error = epipolar_error_px(camera, rays[i][pairs[:, 0]], rays[j][pairs[:, 1]], camera_from_map[i], camera_from_map[j])
        if (error < max_epipolar_px).sum() >= config.min_matches:
            verified[i, j] = pairs[error < max_epipolar_px]
    database = folder / "database.db"
    model = _write_database(database, camera, names, features, verified, camera_from_map)
    options = _pipeline_options(config)
    options.mapper.filter_max_reproj_error = max(config.max_reprojection_px, 0.5 * max_epipolar_px)  # each of two images takes half
    (folder / "triangulated").mkdir(exist_ok=True)
    with quiet_colmap():
        model = pycolmap.triangulate_points(model, str(database), str(folder), str(folder / "triangulated"), True, options)
    return _structure(model)


def map_without_poses(
    folder: Path,
    camera: Camera,
    names: Sequence[str],
    features: Sequence[LocalFeatures],
    matches: MatchTable,
    config: MappingConfig,
    method: str,
) -> Structure:
    """Poses and points up to scale by pycolmap's `incremental` or `global` mapper.

    Of several attempts this is the model with most images, and among those the one with the smallest error.

    Raises:
        DataError: no model came out.
    """
    database = folder / "database.db"
    _write_database(database, camera, names, features, matches, None)
    pairs_file = folder / "pairs.txt"
    pairs_file.write_text("".join(f"{_file_name(i)} {_file_name(j)}\n" for i, j in matches))
    with quiet_colmap():
        pycolmap.verify_matches(str(database), str(pairs_file), options=_verification_options())
        models = [model for seed in range(_ATTEMPTS) for model in _mapped(database, folder, method, config, seed)]
    if not models:
        raise DataError(
            f"no two of the {len(names)} images could be placed: more overlap (a smaller --every) or known poses (--poses) are needed"
        )
    return _structure(max(models, key=lambda m: (m.num_reg_images(), -m.compute_mean_reprojection_error())))


def _mapped(database: Path, folder: Path, method: str, config: MappingConfig, seed: int) -> list[pycolmap.Reconstruction]:
    where = folder / f"{method}{seed}"
    where.mkdir(exist_ok=True)
    if method == "global":
        return list(pycolmap.global_mapping(str(database), str(folder), str(where), _global_options(seed)).values())
    return list(pycolmap.incremental_mapping(str(database), str(folder), str(where), _pipeline_options(config, seed)).values())


def write_model(
    folder: Path, camera: Camera, names: Sequence[str], features: Sequence[LocalFeatures], structure: Structure, colors: NDArray[np.uint8]
) -> pycolmap.Reconstruction:
    """The structure as a COLMAP model with the images' own names."""
    poses: dict[int, Pose] = dict(zip(structure.images.tolist(), structure.camera_from_map, strict=True))
    model = _empty_model(camera, {i: names[i] for i in poses}, features, poses)
    order = np.argsort(structure.point_index, kind="stable")
    splits = np.searchsorted(structure.point_index[order], np.arange(1, len(structure.points_m)))
    for point, observations in enumerate(np.split(order, splits)):
        track = pycolmap.Track()
        for o in observations:
            track.add_element(int(structure.images[structure.image_index[o]]) + 1, int(structure.keypoint_index[o]))
        model.add_point3D(structure.points_m[point], track, colors[point])
    model.update_point_3d_errors()
    folder.mkdir(parents=True, exist_ok=True)
    model.write(str(folder))
    return model


def _pipeline_options(config: MappingConfig, seed: int = 0) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.ba_refine_focal_length = False
    options.ba_refine_extra_params = False
    options.triangulation.ignore_two_view_tracks = False
    options.triangulation.min_angle = config.min_triangulation_deg
    options.mapper.filter_min_tri_angle = 0.75 * config.min_triangulation_deg
    options.mapper.filter_max_reproj_error = config.max_reprojection_px
    options.extract_colors = False
    # COLMAP draws from the clock by default: the same images would then give another map each time.
    for drawing in (options, options.mapper, options.triangulation):
        drawing.random_seed = seed
    return options


def _global_options(seed: int) -> Any:
    options = pycolmap.GlobalPipelineOptions()
    mapper = options.mapper
    for drawing in (options, mapper, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation):
        drawing.random_seed = seed
    return options


def _verification_options() -> Any:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = 0
    return options


def _file_name(index: int) -> str:
    """COLMAP orders images by name and wants no folders in it: within the database they are numbers."""
    return f"{index:06d}"


def _empty_model(
    camera: Camera, names: Mapping[int, str], features: Sequence[LocalFeatures], poses: Mapping[int, Pose]
) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    colmap_camera = camera.to_colmap()
    colmap_camera.camera_id = 1
    model.add_camera_with_trivial_rig(colmap_camera)
    for i, name in names.items():
        image = pycolmap.Image(name=name, keypoints=features[i].keypoints.astype(np.float64), camera_id=1, image_id=i + 1)
        pose = poses[i]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), pose.translation))
    return model


def _write_database(
    path: Path, camera: Camera, names: Sequence[str], features: Sequence[LocalFeatures], matches: MatchTable, poses: Sequence[Pose] | None
) -> pycolmap.Reconstruction:
    """A fresh COLMAP database, and the model of posed images without points that belongs to it (poses: identity where there are none)."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    placed = dict(enumerate(poses or [Pose.identity()] * len(names)))
    model = _empty_model(camera, {i: _file_name(i) for i in range(len(names))}, features, placed)
    database = pycolmap.Database.open(str(path))
    database.write_camera(model.cameras[1], use_camera_id=True)
    database.write_rig(next(iter(model.rigs.values())), use_rig_id=True)
    for i in range(len(names)):
        frame = model.frame(model.image(i + 1).frame_id)
        database.write_frame(frame, use_frame_id=True)
        image = pycolmap.Image(name=_file_name(i), camera_id=1, image_id=i + 1, frame_id=frame.frame_id)
        database.write_image(image, use_image_id=True)
        database.write_keypoints(i + 1, features[i].keypoints.astype(np.float32))
    for (i, j), pairs in matches.items():
        database.write_matches(i + 1, j + 1, pairs.astype(np.uint32))
        if poses is not None:
            geometry = pycolmap.TwoViewGeometry()
            geometry.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
            geometry.inlier_matches = pairs.astype(np.uint32)
            database.write_two_view_geometry(i + 1, j + 1, geometry)
    database.close()
    return model


def _structure(model: pycolmap.Reconstruction) -> Structure:
    ids = sorted(model.reg_image_ids())
    row = {image_id: k for k, image_id in enumerate(ids)}
    poses = [Pose.from_matrix(model.image(i).cam_from_world().matrix()) for i in ids]
    points, observations = [], []
    for k, point in enumerate(model.points3D.values()):
        points.append(point.xyz)
        observations += [(row[e.image_id], k, e.point2D_idx) for e in point.track.elements]
    table = np.array(observations, dtype=np.int64).reshape(-1, 3)
    return Structure(np.array(ids, dtype=np.int64) - 1, poses, np.array(points).reshape(-1, 3), table[:, 0], table[:, 1], table[:, 2])


def match_pairs(
    matcher: Any,
    camera: Camera,
    features: Sequence[LocalFeatures],
    pairs: Iterable[Pair],
    min_matches: int,
    camera_from_map: Sequence[Pose] | None,
    max_epipolar_px: float,
) -> Iterable[tuple[Pair, NDArray[np.int32]]]:
    """Matches of each pair, one at a time (so that the caller can store and show progress); pairs with too few come out empty.

    With known poses a matcher that can (`match_where`) looks near the epipolar lines only: between images far apart that finds several
    times as many.
    """
    rays = [camera.unproject(f.keypoints) for f in features] if camera_from_map is not None else []
    for i, j in pairs:
        if camera_from_map is not None and hasattr(matcher, "match_where"):
            allowed = near_epipolar_lines(camera, rays[i], rays[j], camera_from_map[i], camera_from_map[j], max_epipolar_px)
            found = matcher.match_where(features[i], features[j], allowed).indices
        else:
            found = matcher.match(features[i], features[j]).indices
        yield (i, j), found if len(found) >= min_matches else found[:0]
