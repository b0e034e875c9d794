"""ALIKED on frames: batches, masks, sizes, and matches on photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("torchvision", reason="torchvision is not installed: pip install '.[torch]'")

from ros2_loc.core.camera import Camera  # noqa: E402
from ros2_loc.core.pose import Pose  # noqa: E402
from ros2_loc.core.types import Frame, LocalFeatures  # noqa: E402
from ros2_loc.errors import ConfigError  # noqa: E402
from ros2_loc.models import aliked  # noqa: E402
from ros2_loc.perception.extractors.aliked import Aliked  # noqa: E402
from ros2_loc.perception.extractors.sift import Sift  # noqa: E402
from ros2_loc.perception.matchers.mutual_nearest import MutualNearest  # noqa: E402


def frame_of(image: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, image, Camera.pinhole(width, height, 100, 100, width / 2, height / 2), Pose.identity(), mask=mask)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the smallest variant, without training: scores around 0.5."""
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("weights") / "aliked.pth"
    torch.save(aliked.Aliked(aliked.Aliked.Config("t16")).state_dict(), path)
    return str(path)


def extractor(weights: str, **settings: object) -> Aliked:
    return Aliked(Aliked.Config(weights=weights, score_threshold=0.1, **settings))  # type: ignore[arg-type]


def test_a_batch_gives_what_each_image_gives(weights: str) -> None:
    images = [noise(50, 40, 1), noise(50, 40, 2), noise(33, 47, 3)]
    together = extractor(weights, batch_size=2).extract_many([frame_of(image) for image in images])
    for image, many in zip(images, together, strict=True):
        alone = extractor(weights).extract(frame_of(image))
        assert len(many) == len(alone) > 3 and many.size == image.shape[1::-1]
        np.testing.assert_allclose(many.keypoints, alone.keypoints, atol=1e-3)
        np.testing.assert_allclose(many.descriptors, alone.descriptors, atol=1e-4)


def test_masks_limits_and_sizes(weights: str) -> None:
    image, mask = noise(64, 48), np.zeros((48, 64), bool)
    mask[:, :32] = True
    everywhere = extractor(weights).extract(frame_of(image))
    left = extractor(weights).extract(frame_of(image, mask))
    assert 0 < len(left) < len(everywhere) and left.keypoints[:, 0].max() < 32
    # a mask takes keypoints away and adds none
    assert {tuple(p) for p in left.keypoints.round(3).tolist()} <= {tuple(p) for p in everywhere.keypoints.round(3).tolist()}
    few = extractor(weights, max_keypoints=3).extract(frame_of(image))
    np.testing.assert_allclose(few.keypoints, everywhere.keypoints[:3])
    small = extractor(weights, max_edge_px=32).extract(frame_of(image))
    assert small.size == (64, 48) and small.scales == pytest.approx(2.0) and small.keypoints.max() > 32
    assert len(extractor(weights).extract(frame_of(noise(5, 200)))) == 0
    assert small.descriptors.shape[1] == 64


@pytest.mark.parametrize("settings", [{"max_keypoints": 0}, {"score_threshold": 1.0}, {"nms_radius": 0}, {"max_edge_px": -1}])
def test_settings_that_can_not_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="aliked: "):
        Aliked.Config(**settings)  # type: ignore[arg-type]


def inliers(a: LocalFeatures, b: LocalFeatures, max_ratio: float) -> int:
    matches = MutualNearest(MutualNearest.Config(max_ratio=max_ratio)).match(a, b).indices
    cv2.setRNGSeed(0)
    found, inside = cv2.findFundamentalMat(a.keypoints[matches[:, 0]], b.keypoints[matches[:, 1]], cv2.USAC_MAGSAC, 1.0, 0.9999, 5000)
    return 0 if found is None else int(inside.sum())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["t16", "n16", "n32"])
def test_the_published_weights_match_photographs_better_than_sift(variant: str, shared_data: Path) -> None:
    from ros2_loc.io.image_folders import image_files
    from ros2_loc.io.images import read_image, resize_image

    path = shared_data.parent / "weights" / "aliked" / f"aliked-{variant}.pth"
    if not path.is_file():
        pytest.skip(f"no {path}")
    photos = [read_image(file) for file in image_files(shared_data / "matching" / "sacre_coeur")[:2]]
    scales = [640 / max(image.shape) for image in photos]
    frames = [frame_of(resize_image(i, int(i.shape[1] * s), int(i.shape[0] * s))) for i, s in zip(photos, scales, strict=True)]
    counts = {
        one.name: inliers(*one.extract_many(frames), max_ratio=ratio)
        for one, ratio in ((Aliked(Aliked.Config(weights=str(path))), 1.0), (Sift(Sift.Config()), 0.85))
    }
    assert counts["aliked"] > max(100, 1.3 * counts["sift"])
