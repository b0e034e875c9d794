"""The map at run time: places, points, index. Read-only, all in memory; and its form on disk.

Folder: `map.yaml` (version, origin, error model, provenance, checksums), `sfm/` (COLMAP model), `features.h5`, `places.npz` (poses, points,
codebook; no pickle), `index.faiss`, `thumbnails/`, and `evidence.h5` (what a re-ranker that looks at images compares).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.geodesy import GeoOrigin
from ros2_loc.core.interfaces import Reranker
from ros2_loc.core.pose import Array, Pose, transport_to_left
from ros2_loc.core.types import FloatArray, LocalFeatures, PlaceEvidence
from ros2_loc.errors import DataError
from ros2_loc.io.features import read_evidence, read_features
from ros2_loc.io.files import read_text, require_file, sha256
from ros2_loc.io.images import read_image
from ros2_loc.perception.scene_context import provenance_of
from ros2_loc.retrieval.index import PlaceIndex

FORMAT_VERSION = 3
# Given poses err smoothly: near a place, a query shares its error, and the position's floor is smaller than the trials, which lack that
# place, say. On KITTI 03 (docs/results.md) the variance at 1 and 2 m and that of trials at 5 m lie on this parabola.
_SHARE_AT_A_PLACE = 0.6
CHECKED_FILES = ("features.h5", "places.npz", "index.faiss")
EVIDENCE_FILE = "evidence.h5"  # only where the map's pipeline has a re-ranker that looks at images


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One image of the map: those of its features that see a map point.

    Attributes:
        name, stamp_ns: of the image.
        map_from_base: where base_link was.
        map_from_camera: where the camera was, after adjustment.
        features: (n) features, each of which observes one point.
        point_index: (n,) row of that point in the map's arrays.
    """

    name: str
    stamp_ns: int
    map_from_base: Pose
    map_from_camera: Pose
    features: LocalFeatures
    point_index: NDArray[np.int64]

    def keypoints_of(self, points: NDArray[np.int64]) -> FloatArray:
        """(K, 2) px where this place saw the points (K,), NaN where it did not."""
        order = np.argsort(self.point_index, kind="stable")
        at = np.clip(np.searchsorted(self.point_index[order], points), 0, max(len(order) - 1, 0))
        found = self.point_index[order[at]] == points
        return np.where(found[:, None], self.features.keypoints[order[at]], np.nan).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ErrorModel:
    """What the solver's covariance leaves out, measured when the map was built by localizing its own images, each without itself.

    Attributes:
        scale: factor on the solver's covariance.
        floor: (6, 6) added to it, in the camera's axes (x right, y down, z forward), ROS order: errors that all points have in common.
        distance_m: how far the nearest place was in the median trial.
        num_trials: on how many localizations it was measured; 0 means it was not measured.
    """

    scale: float
    floor: Array
    distance_m: float
    num_trials: int

    def covariance(self, solver_covariance: Array, map_from_camera: Pose, distance_m: float) -> Array:
        """(6, 6) of map_from_camera in map axes from the solver's, `distance_m` from the nearest place."""
        fade = np.ones(6)
        if distance_m < self.distance_m:
            fade[:3] = np.sqrt(_SHARE_AT_A_PLACE + (1.0 - _SHARE_AT_A_PLACE) * (distance_m / self.distance_m) ** 2)
        floor = fade[:, None] * self.floor * fade
        return self.scale * solver_covariance + transport_to_left(Pose(map_from_camera.rotation, np.zeros(3)), floor)


@dataclass(frozen=True, slots=True, eq=False)
class MapFrame:
    """Where a map's frame lies on the earth, and where its places lie in it, read without features and points.

    Attributes:
        folder, origin, enu_from_map: as of `SparseMap`.
        places_m: (P, 3) positions of base_link in the map.
    """

    folder: Path
    origin: GeoOrigin | None
    enu_from_map: Pose
    places_m: Array

    @staticmethod
    def load(folder: str | Path) -> MapFrame:
        """Of a map folder.

        Raises:
            DataError: not a map, of another version, or damaged.
        """
        folder = Path(folder)
        meta = read_meta(folder)
        try:
            origin = None if meta["origin"] is None else GeoOrigin(**meta["origin"])
            places = _read_arrays(folder / "places.npz")["map_from_base"][:, :3, 3]
            return MapFrame(folder, origin, Pose.from_matrix(meta["enu_from_map"]), np.asarray(places, dtype=np.float64))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: its files contradict each other ({type(error).__name__}: {error}): build the map again") from error


