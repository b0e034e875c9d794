"""The records that flow between the rooms: frozen, checked on construction, no field that is filled in later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, check_covariance, largest_sigma
from ros2_loc.errors import DataError

FloatArray = NDArray[np.float32]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DataError(message)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image and what is known about how it was taken.

    Attributes:
        stamp_ns: time of exposure, integer nanoseconds.
        image: (H, W, 3) uint8 RGB; its size is the camera's.
        camera: intrinsics.
        base_from_camera: mounting of the optical frame on base_link.
        odom_from_base: odometry at the stamp, or None where there is none.
        mask: (H, W) bool, True where keypoints may be used, or None for everywhere.
    """

    stamp_ns: int
    image: NDArray[np.uint8]
    camera: Camera
    base_from_camera: Pose
    odom_from_base: Pose | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = getattr(self.image, "shape", None)
        _require(
            shape is not None and len(shape) == 3 and shape[2] == 3 and self.image.dtype == np.uint8,
            f"an image is (H, W, 3) uint8 RGB, got {shape} {getattr(self.image, 'dtype', '')}",
        )
        size = (self.camera.width, self.camera.height)
        _require(
            self.image.shape[1::-1] == size,
            f"image is {self.image.shape[1]}x{self.image.shape[0]} but its camera says {size[0]}x{size[1]}: send its camera_info",
        )
        _require(self.mask is None or self.mask.shape == self.image.shape[:2], "the mask must have the size of the image")


@dataclass(frozen=True, slots=True, eq=False)
class LocalFeatures:
    """Keypoints of one image, best score first.

    Attributes:
        keypoints: (N, 2) float32 px, x right and y down, centre of the first pixel at (0.5, 0.5).
        descriptors: (N, D) float32.
        scores: (N,) float32, higher is better.
        scales: (N,) float32 px: standard deviation of its position that the detector's scale suggests (relative between keypoints).
        extractor: name of the plugin that made them.
        size: width and height of the image, px.
    """

    keypoints: FloatArray
    descriptors: FloatArray
    scores: FloatArray
    scales: FloatArray
    extractor: str
    size: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        _require(self.keypoints.shape == (n, 2), f"keypoints are (N, 2), got {self.keypoints.shape}")
        _require(self.descriptors.ndim == 2 and len(self.descriptors) == n, f"descriptors are ({n}, D), got {self.descriptors.shape}")
        _require(self.scores.shape == (n,) and self.scales.shape == (n,), f"scores and scales are ({n},)")
        finite = np.isfinite(self.keypoints).all() and np.isfinite(self.descriptors).all()
        _require(bool(finite), f"features of {self.extractor} are not finite")

    def __len__(self) -> int:
        return len(self.keypoints)

    def select(self, indices: NDArray) -> LocalFeatures:
        """The features at these indices or under this boolean mask."""
        keypoints, descriptors, scores, scales = (a[indices] for a in (self.keypoints, self.descriptors, self.scores, self.scales))
        return LocalFeatures(keypoints, descriptors, scores, scales, self.extractor, self.size)


@dataclass(frozen=True, slots=True, eq=False)
class GlobalDescriptor:
    """One vector for a whole image: vector (D,) float32 of unit length; the encoder that made it."""

    vector: FloatArray
    encoder: str

    def __post_init__(self) -> None:
        norm = float(np.linalg.norm(self.vector))
        _require(self.vector.ndim == 1 and abs(norm - 1.0) < 1e-3, f"a global descriptor has unit length, not {norm:.4g} ({self.encoder})")


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Pairs between query and reference features: indices (M, 2) int32, scores (M,) float32, higher is better."""

    indices: NDArray[np.int32]
    scores: FloatArray

    def __post_init__(self) -> None:
        m = len(self.indices)
        _require(self.indices.shape == (m, 2) and self.scores.shape == (m,), f"matches are (M, 2) and (M,), got {self.indices.shape}")

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """An object in the image: box (x0, y0, x1, y1) px, label, score in [0, 1], mask (H, W) bool or None."""

    box: FloatArray
    label: str
    score: float
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _require(self.box.shape == (4,) and bool(np.isfinite(self.box).all()), f"a box is 4 finite numbers, got {self.box}")


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A square piece of overhead imagery.

    Attributes:
        id: its number in the database.
        image: (H, W, 3) uint8 RGB, north up.
        bounds_m: (west, south, east, north), m in the database's ENU frame: outer edges of the outer pixels.
        metres_per_px: side of a pixel on the ground, m.
    """

    id: int
    image: NDArray[np.uint8]
    bounds_m: tuple[float, float, float, float]
    metres_per_px: float

    def __post_init__(self) -> None:
        _require(self.image.ndim == 3 and self.image.shape[2] == 3, f"a tile's image is (H, W, 3), got {self.image.shape}")
        west, south, east, north = self.bounds_m
        _require(west < east and south < north and self.metres_per_px > 0, f"tile {self.id} has no area: {self.bounds_m}")


