"""The protocol of Aachen Day-Night on a folder of the same form, made from the synthetic town: the whole way, and what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from ros2_loc.errors import DataError
from ros2_loc.evaluation.features_localization import LocalizationOptions, evaluate_localization, open_benchmark
from ros2_loc.evaluation.features_methods import parse_methods
from ros2_loc.io import localization_lists
from ros2_loc.io.image_pairs import PosedView, posed_views
from ros2_loc.io.image_sequence import ImageSequence
from ros2_loc.io.images import write_image


def write_benchmark(folder: Path, sequence: ImageSequence, listed: bool) -> dict[str, PosedView]:
    """Every second image in the model, the others asked for: half of them in a list "day", half in "night". Returns the queries."""
    views = posed_views(sequence)
    model = pycolmap.Reconstruction()
    camera = sequence.camera.to_colmap()
    camera.camera_id = 7
    model.add_camera_with_trivial_rig(camera)
    names = [f"db/{k}.png" if k % 2 == 0 else f"query/{'day' if k % 4 == 1 else 'night'}/{k}.png" for k in range(len(views))]
    for k, (name, posed) in enumerate(zip(names, views, strict=True)):
        write_image(folder / "images" / name, posed.view.load())
        if k % 2 == 0:
            pose = posed.camera_from_world
            image = pycolmap.Image(name=name, camera_id=7, image_id=100 + k)
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), pose.translation))
    (folder / "sparse").mkdir()
    model.write(str(folder / "sparse"))
    queries = {name: posed for name, posed in zip(names, views, strict=True) if name.startswith("query")}
    c = sequence.camera
    (folder / "queries").mkdir()
    for time in ("day", "night"):
        rows = [f"{n} {c.model} {c.width} {c.height} {' '.join(map(str, c.params))}\n" for n in queries if f"/{time}/" in n]
        (folder / "queries" / f"{time}_time_queries_with_intrinsics.txt").write_text("".join(rows))
    localization_lists.write_poses(folder / "truth.txt", {name: posed.camera_from_world for name, posed in queries.items()})
    if listed:
        near = [(a, b) for i, a in enumerate(names) for b in names[i + 1 : i + 6] if "db" in a + b]
        (folder / "image_pairs_to_match.txt").write_text("".join(f"{a} {b}\n" for a, b in near))
    return queries


@pytest.mark.slow
def test_queries_are_registered_measured_and_handed_in(town_sequence: ImageSequence, tmp_path: Path) -> None:
    queries = write_benchmark(tmp_path / "town", town_sequence.subset(range(14)), listed=True)
    benchmark = open_benchmark(tmp_path / "town")
    methods = parse_methods(["sift:max_keypoints=800", "orb:max_keypoints=800"])
    kept, out = tmp_path / "kept", tmp_path / "out"
    cells = evaluate_localization(methods, benchmark, LocalizationOptions(), kept=kept, submissions=out, show_progress=False)
    sift = cells[0]
    assert len(sift.results) == 7 and {r.group for r in sift.results} == {"day", "night"}
    assert sum(r.within(0.5, 2.0) for r in sift.queries()) >= 6 and sift.facts["points"] > 200 and sift.facts["megabytes"] > 0.5
    found = localization_lists.read_poses(out / "sift.txt")
    assert len(found) == sum(r.inliers > 0 for r in sift.queries())
    errors = [np.linalg.norm(pose.inverse().translation - _truth(queries, name)) for name, pose in found.items()]
    assert np.median(errors) < 0.1
    assert (out / "orb.txt").is_file() and not list(kept.glob("*.work"))
    again = evaluate_localization(methods, benchmark, LocalizationOptions(), kept=kept, show_progress=False)
    assert [c.results for c in again] == [c.results for c in cells] and again[0].seconds == sift.seconds


@pytest.mark.slow
def test_without_a_list_places_are_retrieved(town_sequence: ImageSequence, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "town", town_sequence.subset(range(10)), listed=False)
    methods = parse_methods(["sift:max_keypoints=600"])
    options = LocalizationOptions(retrieved=3)
    with pytest.raises(DataError, match="has no points to choose pairs by: give --match-pairs"):
        evaluate_localization(methods, open_benchmark(tmp_path / "town"), options, show_progress=False)
    inner = "".join(f"db/{a}.png db/{b}.png\n" for a in range(0, 10, 2) for b in range(a + 2, 10, 2))
    (tmp_path / "inner.txt").write_text(inner)
    benchmark = open_benchmark(tmp_path / "town", pairs=tmp_path / "inner.txt")
    (cell,) = evaluate_localization(methods, benchmark, options, show_progress=False)
    assert sum(r.within(1.0, 5.0) for r in cell.queries()) >= 4


def _truth(queries: dict[str, PosedView], short: str) -> np.ndarray:
    return next(posed.camera_from_world.inverse().translation for name, posed in queries.items() if name.endswith(f"/{short}"))


def test_what_is_missing_is_said(town_sequence: ImageSequence, tmp_path: Path) -> None:
    folder = tmp_path / "town"
    with pytest.raises(DataError, match="no such folder"):
        open_benchmark(folder)
    folder.mkdir()
    with pytest.raises(DataError, match="give --model"):
        open_benchmark(folder)
    write_benchmark(folder, town_sequence.subset(range(4)), listed=True)
    (folder / "truth.txt").write_text("other.jpg 1 0 0 0 0 0 0\n")
    with pytest.raises(DataError, match="has no pose of any of the 2 queries"):
        open_benchmark(folder)
    (folder / "truth.txt").unlink()
    for path in (folder / "queries").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="give --queries"):
        open_benchmark(folder)