@dataclass(frozen=True, slots=True, eq=False)
class SparseMap:
    """Everything a localizer needs.

    Attributes:
        folder: where it was read from.
        camera: intrinsics of the mapping camera.
        base_from_camera: its mounting as it was given.
        mount_rotation: (3, 3) camera_true_from_camera_given: the error of that mounting, found by the adjustment.
        places, points_m (N, 3), point_covariances (N, 3, 3) m^2, point_colors (N, 3) uint8.
        index: over the places' global descriptors.
        encoder_state: arrays that the encoder learned from this map.
        evidence: what the re-ranker that the map was built with compares of each place; None where it needs no images, or there was none.
        origin: latitude, longitude, altitude of the ENU frame below, or None.
        enu_from_map: the map's frame in that ENU frame (identity where the map is ENU itself).
        metric: False when the scale is arbitrary.
        error_model, provenance (config, versions, source, summary).
    """

    folder: Path
    camera: Camera
    base_from_camera: Pose
    mount_rotation: Array
    places: tuple[Place, ...]
    points_m: Array
    point_covariances: FloatArray
    point_colors: NDArray[np.uint8]
    index: PlaceIndex
    encoder_state: dict[str, Any]
    evidence: tuple[PlaceEvidence, ...] | None
    origin: GeoOrigin | None
    enu_from_map: Pose
    metric: bool
    error_model: ErrorModel
    provenance: dict[str, Any]

    @staticmethod
    def load(folder: str | Path, verify: bool = True) -> SparseMap:
        """Read a map folder; `verify` compares checksums.

        Raises:
            DataError: not a map, of another version, or damaged (which file, and what to do).
        """
        folder = Path(folder)
        meta = read_meta(folder)
        if verify:
            verify_checksums(folder, meta)
        arrays = _read_arrays(folder / "places.npz")
        try:
            return _assemble(folder, meta, arrays)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: its files contradict each other ({type(error).__name__}: {error}): build the map again") from error

    def check_built_with(self, extractor: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
        """Refuse a pipeline whose features this map does not have.

        Raises:
            DataError: which setting differs.
        """
        built = self.provenance["pipeline"]
        if built["extractor"]["name"] != extractor["name"]:
            raise DataError(
                f"{self.folder}: was built with extractor {built['extractor']['name']!r}, the pipeline has {extractor['name']!r}: "
                "choose the same or build again"
            )
        if dict(built["encoder"]) != dict(encoder):
            raise DataError(
                f"{self.folder}: was built with encoder {built['encoder']}, the pipeline has {dict(encoder)}: "
                "choose the same or build again"
            )

    def masked_otherwise(self, detector: Mapping[str, Any]) -> str:
        """In what the masks of a pipeline's section `detector` differ from those that this map was built with, "" where they do not.

        That is allowed: keypoints are compared all the same. But a map without masks may hold points of cars that were parked there.
        """
        built, asked = self.provenance.get("detector") or {}, {}
        if detector:
            asked = {"name": str(detector.get("name")), **provenance_of(detector)}
        if asked and not built:
            return f"the map was built without a detector, the pipeline has {_in_words(asked)}: the map may hold points of parked cars"
        if built and not asked:
            return f"the map was built with detector {_in_words(built)}, the pipeline has none: what moves in its images is not masked"
        if any(built.get(key) != asked[key] for key in asked):
            return f"the map was built with detector {_in_words(built)}, the pipeline has {_in_words(asked)}"
        return ""

    def evidence_for(self, reranker: Reranker, section: Mapping[str, Any]) -> Sequence[PlaceEvidence]:
        """What a re-ranker compares of each place: stored when the map was built, or made of the places' features.

        Raises:
            DataError: it looks at images, and the map was not built with it.
        """
        if not reranker.needs_image:
            return reranker.describe_many(None, [place.features for place in self.places])
        built = dict(self.provenance["pipeline"].get("reranker") or {})
        if self.evidence is None or built != dict(section):
            raise DataError(
                f"{self.folder}: was built with re-ranker {built or 'none'}, the pipeline has {dict(section)}, which looks at images: "
                "choose the same or build again"
            )
        return self.evidence

    @property
    def frame(self) -> MapFrame:
        """Where it lies."""
        places = np.array([place.map_from_base.translation for place in self.places]).reshape(-1, 3)
        return MapFrame(self.folder, self.origin, self.enu_from_map, places)

    def camera_correction(self, camera: Camera, base_from_camera: Pose) -> Pose:
        """camera_true_from_camera_given for a query.

        The mounting error belongs to the rig that made the map: it is taken off when the query's camera has the same stated calibration,
        and only then. Another vehicle's camera has an error of its own, which nobody knows here.
        """
        same = camera == self.camera and abs(base_from_camera.matrix - self.base_from_camera.matrix).max() < 1e-6
        return Pose(self.mount_rotation if same else np.eye(3), np.zeros(3))

    def thumbnail(self, place: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, small, of the place's image."""
        return read_image(self._thumbnail_path(place))

    def thumbnail_jpeg(self, place: int) -> bytes:
        """The same as it is stored.

        Raises:
            DataError: it is not there.
        """
        return require_file(self._thumbnail_path(place), "thumbnail").read_bytes()

    def _thumbnail_path(self, place: int) -> Path:
        return self.folder / "thumbnails" / f"{place:06d}.jpg"


def _in_words(detector: Mapping[str, Any]) -> str:
    """Name, and the weights with the beginning of their hash."""
    weights = f" ({detector['weights']}, {detector['sha256'][:12]}...)" if detector.get("sha256") else ""
    return f"{detector['name']}{weights}"


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of map.yaml.

    Raises:
        DataError: no map there, or of another format version.
    """
    path = Path(folder) / "map.yaml"
    if not path.is_file():
        raise DataError(f"{folder}: is not a map (no map.yaml): give the folder that `ros2-loc map build` wrote")
    try:
        meta = yaml.safe_load(read_text(path, "map description"))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: is damaged: build the map again") from error
    if not isinstance(meta, dict) or meta.get("format_version") != FORMAT_VERSION:
        found = meta.get("format_version") if isinstance(meta, dict) else None
        raise DataError(f"{path}: has format version {found}, this program reads {FORMAT_VERSION}: build the map again")
    return meta


def verify_checksums(folder: Path, meta: Mapping[str, Any]) -> None:
    """Compare each file with the checksum in map.yaml.

    Raises:
        DataError: the first file that is missing or differs.
    """
    stored = meta.get("sha256", {})
    for name in (*CHECKED_FILES, EVIDENCE_FILE) if EVIDENCE_FILE in stored else CHECKED_FILES:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: is missing: copy the map again or build it again")
        if sha256(path) != stored.get(name):
            raise DataError(f"{path}: differs from its checksum in map.yaml (cut short or damaged): copy the map again or build it again")


def _read_arrays(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise DataError(f"{path}: can't be read ({type(error).__name__}): copy the map again or build it again") from error


def _assemble(folder: Path, meta: dict[str, Any], arrays: dict[str, NDArray]) -> SparseMap:
    names = [str(n) for n in arrays["names"]]
    all_features = read_features(folder / "features.h5", names)
    ends = np.cumsum(arrays["observations_per_place"])
    rows = np.split(arrays["observed_keypoint"].astype(np.int64), ends[:-1])
    points = np.split(arrays["observed_point"].astype(np.int64), ends[:-1])
    places = tuple(
        Place(name, int(stamp), Pose.from_matrix(base), Pose.from_matrix(cam), features.select(row), point)
        for name, stamp, base, cam, features, row, point in zip(
            names, arrays["stamps_ns"], arrays["map_from_base"], arrays["map_from_camera"], all_features, rows, points, strict=True
        )
    )
    origin = meta["origin"]
    model = meta["error_model"]
    return SparseMap(
        folder=folder,
        camera=Camera(meta["camera"]["model"], meta["camera"]["width"], meta["camera"]["height"], tuple(meta["camera"]["params"])),
        base_from_camera=Pose.from_matrix(meta["base_from_camera"]),
        mount_rotation=Pose.from_matrix(np.column_stack([meta["mount_rotation"], np.zeros(3)])).rotation,
        places=places,
        points_m=arrays["points_m"],
        point_covariances=arrays["point_covariances"],
        point_colors=arrays["point_colors"],
        index=PlaceIndex.load(folder / "index.faiss"),
        encoder_state={k.removeprefix("encoder_"): v for k, v in arrays.items() if k.startswith("encoder_")},
        evidence=tuple(read_evidence(folder / EVIDENCE_FILE, names)) if EVIDENCE_FILE in meta.get("sha256", {}) else None,
        origin=None if origin is None else GeoOrigin(**origin),
        enu_from_map=Pose.from_matrix(meta["enu_from_map"]),
        metric=bool(meta["metric"]),
        error_model=ErrorModel(
            float(model["scale"]),
            np.array(model["floor"], dtype=np.float64),
            float(model["distance_m"]),
            int(model["num_trials"]),
        ),
        provenance=meta["provenance"],
    )
