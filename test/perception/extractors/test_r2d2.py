"""R2D2 and Context-R2D2 on frames: positions, scales, batches, weights.

With made-up weights, or with a stand-in for the network for which keypoints are where it is bright.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.context_r2d2 import ContextR2D2
from ros2_loc.models.hrnet import HRNet
from ros2_loc.models.imagenet import MEAN, STD
from ros2_loc.models.r2d2 import R2D2, DenseFeatures
from ros2_loc.models.weights import save_model
from ros2_loc.perception.extractors.context_r2d2 import ContextR2d2
from ros2_loc.perception.extractors.r2d2 import R2d2

META = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}
SMALL = ContextR2D2.Config(context_channels=8, semantic=HRNet.Config((4, 4, 4, 4), (1, 1, 1), 1, 8, 4, 1), r2d2=R2D2.Config(mchan=1))


def frame_of(image: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity(), mask=mask)


def noise(width: int, height: int, seed: int = 0) -> Frame:
    return frame_of(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def spots(width: int, height: int, centres: np.ndarray, sigma: float) -> Frame:
    """Bright spots, the first pixel's centre being at (0.5, 0.5)."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    total = sum(np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2) for x, y in centres)
    return frame_of(np.repeat(np.round(np.clip(total, 0, 1) * 250).astype(np.uint8)[..., None], 3, axis=2))


def brightness(images: Tensor) -> DenseFeatures:
    """A network for which bright pixels repeat, described by the one number 1."""
    bright = images[:, :1] * STD[0] + MEAN[0]
    return DenseFeatures(torch.full_like(bright, 2.0), torch.ones_like(bright), 0.7 * bright)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Made-up weights under the names r2d2, fast, context_r2d2."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    fast = R2D2(R2D2.Config("fast", mchan=1))
    networks = {"r2d2": R2D2(R2D2.Config(mchan=1)), "fast": fast, "context_r2d2": ContextR2D2(SMALL)}
    for name, network in networks.items():
        save_model(folder / f"{name}.safetensors", network, META)
    return lambda name: str(folder / f"{name}.safetensors")


@pytest.fixture(params=["r2d2", "fast", "context_r2d2"])
def extractor(request: pytest.FixtureRequest, weights: Callable[[str], str]) -> R2d2:
    name = "r2d2" if request.param == "fast" else request.param
    thresholds = {"min_reliability": 0.0, "min_repeatability": 0.0}
    section = {"name": name, "weights": weights(request.param), "max_keypoints": 300, "batch_size": 2, "min_edge_px": 40, **thresholds}
    return registry.create("extractor", section)  # type: ignore[no-any-return]


def seeing_brightness(weights: Callable[[str], str], **settings: object) -> R2d2:
    extractor = R2d2(R2d2.Config(weights=weights("r2d2"), min_repeatability=0.4, min_edge_px=64, **settings))  # type: ignore[arg-type]
    extractor._network = brightness
    return extractor


@pytest.mark.parametrize("edge", [0, 200, 127, 90])
@pytest.mark.parametrize("min_scale", [1.0, 0.4])
def test_a_spot_is_found_where_it_is_at_every_level(edge: int, min_scale: float, weights: Callable[[str], str]) -> None:
    centres = np.array([[60.3, 40.8], [131.75, 77.3], [90.4, 100.2]])
    found = seeing_brightness(weights, max_edge_px=edge, min_scale=min_scale).extract(spots(211, 143, centres, 4.0))
    distance = np.linalg.norm(found.keypoints[:, None] - centres, axis=2)
    per_level = np.bincount(distance.argmin(axis=1), minlength=3)
    levels = 1 + int(4 * np.log2((edge or 211) / max(64, min_scale * (edge or 211))) + 0.01)
    assert per_level.tolist() == [levels] * 3
    assert distance.min(axis=1).max() < 0.25  # of parabolas through blurred spots, at scales of up to 2.3
    assert np.median(distance.min(axis=1)) < 0.1


def test_whole_pixels_without_the_refinement(weights: Callable[[str], str]) -> None:
    frame = spots(120, 100, np.array([[60.3, 40.8]]), 4.0)
    settings = {"max_edge_px": 0, "min_scale": 1.0}
    assert seeing_brightness(weights, subpixel=False, **settings).extract(frame).keypoints.tolist() == [[60.5, 40.5]]
    np.testing.assert_allclose(seeing_brightness(weights, **settings).extract(frame).keypoints, [[60.3, 40.8]], atol=0.02)


def test_scales_are_the_sizes_of_a_levels_pixels(weights: Callable[[str], str]) -> None:
    frame = spots(200, 100, np.array([[100.6, 50.6]]), 5.0)
    found = seeing_brightness(weights, max_edge_px=100, min_scale=0.7).extract(frame)
    np.testing.assert_allclose(np.sort(found.scales), 2.0 * 2.0 ** (np.arange(3) / 4), rtol=0.02)
    np.testing.assert_allclose(found.descriptors, 1.0)  # of unit length, whatever the network gave


