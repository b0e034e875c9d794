"""From images to a map on disk, in stages that resume after an interruption."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from ros2_loc.config import to_dict
from ros2_loc.core.interfaces import Encoder, Extractor, Matcher, Reranker
from ros2_loc.core.pose import Pose, so3_log
from ros2_loc.core.types import Detection, Frame, GlobalDescriptor, LocalFeatures
from ros2_loc.errors import DataError
from ros2_loc.io.features import append_evidence, append_features, read_evidence, read_features, stored_names
from ros2_loc.io.files import sha256
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import resize_image, write_image
from ros2_loc.io.masks import append_mask, masked_share, with_masks
from ros2_loc.mapping import sfm
from ros2_loc.mapping.adjustment import Adjusted, Linearized, Problem, adjust, linearize, reprojection_errors_px
from ros2_loc.mapping.config import MappingConfig
from ros2_loc.mapping.georeference import Georeference, locate_posed_map, place_free_structure
from ros2_loc.mapping.pairs import Pair, pose_pairs, retrieval_pairs, sequence_pairs
from ros2_loc.mapping.sfm import Structure
from ros2_loc.mapping.sparse_map import CHECKED_FILES, EVIDENCE_FILE, FORMAT_VERSION, ErrorModel, read_meta
from ros2_loc.perception.scene_context import SceneContext
from ros2_loc.retrieval.index import PlaceIndex

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A map before it is written: structure in the map frame, with its linearization and the mounting error found."""

    structure: Structure
    linearized: Linearized
    mount_rotation: NDArray[np.float64]
    georeference: Georeference
    seconds: dict[str, float] = field(default_factory=dict)


