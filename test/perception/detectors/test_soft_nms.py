"""Soft-NMS: scores that fall with overlaps, merged boxes, and the authors' own way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ros2_loc.perception.detectors.centernet_authors import soft_nms_in_place
from ros2_loc.perception.detectors.soft_nms import Decay, merging_soft_nms, overlaps_of, soft_nms

LINEAR, EXPONENTIAL = Decay("linear"), Decay("exponential")


def some_boxes(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (count, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, 40, (count, 2))])
    return boxes, rng.uniform(0.002, 1.0, count), rng.uniform(0.1, 1.0, (count, 2))


def by_the_book(rows: NDArray[np.float64], decay: Decay, exponent: float | None) -> NDArray[np.float64]:
    """The authors' loop, line by line: what falls is overwritten by the last, and only the first five columns move."""
    rows, end = rows.copy(), len(rows)
    for place in range(len(rows)):
        best = max(range(place, end), key=lambda other: rows[other, 4]) if place < end else place
        rows[[place, best], :5] = rows[[best, place], :5]
        box, weighted, total = rows[place].copy(), rows[place, :4] * rows[place, [5, 5, 6, 6]], rows[place, [5, 5, 6, 6]].copy()
        other = place + 1
        while other < end:
            overlap = overlaps_of(box[:4], rows[other : other + 1, :4], decay.edge)
            if overlap[0] > 0:
                factor = float(decay.factors(overlap)[0])
                share = rows[other, [5, 5, 6, 6]] * (1.0 - factor) ** (exponent or 1.0)
                weighted, total = weighted + rows[other, :4] * share, total + share
                rows[other, 4] *= factor
                if rows[other, 4] < decay.min_score:
                    rows[other, :5] = rows[end - 1, :5]
                    end -= 1
                    other -= 1
            other += 1
        if exponent is not None:
            rows[place, :4] = weighted / total
    return rows


@pytest.mark.parametrize(("kind", "kept"), [(LINEAR, 0.3), (EXPONENTIAL, 0.9 * np.exp(-(0.6**2) / 0.5))])
def test_an_overlapped_box_keeps_part_of_its_score(kind: Decay, kept: float) -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [50, 50, 60, 60]])  # IoU 0.6
    found = soft_nms(boxes, np.array([0.95, 0.75 if kind is LINEAR else 0.9, 0.5]), kind)
    expected = {0: 0.95, 1: kept, 2: 0.5}
    assert set(found.indices) == {0, 1, 2} and np.all(np.diff(found.scores) <= 0)
    for index, score in zip(found.indices, found.scores, strict=True):
        assert score == pytest.approx(expected[int(index)])
    np.testing.assert_array_equal(found.boxes, boxes[found.indices])


def test_what_falls_too_low_is_dropped_and_what_was_low_is_not() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    found = soft_nms(boxes, np.array([0.9, 0.5, 0.0005]), Decay("linear", min_score=0.001))
    assert found.indices.tolist() == [0, 2]


@given(count=st.integers(0, 25), seed=st.integers(0, 500), linear=st.booleans())
def test_scores_only_fall_and_the_best_comes_first(count: int, seed: int, linear: bool) -> None:
    boxes, scores, _ = some_boxes(count, seed)
    found = soft_nms(boxes, scores, LINEAR if linear else EXPONENTIAL)
    assert len(set(found.indices.tolist())) == len(found.indices)
    assert np.all(np.diff(found.scores) <= 0) and np.all(found.scores <= scores[found.indices])
    assert not count or found.indices[0] == scores.argmax()
    if count:
        order = np.random.default_rng(seed).permutation(count)
        again = soft_nms(boxes[order], scores[order], LINEAR if linear else EXPONENTIAL)
        assert order[again.indices].tolist() == found.indices.tolist(), "the order of the boxes does not count"


def test_overlaps_with_and_without_the_edge_of_a_pixel() -> None:
    box, others = np.array([0.0, 0, 10, 10]), np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [20, 0, 20, 10]])
    np.testing.assert_allclose(overlaps_of(box, others), [1, 1 / 3, 0, 0])
    np.testing.assert_allclose(overlaps_of(box, others, 1.0), [1, 6 * 11 / (2 * 121 - 66), 11 / (2 * 121 - 11), 0])


def test_merged_boxes_lie_between_those_of_two_scales() -> None:
    boxes = np.array([[0.0, 0, 100, 50], [2.0, 0, 104, 50], [300, 300, 320, 330]])
    found = merging_soft_nms(boxes, np.array([0.9, 0.8, 0.7]), np.full((3, 2), 0.5), 10.0)
    first = found.boxes[0]
    assert 0 < first[0] < 1 and 100 < first[2] < 102 and first[1] == 0 and first[3] == 50
    assert found.indices[1] == 2
    np.testing.assert_array_equal(found.boxes[1], boxes[2])
    plain = soft_nms(boxes, np.array([0.9, 0.8, 0.7]))
    np.testing.assert_array_equal(found.scores, plain.scores)


def test_corners_without_a_score_leave_the_box() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1.0, 0, 11, 10]])
    np.testing.assert_array_equal(merging_soft_nms(boxes, np.array([0.9, 0.8]), np.zeros((2, 2)), 10.0).boxes, boxes)


@given(count=st.integers(0, 30), seed=st.integers(0, 500), merged=st.booleans())
def test_the_authors_way_to_the_letter(count: int, seed: int, merged: bool) -> None:
    boxes, scores, corners = some_boxes(count, seed)
    rows = np.column_stack([boxes, scores, corners])
    decay, exponent = Decay(edge=1.0, min_score=0.02), 10.0 if merged else None
    found = soft_nms_in_place(rows.astype(np.float32), decay, exponent)
    np.testing.assert_allclose(found, by_the_book(rows, decay, exponent), rtol=1e-4, atol=1e-4)


def test_without_boxes_nothing_is_found() -> None:
    none = np.zeros((0, 4))
    assert len(soft_nms(none, np.zeros(0)).indices) == 0
    assert merging_soft_nms(none, np.zeros(0), np.zeros((0, 2)), 10.0).boxes.shape == (0, 4)
    assert soft_nms_in_place(np.zeros((0, 7), np.float32), EXPONENTIAL).shape == (0, 7)