@dataclass(frozen=True, slots=True, eq=False)
class TileDescriptors:
    """What a cross-view encoder says of T tiles; K x K shifts of the camera from the tile's centre (`OverheadGrid.shift_offsets_m`).

    Attributes:
        features: (T, C, S, S) float16 or float32, each tile of unit length, row 0 north.
        uncertainty: (T, K, K) float32 in (0, 1]: how unlikely a camera is at that shift; ones where the encoder has no opinion.
        encoder: fingerprint of the encoder.
    """

    features: NDArray[np.float16] | FloatArray
    uncertainty: FloatArray
    encoder: str

    def __post_init__(self) -> None:
        t, k = len(self.features), self.uncertainty.shape[-1]
        square = self.features.ndim == 4 and self.features.shape[2] == self.features.shape[3]
        _require(square and self.features.dtype in (np.float16, np.float32), f"tile features are (T, C, S, S), got {self.features.shape}")
        _require(self.uncertainty.shape == (t, k, k), f"uncertainty is ({t}, K, K), got {self.uncertainty.shape}")
        finite = np.isfinite(self.features).all() and (self.uncertainty > 0).all() and (self.uncertainty <= 1).all()
        _require(bool(finite), f"tile descriptors of {self.encoder} are not finite, or an uncertainty is not in (0, 1]")

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True, eq=False)
class GroundFeatures:
    """Features of one frame before they are projected to the ground: kept, so that a frame passes the backbone once.

    Attributes:
        features: (C, h, w) float32.
        camera: intrinsics of the image as the encoder resized it.
        base_from_camera: mounting.
        encoder: fingerprint of the encoder.
        mask: (height, width) bool of that image, False where what it shows moves, or None.
    """

    features: FloatArray
    camera: Camera
    base_from_camera: Pose
    encoder: str
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _require(self.features.ndim == 3, f"ground features are (C, h, w), got {self.features.shape}")
        _require(bool(np.isfinite(self.features).all()), f"ground features of {self.encoder} are not finite")
        size = (self.camera.height, self.camera.width)
        _require(self.mask is None or self.mask.shape == size, f"the mask must have the size of the image, {size}")


@dataclass(frozen=True, slots=True, eq=False)
class OverheadDescriptor:
    """A short video seen from above, centred at its newest frame's base_link, north up.

    Attributes:
        features: (C, S, S) float32 of unit length, zero where not visible (zero everywhere if no frame saw the ground).
        visible: (S, S) bool, True where at least one frame saw the cell.
        encoder: fingerprint of the encoder.
    """

    features: FloatArray
    visible: NDArray[np.bool_]
    encoder: str

    def __post_init__(self) -> None:
        shape = self.features.shape
        _require(len(shape) == 3 and self.visible.shape == shape[1:], f"an overhead descriptor is (C, S, S) and (S, S), got {shape}")
        _require(bool(np.isfinite(self.features).all()), f"an overhead descriptor of {self.encoder} is not finite")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place (or tile) that the query may show: its index in the map, its score, higher is better."""

    source: int
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class PlaceEvidence:
    """What a re-ranker compares of one image; of a place it is made once and stored.

    Attributes:
        reranker: name of the re-ranker that made it and alone can read it.
        arrays: its own arrays by name, numbers only; the same names for every image.
    """

    reranker: str
    arrays: Mapping[str, NDArray[Any]]

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True, slots=True, eq=False)
class PlaceScores:
    """How much the candidates look like the query, to one re-ranker.

    Attributes:
        scores: (C,) float32 in the candidates' order, higher is better, finite; only their order within one query means something.
        inliers: (C,) int32 matches that agree with one geometry, None where the re-ranker has no such thing.
        stage_s: seconds spent in "matching" and "scoring".
    """

    scores: FloatArray
    inliers: NDArray[np.int32] | None = None
    stage_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.scores.shape
        _require(len(shape) == 1 and bool(np.isfinite(self.scores).all()), "a re-ranker's scores are finite numbers, one a candidate")
        _require(self.inliers is None or self.inliers.shape == shape, "a re-ranker counts the inliers of every candidate or of none")


@dataclass(frozen=True, slots=True, eq=False)
class PlaceMatches:
    """Why a re-ranker says that two images show one place, for pictures.

    Attributes:
        query_px, place_px: (M, 2) pixels that it matched, of the full images.
        inliers: (M,) bool, those that agree with its geometry; all where it has none.
    """

    query_px: FloatArray
    place_px: FloatArray
    inliers: NDArray[np.bool_]


class RejectionReason(str, Enum):
    """Why there is no pose; the values are shown in diagnostics and in LocalizationStatus."""

    TOO_FEW_KEYPOINTS = "too_few_keypoints"
    NO_CANDIDATES = "no_candidates"
    TOO_FEW_MATCHES = "too_few_matches"
    SOLVER_FAILED = "solver_failed"
    TOO_FEW_INLIERS = "too_few_inliers"
    LOW_INLIER_RATIO = "low_inlier_ratio"
    POOR_SPREAD = "poor_spread"
    UNSUPPORTED = "unsupported"
    UNCERTAIN = "uncertain"
    FAR_FROM_PLACES = "far_from_places"
    BAD_INPUT = "bad_input"
    NO_TRANSFORM = "no_transform"
    AMBIGUOUS = "ambiguous"
    OUTSIDE_TILES = "outside_tiles"
    NO_HEADING = "no_heading"
    NO_ODOMETRY = "no_odometry"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True, eq=False)
class PoseEstimate:
    """Where base_link is.

    Attributes:
        stamp_ns: the image's stamp.
        map_from_base: pose of base_link in the map.
        covariance: (6, 6) in ROS order (x, y, z, rotX, rotY, rotZ), map axes: truth = map_from_base.perturbed(d), d ~ N(0, covariance).
        num_inliers: correspondences that agree with the pose.
        source: name of the estimator.
    """

    stamp_ns: int
    map_from_base: Pose
    covariance: NDArray[np.float64]
    num_inliers: int
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariance", check_covariance(self.covariance))

    @property
    def sigma_m(self) -> float:
        """Largest standard deviation of the position along any axis, m."""
        return largest_sigma(self.covariance[:3, :3])

    @property
    def sigma_rad(self) -> float:
        """Largest standard deviation of the rotation about any axis, rad."""
        return largest_sigma(self.covariance[3:, 3:])


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why this frame got no pose: counted and shown, never replaced by a guess."""

    stamp_ns: int
    reason: RejectionReason
    detail: str
