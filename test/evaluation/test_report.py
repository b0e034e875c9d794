"""The page: whole, self-contained, escaped, and there for evaluations of every kind."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc.core.types import Rejection, RejectionReason
from ros2_loc.errors import DataError
from ros2_loc.evaluation.records import Evaluation, FrameResult
from ros2_loc.evaluation.report import figures, write_report
from ros2_loc.evaluation.report.page import telling_frames

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collects tags, checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def small_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are most of the time of these tests."""
    monkeypatch.setattr(figures, "_DPI", 40)


def check(path: Path) -> Checker:
    """Parses the page; nothing in it may be loaded from elsewhere."""
    html = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    assert not checker.tags & {"script", "link", "iframe", "object"}
    assert all(source.startswith("data:image/") for source in checker.images)
    return checker


def test_page_holds_numbers_plots_and_matches(evaluation: Evaluation, tmp_path: Path) -> None:
    asked: list[str] = []

    def picture(frame: FrameResult) -> np.ndarray:
        asked.append(frame.name)
        return np.full((60, 200, 3), (255, 0, 0), np.uint8)

    path = write_report(evaluation, tmp_path / "report.html", picture)
    page = check(path)
    assert len(page.images) == 7 + 3
    for image in page.images:
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(image.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None and pixels.std() >= 0
    red = cv2.imdecode(np.frombuffer(base64.b64decode(page.images[-1].split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert red[30, 100, 2] > 240 > 20 > red[30, 100, 0]  # RGB in, RGB shown
    m = evaluation.metrics
    for number in (
        f"{100 * m.recall(0.1, 0.5).of_all:.1f} %",
        f"{m.nees_pose.mean:.2f}",
        f"{m.accepted} of {m.queries}",
        "too few inliers",
    ):
        assert number in page.text
    by_error = sorted(evaluation.scored, key=lambda f: f.error_m)
    assert asked == [by_error[0].name, by_error[(len(by_error) - 1) // 2].name, by_error[-1].name]


@pytest.mark.usefixtures("small_plots")
def test_strings_from_outside_are_escaped(evaluation: Evaluation, tmp_path: Path) -> None:
    evil = '<script>alert("x")</script> $title & more'
    frame = evaluation.frames[0]
    hostile = FrameResult(evil, 0, frame.truth, frame.result, 5, {evil: 0.1}, evil)
    e = Evaluation(evil, (hostile, *evaluation.frames[1:20]), settings={evil: evil})
    page = check(write_report(e, tmp_path / "r.html", lambda f: np.zeros((20, 20, 3), np.uint8)))
    assert page.text.count('alert("x")') >= 4


@pytest.mark.parametrize("kind", ["one frame", "all rejected", "no truth", "no truth, all rejected", "no times"])
@pytest.mark.usefixtures("small_plots")
def test_every_kind_of_evaluation_has_a_page(kind: str, evaluation: Evaluation, tmp_path: Path) -> None:
    frames = evaluation.frames[:12]
    if kind == "one frame":
        frames = frames[:1]
    if "all rejected" in kind:
        frames = tuple(FrameResult(f.name, f.stamp_ns, f.truth, Rejection(0, RejectionReason.UNCERTAIN, ""), 3, f.stage_s) for f in frames)
    if "no truth" in kind:
        frames = tuple(FrameResult(f.name, f.stamp_ns, None, f.result, f.num_matches, f.stage_s) for f in frames)
    if kind == "no times":
        frames = tuple(FrameResult(f.name, f.stamp_ns, f.truth, f.result) for f in frames)
    page = check(write_report(Evaluation(kind, frames), tmp_path / "r.html"))
    assert len(page.images) >= 1 and f"of {len(frames)} quer" in page.text


def test_an_evaluation_without_frames_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frames"):
        write_report(Evaluation("empty", ()), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_telling_frames_without_truth_are_chosen_by_inliers(evaluation: Evaluation) -> None:
    frames = tuple(FrameResult(f.name, f.stamp_ns, None, f.result, f.num_matches) for f in evaluation.frames)
    chosen = [f.num_inliers for _, f in telling_frames(Evaluation("t", frames))]
    assert chosen == sorted(chosen, reverse=True) and chosen[0] == max(f.num_inliers for f in frames)
