"""Maps on disk: whole or refused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import yaml

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.errors import DataError
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.mapping.sparse_map import SparseMap
from ros2_loc.perception.scene_context import provenance_of


@pytest.fixture
def copy(town_map: SparseMap, tmp_path: Path) -> Path:
    return Path(shutil.copytree(town_map.folder, tmp_path / "map"))


def test_observations_reproject(town_map: SparseMap) -> None:
    """Every array agrees with every other: each place's keypoints lie where its points project."""
    errors = []
    for place in town_map.places:
        pixels = town_map.camera.project(place.map_from_camera.inverse().apply(town_map.points_m[place.point_index]))
        errors.append(np.linalg.norm(pixels - place.features.keypoints, axis=1))
    assert np.concatenate(errors).max() < 3.5 and np.median(np.concatenate(errors)) < 0.5


def test_poses_are_those_that_were_given_up_to_the_adjustment(town_map: SparseMap, town_sequence: ImageSequence) -> None:
    truth = dict(zip(town_sequence.names, town_sequence.map_from_base, strict=True))
    for place in town_map.places:
        delta = place.map_from_base.difference(truth[place.name])  # type: ignore[arg-type]
        assert np.linalg.norm(delta[:3]) < 0.02 and np.linalg.norm(delta[3:]) < np.radians(0.2)


def test_colmap_model_is_the_same_map(town_map: SparseMap) -> None:
    model = pycolmap.Reconstruction(str(town_map.folder / "sfm"))
    assert model.num_points3D() == len(town_map.points_m)
    assert {image.name for image in model.images.values()} == {place.name for place in town_map.places}
    assert model.compute_mean_reprojection_error() == pytest.approx(town_map.provenance["summary"]["mean_reprojection_error_px"], abs=1e-3)


def test_keypoints_of_a_place(town_map: SparseMap) -> None:
    place = town_map.places[3]
    np.testing.assert_array_equal(place.keypoints_of(place.point_index[:5]), place.features.keypoints[:5])
    unseen = np.setdiff1d(np.arange(len(town_map.points_m)), place.point_index)[:2]
    assert np.isnan(place.keypoints_of(unseen)).all()


def test_thumbnails_are_there(town_map: SparseMap) -> None:
    for k in range(len(town_map.places)):
        assert town_map.thumbnail(k).shape[1] <= 320


@pytest.mark.parametrize("name", ["features.h5", "places.npz", "index.faiss"])
def test_a_file_cut_short_is_refused_with_its_name(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{name}.*again"):
        SparseMap.load(copy)
    with pytest.raises(DataError, match=r"again"):
        SparseMap.load(copy, verify=False)


@pytest.mark.parametrize("name", ["map.yaml", "features.h5", "places.npz", "index.faiss"])
def test_a_missing_file_is_refused_with_its_name(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(DataError, match=name):
        SparseMap.load(copy)


def test_other_versions_and_broken_yaml_are_refused(copy: Path) -> None:
    path = copy / "map.yaml"
    meta = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**meta, "format_version": 99}))
    with pytest.raises(DataError, match="version 99"):
        SparseMap.load(copy)
    path.write_text("{: [")
    with pytest.raises(DataError, match=r"map.yaml"):
        SparseMap.load(copy)
    path.write_text(yaml.safe_dump({**meta, "camera": {"model": "PINHOLE"}}))
    with pytest.raises(DataError, match="contradict"):
        SparseMap.load(copy)


def test_pickles_in_a_map_are_not_opened(copy: Path) -> None:
    np.savez(copy / "places.npz", names=np.array([{"evil": 1}], dtype=object))
    with pytest.raises(DataError, match=r"places.npz"):
        SparseMap.load(copy, verify=False)


def test_other_features_are_refused(town_map: SparseMap) -> None:
    built = town_map.provenance["pipeline"]
    town_map.check_built_with(built["extractor"], built["encoder"])
    with pytest.raises(DataError, match=r"extractor 'sift'.*'orb'"):
        town_map.check_built_with({"name": "orb"}, built["encoder"])
    with pytest.raises(DataError, match="num_words"):
        town_map.check_built_with(built["extractor"], {"name": "vlad", "num_words": 99})


def test_the_mounting_error_is_taken_off_for_the_same_rig_only(town_map: SparseMap) -> None:
    same = town_map.camera_correction(town_map.camera, town_map.base_from_camera)
    np.testing.assert_array_equal(same.rotation, town_map.mount_rotation)
    moved = Pose(np.eye(3), np.array([0.1, 0, 0])) @ town_map.base_from_camera
    other = Camera.pinhole(320, 200, 170, 170, 160, 100)
    for correction in (town_map.camera_correction(other, town_map.base_from_camera), town_map.camera_correction(town_map.camera, moved)):
        np.testing.assert_array_equal(correction.matrix, np.eye(4))


def test_masks_of_other_weights_are_said_not_refused(town_map: SparseMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Settings:
        weights: str = ""
        min_score: float = 0.1

    monkeypatch.setattr(registry, "resolve", lambda kind, name: type("Detector", (), {"Config": Settings}))
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    asked = {"name": "boxes", "weights": str(tmp_path / "a")}
    made = {"name": "boxes", **provenance_of(asked), "labels": ["car"]}
    assert made["weights"] == asked["weights"] and len(made["sha256"]) == 64
    masked = replace(town_map, provenance={**town_map.provenance, "detector": made})
    assert masked.masked_otherwise(asked) == masked.masked_otherwise({**asked, "min_score": 0.5}) == ""
    other = masked.masked_otherwise({**asked, "weights": str(tmp_path / "b")})
    assert f"built with detector boxes ({asked['weights']}, {made['sha256'][:12]}...), the pipeline has boxes (" in other
    assert "the pipeline has boxes:" in town_map.masked_otherwise({"name": "boxes"})
