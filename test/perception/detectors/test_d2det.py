"""D2Det as a detector: sizes, scales, the mirror image, suppression, masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ellipses import LABELS, batch, tiny
from numpy.typing import NDArray

from ros2_loc.core.camera import Camera
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Detection, Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.d2det.network import D2Det
from ros2_loc.models.weights import save_model
from ros2_loc.perception.detectors.d2det import D2det
from ros2_loc.registry import create

Config = D2det.Config


def frame(image: NDArray[np.uint8]) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, image, Camera.pinhole(width, height, 100.0, 100.0, width / 2, height / 2), Pose.identity())


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    return [image.permute(1, 2, 0).contiguous().numpy() for image in batch(images=2)["image"]]


@pytest.fixture(scope="module")
def network() -> D2Det:
    torch.manual_seed(1)
    network = D2Det(tiny(min_score=0.0)).eval()
    with torch.no_grad():  # boxes that differ in their scores, and masks that are not empty
        network.roi_heads.box_predictor.weight.mul_(20.0)
        network.roi_heads.masks.masks.weight.mul_(20.0)  # type: ignore[union-attr]
    return network


def detector(network: D2Det, **settings: object) -> D2det:
    return D2det.of_network(network, replace(Config(min_score=0.0), **settings))  # type: ignore[arg-type]


def assert_alike(one: list[Detection], other: list[Detection], tolerance_px: float = 0.05) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=tolerance_px)
        assert a.label == b.label and a.score == pytest.approx(b.score, abs=1e-3)


def test_detections_are_of_the_image_best_first(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    found = detector(network).detect(frame(images[0]))
    assert 0 < len(found) <= 100
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.label in LABELS and 0 <= one.score <= 1
        assert one.mask is not None and one.mask.shape == (96, 128) and one.mask.dtype == bool
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 96
        rows, columns = np.nonzero(one.mask)
        if len(rows):  # only pixels whose centres lie in the box
            assert columns.min() + 0.5 >= x0 and columns.max() + 0.5 <= x1 and rows.min() + 0.5 >= y0 and rows.max() + 0.5 <= y1
    assert any(one.mask is not None and one.mask.any() for one in found)


def test_several_frames_are_found_as_each_alone(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    frames = [frame(images[0]), frame(np.ascontiguousarray(images[1][:80])), frame(images[1])]
    own = detector(network, batch_size=2)
    for alone, together in zip(map(own.detect, frames), own.detect_many(frames), strict=True):
        assert_alike(alone[:8], together[:8])
    assert own.detect_many([]) == []


def test_boxes_are_those_of_the_network(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    found = detector(network, suppression="none").detect(frame(images[0]))
    with torch.inference_mode():
        plain = network([torch.from_numpy(images[0]).permute(2, 0, 1).float() / 255.0])[0]
    np.testing.assert_allclose(np.array([one.box for one in found])[:8], plain["boxes"][:8], atol=0.05)
    masks = np.array([one.mask for one in found])
    assert (masks != (plain["masks"][:, 0] >= 0.5).numpy()).mean() < 0.01


def test_the_mirror_image_is_found_alike(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    own = detector(network, flip=True)
    one, other = (own.detect(frame(np.ascontiguousarray(image))) for image in (images[0], images[0][:, ::-1]))
    for a, b in zip(one[:5], other[:5], strict=True):
        np.testing.assert_allclose(a.box[[0, 2]], 128.0 - b.box[[2, 0]], atol=0.2)
        assert a.mask is not None and b.mask is not None and (a.mask != b.mask[:, ::-1]).mean() < 0.02


def test_scales_see_what_each_alone_sees(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    settings = {"suppression": "none", "max_detections": 1000}
    both = detector(network, scales=(1.0, 1.5), **settings).detect(frame(images[0]))
    each = [one for scale in (1.0, 1.5) for one in detector(network, scales=(scale,), **settings).detect(frame(images[0]))]
    assert_alike(both, sorted(each, key=lambda one: -one.score))


def test_suppression_lowers_scores_of_overlapping_boxes_only(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    settings = {"scales": (1.0, 1.01), "max_detections": 1000}
    everything = detector(network, suppression="none", **settings).detect(frame(images[0]))
    for kind in ("linear", "exponential"):
        kept = detector(network, suppression=kind, **settings).detect(frame(images[0]))
        assert kept[0].score == pytest.approx(everything[0].score)
        assert sum(one.score for one in kept) < sum(one.score for one in everything) and len(kept) <= len(everything)


def test_limits_are_kept(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    found = detector(network).detect(frame(images[0]))
    few = detector(network, max_detections=2).detect(frame(images[0]))
    assert_alike(few, found[:2])
    assert detector(network, min_score=1.0).detect(frame(images[0])) == []
    assert all(one.mask is None for one in detector(network, masks=False).detect(frame(images[0])))
    assert network.roi_heads.masks is not None  # a copy is used


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 2)])
def test_images_of_odd_shapes_are_seen(network: D2Det, size: tuple[int, int]) -> None:
    for one in detector(network).detect(frame(np.full((size[1], size[0], 3), 128, np.uint8))):
        assert 0 <= one.box[0] < one.box[2] <= size[0] and 0 <= one.box[1] < one.box[3] <= size[1]


def test_sizes_are_those_that_are_asked_for(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    seen: list[tuple[int, ...]] = []
    own = detector(network, short_side_px=64, long_side_px=64)
    own._network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    own.detect(frame(images[0]))
    assert seen == [(1, 3, 64, 64)]  # 64 x 48, filled up


def test_weights_come_from_files_and_bring_their_labels(network: D2Det, images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    weights = tmp_path / "d2det.safetensors"
    save_model(weights, network, {"recipe": "random", "seed": 1, "licence": "Apache-2.0"})
    own = create("detector", {"name": "d2det", "weights": str(weights), "min_score": 0.0})
    assert own.labels == LABELS and own.name == "d2det"
    assert_alike(own.detect(frame(images[0]))[:8], detector(network).detect(frame(images[0]))[:8])


def test_damaged_weights_and_wrong_settings_are_told(network: D2Det, images: list[NDArray[np.uint8]]) -> None:
    for part in ("roi_heads.regression.distances", "roi_heads.box_predictor", "backbone.body.stem.0"):
        own = detector(network)
        own._network.get_submodule(part).bias.data.fill_(float("nan"))
        with pytest.raises(DataError, match="d2det: the network gave numbers that are not finite"):
            own.detect(frame(images[0]))
    for wrong in ({"scales": ()}, {"scales": (1.0, 1.0)}, {"max_detections": 0}, {"min_score": 1.5}, {"short_side_px": 300}):
        with pytest.raises(ConfigError, match="d2det: "):
            Config(**wrong)  # type: ignore[arg-type]
