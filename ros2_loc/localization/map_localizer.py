"""One image and a map -> a pose with a covariance, or a rejection with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ros2_loc import registry
from ros2_loc.core.pose import Array, Pose, check_covariance, transport_to_right
from ros2_loc.core.types import (
    Candidate,
    Detection,
    FloatArray,
    Frame,
    LocalFeatures,
    Matches,
    PoseEstimate,
    Rejection,
    RejectionReason,
)
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.localization.place_search import FoundPlaces, PlaceSearch
from ros2_loc.localization.pose_solver import Correspondences, Failure, PoseSolver, Solution
from ros2_loc.localization.stage_clock import StageClock
from ros2_loc.localization.support import Support, beyond_chance, support_of
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.perception.scene_context import SceneContext

SOURCE = "map"
_EXTRAPOLATED = 2.0  # in the demo's town, poses three to nine times as far as the trials were erred by 2 to 9 sigmas
_NO_PLACES = FoundPlaces.believed([])
_ELSEWHERE = ((3.0, 0.0), (-3.0, 0.0), (0.0, 3.0), (0.0, -3.0))  # radii


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """What one image led to; everything a person needs to see why.

    Attributes:
        result: the pose or the reason.
        places: those that were matched, best first, and how they were found.
        keypoints_px: (K, 2).
        num_matches: 2D-3D matches that went into the solver.
        inlier_pixels_px, inlier_points_m: (M, 2), (M, 3), empty when rejected.
        best_place: the place that most inliers come from.
        pairs_px: (L, 4) x, y in the query and x, y in the best place's image.
        stage_s: seconds per stage: detect, extract, encode, retrieve, rerank, match, guide, solve.
        detections: what the pipeline's detector saw, all of it, whether masked or not.
        masked_share: of the image's pixels.
    """

    result: PoseEstimate | Rejection
    places: FoundPlaces = _NO_PLACES
    keypoints_px: Array = field(default_factory=lambda: np.zeros((0, 2)))
    num_matches: int = 0
    inlier_pixels_px: Array = field(default_factory=lambda: np.zeros((0, 2)))
    inlier_points_m: Array = field(default_factory=lambda: np.zeros((0, 3)))
    best_place: int | None = None
    pairs_px: Array = field(default_factory=lambda: np.zeros((0, 4)))
    stage_s: dict[str, float] = field(default_factory=dict)
    detections: tuple[Detection, ...] = ()
    masked_share: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """2D-3D matches with where they come from: query keypoint, place and map point of each."""

    query: NDArray[np.int64]
    place: NDArray[np.int64]
    point: NDArray[np.int64]
    score: Array

    def order(self, which: NDArray) -> _Matched:
        return _Matched(self.query[which], self.place[which], self.point[which], self.score[which])

    def best_per_keypoint(self) -> _Matched:
        """Each query keypoint once, with its best match; best matches first."""
        ranked = self.order(np.argsort(-self.score, kind="stable"))
        return ranked.order(np.sort(np.unique(ranked.query, return_index=True)[1]))


class MapLocalizer:
    """The pipeline of ARCHITECTURE.md section 4, steps 4 to 8, on one map. Not thread-safe: one per worker."""

    def __init__(self, sparse_map: SparseMap, pipeline: PipelineConfig, device: str = "cpu") -> None:
        """Loads nothing from disk but what the plugins' weights need.

        Raises:
            DataError: the map was built with other features than the pipeline's.
        """
        sparse_map.check_built_with(pipeline.extractor, pipeline.encoder)
        self._map = sparse_map
        self._config = pipeline.localizer
        self._context = SceneContext.open(pipeline.detector, pipeline.context, device)
        self._extractor = registry.create("extractor", pipeline.extractor, device)
        self._matcher = registry.create("matcher", pipeline.matcher, device)
        self._search = PlaceSearch(sparse_map, pipeline, device)
        self._solver = PoseSolver(pipeline.solver)
        self._positions = np.array([p.map_from_base.translation for p in sparse_map.places])
        self._known_m = _measured_up_to_m(sparse_map, self._positions)
        self._centres = np.array([p.map_from_camera.translation for p in sparse_map.places])
        self._forward = np.array([p.map_from_camera.rotation[:, 2] for p in sparse_map.places])

    def localize(self, frame: Frame, prior: PoseEstimate | None = None) -> Localization:
        """Where was this image taken?

        Args:
            frame: the image; `frame.odom_from_base` is not used here. Its mask is joined with that of the pipeline's detector, if any.
            prior: where base_link is believed to be at the frame's stamp; only places near it are tried first, all others when that fails.
        """
        clock = StageClock()
        if self._context is not None:
            return self._localize_in_context(self._context, frame, prior, clock)
        features = clock.run("extract", lambda: self._extractor.extract(frame))
        return self.localize_features(frame, features, prior, clock=clock)

    def _localize_in_context(self, context: SceneContext, frame: Frame, prior: PoseEstimate | None, clock: StageClock) -> Localization:
        detections = clock.run("detect", lambda: context.detect(frame))
        masked = context.masked(frame, detections)
        features = clock.run("extract", lambda: context.weighted(self._extractor.extract(masked), detections))
        found = self.localize_features(masked, features, prior, trust=context.factors(features, detections), clock=clock)
        return replace(found, detections=tuple(detections), masked_share=_masked_share(masked))

    def localize_features(
        self,
        frame: Frame,
        features: LocalFeatures,
        prior: PoseEstimate | None = None,
        *,
        without_place: int | None = None,
        trust: FloatArray | None = None,
        clock: StageClock | None = None,
    ) -> Localization:
        """`localize` for features that were extracted before.

        Args:
            without_place: hides one place (to test the map on its own images).
            trust: (N,) how much each keypoint counts when RANSAC draws matches; the covariance knows nothing of it. None for all alike.
        """
        clock = clock or StageClock()
        hidden = np.array([] if without_place is None else [without_place], dtype=np.int64)
        if len(features) < self._config.min_keypoints:
            hidden_share = _masked_share(frame)
            why = f"{100 * hidden_share:.0f} % of the image is masked" if hidden_share else "dark, blurred or covered?"
            return self._reject(frame, clock, RejectionReason.TOO_FEW_KEYPOINTS, f"{len(features)} keypoints: {why}", features)
        near = self._near(prior) if prior is not None else np.zeros(0, dtype=np.int64)
        near = near[~np.isin(near, hidden)]
        found: Localization | None = None
        if len(near):
            found = self._locate(frame, features, FoundPlaces.believed(near.tolist()), clock, hidden, trust)
            if isinstance(found.result, PoseEstimate) or not self._config.search_all_when_lost:
                return found
        places = self._search.search(frame, features, clock, prior, hidden)
        if not places.candidates:
            return self._reject(frame, clock, RejectionReason.NO_CANDIDATES, "the map has no place to compare with", features)
        return self._locate(frame, features, places, clock, hidden, trust)

    def _near(self, prior: PoseEstimate) -> NDArray[np.int64]:
        """Places within reach of the prior that look the same way, nearest first."""
        config = self._config
        distance = np.linalg.norm(self._positions - prior.map_from_base.translation, axis=1)
        forward = (prior.map_from_base @ self._map.base_from_camera).rotation[:, 2]
        agrees = self._forward @ forward > np.cos(np.radians(config.prior_max_angle_deg))
        reach = config.prior_radius_m + 3.0 * prior.sigma_m
        order = np.argsort(np.where(agrees & (distance < reach), distance, np.inf), kind="stable")
        usable = int((agrees & (distance < reach)).sum())
        return order[: min(config.prior_places, usable)]

    def _locate(
        self,
        frame: Frame,
        features: LocalFeatures,
        places: FoundPlaces,
        clock: StageClock,
        hidden: NDArray[np.int64],
        trust: FloatArray | None,
    ) -> Localization:
        matched = clock.run("match", lambda: self._match(features, places.candidates, trust))
        solution = clock.run("solve", lambda: self._solver.solve(frame.camera, self._correspondences(features, matched)))
        if isinstance(solution, Solution) and self._config.guided:
            start = solution.map_from_camera
            guided, support = clock.run("guide", lambda: self._guided(frame, features, start, hidden))
            if (weakness := self._weakness(support)) is not None:
                return self._reject(frame, clock, *weakness, features, places, len(matched.query))
            if len(guided.query) >= len(matched.query[: len(solution.inliers)][solution.inliers]):
                matched = guided
                solution = clock.run("solve", lambda: self._solver.refine(frame.camera, self._correspondences(features, guided), start))
        if isinstance(solution, Failure):
            return self._reject(frame, clock, solution.reason, solution.detail, features, places, len(matched.query))
        return self._accept(frame, features, places, matched, solution, clock, hidden)

    def _match(self, features: LocalFeatures, candidates: Sequence[Candidate], trust: FloatArray | None) -> _Matched:
        """Each keypoint's best map point over all candidates, best matches first."""
        places = [self._map.places[c.source] for c in candidates]
        matches: list[Matches] = self._matcher.match_many(features, [p.features for p in places])
        together = _Matched(
            np.concatenate([m.indices[:, 0] for m in matches]).astype(np.int64),
            np.concatenate([np.full(len(m), c.source) for m, c in zip(matches, candidates, strict=True)]).astype(np.int64),
            np.concatenate([p.point_index[m.indices[:, 1]] for m, p in zip(matches, places, strict=True)]).astype(np.int64),
            np.concatenate([m.scores for m in matches]).astype(np.float64),
        )
        if trust is not None:
            together = replace(together, score=together.score * trust[together.query])
        return together.best_per_keypoint()

    def _guided(
        self, frame: Frame, features: LocalFeatures, map_from_camera: Pose, hidden: NDArray[np.int64]
    ) -> tuple[_Matched, Support]:
        """Matches of the points that the first pose puts near a keypoint: what the ratio test threw away comes back.

        Also whether they are more than when the same points are looked for elsewhere, some radii away: at a wrong pose they are not.
        """
        config = self._config
        place, row = self._points_around(map_from_camera, hidden)
        if not len(place):  # the first pose looks where no place looks
            nothing = np.zeros(0, dtype=np.int64)
            return _Matched(nothing, nothing, nothing, np.zeros(0)), Support(0, 0.0, 0, 0.0)
        rows_of = list(zip(place, row, strict=True))
        point = np.concatenate([self._map.places[p].point_index[r] for p, r in rows_of])
        owner = np.repeat(place, [len(r) for r in row])
        descriptors = np.concatenate([self._map.places[p].features.descriptors[r] for p, r in rows_of])
        pixels = frame.camera.project(map_from_camera.inverse().apply(self._map.points_m[point]))
        seen = np.flatnonzero(frame.camera.contains(pixels))
        descriptors, owner, point = descriptors[seen], owner[seen], point[seen]
        tree = cKDTree(features.keypoints)

        def near(centres_px: NDArray) -> _Matched:
            query, score = self._alike_near(tree, features, centres_px, descriptors)
            keep = score > config.guided_min_cosine
            return _Matched(query[keep], owner[keep], point[keep].astype(np.int64), score[keep]).best_per_keypoint()

        elsewhere = [near(pixels[seen] + config.guided_radius_px * np.array(shift)) for shift in _ELSEWHERE]
        here, keypoints = near(pixels[seen]), features.keypoints
        chance_px = [keypoints[matched.query] for matched in elsewhere]
        return here, support_of(keypoints[here.query], chance_px, (frame.camera.width, frame.camera.height))

    def _weakness(self, support: Support) -> tuple[RejectionReason, str] | None:
        """Why the points around the first pose do not bear it out."""
        if not beyond_chance(support.found, support.by_chance, self._solver.min_inliers):
            detail = f"{support.found} points of the map around have their like in the image, {support.by_chance:.0f} would by chance"
            return RejectionReason.UNSUPPORTED, detail
        if not beyond_chance(support.found_beside, support.by_chance_beside, self._config.guided_min_beside):
            spot = support.found - support.found_beside
            detail = f"{spot} matches in one spot, {support.found_beside} beside it where {support.by_chance_beside:.0f} would be by chance"
            return RejectionReason.POOR_SPREAD, detail
        return None

    def _alike_near(
        self, tree: cKDTree, features: LocalFeatures, centres_px: NDArray, descriptors: NDArray
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which keypoint around each centre (M, 2) is most like its descriptor (M, D), and how much; -1 where there is none."""
        k = min(self._config.guided_neighbours, len(features))
        distance, neighbour = tree.query(centres_px, k=k, distance_upper_bound=self._config.guided_radius_px)
        distance, neighbour = distance.reshape(len(centres_px), k), neighbour.reshape(len(centres_px), k)
        cosines = np.einsum("pd,pkd->pk", descriptors, features.descriptors[np.minimum(neighbour, len(features) - 1)])
        cosines = np.where(np.isfinite(distance), cosines, -1.0)
        best = cosines.argmax(axis=1)
        rows = np.arange(len(centres_px))
        return neighbour[rows, best].astype(np.int64), cosines[rows, best].astype(np.float64)

    def _points_around(self, map_from_camera: Pose, hidden: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """Places around a pose and, for each, the rows of its features whose point no nearer place has."""
        agrees = self._forward @ map_from_camera.rotation[:, 2] > np.cos(np.radians(self._config.prior_max_angle_deg))
        distance = np.where(agrees, np.linalg.norm(self._centres - map_from_camera.translation, axis=1), np.inf)
        distance[hidden] = np.inf
        order = np.argsort(distance, kind="stable")[: self._config.guided_places]
        order = order[np.isfinite(distance[order])]
        taken = np.zeros(len(self._map.points_m), dtype=bool)
        rows = []
        for place in order:
            index = self._map.places[place].point_index
            rows.append(np.flatnonzero(~taken[index]))
            taken[index] = True
        return order.astype(np.int64), rows

    def _correspondences(self, features: LocalFeatures, matched: _Matched) -> Correspondences:
        return Correspondences(
            features.keypoints[matched.query].astype(np.float64),
            features.scales[matched.query].astype(np.float64),
            self._map.points_m[matched.point],
            self._map.point_covariances[matched.point].astype(np.float64),
        )

    def _accept(
        self,
        frame: Frame,
        features: LocalFeatures,
        places: FoundPlaces,
        matched: _Matched,
        solution: Solution,
        clock: StageClock,
        hidden: NDArray[np.int64],
    ) -> Localization:
        inliers = matched.order(np.arange(len(solution.inliers))).order(solution.inliers)
        estimate, far = self._estimate(frame, solution, len(inliers.query), hidden)
        failure = None
        if estimate.sigma_m > self._config.max_sigma_m:
            failure = (RejectionReason.UNCERTAIN, f"sigma {estimate.sigma_m:.2f} m exceeds {self._config.max_sigma_m} m")
        if far > max(self._config.max_distance_to_place_m, _EXTRAPOLATED * self._known_m):
            detail = f"{far:.0f} m from the nearest place; how far poses err there was measured up to {self._known_m:.0f} m"
            failure = (RejectionReason.FAR_FROM_PLACES, detail)
        if failure is not None:
            return self._reject(frame, clock, *failure, features, places, len(matched.query))
        best = int(np.bincount(inliers.place).argmax())
        from_best = inliers.order(inliers.place == best)
        return Localization(
            result=estimate,
            places=places,
            keypoints_px=features.keypoints,
            num_matches=len(matched.query),
            inlier_pixels_px=features.keypoints[inliers.query],
            inlier_points_m=self._map.points_m[inliers.point],
            best_place=best,
            pairs_px=np.column_stack([features.keypoints[from_best.query], self._map.places[best].keypoints_of(from_best.point)]),
            stage_s=clock.seconds,
        )

    def _estimate(self, frame: Frame, solution: Solution, num_inliers: int, hidden: NDArray[np.int64]) -> tuple[PoseEstimate, float]:
        """Pose and covariance of base_link, and how far the nearest place is (m): the map's own measured errors added to the covariance,
        the mounting error of the mapping rig taken off the pose."""
        camera_from_base = self._map.camera_correction(frame.camera, frame.base_from_camera) @ frame.base_from_camera.inverse()
        map_from_base = solution.map_from_camera @ camera_from_base
        distance = np.linalg.norm(self._positions - map_from_base.translation, axis=1)
        distance[hidden] = np.inf
        nearest = float(distance.min())
        covariance = self._map.error_model.covariance(solution.covariance, solution.map_from_camera, nearest)
        covariance = transport_to_right(solution.map_from_camera, camera_from_base, covariance)
        return PoseEstimate(frame.stamp_ns, map_from_base, check_covariance(covariance), num_inliers, SOURCE), nearest

    def _reject(
        self,
        frame: Frame,
        clock: StageClock,
        reason: RejectionReason,
        detail: str,
        features: LocalFeatures,
        places: FoundPlaces = _NO_PLACES,
        num_matches: int = 0,
    ) -> Localization:
        rejection = Rejection(frame.stamp_ns, reason, detail)
        return Localization(rejection, places, features.keypoints, num_matches, stage_s=clock.seconds)


def _masked_share(frame: Frame) -> float:
    return 0.0 if frame.mask is None else 1.0 - float(frame.mask.mean())


def _measured_up_to_m(sparse_map: SparseMap, positions_m: Array) -> float:
    """How far from places the map's errors were measured; in a map too small for that, how far its places lie apart."""
    if sparse_map.error_model.num_trials or len(positions_m) < 2:
        return sparse_map.error_model.distance_m
    return float(np.median(cKDTree(positions_m).query(positions_m, k=2)[0][:, 1]))
