"""CvlNet beyond the contract: one backbone pass per frame, images of any size and camera, masks, damaged weights, devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.overhead import project_overhead
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.cvlnet import CVLNet, random
from ros2_loc.models.weights import save_model
from ros2_loc.perception.cross_view.cvlnet import CvlNet

MOUNTING = Pose(BODY_FROM_OPTICAL, np.array([0.5, 0.0, 1.6]))
HEADER = {"recipe": "random", "seed": 0, "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_model(path, random(CVLNet.Config(), 0), HEADER)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> CvlNet:
    return CvlNet(CvlNet.Config(str(weights)))


@pytest.fixture(scope="module")
def resizing_encoder(tmp_path_factory: pytest.TempPathFactory) -> CvlNet:
    path = tmp_path_factory.mktemp("weights") / "resizing.safetensors"
    save_model(path, random(CVLNet.Config(view="resized"), 0), HEADER)
    return CvlNet(CvlNet.Config(str(path)))


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth, so that a resized one is still the same picture."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    waves = [np.sin(2 * np.pi * (rng.uniform(1, 5) * x + rng.uniform(1, 4) * y) + rng.uniform(0, 6)) for _ in range(3)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def frame(width: int, height: int, camera: Camera | None = None, mask: NDArray[np.bool_] | None = None) -> Frame:
    camera = camera or Camera.pinhole(width, height, width / 2, width / 2, width / 2, height / 3)
    return Frame(17, picture(width, height), camera, MOUNTING, mask=mask)


def test_a_video_passes_the_backbone_once_per_frame_only(encoder: CvlNet, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    network = encoder._network
    forward = network.ground_backbone.forward
    monkeypatch.setattr(network.ground_backbone, "forward", lambda x: passes.append(len(x)) or forward(x))
    features = [encoder.encode_frame(frame(256, 64)) for _ in range(3)]
    encoder.describe(features, [Pose.identity()] * 3)
    encoder.describe_many(features, [[Pose.identity()] * 3] * 4)
    assert passes == [1, 1, 1]


@pytest.mark.parametrize(("width", "height"), [(1242, 375), (640, 480), (128, 32), (200, 300)])
def test_images_of_any_size_show_the_same_ground(resizing_encoder: CvlNet, width: int, height: int) -> None:
    features = resizing_encoder.encode_frame(frame(width, height))
    assert (features.camera.width, features.camera.height) == (256, 64)
    px, visible = project_overhead(resizing_encoder.grid, features.camera, MOUNTING, Pose.identity())
    own_px, own_visible = project_overhead(resizing_encoder.grid, frame(width, height).camera, MOUNTING, Pose.identity())
    np.testing.assert_array_equal(visible, own_visible)
    np.testing.assert_allclose(px, own_px * [256 / width, 64 / height], atol=1e-3)


def test_the_same_picture_in_another_size_has_nearly_the_same_descriptor(encoder: CvlNet) -> None:
    small, large = (encoder.describe([encoder.encode_frame(frame(w, h))], [Pose.identity()]) for w, h in ((256, 64), (1024, 256)))
    assert float((small.features * large.features).sum()) > 0.99


def test_a_camera_of_one_focal_length_is_stretched(resizing_encoder: CvlNet) -> None:
    simple = Camera("SIMPLE_RADIAL", 640, 480, (320.0, 320.0, 160.0, -0.02))
    features = resizing_encoder.encode_frame(frame(640, 480, simple))
    assert features.camera.model == "OPENCV"
    assert resizing_encoder.describe([features], [Pose.identity()]).visible.any()


def test_what_moves_is_not_projected(encoder: CvlNet) -> None:
    mask = np.ones((96, 320), bool)
    mask[:, :160] = False  # left of the middle
    described = encoder.describe([encoder.encode_frame(frame(320, 96, mask=mask))], [Pose.identity()])
    whole = encoder.describe([encoder.encode_frame(frame(320, 96))], [Pose.identity()])
    left = encoder.grid.cell_centres_m()[..., 1] > 0
    assert whole.visible[left].any() and not described.visible[left].any()
    np.testing.assert_array_equal(described.visible[~left], whole.visible[~left])


def test_tiles_do_not_depend_on_the_size_of_the_batch(weights: Path, encoder: CvlNet) -> None:
    images = np.stack([picture(128, 128, seed) for seed in range(5)])
    narrow = CvlNet(CvlNet.Config(str(weights), batch_size=2))
    np.testing.assert_allclose(narrow.encode_tiles(images).features, encoder.encode_tiles(images).features, atol=1e-5)
    assert len(encoder.encode_tiles(images[:0])) == 0


def test_the_fingerprint_is_that_of_the_weights(weights: Path, encoder: CvlNet, tmp_path: Path) -> None:
    assert CvlNet(CvlNet.Config(str(weights))).fingerprint == encoder.fingerprint
    save_model(tmp_path / "other.safetensors", random(CVLNet.Config(), 1), HEADER)
    assert CvlNet(CvlNet.Config(str(tmp_path / "other.safetensors"))).fingerprint != encoder.fingerprint


def test_numbers_that_are_not_finite_name_the_frame_and_the_tile(weights: Path) -> None:
    broken = CvlNet(CvlNet.Config(str(weights)))
    with torch.no_grad():
        for backbone in (broken._network.ground_backbone, broken._network.tile_backbone):
            next(backbone.parameters())[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="frame at 17 ns"):
        broken.encode_frame(frame(256, 64))
    with pytest.raises(DataError, match="row 0"):
        broken.encode_tiles(np.zeros((2, 128, 128, 3), np.uint8))


def test_settings_that_cannot_be_are_said_in_one_line(weights: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        CvlNet.Config(batch_size=0)
    with pytest.raises(ConfigError, match="GPU"):
        CvlNet(CvlNet.Config(str(weights), half=True))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="use device cpu"):
            CvlNet(CvlNet.Config(str(weights)), "cuda")
    with pytest.raises(ConfigError, match="nowhere"):
        CvlNet(CvlNet.Config("nowhere.safetensors"))


def test_records_check_what_they_are_given(encoder: CvlNet) -> None:
    features = encoder.encode_frame(frame(256, 64))
    with pytest.raises(DataError, match="mask"):
        dataclasses.replace(features, mask=np.ones((3, 3), bool))
    tiles = encoder.encode_tiles(picture(128, 128)[None])
    with pytest.raises(DataError, match="uncertainty"):
        dataclasses.replace(tiles, uncertainty=0 * tiles.uncertainty)
