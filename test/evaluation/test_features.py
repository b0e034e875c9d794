"""Local features side by side: what is compared, on what, what comes out, and that it can be interrupted."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose, so3_exp
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import features as evaluation_of_features
from ros2_loc.evaluation import features_metrics as fm
from ros2_loc.evaluation import features_synthetic as made
from ros2_loc.evaluation.features_datasets import PairOptions, homography_dataset, thinned, two_view_dataset
from ros2_loc.evaluation.features_homography import estimate_homography
from ros2_loc.evaluation.features_methods import MATCHER, Features, Method, pairs_px, parse_methods, parse_section
from ros2_loc.evaluation.features_pictures import matches_pictures, right_matches
from ros2_loc.evaluation.features_records import Cell, FeaturesEvaluation, HomographyResult, PoseResult, QueryResult, summary
from ros2_loc.evaluation.features_tables import tables
from ros2_loc.evaluation.features_two_view import estimate_relative_pose, verified
from ros2_loc.evaluation.report.features import write_features_report
from ros2_loc.io.image_pairs import HomographyPair, PosedPair, View
from ros2_loc.io.images import write_image

sys.path.insert(0, str(Path(__file__).parent))
from feature_cases import hpatches_folder, image_folder, textured

DAMAGED = '{"format": "ros2_loc features evaluation", "version": 1, "title": "", "settings": {}, "cells": [[]]}'
SIFT = Method("sift", {"name": "sift", "max_keypoints": 500})


class TestMethods:
    """Words of the command line."""

    def test_a_section_has_values_of_their_own_kind(self) -> None:
        assert parse_section("sift") == {"name": "sift"}
        assert parse_section("r2d2:weights=a/b.pt,max_keypoints=500,min_scale=0.5,half=true") == {
            "name": "r2d2",
            "weights": "a/b.pt",
            "max_keypoints": 500,
            "min_scale": 0.5,
            "half": True,
        }
        assert parse_section("x:scales=[1,0.5],weights=d=1.pt") == {"name": "x", "scales": [1, 0.5], "weights": "d=1.pt"}

    @pytest.mark.parametrize("word", ["sift:", "sift:max_keypoints", ":a=1", "sift:=3"])
    def test_no_section_is_one_line(self, word: str) -> None:
        if word == "sift:":
            assert parse_section(word) == {"name": "sift"}
            return
        with pytest.raises(ConfigError, match="give name:key=value|needs a name"):
            parse_section(word)

    def test_labels_tell_methods_apart(self) -> None:
        found = parse_methods(["sift", "orb:max_keypoints=5", "orb:max_keypoints=9"])
        assert [m.label for m in found] == ["sift", "orb:max_keypoints=5", "orb:max_keypoints=9"]
        found = parse_methods(["sift", "sift"], ["mutual_nearest", "other:min=1"])
        assert [m.label for m in found] == ["sift + mutual_nearest", "sift + other"] and found[1].matcher == {"name": "other", "min": 1}
        with pytest.raises(ConfigError, match="comes twice"):
            parse_methods(["sift", "sift"])
        with pytest.raises(ConfigError, match="one for each of the 3"):
            parse_methods(["a", "b", "c"], ["m", "n"])

    def test_sections_of_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "methods.yaml"
        path.write_text("plain: {name: sift}\nboth: {extractor: {name: orb}, matcher: {name: mutual_nearest, max_ratio: 1.0}}\n")
        plain, both = parse_methods([str(path)])
        assert (plain.label, plain.extractor, plain.matcher) == ("plain", {"name": "sift"}, MATCHER)
        assert both.matcher == {"name": "mutual_nearest", "max_ratio": 1.0}
        path.write_text("plain: sift\n")
        with pytest.raises(ConfigError, match="methods.yaml: plain: expected a section"):
            parse_methods([str(path)])

    def test_features_of_a_view_are_found_once_and_timed(self) -> None:
        reads = []
        view = View("a", lambda: reads.append(1) or textured(1))  # type: ignore[func-returns-value]
        features = Features(SIFT)
        first = features.of(view)
        assert features.of(view) is first and len(reads) == 1 and set(features.seconds) == {"extract"}
        assert len(features.matches(first, first)) > 0.9 * len(first) and set(features.seconds) == {"extract", "match"}
        features.begin()
        assert features.seconds == {}


class TestMadePairs:
    """Homographies and lights that are drawn."""

    @given(st.integers(0, 10_000), st.sampled_from([(640, 480), (200, 600), (1000, 100)]))
    def test_the_second_image_lies_within_the_first(self, seed: int, size: tuple[int, int]) -> None:
        homography = made.random_homography(np.random.default_rng(seed), *size)
        corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], float)
        inside_first = fm.warp(corners, np.linalg.inv(homography))
        assert np.isfinite(fm.warp(corners, homography)).all()
        assert (inside_first >= -0.01).all() and (inside_first <= np.array(size) + 0.01).all()

    def test_a_warped_image_is_where_its_homography_says(self) -> None:
        image = np.zeros((120, 160, 3), np.uint8)
        cv2.circle(image, (70, 50), 6, (255, 255, 255), -1)
        homography = np.array([[1.4, 0.2, -30.0], [-0.1, 1.5, -20.0], [2e-4, -1e-4, 1.0]])
        weight = made.warped(image, homography)[..., 0].astype(float)
        ys, xs = np.mgrid[:120, :160] + 0.5
        centre = np.array([(xs * weight).sum(), (ys * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(centre, fm.warp([[70.5, 50.5]], homography)[0], atol=0.15)

    def test_the_seed_decides_and_nothing_else(self, tmp_path: Path) -> None:
        folder = image_folder(tmp_path / "images", 2)
        first, again, other = (made.made_pairs(folder, 2, seed) for seed in (0, 0, 1))
        assert [p.group for p in first] == ["viewpoint", "illumination"] * 2
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.second_from_first, b.second_from_first)
            np.testing.assert_array_equal(a.second.load(), b.second.load())
        assert abs(first[0].second_from_first - other[0].second_from_first).max() > 1e-3
        assert (first[1].second.load() != other[1].second.load()).any() and np.array_equal(first[1].second_from_first, np.eye(3))
        (folder / "0.png").unlink()
        np.testing.assert_array_equal(made.made_pairs(folder, 2, 0)[0].second_from_first, first[2].second_from_first)

    def test_light_changes_what_is_bright_not_where_it_is(self) -> None:
        image = textured(4)
        lit = made.other_light(image, np.random.default_rng(0), 1.0)
        assert lit.dtype == np.uint8 and abs(lit.astype(int) - image).mean() > 3
        assert np.corrcoef(lit[..., 1].ravel(), image[..., 1].ravel())[0, 1] > 0.9


class TestGeometry:
    """Estimates from matches, some of them wrong."""

    @given(st.integers(0, 500))
    def test_homography_among_outliers(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        homography = made.random_homography(rng, 640, 480)
        a = rng.uniform(0, (640, 480), (100, 2))
        pairs = np.column_stack([a, fm.warp(a, homography)])
        pairs[:30, 2:] = rng.uniform(0, (640, 480), (30, 2))
        assert fm.corner_error_px(estimate_homography(pairs), homography, (640, 480)) < 0.5

    def test_too_few_matches_give_nothing(self) -> None:
        camera = Camera.pinhole(640, 480, 500, 500, 320, 240)
        assert estimate_homography(np.zeros((3, 4))) is None and not verified(np.zeros((7, 4))).any()
        assert estimate_relative_pose(np.zeros((4, 4)), camera, camera) == (None, 0)

    @given(st.integers(0, 500))
    def test_relative_pose_through_lenses(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        b_from_a = Pose(so3_exp(rng.normal(0, 0.1, 3)), rng.normal(0, 1, 3))
        cameras = Camera("OPENCV", 640, 480, (500, 510, 322, 243, -0.2, 0.05, 0, 0)), Camera.pinhole(800, 600, 700, 700, 400, 300)
        points = rng.uniform([-3, -2, 5], [3, 2, 10], (200, 3))
        pixels = [c.project(p) for c, p in zip(cameras, (points, b_from_a.apply(points)), strict=True)]
        pairs = np.column_stack(pixels)[np.isfinite(np.column_stack(pixels)).all(axis=1)]
        pairs[:10, 2:] += rng.uniform(20, 60, (10, 2))
        estimated, inliers = estimate_relative_pose(pairs, *cameras)
        rotation, direction = fm.pose_error_deg(estimated, b_from_a)
        assert rotation < 0.3 and direction < 1.0 and inliers > 0.8 * (len(pairs) - 10)
        posed = PosedPair(View("a", lambda: textured(0), cameras[0]), View("b", lambda: textured(0), cameras[1]), "", b_from_a)
        right = right_matches(posed, pairs)
        assert right is not None and right[10:].all()
        agreeing = verified(pairs)
        assert agreeing.shape == (len(pairs),) and agreeing[10:].mean() > 0.5 and not agreeing[:10].all()

    def test_without_truth_nothing_is_called_right(self) -> None:
        view = View("a", lambda: textured(0))
        assert right_matches(PosedPair(view, view, "", None), np.zeros((3, 4))) is None


class TestDatasets:
    """What lies at a path."""

    def test_kinds_of_homography_folders(self, tmp_path: Path) -> None:
        hpatches_folder(tmp_path / "hp")
        image_folder(tmp_path / "images", 3)
        whole = homography_dataset(tmp_path / "hp", PairOptions())
        assert whole.title == "hp: HPatches" and len(whole.pairs) == 4
        one = homography_dataset(tmp_path / "hp" / "v_blocks", PairOptions(limit=1))
        assert one.title == "v_blocks: homographies" and len(one.pairs) == 1
        plain = homography_dataset(tmp_path / "images", PairOptions(per_image=3))
        assert plain.title.endswith("images: made homographies") and len(plain.pairs) == 9
        assert plain.settings != homography_dataset(tmp_path / "images", PairOptions(per_image=3, seed=1)).settings

    def test_kinds_of_scenes(self, shared_data: Path) -> None:
        few = PairOptions(limit=6, distances=(2, 7), per_distance=5)
        titles = {}
        for name in ("strecha_half/Herz-Jesus-P8", "7scenes_redkitchen", "matching/sacre_coeur", "matching/phototourism_sample_pairs.txt"):
            dataset = two_view_dataset(shared_data / name, few)
            titles[name] = dataset.title.partition(": ")[2]
            known = [p.second_from_first is not None for p in dataset.pairs if isinstance(p, PosedPair)]
            assert len(dataset.pairs) == 6 and len(set(known)) == 1 and known[0] == (not name.startswith("matching"))
        assert list(titles.values()) == ["all pairs", "recorded frames", "pairs without truth", "listed pairs"]
        model = two_view_dataset(shared_data / "colmap_project_bartoszek" / "dense" / "0", PairOptions(limit=4))
        assert model.title == "dense/0: COLMAP model" and all(p.first.camera is not None for p in model.pairs)

    def test_what_is_nowhere_is_one_line(self, tmp_path: Path) -> None:
        for make in (homography_dataset, two_view_dataset):
            with pytest.raises(DataError, match="absent"):
                make(tmp_path / "absent", PairOptions())
        with pytest.raises(ConfigError, match="must be positive"):
            PairOptions(limit=0)

    def test_thinning_keeps_the_ends(self) -> None:
        assert thinned(list(range(100)), 3) == [0, 50, 99] and thinned([1, 2], 5) == [1, 2]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> FeaturesEvaluation:
    """SIFT and ORB on the two kinds of homographies."""
    folder = tmp_path_factory.mktemp("features")
    hpatches_folder(folder / "hp")
    image_folder(folder / "images", 1)
    datasets = [homography_dataset(folder / name, PairOptions()) for name in ("hp", "images")]
    methods = [SIFT, Method("orb", {"name": "orb", "max_keypoints": 500})]
    cells = evaluation_of_features.evaluate_features(methods, datasets, show_progress=False)
    return FeaturesEvaluation("blocks", {"methods": {m.label: m.settings for m in methods}}, tuple(cells))


class TestEvaluation:
    """Cells, tables, files."""

    def test_known_homographies_are_found(self, measured: FeaturesEvaluation) -> None:
        assert [(c.method, c.dataset.rpartition("/")[2]) for c in measured.cells] == [
            ("sift", "hp: HPatches"),
            ("orb", "hp: HPatches"),
            ("sift", "images: made homographies"),
            ("orb", "images: made homographies"),
        ]
        sift = summary(measured.cells[0])
        assert sift["pairs"] == 4 and sift["mma"][2] > 0.8 and sift["homography_accuracy"][2] == 1.0 and sift["repeatability"] > 0.3
        assert all(a <= b for a, b in zip(sift["mma"], sift["mma"][1:], strict=False))
        assert summary(measured.cells[0], "viewpoint")["pairs"] == 2

    def test_json_round_trip(self, measured: FeaturesEvaluation, tmp_path: Path) -> None:
        measured.write_json(tmp_path / "e.json")
        again = FeaturesEvaluation.read_json(tmp_path / "e.json")
        assert again == measured
        assert json.loads((tmp_path / "e.json").read_text())["cells"][0]["summary"]["pairs"] == 4

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', DAMAGED])
    def test_damaged_json_is_one_line(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "e.json").write_text(text)
        with pytest.raises(DataError, match="e.json"):
            FeaturesEvaluation.read_json(tmp_path / "e.json")

    def test_tables_hold_the_numbers_side_by_side(self, measured: FeaturesEvaluation) -> None:
        first, _, times = tables(measured)
        assert [row[:2] for row in first.rows] == [
            (m, g) for g in ("illumination", "viewpoint", "all") for m in ("sift", "orb")
        ]
        assert all(len(row) == len(first.header) for row in first.rows) and times.title == "Time" and len(times.rows) == 4
        accuracy = summary(measured.cells[0])["mma"][2]
        assert first.rows[4][first.header.index("MMA 3 px")] == f"{100 * accuracy:.1f}"

    def test_finished_cells_are_not_measured_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        image_folder(tmp_path / "images", 1)
        dataset = homography_dataset(tmp_path / "images", PairOptions(per_image=1))
        calls = []
        real = evaluation_of_features.measure
        monkeypatch.setattr(evaluation_of_features, "measure", lambda *words: calls.append(words) or real(*words))
        kept = tmp_path / "kept"
        first = evaluation_of_features.evaluate_features([SIFT], [dataset], kept=kept, show_progress=False)
        again = evaluation_of_features.evaluate_features([SIFT], [dataset], kept=kept, show_progress=False)
        assert first == again and len(calls) == 1
        other = replace(SIFT, extractor={"name": "sift", "max_keypoints": 100})
        evaluation_of_features.evaluate_features([other], [dataset], kept=kept, show_progress=False)
        assert len(calls) == 2
        for path in kept.glob("*.json"):
            path.write_text("{")
        assert evaluation_of_features.evaluate_features([SIFT], [dataset], kept=kept, show_progress=False)[0].results == first[0].results

    def test_a_method_that_can_not_work_is_said_before_anything_is_measured(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "images", 1)
        dataset = homography_dataset(tmp_path / "images", PairOptions())
        with pytest.raises(ConfigError, match="there is no extractor 'sieft'"):
            evaluation_of_features.evaluate_features([SIFT, Method("x", {"name": "sieft"})], [dataset], show_progress=False)

    def test_images_without_anything_on_them(self) -> None:
        view = View("white", lambda: np.full((60, 80, 3), 255, np.uint8))
        pair = HomographyPair(view, replace(view, name="again"), "viewpoint", np.eye(3))
        features = Features(SIFT)
        found = evaluation_of_features.measure_homography(features, pair)
        assert found == HomographyResult("white again", "viewpoint", (0, 0), 0, None, (0.0,) * 10, None)
        camera = Camera.pinhole(80, 60, 70, 70, 40, 30)
        posed = PosedPair(replace(view, camera=camera), replace(view, name="b", camera=camera), "", Pose(np.eye(3), np.array([1.0, 0, 0])))
        pose = evaluation_of_features.measure_two_view(features, posed)
        assert pose.error_deg == np.inf and pose.precision is None and pose.has_truth

    def test_two_view_summary_counts_failures(self) -> None:
        good = PoseResult("a", "", (9, 9), 9, 8, True, 0.5, 1.0, 2.0)
        bad = replace(good, rotation_deg=None, translation_deg=None, inliers=0)
        cell = Cell("m", "d", "two-view", (good, bad), {}, 9.0)
        s = summary(cell)
        assert s["auc"] == fm.area_under_curve([2.0, np.inf], fm.POSE_THRESHOLDS_DEG) and s["rotation_deg"] == 1.0 and s["inliers"] == 4.0

    def test_paper_stands_beside_the_ablation(self) -> None:
        query = QueryResult("q", "night", 100, 50, 20, True, 0.1, 0.5, (1.0, 0, 0, 0, 0, 0, 0))
        lost = replace(query, name="r", inliers=0, position_m=None, rotation_deg=None, camera_from_world=None)
        cells = [Cell(label, "town", "localization", (query, lost), {}, 100.0) for label in ("R2D2", "R2D2 + LG", "sift")]
        (table, _) = tables(FeaturesEvaluation("t", {}, tuple(cells)))
        assert [row[5:8] for row in table.rows] == [
            ("50.0 (45.9)", "50.0 (65.3)", "50.0 (87.8)"),
            ("50.0 (45.9)", "50.0 (67.3)", "50.0 (87.8)"),
            ("50.0", "50.0", "50.0"),
        ]


class TestReport:
    """The page and its pictures."""

    def test_page_holds_plots_tables_and_pictures(self, measured: FeaturesEvaluation, tmp_path: Path) -> None:
        evil = replace(measured, title="<b>blocks</b>")
        picture = np.full((40, 60, 3), 90, np.uint8)
        path = write_features_report(evil, tmp_path / "r.html", {"caption & more": picture})
        html = path.read_text()
        assert "&lt;b&gt;blocks" in html and "<b>blocks" not in html and "caption &amp; more" in html
        assert html.count("data:image/png") == 2 and html.count("data:image/jpeg") == 1 and "MMA 3 px" in html
        assert "http://" not in html and "https://" not in html
        with pytest.raises(DataError, match="nothing to report"):
            write_features_report(FeaturesEvaluation("t", {}, ()), tmp_path / "r.html")

    def test_a_draw_has_no_winner(self, measured: FeaturesEvaluation, tmp_path: Path) -> None:
        sift = measured.cells[0]
        drawn = replace(measured, cells=(sift, replace(sift, method="twin")))
        html = write_features_report(drawn, tmp_path / "r.html").read_text()
        assert "MMA at 3 px: sift, twin" in html and "Best:" not in html

    def test_every_protocol_has_a_plot(self, tmp_path: Path) -> None:
        pose = PoseResult("a", "", (9, 9), 9, 8, True, 0.5, 1.0, 2.0)
        query = QueryResult("q", "night", 100, 50, 20, True, 0.1, 0.5)
        cells = [
            Cell("m", "poses", "two-view", (pose,), {"extract": 0.1}, 9.0),
            Cell("m", "no truth", "two-view", (replace(pose, has_truth=False, precision=None, rotation_deg=None),), {}, 9.0),
            Cell("m", "queries", "localization", (query,), {}, 9.0, {"points": 10.0, "megabytes": 0.1}),
        ]
        html = write_features_report(FeaturesEvaluation("t", {}, tuple(cells)), tmp_path / "r.html").read_text()
        assert html.count("data:image/png") == 3

    def test_right_is_green_and_wrong_is_red(self, tmp_path: Path) -> None:
        write_image(tmp_path / "images" / "0.png", cv2.cvtColor(textured(0), cv2.COLOR_RGB2GRAY))
        true = homography_dataset(tmp_path / "images", PairOptions(per_image=1))
        wrong_pair = replace(true.pairs[0], second_from_first=np.array([[1.0, 0, 90], [0, 1, 0], [0, 0, 1]]))  # type: ignore[type-var]
        for dataset, brighter in ((true, 1), (replace(true, pairs=(wrong_pair,)), 0)):
            cell = evaluation_of_features.measure(Features(SIFT), dataset, show_progress=False)
            ((words, picture),) = matches_pictures([SIFT], [dataset], [cell]).items()
            changed = (abs(picture.astype(int) - picture.mean(axis=2, keepdims=True)).max(axis=2) > 60) & (picture[..., 2] < 60)
            red, green = (int((picture[..., k][changed] > 180).sum()) for k in (0, 1))
            assert "sift" in words and " right" in words and (green > 3 * red) == bool(brighter)


def test_pairs_keep_their_order() -> None:
    def features(points: list[list[float]]) -> LocalFeatures:
        n = len(points)
        return LocalFeatures(np.array(points, np.float32), np.eye(n, 4, dtype=np.float32), np.ones(n), np.ones(n), "t", (9, 9))

    found = pairs_px(features([[1, 2], [3, 4]]), features([[5, 6], [7, 8]]), np.array([[1, 0], [0, 1]], np.int32))
    np.testing.assert_array_equal(found, [[3, 4, 5, 6], [1, 2, 7, 8]])