class MapBuilder:
    """The stages; each leaves its result in `work`, and finds there what an interrupted run left."""

    def __init__(
        self,
        sequence: ImageSequence,
        work: Path,
        extractor: Extractor,
        encoder: Encoder,
        matcher: Matcher,
        config: MappingConfig,
        show_progress: bool,
        context: SceneContext | None = None,
    ) -> None:
        self._sequence, self._work, self._config, self._show = sequence, work, config, show_progress
        self._extractor, self._encoder, self._matcher, self._context = extractor, encoder, matcher, context
        self._seconds: dict[str, float] = {}
        self._features: list[LocalFeatures] = []
        self._evidence: Path | None = None
        self._described_by = ""

    def features(self, fingerprint: str) -> list[LocalFeatures]:
        """Extract from every image, with what can move masked where there is a detector.

        What the file holds already is kept when it was made from the same images with the same settings.
        """
        start = time.perf_counter()
        self._work.mkdir(parents=True, exist_ok=True)
        marker, path = self._work / "fingerprint", self._work / "features.h5"
        if not marker.is_file() or marker.read_text() != fingerprint:
            for stale in self._work.glob("*.h5"):
                stale.unlink()
            marker.write_text(fingerprint)
        done = stored_names(path) if self._context is None else stored_names(path) & stored_names(self._masks_path)
        missing = [i for i, name in enumerate(self._sequence.names) if name not in done]
        step = max(self._extractor.batch_size, self._context.batch_size if self._context else 1)
        for start_row in self._progress(range(0, len(missing), step), "features"):
            self._extract(path, missing[start_row : start_row + step])
        self._features = read_features(path, self._sequence.names)
        if self._context is not None:
            self._sequence = with_masks(self._sequence, self._masks_path)
        if not any(map(len, self._features)):
            first, (width, height) = self._features[0], self._features[0].size
            what = f"{len(self._features)} images of {width}x{height}"
            raise DataError(f"{first.extractor} finds no keypoint in {what}: are they black, blank, too small or masked?")
        self._seconds["features"] = time.perf_counter() - start
        return self._features

    @property
    def sequence(self) -> ImageSequence:
        """The images, after `features` with the masks that it made."""
        return self._sequence

    @property
    def _masks_path(self) -> Path:
        return self._work / "masks.h5"

    def _extract(self, path: Path, rows: Sequence[int]) -> None:
        """Store the features of these images, and their masks before; an image whose features can't be used is named."""
        frames = [self._sequence.frame(i) for i in rows]
        found: list[list[Detection]] = [[] for _ in rows]
        if self._context is not None:
            found = self._context.detect_many(frames)
            frames = [self._context.masked(frame, seen) for frame, seen in zip(frames, found, strict=True)]
            for i, frame in zip(rows, frames, strict=True):
                assert frame.mask is not None
                append_mask(self._masks_path, self._sequence.names[i], frame.mask)
        try:
            features = self._extractor.extract_many(frames)
        except DataError:
            features = [self._extract_alone(i, frame) for i, frame in zip(rows, frames, strict=True)]
        for i, one, seen in zip(rows, features, found, strict=True):
            append_features(path, self._sequence.names[i], self._context.weighted(one, seen) if self._context else one)

    def _extract_alone(self, row: int, frame: Frame) -> LocalFeatures:
        try:
            return self._extractor.extract(frame)
        except DataError as error:
            raise DataError(f"{self._sequence.names[row]}: {error}; leave the image out, or use other weights or full precision") from error

    def encoder_state(self) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """What the encoder learns from these images, and their descriptors (P, D)."""
        start = time.perf_counter()
        state = self._encoder.fit(self._features)
        described: list[GlobalDescriptor] = []
        step = self._encoder.batch_size
        for first in self._progress(range(0, len(self._sequence), step), "encode"):
            rows = range(first, min(first + step, len(self._sequence)))
            frames = [self._sequence.frame(i) for i in rows] if self._encoder.needs_image else None
            described += self._encoder.encode_many(frames, [self._features[i] for i in rows])
        self._described_by = described[0].encoder
        self._seconds["encode"] = time.perf_counter() - start
        return state, np.stack([d.vector for d in described])

    def evidence(self, reranker: Reranker, section: Mapping[str, Any]) -> None:
        """Describe every image for a re-ranker that looks at images; what an interrupted run made with the same settings is kept."""
        start = time.perf_counter()
        path = self._evidence_path(section)
        done = stored_names(path)
        missing = [i for i, name in enumerate(self._sequence.names) if name not in done]
        for first in self._progress(range(0, len(missing), reranker.batch_size), "re-ranker"):
            rows = missing[first : first + reranker.batch_size]
            found = reranker.describe_many([self._sequence.frame(i) for i in rows], [self._features[i] for i in rows])
            for i, evidence in zip(rows, found, strict=True):
                append_evidence(path, self._sequence.names[i], evidence)
        self._evidence = path
        self._seconds["re-ranker"] = time.perf_counter() - start

    def _evidence_path(self, section: Mapping[str, Any]) -> Path:
        settings = json.dumps(section, sort_keys=True, default=str)
        return self._work / f"evidence_{hashlib.sha256(settings.encode()).hexdigest()[:16]}.h5"

    def _match(self, pairs: set[Pair], camera_from_map: Sequence[Pose] | None, max_px: float, stage: str) -> dict[Pair, NDArray[np.int32]]:
        """Match the pairs, along the epipolar lines where poses are known; found ones are stored one by one."""
        start = time.perf_counter()
        ordered = sorted(pairs)
        with _open_matches(self._work / f"{stage.replace(' ', '_')}.h5") as file:
            todo = self._progress([pair for pair in ordered if _key(pair) not in file], stage)
            camera, config = self._sequence.camera, self._config
            for pair, found in sfm.match_pairs(self._matcher, camera, self._features, todo, config.min_matches, camera_from_map, max_px):
                file.create_dataset(_key(pair), data=found)
                file.flush()
            table = {pair: file[_key(pair)][()] for pair in ordered}
        self._seconds[stage] = time.perf_counter() - start
        return {pair: found for pair, found in table.items() if len(found)}

    def _given_cameras(self) -> list[Pose]:
        """camera_from_map of every image, as given."""
        given = []
        for name, pose in zip(self._sequence.names, self._sequence.map_from_base, strict=True):
            if pose is None:
                raise DataError(f"{name}: has no pose; give poses for every image, or build without poses (--method incremental)")
            given.append((pose @ self._sequence.base_from_camera).inverse())
        return given

    def posed_structure(self) -> Draft:
        """Match, triangulate and adjust with the given poses, then once more with the adjusted ones and a narrower search.

        Given rotations can be off by several pixels where the vehicle turns: matches chosen along their epipolar lines would confirm them.
        """
        given = self._given_cameras()
        pairs = sequence_pairs(len(given), self._config.pairs.sequence_window) | pose_pairs(
            [p.inverse() for p in given], self._config.pairs
        )
        poses: Sequence[Pose] = given
        for stage, max_px in (("matches", self._config.max_epipolar_px), ("rematches", self._config.refined_epipolar_px)):
            matches = self._match(pairs, poses, max_px, stage)
            start = time.perf_counter()
            structure, adjusted = self._adjusted(self._triangulated(matches, poses, max_px), given)
            poses = adjusted.camera_from_map
            self._seconds[f"structure {stage}"] = time.perf_counter() - start
        linearized = linearize(self._problem(structure, given), self._config.adjustment)
        return Draft(structure, linearized, adjusted.mount_rotation, locate_posed_map(self._sequence), self._seconds)

    def _triangulated(self, matches: dict[Pair, NDArray[np.int32]], poses: Sequence[Pose], max_px: float) -> Structure:
        names, camera = self._sequence.names, self._sequence.camera
        structure = sfm.triangulate(self._work, camera, names, self._features, matches, poses, self._config, max_px)
        if len(structure.points_m) < 10:
            raise DataError(
                f"only {len(structure.points_m)} points could be triangulated from {len(names)} images: "
                "are the poses, the camera's calibration and its mounting right, and do the images overlap?"
            )
        return structure

    def _adjusted(self, structure: Structure, given: Sequence[Pose]) -> tuple[Structure, Adjusted]:
        """Adjust, drop observations that still miss, adjust once more."""
        for _ in range(2):
            result = adjust(self._problem(structure, given), self._config.adjustment)
            structure = Structure(
                structure.images,
                result.camera_from_map,
                result.points_m,
                structure.image_index,
                structure.point_index,
                structure.keypoint_index,
            )
            good = reprojection_errors_px(self._problem(structure, given)) < self._config.max_reprojection_px
            structure = structure.keep(good)
        return structure, result

    def unposed_structure(self, vectors: NDArray[np.float32], method: str) -> Draft:
        """Structure from motion, then scale and frame from GNSS or odometry where the sequence has them."""
        config = self._config.pairs
        pairs = sequence_pairs(len(self._sequence), config.sequence_window) | retrieval_pairs(vectors, config.retrieval_neighbours)
        matches = self._match(pairs, None, 0.0, "matches")
        start = time.perf_counter()
        free = sfm.map_without_poses(self._work, self._sequence.camera, self._sequence.names, self._features, matches, self._config, method)
        georeference, structure = place_free_structure(self._sequence, free)
        self._seconds["structure"] = time.perf_counter() - start
        problem = self._problem(structure, None)
        return Draft(structure, linearize(problem, self._config.adjustment), np.eye(3), georeference, self._seconds)

    def _problem(self, structure: Structure, given: Sequence[Pose] | None) -> Problem:
        camera = self._sequence.camera
        rays = [camera.unproject(self._features[i].keypoints) for i in structure.images]
        at = np.concatenate([[0], np.cumsum([len(r) for r in rays])])[structure.image_index] + structure.keypoint_index
        prior = [None if given is None else given[i] for i in structure.images]
        poses, points = structure.camera_from_map, structure.points_m
        focal_px = float(np.mean(camera.focal_px))
        return Problem(poses, points, structure.image_index, structure.point_index, np.concatenate(rays)[at], focal_px, prior)

    def write(
        self,
        folder: Path,
        draft: Draft,
        encoder_state: dict[str, Any],
        vectors: NDArray[np.float32],
        error_model: ErrorModel,
        provenance: dict[str, Any],
    ) -> None:
        """All files of the map into `folder` (which the caller renames when it is whole)."""
        structure, sequence = draft.structure, self._sequence
        folder.mkdir(parents=True, exist_ok=True)
        colors = self._write_thumbnails(folder / "thumbnails", structure)
        model = sfm.write_model(folder / "sfm", sequence.camera, sequence.names, self._features, structure, colors)
        names = [sequence.names[i] for i in structure.images]
        (folder / "features.h5").unlink(missing_ok=True)
        for i, name in zip(structure.images, names, strict=True):
            append_features(folder / "features.h5", name, self._features[i])
        if self._evidence is not None:
            (folder / EVIDENCE_FILE).unlink(missing_ok=True)
            for name, evidence in zip(names, read_evidence(self._evidence, names), strict=True):
                append_evidence(folder / EVIDENCE_FILE, name, evidence)
        index = PlaceIndex.build(vectors[structure.images], self._config.index, self._described_by, show_progress=self._show)
        index.save(folder / "index.faiss")
        np.savez(folder / "places.npz", **_arrays(sequence, draft, colors, encoder_state))
        made = {**summary(model, draft), **_summary_of_index(index), "images_given": len(sequence)}
        masked = {"masked_share": round(masked_share(sequence), 4)} if sequence.load_mask else {}
        provenance = {**provenance, "summary": {**made, **masked}}
        meta = _meta(sequence, draft, error_model, provenance)
        own = CHECKED_FILES if self._evidence is None else (*CHECKED_FILES, EVIDENCE_FILE)
        meta["sha256"] = {name: sha256(folder / name) for name in own}
        (folder / "map.yaml").write_text(yaml.safe_dump(meta, sort_keys=False))

    def _write_thumbnails(self, folder: Path, structure: Structure) -> NDArray[np.uint8]:
        """Small pictures of the places; returns the points' colours, read from the same images while they are in memory."""
        folder.mkdir(parents=True, exist_ok=True)
        colors = np.full((len(structure.points_m), 3), 128, dtype=np.uint8)
        for row, i in enumerate(self._progress(structure.images.tolist(), "pictures")):
            image = self._sequence.image(i)
            own = structure.image_index == row
            pixel = self._features[i].keypoints[structure.keypoint_index[own]].astype(int)
            colors[structure.point_index[own]] = image[
                np.clip(pixel[:, 1], 0, image.shape[0] - 1), np.clip(pixel[:, 0], 0, image.shape[1] - 1)
            ]
            width = min(self._config.thumbnail_width_px, image.shape[1])
            write_image(folder / f"{row:06d}.jpg", resize_image(image, width, round(image.shape[0] * width / image.shape[1])))
        return colors

    def _progress(self, items: Sequence[T], description: str) -> Iterable[T]:
        return tqdm(items, desc=f"{description:>9}", disable=not self._show or not items, leave=False, dynamic_ncols=True)


