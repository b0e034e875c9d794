"""What detectors learn from: boxes and masks go where the pixels go, batches are functions of their number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objects import LABELS, drawn, object_set

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.detection_datasets import open_detection_dataset
from ros2_loc.training.detection_batches import DetectionBatches, crop_window, fitted
from ros2_loc.training.detection_colours import ColourJitter, jittered
from ros2_loc.training.detection_samples import Sample, Window, load_sample, mirrored, windowed

CROPS = DetectionBatches.Config(batch_size=3, size_px=(64, 96), scales=(0.8, 1.0, 1.25), border_px=20)
WHOLE = DetectionBatches.Config(batch_size=3, window="whole", size_px=(64, 96), scales=(1.0,), multiple_px=32)


def _filled(sample: Sample) -> np.ndarray:
    """(N, 4): what each mask fills."""
    assert sample.masks is not None
    spans = [(np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))) for mask in sample.masks]
    return np.array([[x[0], y[0], x[-1] + 1, y[-1] + 1] for x, y in spans], np.float32).reshape(-1, 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), left=st.integers(-60, 99), top=st.integers(-50, 90), width=st.integers(9, 200), height=st.integers(9, 160))
def test_an_uncut_window_in_its_own_size_moves_boxes_and_masks_exactly(seed: int, left: int, top: int, width: int, height: int) -> None:
    sample = drawn(seed)
    cut = windowed(sample, Window(left, top, width, height), (height, width))
    assert cut.masks is not None and cut.image.shape == (height, width, 3) and cut.masks.shape[1:] == (height, width)
    np.testing.assert_array_equal(cut.boxes, _filled(cut))
    for box, mask, label in zip(cut.boxes, cut.masks, cut.labels, strict=True):
        colours = cut.image[mask]
        assert (colours == colours[0]).all(), "the mask lies on one object, each of one colour"
        assert colours[0, 0] // 40 == label and box.min() >= 0 and (box <= [width, height, width, height]).all()
    rows, columns = sample.image.shape[:2]
    beyond = (np.arange(width) + left < 0) | (np.arange(width) + left >= columns)
    assert not cut.image[:, beyond].any() and rows == 120


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), factor=st.floats(0.4, 2.5), left=st.integers(-40, 100), top=st.integers(-30, 60))
def test_other_sizes_keep_boxes_within_a_pixel_of_their_masks(seed: int, factor: float, left: int, top: int) -> None:
    sample = drawn(seed)
    out = windowed(sample, Window(left, top, 90, 70), (round(70 * factor), round(90 * factor)))
    np.testing.assert_allclose(out.boxes, _filled(out), atol=max(1.0, factor))
    alone = windowed(sample._replace(masks=None), Window(-20, -20, 400, 300), (round(300 * factor), round(400 * factor)), 0.0)
    scale = np.array([round(400 * factor) / 400, round(300 * factor) / 300] * 2)
    np.testing.assert_allclose(alone.boxes, (sample.boxes + 20) * scale, rtol=1e-5)
    assert alone.masks is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_a_mirror_of_a_mirror_is_what_was(seed: int) -> None:
    sample = drawn(seed)
    once = mirrored(sample)
    np.testing.assert_array_equal(once.boxes, _filled(once))
    for a, b in zip(mirrored(once), sample, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_window_leaves_too_little_of_is_left_out() -> None:
    image, mask = np.zeros((40, 60, 3), np.uint8), np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 20:40] = True
    sample = Sample(image, np.array([[20, 10, 40, 30]], np.float32), np.zeros(1, np.int64), mask)
    assert windowed(sample, Window(38, 0, 20, 40), (40, 20), min_side_px=2.0).boxes.tolist() == [[0, 10, 2, 30]]
    assert len(windowed(sample, Window(38, 0, 20, 40), (40, 20), min_side_px=3.0).boxes) == 0
    assert len(windowed(sample, Window(40, 0, 20, 40), (40, 20), 0.0).boxes) == 0
    holed = sample._replace(masks=mask & (np.arange(60) < 30))
    assert len(windowed(holed, Window(32, 0, 20, 40), (40, 20), 0.0).boxes) == 0, "the box is there, the object is not"


def test_batches_are_functions_of_their_number(tmp_path: Path) -> None:
    dataset = open_detection_dataset(object_set(tmp_path, 5))
    for config in (CROPS, WHOLE):
        batches = DetectionBatches(replace(config, colours=ColourJitter(0.4, 0.4, 0.4, 0.1)), dataset, with_masks=True)
        first, again, other = batches.batch(3), DetectionBatches(batches.config, dataset, with_masks=True).batch(3), batches.batch(4)
        assert all(torch.equal(first[name], again[name]) for name in first) and not torch.equal(first["image"], other["image"])
        assert first["image"].dtype == torch.uint8 and first["boxes"].shape == (len(first["labels"]), 4)
        assert first["masks"].shape == (len(first["labels"]), *first["image"].shape[2:]) and int(first["of_image"].max()) <= 2
        assert "masks" not in DetectionBatches(config, dataset, with_masks=False).batch(0)
    seen = [DetectionBatches(WHOLE, dataset, with_masks=False)._which(turn) for turn in range(15)]
    assert sorted(seen) == sorted([*range(5)] * 3) and seen[:5] != seen[5:10]


def test_whole_images_are_padded_at_the_right_and_below(tmp_path: Path) -> None:
    dataset = open_detection_dataset(object_set(tmp_path, 2))
    batch = DetectionBatches(replace(WHOLE, size_px=(70, 110), mirror=False), dataset, with_masks=True).batch(0)
    assert batch["image"].shape == (3, 3, 96, 96) and batch["size_px"].tolist() == [[70, 93]] * 3
    assert not batch["image"][:, :, 70:].any() and not batch["image"][..., 93:].any() and not batch["masks"][:, 70:].any()
    assert fitted((1000, 500), (800, 1333)) == (1333, 666) and fitted((375, 1242), (800, 1333)) == (402, 1333)


def test_crops_lie_as_cornernet_draws_them_or_around_objects() -> None:
    sample, rng = drawn(3), np.random.default_rng(0)
    windows = [crop_window(sample, CROPS, 1.0, rng) for _ in range(200)]
    middles = np.array([(w.left + w.width // 2, w.top + w.height // 2) for w in windows])
    assert middles.min(axis=0).tolist() >= [20, 20] and (middles.max(axis=0) < (140, 100)).all() and np.ptp(middles[:, 0]) > 90
    focussed = replace(CROPS, focus=1.0)
    for _ in range(50):
        window = crop_window(sample, focussed, 1.0, rng)
        assert len(windowed(sample, window, CROPS.size_px).boxes), "an object is seen"
    empty = Sample(sample.image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), None)
    assert len(windowed(empty, crop_window(empty, focussed, 1.25, rng), CROPS.size_px).boxes) == 0


def test_colours_change_as_far_as_asked() -> None:
    image = drawn(1).image
    assert jittered(image, ColourJitter(), np.random.default_rng(0)) is image
    means = [jittered(image, ColourJitter(brightness=0.4), np.random.default_rng(k)).mean() / image.mean() for k in range(40)]
    assert 0.58 < min(means) < 0.8 and 1.1 < max(means) < 1.42
    gray = jittered(image, ColourJitter(saturation=0.99), np.random.default_rng(5))
    assert gray.shape == image.shape and gray.dtype == np.uint8 and not np.array_equal(gray, image)
    shift = jittered(np.full((4, 4, 3), 128, np.uint8), ColourJitter(lighting=0.1), np.random.default_rng(1)).astype(int) - 128
    assert 0 < np.abs(shift).max() < 25
    with pytest.raises(ConfigError, match="below 1"):
        ColourJitter(contrast=1.0)


def test_what_can_not_be_learned_from_is_said(tmp_path: Path) -> None:
    dataset = open_detection_dataset(object_set(tmp_path / "plain", 2, with_masks=False))
    assert dataset.labels == LABELS
    with pytest.raises(DataError, match="objects without masks"):
        load_sample(dataset, 0, with_masks=True)
    with pytest.raises(ConfigError, match="scales are positive"):
        replace(CROPS, scales=())
