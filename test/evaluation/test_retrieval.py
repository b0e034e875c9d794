"""Retrieval and re-ranking: metrics, cells that are kept, methods by file, tables, page and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc import registry
from ros2_loc.core.types import PlaceMatches
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import retrieval as evaluation_of_retrieval
from ros2_loc.evaluation import retrieval_metrics as rm
from ros2_loc.evaluation.report import retrieval_pictures as drawn
from ros2_loc.evaluation.report.retrieval import best, write_retrieval_report
from ros2_loc.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from ros2_loc.evaluation.retrieval_methods import RetrievalMethod, load_methods, make_plugins, method_names
from ros2_loc.evaluation.retrieval_pictures import hardest, pictures_of
from ros2_loc.evaluation.retrieval_records import PlaceResult, RetrievalCell, RetrievalEvaluation, summary
from ros2_loc.evaluation.retrieval_tables import failures, tables
from ros2_loc.io.geotagged import geotagged_name
from ros2_loc.io.images import write_image
from ros2_loc.io.place_datasets import PlaceDataset, open_place_folder
from ros2_loc.registry import Component

sys.path.insert(0, str(Path(__file__).parent))
from place_cases import PLACES, Brightness, ListwiseBrightness, place_folder

ENCODER = {"name": "vlad", "num_words": 8}
EXTRACTOR = {"name": "sift", "max_keypoints": 200}
VLAD = RetrievalMethod("vlad", ENCODER, EXTRACTOR, {})
SIFT = RetrievalMethod("sift_ransac", ENCODER, EXTRACTOR, {"name": "local_features"})
ORB = RetrievalMethod("orb_ransac", ENCODER, EXTRACTOR, {"name": "local_features", "extractor": {"name": "orb", "max_keypoints": 200}})
BRIGHT = RetrievalMethod("brightness", ENCODER, EXTRACTOR, {"name": "brightness"})
LISTWISE = RetrievalMethod("listwise", ENCODER, EXTRACTOR, {"name": "listwise_brightness"})


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    for plugin in (Brightness, ListwiseBrightness):
        row = Component(f"place_cases:{plugin.__name__}", "for tests")
        monkeypatch.setitem(registry.TABLE["reranker"], plugin.name, row)


class TestMetrics:
    """Pure functions."""

    @given(st.lists(st.floats(-9, 9), max_size=20), st.integers(0, 25))
    def test_reranked_is_a_stable_order_of_the_first(self, scores: list[float], k: int) -> None:
        order = rm.reranked(scores, k).tolist()
        first = min(k, len(scores))
        assert sorted(order) == list(range(len(scores))) and order[first:] == list(range(first, len(scores)))
        assert sorted(order[:first], key=lambda i: (-scores[i], i)) == order[:first]

    @given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), max_size=8))
    def test_recall_grows_with_n(self, right: list[list[bool]]) -> None:
        shares = [rm.recall_at(right, n) for n in (1, 2, 5, 100)]
        if not right:
            assert shares == [None] * 4
        else:
            assert shares == sorted(shares) and shares[0] == np.mean([row[0] for row in right])  # type: ignore[type-var]

    def test_wilson_interval_as_published(self) -> None:
        """Newcombe 1998, table I: 81 of 263."""
        low, high = rm.wilson_interval(81 / 263, 263) or (0, 0)
        assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
        assert rm.wilson_interval(None, 0) is None and rm.wilson_interval(1.0, 10)[1] == pytest.approx(1.0)  # type: ignore[index]

    def test_sweep_ends_with_all(self) -> None:
        assert rm.sweep_counts(7) == (1, 2, 3, 5, 7) and rm.sweep_counts(100)[-1] == 100 and rm.sweep_counts(0) == ()


class TestMethods:
    """Files of methods."""

    @pytest.mark.slow  # imports every network
    def test_every_method_of_the_table_can_be_read_and_made_or_lacks_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ROS2_LOC_WEIGHTS", "/nowhere")
        monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
        methods = load_methods(["all"])
        assert len(methods) == len(method_names()) >= 17
        made = {method.label: make_plugins(method) for method in methods}
        told = {label: plugins for label, plugins in made.items() if isinstance(plugins, str)}
        assert {"vlad", "vlad_sift_ransac", "vlad_orb_ransac"}.isdisjoint(told)
        assert told["loftr"] == "weights cosplace_resnet50_512 missing" and told["vlad_aliked_ransac"] == "weights aliked_n16 missing"

    def test_every_method_has_sections_that_plugins_know(self) -> None:
        methods = load_methods(["all"])
        assert len(methods) == len(method_names()) >= 17
        for method in methods:
            for kind in ("encoder", "extractor", "reranker"):
                section = getattr(method, kind)
                assert not section or section["name"] in registry.TABLE[kind], method.label

    def test_words_are_names_or_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine.yaml").write_text("encoder: {name: vlad}\nextractor: {name: orb}\n")
        methods = load_methods(["vlad,vlad_sift_ransac", str(tmp_path / "mine.yaml")])
        assert [m.label for m in methods] == ["vlad", "vlad_sift_ransac", "mine"]
        assert [m.retriever.label for m in methods] == ["vlad of sift", "vlad of sift", "vlad of orb"]
        monkeypatch.setitem(registry.TABLE["encoder"], "whole", Component("place_cases:Brightness", "for tests"))
        for weights, label in (("whole_50", "whole_50"), ("files/other.pth", "whole other"), ("", "whole")):
            network = RetrievalMethod("x", {"name": "whole", "weights": weights}, EXTRACTOR, {"name": "brightness"})
            assert network.retriever.label == label and network.retriever.extractor == {}

    @pytest.mark.parametrize(
        ("text", "wrong"),
        [
            ("extractor: {name: sift}", "an encoder with a name is needed"),
            ("encoder: {name: vlad}\nretriever: {}", "retriever"),
            ("encoder: {name: vlad}\nreranker: {max: 3}", "reranker: a section needs a name"),
        ],
    )
    def test_files_that_are_wrong(self, tmp_path: Path, text: str, wrong: str) -> None:
        (tmp_path / "m.yaml").write_text(text)
        with pytest.raises(ConfigError, match=wrong):
            load_methods([str(tmp_path / "m.yaml")])

    def test_words_that_are_wrong(self) -> None:
        for words, wrong in (([], "give at least one"), (["vlaad"], "no method 'vlaad'"), (["vlad,vlad"], "'vlad' comes twice")):
            with pytest.raises(ConfigError, match=wrong):
                load_methods(words)
        with pytest.raises(ConfigError, match="vlad is made of local features: give an extractor"):
            make_plugins(RetrievalMethod("v", ENCODER, {}, {}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PlaceDataset:
    """Two domains of six queries."""
    return open_place_folder(place_folder(tmp_path_factory.mktemp("places") / "blocks"))


@pytest.fixture
def measure(dataset: PlaceDataset, tmp_path: Path) -> Callable[..., list[RetrievalCell]]:
    """Cells of methods on the two domains."""

    def run(*methods: RetrievalMethod, folder: Path | None = None, **options: object) -> list[RetrievalCell]:
        asked = RetrievalOptions(**options)  # type: ignore[arg-type]
        return evaluate_retrieval(methods, [dataset], asked, folder or tmp_path / "parts", show_progress=False)

    return run


class TestEvaluation:
    """Cells."""

    def test_textures_are_found(self, measure: Callable[..., list[RetrievalCell]]) -> None:
        vlad, sift, orb = cells = measure(SIFT, ORB)
        assert [c.method for c in cells] == ["vlad of sift", "sift_ransac", "orb_ransac"]
        assert {c.retriever for c in cells} == {"vlad of sift"} and all(c.candidates == PLACES for c in cells)
        assert vlad.domains == ["queries", "dark"] and summary(vlad)["upper_bound"] == 1.0
        assert summary(sift, "queries")["recall"][1] == 1.0 and summary(orb, "queries")["recall"][1] == 1.0
        assert all(r.inliers is not None and r.inliers[0] >= 8 for r in sift.of("queries"))
        assert set(sift.results[0].stage_s) == {"encode features", "encode", "search", "describe", "matching", "scoring"}
        assert vlad.facts["descriptor_bytes"] == 8 * 128 * 4 and sift.facts["evidence_bytes"] > 0

    def test_order_scores_and_sweep_agree(self, measure: Callable[..., list[RetrievalCell]]) -> None:
        vlad, bright = measure(BRIGHT)
        for before, after in zip(vlad.results, bright.results, strict=True):
            assert sorted(before.places) == sorted(after.places) and list(after.scores) == sorted(after.scores, reverse=True)
            assert after.first_right[0] == before.right[0] and after.first_right[-1] == after.right[0]
            assert after.num_scored == PLACES and before.num_scored == 0 and after.inliers is None

    def test_a_list_is_scored_again_for_each_number(self, measure: Callable[..., list[RetrievalCell]]) -> None:
        ListwiseBrightness.calls.clear()
        listwise = measure(LISTWISE)[-1]
        bright = measure(BRIGHT)[-1]
        assert [r.first_right for r in listwise.results] == [r.first_right for r in bright.results]
        assert ListwiseBrightness.calls[1:6] == [6, 1, 2, 3, 5]
        ListwiseBrightness.calls.clear()
        measure(LISTWISE, sweep=False)
        assert set(ListwiseBrightness.calls[1:]) == {6}

    def test_fewer_candidates_bound_what_can_be_reached(self, measure: Callable[..., list[RetrievalCell]]) -> None:
        vlad, bright = measure(BRIGHT, candidates=2)
        assert all(len(r.places) == 2 for r in bright.results) and summary(bright)["upper_bound"] == summary(vlad)["upper_bound"]
        with pytest.raises(ConfigError, match="--candidates 0"):
            RetrievalOptions(candidates=0)

    def test_adaptive_compares_no_more_and_says_why(self, measure: Callable[..., list[RetrievalCell]]) -> None:
        _, sift, adaptive = cells = measure(SIFT, adaptive=True)
        assert adaptive.method == "sift_ransac, adaptive" and all(r.why and r.confidence is not None for r in adaptive.results)
        assert all(r.num_scored <= PLACES for r in adaptive.results)
        assert summary(adaptive, "queries")["recall"][1] == summary(sift, "queries")["recall"][1] == 1.0
        table = next(t for t in tables(RetrievalEvaluation("t", {}, tuple(cells))) if "adaptive" in t.title)
        assert table.rows[0][1].endswith(f"({100 * summary(sift)['recall'][1]:.1f})")

    def test_finished_cells_and_descriptions_are_not_made_again(
        self, measure: Callable[..., list[RetrievalCell]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = measure(BRIGHT, folder=tmp_path / "kept")
        made: list[str] = []
        real = registry.resolve("extractor", "sift").extract  # type: ignore[attr-defined]
        monkeypatch.setattr(registry.resolve("extractor", "sift"), "extract", lambda *a: made.append("features") or real(*a))
        monkeypatch.setattr(evaluation_of_retrieval, "Retriever", lambda *a: pytest.fail("measured again"))
        assert measure(BRIGHT, folder=tmp_path / "kept") == first and not made
        for path in (tmp_path / "kept" / "cells").glob("*.json"):
            path.write_text("{")
        monkeypatch.undo()
        monkeypatch.setitem(registry.TABLE["reranker"], "brightness", Component("place_cases:Brightness", "for tests"))
        monkeypatch.setattr(registry.resolve("extractor", "sift"), "extract", lambda *a: made.append("features") or real(*a))
        again = measure(BRIGHT, folder=tmp_path / "kept")
        assert [r.places for r in again[1].results] == [r.places for r in first[1].results] and not made

    def test_a_method_without_weights_is_named_and_others_go_on(
        self, measure: Callable[..., list[RetrievalCell]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ROS2_LOC_WEIGHTS", "/nowhere")
        monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
        lacking = RetrievalMethod("aliked", ENCODER, EXTRACTOR, {"name": "local_features", "extractor": {"name": "aliked"}})
        cells = measure(lacking, BRIGHT)
        assert [(c.method, bool(c.results)) for c in cells] == [("vlad of sift", True), ("aliked", False), ("brightness", True)]
        recall = tables(RetrievalEvaluation("t", {}, tuple(cells)))[0]
        assert (recall.rows[-2][0], recall.rows[-2][-1]) == ("aliked", "not run: weights aliked_n16 missing")
        assert all(len(row) == len(recall.header) for row in recall.rows)
        with pytest.raises(DataError, match="no method can be run on this machine: x: weights aliked_n16 missing"):
            measure(RetrievalMethod("x", {"name": "vlad"}, {"name": "aliked"}, {}))

    def test_a_method_whose_parts_do_not_fit_is_named_and_others_go_on(
        self, measure: Callable[..., list[RetrievalCell]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise ConfigError("the network takes 128 numbers of a keypoint, the extractor gives 512")

        monkeypatch.setattr(ListwiseBrightness, "describe", refuse)
        monkeypatch.setattr(ListwiseBrightness, "describe_many", refuse)
        cells = measure(LISTWISE, BRIGHT)
        assert [(c.method, bool(c.results)) for c in cells] == [("vlad of sift", True), ("listwise", False), ("brightness", True)]
        assert "takes 128 numbers" in cells[1].not_run

    def test_a_wrong_section_is_said_before_anything_is_measured(self, measure: Callable[..., list[RetrievalCell]]) -> None:
        with pytest.raises(ConfigError, match="there is no reranker 'brightnes'"):
            measure(BRIGHT, replace(BRIGHT, label="b", reranker={"name": "brightnes"}))

    def test_without_truth_nothing_is_judged(self, dataset: PlaceDataset, tmp_path: Path) -> None:
        unknown = replace(dataset, positives=[set() for _ in dataset.positives], rule="no truth", has_truth=False)
        (cell,) = evaluate_retrieval([VLAD], [unknown], RetrievalOptions(), tmp_path, show_progress=False)
        assert not cell.has_truth and summary(cell)["recall"][1] is None and best([cell]) is None
        shown = tables(RetrievalEvaluation("t", {}, (cell,)))[0]
        assert shown.rows[0][3] == "-" and "No truth is known" in shown.note

    def test_images_without_anything_on_them(self, tmp_path: Path) -> None:
        folder = place_folder(tmp_path / "blocks", domains=("",))
        blank = np.full((120, 160, 3), 200, np.uint8)
        write_image(folder / "queries" / geotagged_name(0.0, 5.0, note="fog", suffix=".png"), blank)
        write_image(folder / "database" / geotagged_name(900.0, 0.0, note="fog", suffix=".png"), blank)
        cells = evaluate_retrieval([SIFT], [open_place_folder(folder)], RetrievalOptions(), tmp_path, show_progress=False)
        assert all(len(r.places) == PLACES + 1 and np.isfinite(r.scores).all() for cell in cells for r in cell.results)
        assert summary(cells[1])["recall"][1] >= PLACES / (PLACES + 1)

    def test_queries_without_positives_fail(self, dataset: PlaceDataset, tmp_path: Path) -> None:
        some = replace(dataset, positives=[set(), *dataset.positives[1:]])
        (cell,) = evaluate_retrieval([VLAD], [some], RetrievalOptions(), tmp_path, show_progress=False)
        assert summary(cell)["upper_bound"] == 11 / 12 and summary(cell)["without_positives"] == 1
        assert "1 queries have no right place" in tables(RetrievalEvaluation("t", {}, (cell,)))[0].note


def result(name: str, right: tuple[bool, ...], domain: str = "day") -> PlaceResult:
    count, stage_s = len(right), {"describe": 0.01, "matching": 0.2}
    return PlaceResult(name, domain, 1, tuple(range(count)), right, (0.0,) * count, None, right[:1] * 4, count, stage_s)


class TestReport:
    """Tables, page, pictures."""

    def test_json_round_trip(self, measure: Callable[..., list[RetrievalCell]], tmp_path: Path) -> None:
        evaluation = RetrievalEvaluation("blocks", {"a": {"b": 1}}, tuple(measure(SIFT, adaptive=True)))
        evaluation.write_json(tmp_path / "e.json")
        assert RetrievalEvaluation.read_json(tmp_path / "e.json") == evaluation
        assert json.loads((tmp_path / "e.json").read_text())["cells"][0]["summary"]["dark"]["queries"] == PLACES

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}'])
    def test_damaged_json_is_one_line(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "e.json").write_text(text)
        with pytest.raises(DataError, match="e.json"):
            RetrievalEvaluation.read_json(tmp_path / "e.json")

    def test_failures_come_with_their_methods(self) -> None:
        cells = [
            RetrievalCell("a", "a", "d", "within 25 m", 4, (result("q0", (False, True)), result("q1", (True, False)))),
            RetrievalCell("b", "a", "d", "within 25 m", 4, (result("q0", (False, True)), result("q1", (False, True)))),
        ]
        assert failures(cells).rows == (("day: q0", "2 of 2", "a, b"), ("day: q1", "1 of 2", "b"))
        assert hardest(cells) == [1, 0]

    def test_the_paper_stands_beside_its_sets(self) -> None:
        cells = [RetrievalCell(m, "cosplace", "sf_xl", "within 25 m", 4, (result("q", (True,) * 4, "v1"),)) for m in ("loftr", "mine")]
        (table, *_) = tables(RetrievalEvaluation("t", {}, tuple(cells)))
        assert [row[3] for row in table.rows] == ["100.0 (87.9)", "100.0"] and "table 4.1" in table.note
        cells = [replace(cell, results=(*cell.results, result("r", (True,) * 4, "night"))) for cell in cells]
        (table, *_) = tables(RetrievalEvaluation("t", {}, tuple(cells)))
        assert [row[3] for row in table.rows[:4]] == ["100.0 (87.9)", "100.0", "100.0 (32.6)", "100.0"]

    def test_the_page_holds_plots_tables_and_pictures(self, measure: Callable[..., list[RetrievalCell]], tmp_path: Path) -> None:
        evaluation = RetrievalEvaluation("<b>blocks</b>", {}, tuple(measure(VLAD, SIFT, BRIGHT)))
        picture = np.full((40, 60, 3), 90, np.uint8)
        html = write_retrieval_report(evaluation, tmp_path / "r.html", {"caption & more": picture}).read_text()
        assert "&lt;b&gt;blocks" in html and "<b>blocks" not in html and "caption &amp; more" in html
        assert html.count("data:image/png") == 5 and html.count("data:image/jpeg") == 1 and "R@100" in html
        assert "http://" not in html and "https://" not in html
        with pytest.raises(DataError, match="nothing to report"):
            write_retrieval_report(RetrievalEvaluation("t", {}, ()), tmp_path / "r.html")

    def test_pictures_of_each_domain(self, dataset: PlaceDataset, measure: Callable[..., list[RetrievalCell]], tmp_path: Path) -> None:
        cells = measure(SIFT, BRIGHT, folder=tmp_path)
        found = pictures_of([SIFT, BRIGHT], dataset, cells, RetrievalOptions(), tmp_path)
        seen = {f"{what}_{domain}" for what in ("keypoints", "matches") for domain in ("queries", "dark")}
        assert set(found) == {*(f"predictions_{k}" for k in range(4)), *seen}
        assert all(image.dtype == np.uint8 and image.shape[2] == 3 and caption for caption, image in found.values())

    def test_frames_say_what_is_right(self) -> None:
        white = np.full((60, 80, 3), 255, np.uint8)
        shares = {}
        for right in (True, False, None):
            picture = drawn.draw_predictions(white, [drawn.Prediction("m", [white], [right], [None])]).astype(int)
            shares[right] = [int((picture[..., k] - picture.min(axis=2) > 100).sum()) for k in (0, 1)]
        assert shares[True][1] > 300 > 50 > shares[True][0] and shares[False][0] > 300 > 50 > shares[False][1]
        assert max(shares[None]) < 50

    def test_what_agrees_is_green(self) -> None:
        white = np.full((60, 80, 3), 255, np.uint8)
        points = np.array([[10.0, 10], [40, 40], [70, 20]], np.float32)
        nothing = PlaceMatches(points[:0], points[:0], np.zeros(0, bool))
        greens = []
        for agree in (True, False):
            seen = drawn.Seen("m", (points, points, points), (PlaceMatches(points, points, np.full(3, agree)), nothing))
            picture = drawn.draw_matches_of((white, white, white), [seen]).astype(int)[10:-10]
            inside = picture[:, 40 : picture.shape[1] // 2 - 40]
            greens.append(int((inside[..., 1] - inside[..., 0] > 60).sum()))
            assert drawn.draw_keypoints((white, white, white), [seen]).shape[1] == picture.shape[1]
        assert greens[0] > greens[1] + 500  # the frame of the right place is green, too