def fingerprint(sequence: ImageSequence, settings: dict[str, Any]) -> str:
    """Changes when the images, their poses or the settings that features and matches depend on change."""
    poses = [None if p is None else p.matrix.ravel().tolist() for p in (*sequence.map_from_base, sequence.base_from_camera)]
    camera = sequence.camera
    content = [sequence.names, sequence.stamps_ns.tolist(), poses, camera.model, camera.params, camera.width, camera.height, settings]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def summary(model: Any, draft: Draft) -> dict[str, Any]:
    """What `map info` shows."""
    return {
        "images": int(model.num_reg_images()),
        "points": int(model.num_points3D()),
        "observations": int(model.compute_num_observations()),
        "mean_track_length": round(float(model.compute_mean_track_length()), 3),
        "mean_reprojection_error_px": round(float(model.compute_mean_reprojection_error()), 4),
        "mount_error_deg": [round(float(v), 4) for v in np.degrees(so3_log(draft.mount_rotation))],
        "seconds": {k: round(v, 2) for k, v in draft.seconds.items()},
    }


def _summary_of_index(index: PlaceIndex) -> dict[str, Any]:
    return {"index": index.kind, "index_recall_of_flat": round(index.recall_of_flat, 4), "index_mb": round(index.num_bytes / 1e6, 2)}


