"""The whole way from images to a map: mapping's stages, then the map's own errors measured by localizing its images."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from ros2_loc import __version__, registry
from ros2_loc.config import to_dict
from ros2_loc.core.pose import Pose, transport_to_right
from ros2_loc.core.types import LocalFeatures, PoseEstimate
from ros2_loc.errors import DataError
from ros2_loc.io.files import require_absent
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.localization.map_localizer import MapLocalizer
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.mapping import calibration
from ros2_loc.mapping.build import Draft, MapBuilder, fingerprint, set_error_model
from ros2_loc.mapping.sparse_map import ErrorModel, SparseMap
from ros2_loc.perception.scene_context import SceneContext

Method = Literal["known", "incremental", "global"]


def build_map(
    sequence: ImageSequence,
    pipeline: PipelineConfig,
    out: str | Path,
    *,
    poses: Method = "known",
    overwrite: bool = False,
    source: str = "",
    show_progress: bool = True,
) -> SparseMap:
    """Build a map from images and write it to the folder `out`.

    Interrupted, it leaves `.<name>.building` beside `out`; the same call takes up the work there.

    Args:
        sequence: the images; with poses "known", `map_from_base` of every one.
        poses: "known": triangulate and adjust with the given poses as priors; "incremental", "global": structure from motion.
        overwrite: replace a map that is there (when the new one is whole).
        source: where the images came from, for the map's provenance.

    Raises:
        DataError: `out` exists, poses are missing, or the images do not make a map (why, and what to do).
    """
    out = Path(out)
    if not overwrite:
        require_absent(out)
    if poses == "known" and not sequence.has_poses:
        raise DataError(
            "the images have no poses: give some (--poses FILE, or a bag with /ground_truth/odometry), or build with --method incremental"
        )
    work = out.parent / f".{out.name}.building"
    names = {kind: getattr(pipeline, kind) for kind in ("extractor", "encoder", "matcher")}
    parts = {kind: registry.create(kind, section) for kind, section in names.items()}
    context = SceneContext.open(pipeline.detector, pipeline.context)
    builder = MapBuilder(sequence, work, config=pipeline.mapping, show_progress=show_progress, context=context, **parts)
    masked_by = {} if context is None else {"detector": context.provenance}
    settings = {"extractor": names["extractor"], "matcher": names["matcher"], "mapping": to_dict(pipeline.mapping)}
    features = builder.features(fingerprint(sequence, {**settings, **masked_by, "context": to_dict(pipeline.context)}))
    state, vectors = builder.encoder_state()
    if pipeline.reranker and (reranker := registry.create("reranker", pipeline.reranker)).needs_image:
        builder.evidence(reranker, pipeline.reranker)
    draft = builder.posed_structure() if poses == "known" else builder.unposed_structure(vectors, poses)
    provenance = {"ros2_loc": __version__, "source": source, "method": poses, "pipeline": to_dict(pipeline), **masked_by}

    assumed = calibration.unmeasured(pipeline.mapping.adjustment.prior_sigma_m, pipeline.mapping.adjustment.prior_sigma_deg)
    draft_folder = work / "map"
    builder.write(draft_folder, draft, state, vectors, assumed, provenance)
    if poses == "known":
        drafted = SparseMap.load(draft_folder, verify=False)
        model = measure_error_model(drafted, draft, builder.sequence, features, pipeline, assumed, show_progress)
        set_error_model(draft_folder, model)
    _put_in_place(draft_folder, out, work)
    return SparseMap.load(out, verify=False)


def measure_error_model(
    sparse_map: SparseMap,
    draft: Draft,
    sequence: ImageSequence,
    features: Sequence[LocalFeatures],
    pipeline: PipelineConfig,
    assumed: ErrorModel,
    show_progress: bool,
) -> ErrorModel:
    """Localize images of the map (with the masks that they were mapped with), each in the map without it, and fit the error model."""
    pipeline = replace(pipeline, detector={})  # it has been asked
    raw = replace(sparse_map, error_model=ErrorModel(1.0, np.zeros((6, 6)), 0.0, 0))
    count = min(len(raw.places), pipeline.mapping.calibration_images)
    trials = []
    for row in tqdm(
        np.unique(np.linspace(0, len(raw.places) - 1, count).astype(int)),
        desc=" accuracy",
        disable=not show_progress,
        leave=False,
        dynamic_ncols=True,
    ):
        trial = _trial(raw, draft, int(row), sequence, features, pipeline)
        if trial is not None:
            trials.append(trial)
    return calibration.fit_error_model(trials) if len(trials) >= calibration.MIN_TRIALS else assumed


def _trial(
    raw: SparseMap, draft: Draft, row: int, sequence: ImageSequence, features: Sequence[LocalFeatures], pipeline: PipelineConfig
) -> calibration.Trial | None:
    """The error of one image's camera in the map without it; None when it was rejected."""
    image = int(draft.structure.images[row])
    given = sequence.map_from_base[image]
    reduced = calibration.without_image(raw, draft.linearized, row)
    found = MapLocalizer(reduced, pipeline).localize_features(sequence.frame(image), features[image], without_place=row)
    if not isinstance(found.result, PoseEstimate) or given is None:
        return None
    base_from_camera = sequence.base_from_camera @ Pose(draft.mount_rotation.T, np.zeros(3))
    estimated, true = found.result.map_from_base @ base_from_camera, given @ base_from_camera
    covariance = transport_to_right(found.result.map_from_base, base_from_camera, found.result.covariance)
    others = np.array([p.map_from_base.translation for k, p in enumerate(raw.places) if k != row])
    return calibration.Trial(
        error=calibration.in_camera_axes(true, estimated.difference(true)),
        covariance=calibration.in_camera_axes(true, covariance),
        distance_m=float(np.linalg.norm(others - found.result.map_from_base.translation, axis=1).min()),
    )


def _put_in_place(draft_folder: Path, out: Path, work: Path) -> None:
    if out.exists():
        replaced = work / "replaced"
        out.rename(replaced)
    draft_folder.rename(out)
    shutil.rmtree(work, ignore_errors=True)
