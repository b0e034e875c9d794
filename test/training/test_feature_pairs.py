"""Pairs of crops: correspondences lead to what the first image shows, the same number gives the same batch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture, smooth

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.training.feature_colours import Colours, recoloured
from ros2_loc.training.feature_losses import warped
from ros2_loc.training.feature_pairs import DensePair, FeaturePairs, crop_pair, overlap
from ros2_loc.training.feature_warps import Warp, WarpedPairs, pixel_centres, warped_pair

UNCHANGED = Colours(brightness=0, contrast=0, saturation=0, gamma=0, noise=0, blur_px=0, jpeg=0)
CONFIG = FeaturePairs.Config(batch_size=2, crop_px=64, colours=UNCHANGED)
STRONG = Warp(tilt_deg=40, roll_deg=30, scale=1.3, edge_px=(200, 200))
seeds = st.integers(0, 10_000)


def _difference(pair: DensePair) -> np.ndarray:
    """Grey levels between the first image and the second at the correspondences, where they are valid."""
    second = torch.from_numpy(pair.image2).permute(2, 0, 1)[None].float()
    seen = warped(second, torch.from_numpy(pair.points2_px)[None])[0].permute(1, 2, 0).numpy()
    inside = pair.valid & (pair.points2_px > 1).all(axis=2) & (pair.points2_px < np.array(pair.image2.shape[1::-1]) - 1).all(axis=2)
    return np.abs(seen - pair.image)[inside]


@given(seeds)
def test_the_second_image_shows_at_a_correspondence_what_the_first_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair = warped_pair(smooth(200, 150), STRONG.draw(200, 150, rng))
    assert pair.valid.mean() > 0.3 and np.percentile(_difference(pair), 99) < 4.0
    crop = crop_pair(pair, 64, 1.5, rng)
    assert crop is not None and crop.image.shape == crop.image2.shape == (64, 64, 3) and crop.valid.mean() > 0.3
    assert np.median(_difference(crop)) < 2.0 and np.percentile(_difference(crop), 95) < 8.0
    assert (crop.points2_px[crop.valid] >= 0).all() and (crop.points2_px[crop.valid] < 64).all()


@given(seeds)
def test_homographies_keep_the_centre_and_the_orientation(seed: int) -> None:
    homography = STRONG.draw(200, 150, np.random.default_rng(seed))
    centre = homography @ [100.0, 75.0, 1.0]
    assert centre[:2] / centre[2] == pytest.approx([100.0, 75.0])
    corners = cv2.perspectiveTransform(np.array([[[0.0, 0], [200, 0], [200, 150], [0, 150]]]), homography)[0]
    assert cv2.contourArea(corners.astype(np.float32), oriented=True) > 0.2 * 200 * 150
    assert np.allclose(Warp(tilt_deg=0, roll_deg=0, scale=1).draw(90, 70, np.random.default_rng(seed)), np.eye(3))


def test_crops_differ_in_scale_by_what_was_asked_for() -> None:
    pair = warped_pair(smooth(400, 400), np.eye(3))
    ratios = []
    for seed in range(40):
        crop = crop_pair(pair, 64, 2.0, np.random.default_rng(seed))
        assert crop is not None
        steps = np.diff(crop.points2_px[..., 0], axis=1)[crop.valid[:, 1:] & crop.valid[:, :-1]]
        ratios.append(float(np.median(steps)))
    assert 0.45 < min(ratios) < 0.7 and 1.4 < max(ratios) < 2.1


def test_the_scale_between_the_images_is_taken_out() -> None:
    zoomed = np.diag([2.0, 2.0, 1.0])
    large = cv2.resize(smooth(200, 200), (400, 400), interpolation=cv2.INTER_LINEAR)
    points = cv2.perspectiveTransform(pixel_centres(200, 200).reshape(1, -1, 2), zoomed).reshape(200, 200, 2).astype(np.float32)
    crop = crop_pair(DensePair(smooth(200, 200), large, points, np.ones((200, 200), bool)), 64, 1.0, np.random.default_rng(0))
    assert crop is not None and crop.valid.mean() > 0.9
    assert float(np.median(np.diff(crop.points2_px[..., 0], axis=1))) == pytest.approx(1.0, abs=0.05)


def test_sparse_correspondences_are_cropped_too() -> None:
    pair = warped_pair(smooth(200, 150), STRONG.draw(200, 150, np.random.default_rng(1)))
    few = np.zeros_like(pair.valid)
    few[::9, ::11] = True
    crop = crop_pair(replace(pair, valid=pair.valid & few), 64, 1.2, np.random.default_rng(2))
    assert crop is not None and 5 < crop.valid.sum() < 80 and _difference(crop).max() < 12.0
    assert crop_pair(replace(pair, valid=np.zeros_like(few)), 64, 1.2, np.random.default_rng(2)) is None


def test_overlap_is_counted_in_cells() -> None:
    valid = np.zeros((40, 64), bool)
    valid[3, 5], valid[3, 9], valid[20, 60], valid[39, 2] = True, True, True, True
    assert overlap(valid) == 2 / 8 and overlap(np.ones((48, 48), bool)) == 1.0


def _pairs(config: FeaturePairs.Config = CONFIG, count: int = 3) -> FeaturePairs:
    return FeaturePairs(config, WarpedPairs([partial(picture, k) for k in range(count)], Warp(edge_px=(100, 160)), config.crop_px))


def test_a_batch_is_a_function_of_its_number() -> None:
    config = replace(CONFIG, colours=Colours())
    one, again, other = _pairs(config).batch(7), _pairs(config).batch(7), _pairs(config).batch(8)
    assert {name: (value.shape, value.dtype) for name, value in one.items()} == {
        "image": ((2, 64, 64, 3), torch.uint8),
        "image2": ((2, 64, 64, 3), torch.uint8),
        "points2_px": ((2, 64, 64, 2), torch.float32),
        "valid": ((2, 64, 64), torch.bool),
    }
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["image"], other["image"])
    assert not torch.equal(one["image"], _pairs(replace(config, seed=1)).batch(7)["image"])


def test_small_images_are_enlarged_and_gray_or_narrow_ones_taken() -> None:
    source = WarpedPairs([lambda: picture(0, 40, 300), lambda: picture(1, 9, 9)], Warp(), 64)
    assert [min(source.pair(k, np.random.default_rng(0)).valid.shape) for k in range(2)] == [64, 64]
    with pytest.raises(DataError, match="nothing to learn from"):
        WarpedPairs([lambda: picture(0, 1, 1)], Warp(), 64).pair(0, np.random.default_rng(0))


def test_pairs_without_anything_in_common_are_said() -> None:
    class Nothing:
        def __len__(self) -> int:
            return 1

        def pair(self, index: int, rng: np.random.Generator) -> DensePair:
            return DensePair(smooth(80, 80), smooth(80, 80), np.zeros((80, 80, 2), np.float32), np.zeros((80, 80), bool))

    with pytest.raises(DataError, match="in common"):
        FeaturePairs(CONFIG, Nothing()).batch(0)
    with pytest.raises(DataError, match="smaller than the crops"):
        FeaturePairs(replace(CONFIG, crop_px=96), Nothing()).batch(0)


def test_colours_change_within_their_limits_or_not_at_all() -> None:
    image = picture(3)
    assert np.array_equal(recoloured(image, UNCHANGED, np.random.default_rng(0)), image)
    changed = [recoloured(image, Colours(), np.random.default_rng(k)) for k in range(20)]
    assert all(c.shape == image.shape and c.dtype == np.uint8 for c in changed)
    assert np.std([c.mean() for c in changed]) > 5 and np.array_equal(changed[4], recoloured(image, Colours(), np.random.default_rng(4)))
    noisy = recoloured(np.full((64, 64, 3), 128, np.uint8), replace(UNCHANGED, noise=10.0), np.random.default_rng(1))
    assert 0.5 < noisy.std() <= 10.5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FeaturePairs.Config(crop_px=60), "multiple of 8"),
        (lambda: FeaturePairs.Config(rescale=0.5), "rescale from 1"),
        (lambda: Colours(contrast=1.5), "contrast"),
        (lambda: Warp(tilt_deg=80), "tilt_deg"),
        (lambda: Warp(edge_px=(300, 200)), "edge_px"),
    ],
)
def test_impossible_settings_are_refused(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=said):
        make()