def _key(pair: Pair) -> str:
    return f"{pair[0]}-{pair[1]}"


def _open_matches(path: Path) -> h5py.File:
    """Open for appending; a file that was damaged by a killed run is begun anew."""
    try:
        return h5py.File(path, "a")
    except OSError:
        path.unlink(missing_ok=True)
        return h5py.File(path, "a")


def _arrays(sequence: ImageSequence, draft: Draft, colors: NDArray[np.uint8], encoder_state: dict[str, Any]) -> dict[str, NDArray]:
    structure = draft.structure
    order = np.argsort(structure.image_index, kind="stable")
    camera_from_base = Pose(draft.mount_rotation, np.zeros(3)) @ sequence.base_from_camera.inverse()
    cameras = [pose.inverse() for pose in structure.camera_from_map]
    return {
        "names": np.array([sequence.names[i] for i in structure.images]),
        "stamps_ns": sequence.stamps_ns[structure.images],
        "map_from_camera": np.stack([pose.matrix for pose in cameras]),
        "map_from_base": np.stack([(pose @ camera_from_base).matrix for pose in cameras]),
        "points_m": structure.points_m,
        "point_covariances": draft.linearized.point_covariances.astype(np.float32),
        "point_colors": colors,
        "observations_per_place": np.bincount(structure.image_index, minlength=len(structure.images)),
        "observed_keypoint": structure.keypoint_index[order].astype(np.int32),
        "observed_point": structure.point_index[order].astype(np.int32),
        **{f"encoder_{key}": np.asarray(value) for key, value in encoder_state.items()},
    }


def _meta(sequence: ImageSequence, draft: Draft, error_model: ErrorModel, provenance: dict[str, Any]) -> dict[str, Any]:
    origin = draft.georeference.origin
    return {
        "format_version": FORMAT_VERSION,
        "metric": draft.georeference.metric,
        "origin": None if origin is None else to_dict(origin),
        "enu_from_map": draft.georeference.enu_from_map.matrix.tolist(),
        "camera": {
            "model": sequence.camera.model,
            "width": sequence.camera.width,
            "height": sequence.camera.height,
            "params": list(sequence.camera.params),
        },
        "base_from_camera": sequence.base_from_camera.matrix.tolist(),
        "mount_rotation": np.asarray(draft.mount_rotation).tolist(),
        "error_model": _error_model(error_model),
        "provenance": provenance,
    }


def _error_model(model: ErrorModel) -> dict[str, Any]:
    return {
        "scale": model.scale,
        "floor": np.asarray(model.floor).tolist(),
        "distance_m": model.distance_m,
        "num_trials": model.num_trials,
    }


def set_error_model(folder: Path, model: ErrorModel) -> None:
    """Put the measured error model into a map that was written with an assumed one."""
    (folder / "map.yaml").write_text(yaml.safe_dump({**read_meta(folder), "error_model": _error_model(model)}, sort_keys=False))