def test_keypoints_of_the_edge_are_left_out(weights: Callable[[str], str]) -> None:
    frame = spots(120, 100, np.array([[5.2, 50.2], [60.2, 50.2], [60.2, 95.6]]), 2.0)
    settings = {"max_edge_px": 0, "min_scale": 1.0}
    assert len(seeing_brightness(weights, border_px=0, **settings).extract(frame)) == 3
    assert len(seeing_brightness(weights, border_px=8, **settings).extract(frame)) == 1


def test_best_first_at_most_so_many_the_same_each_time(extractor: R2d2) -> None:
    found, again = extractor.extract(noise(120, 90)), extractor.extract(noise(120, 90))
    assert len(found) == 300 and (np.diff(found.scores) <= 0).all() and found.extractor == extractor.name and found.size == (120, 90)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1.0, rtol=1e-5)
    for ours, theirs in ((found.keypoints, again.keypoints), (found.descriptors, again.descriptors), (found.scales, again.scales)):
        np.testing.assert_array_equal(ours, theirs)
    assert (found.keypoints >= 0).all() and (found.keypoints < [120, 90]).all()


def test_several_at_once_are_as_one_after_the_other(extractor: R2d2) -> None:
    frames = [noise(96, 64, 1), noise(64, 96, 2), noise(96, 64, 3), noise(96, 64, 4)]
    for alone, together in zip(map(extractor.extract, frames), extractor.extract_many(frames), strict=True):
        np.testing.assert_allclose(together.scores[:50], alone.scores[:50], atol=1e-5)
        distance = np.linalg.norm(alone.keypoints[:20, None] - together.keypoints[None, :30], axis=2)
        same = distance.argmin(axis=1)  # scores that are nearly the same may change places
        assert (distance.min(axis=1) < 0.05).all()
        np.testing.assert_allclose(together.descriptors[same], alone.descriptors[:20], atol=1e-3)
    assert extractor.extract_many([]) == []


def test_masked_parts_have_none(extractor: R2d2) -> None:
    mask = np.zeros((90, 120), bool)
    mask[20:60, 30:100] = True
    found = extractor.extract(replace(noise(120, 90), mask=mask))
    columns, rows = found.keypoints.astype(int).T
    assert len(found) > 20 and mask[rows, columns].all()


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (3, 2), (17, 16)])
def test_images_that_are_too_small_have_none(size: tuple[int, int], extractor: R2d2) -> None:
    found = extractor.extract(noise(*size))
    assert found.size == size and found.descriptors.shape[1] == 128 and len(found) <= 1


def test_sixteen_bits_find_nearly_the_same(weights: Callable[[str], str]) -> None:
    settings = {"weights": weights("r2d2"), "min_reliability": 0.0, "min_repeatability": 0.0, "min_scale": 1.0}
    whole, half = (R2d2(R2d2.Config(**settings, half=half)).extract(noise(120, 90)) for half in (False, True))  # type: ignore[arg-type]
    distance = np.linalg.norm(whole.keypoints[:, None] - half.keypoints, axis=2)
    close = distance.min(axis=1) < 0.7
    assert close.mean() > 0.7
    assert (whole.descriptors[close] * half.descriptors[distance.argmin(axis=1)[close]]).sum(axis=1).mean() > 0.99


def test_weights_of_the_authors_are_taken_by_path(tmp_path: Path) -> None:
    names = {"layers.": "ops.", "heads.reliability.": "clf.", "heads.repeatability.": "sal."}
    state = {}
    for key, value in R2D2(R2D2.Config(mchan=1)).state_dict().items():
        ours, theirs = next(pair for pair in names.items() if key.startswith(pair[0]))
        state["module." + key.replace(ours, theirs)] = value
    torch.save({"net": "Quad_L2Net_ConfCFS(mchan=1)", "state_dict": state}, tmp_path / "theirs.pt")
    assert R2d2(R2d2.Config(weights=str(tmp_path / "theirs.pt"))).extract(noise(40, 30)).descriptors.shape[1] == 128


def test_weights_that_are_missing_or_of_another_network(
    weights: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="ros2-loc weights pull r2d2_wasf_n16") as error:
        R2d2(R2d2.Config())
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="context_r2d2, here only r2d2"):
        R2d2(R2d2.Config(weights=weights("context_r2d2")))
    with pytest.raises(ConfigError, match="r2d2, here only context_r2d2"):
        ContextR2d2(ContextR2d2.Config(weights=weights("r2d2")))
    with pytest.raises(ConfigError, match="train context-r2d2"):
        ContextR2d2(ContextR2d2.Config())


@pytest.mark.parametrize("wrong", [{"max_keypoints": 0}, {"batch_size": 0}, {"min_scale": 0.0}, {"scale_factor": 1.0}, {"max_edge_px": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    for name in ("r2d2", "context_r2d2"):
        with pytest.raises(ConfigError):
            registry.create("extractor", {"name": name, **wrong})
