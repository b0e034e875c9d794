"""SuperPoint, D2-Net and DELG on frames, with random weights: positions, sizes, masks, settings, missing files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.interfaces import Extractor
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import Frame
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.models.superpoint import SuperPoint
from ros2_loc.models.weights import load_model

NAMES = ("superpoint", "d2net", "delg")
# of the cells: a picture moved by so many px has its keypoints moved
CELL_PX = {"superpoint": 8, "d2net": 4, "delg": 16}
FEW_LEVELS = {"delg": {"scales": [1.0]}}
Make = Callable[..., Extractor]


@pytest.fixture(scope="module")
def make(random_weights: Callable[[str], Path]) -> Make:
    """An extractor by name, with settings."""

    def made(name: str, **settings: Any) -> Extractor:
        chosen = {"name": name, "weights": str(random_weights(name)), **FEW_LEVELS.get(name, {}), **settings}
        return registry.create("extractor", chosen)  # type: ignore[no-any-return]

    return made


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    height, width = image.shape[:2]
    return Frame(0, np.ascontiguousarray(image), Camera.pinhole(width, height, 200, 200, width / 2, height / 2), Pose.identity(), mask=mask)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """(160, 224) blocks of several sizes."""
    rng = np.random.default_rng(5)
    blocks = [np.kron(rng.uniform(size=(160 // size, 224 // size, 3)), np.ones((size, size, 1))) for size in (4, 8, 16)]
    return (85 * sum(blocks)).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_picture_has_its_keypoints_moved(name: str, make: Make, image: NDArray[np.uint8]) -> None:
    extractor, cell = make(name), CELL_PX[name]
    x, y = 2 * cell, cell
    whole, part = extractor.extract(frame(image)), extractor.extract(frame(image[y:, x:]))
    assert part.size == (224 - x, 160 - y)
    distance = np.linalg.norm(whole.keypoints[None] - [x, y] - part.keypoints[:, None], axis=2).min(axis=1)
    # at the border the networks see other surroundings
    inside = ((part.keypoints > 48) & (part.keypoints < np.array(part.size) - 48)).all(axis=1)
    assert inside.sum() > 8 and (distance[inside] < 0.05).mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_reduced_picture_has_its_keypoints_where_they_were(name: str, make: Make, image: NDArray[np.uint8]) -> None:
    """Pixels doubled, then halved again by the extractor: the network sees the same, so positions are doubled, exactly."""
    small = make(name).extract(frame(image))
    large = make(name, max_edge_px=224).extract(frame(np.kron(image, np.ones((2, 2, 1), np.uint8))))
    assert len(small) > 50 and large.size == (448, 320)
    np.testing.assert_allclose(large.keypoints, 2 * small.keypoints, atol=1e-3)
    np.testing.assert_allclose(large.scales, 2 * small.scales, rtol=1e-5)
    np.testing.assert_allclose(large.descriptors, small.descriptors, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_masked_takes_no_place_among_the_best(name: str, make: Make, image: NDArray[np.uint8]) -> None:
    extractor = make(name, max_keypoints=20)
    best = extractor.extract(frame(image)).keypoints[0]
    mask = np.ones(image.shape[:2], dtype=bool)
    columns = slice(0, 112) if best[0] < 112 else slice(112, 224)
    mask[:, columns] = False
    features = extractor.extract(frame(image, mask))
    column, row = features.keypoints.astype(int).T
    assert len(features) == 20 and mask[row, column].all()
    assert len(extractor.extract(frame(image, np.zeros_like(mask)))) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 255])
def test_an_image_without_content_gives_finite_features(name: str, value: int, make: Make) -> None:
    features = make(name).extract(frame(np.full((64, 80, 3), value, np.uint8)))
    assert np.isfinite(features.scores).all() and np.isfinite(features.descriptors).all()


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_are_named_with_the_command_that_gets_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=f"ros2-loc weights pull {registry.TABLE['extractor'][name].weights}") as caught:
        registry.create("extractor", {"name": name})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("superpoint", {"nms_radius": -1}),
        ("superpoint", {"geometry": "approximate"}),
        ("superpoint", {"half": True}),
        ("d2net", {"scales": [1.0, 0.5]}),
        ("d2net", {"edge_threshold": 0}),
        ("delg", {"scales": []}),
        ("delg", {"max_overlap": 0}),
        ("delg", {"batch_size": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, Any], make: Make) -> None:
    with pytest.raises(ConfigError, match=name):
        make(name, **settings)


def test_weights_of_another_network_are_refused(random_weights: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="is of d2net, here only SuperPoint fits"):
        registry.create("extractor", {"name": "superpoint", "weights": str(random_weights("d2net"))})


def test_superpoint_takes_the_authors_file_as_it_is(tmp_path: Path, make: Make, random_weights: Callable[[str], Path], image: Any) -> None:
    network = load_model(random_weights("superpoint"))
    assert isinstance(network, SuperPoint)
    torch.save(network.state_dict(), tmp_path / "superpoint_v1.pth")
    published = registry.create("extractor", {"name": "superpoint", "weights": str(tmp_path / "superpoint_v1.pth")})
    ours = make("superpoint").extract(frame(image))
    np.testing.assert_array_equal(published.extract(frame(image)).keypoints, ours.keypoints)


def test_superpoint_is_alone_within_its_radius(make: Make, image: NDArray[np.uint8]) -> None:
    features = make("superpoint", nms_radius=6, remove_borders=10).extract(frame(image))
    apart = np.abs(features.keypoints[:, None] - features.keypoints[None]).max(axis=2)
    assert len(features) > 50 and apart[features.scores[:, None] != features.scores].min() > 6
    assert ((features.keypoints > 10) & (features.keypoints < [214, 150])).all()
    assert (features.keypoints % 1 == 0.5).all()  # the centres of pixels


def test_superpoints_authors_look_elsewhere_for_descriptors_only(make: Make, image: NDArray[np.uint8]) -> None:
    exact, authors = (make("superpoint", geometry=geometry).extract(frame(image)) for geometry in ("exact", "authors"))
    np.testing.assert_array_equal(exact.keypoints, authors.keypoints)
    difference = np.linalg.norm(exact.descriptors - authors.descriptors, axis=1)
    far, near = exact.keypoints.sum(axis=1) > 300, exact.keypoints.sum(axis=1) < 60
    assert difference[far].mean() > 3 * difference[near].mean()


def test_d2nets_authors_are_two_pixels_beside(make: Make, image: NDArray[np.uint8]) -> None:
    exact, authors = (make("d2net", geometry=geometry).extract(frame(image)) for geometry in ("exact", "authors"))
    np.testing.assert_allclose(exact.keypoints - authors.keypoints, 2.0, atol=1e-3)


def test_d2net_limits_the_sum_of_the_edges(make: Make, image: NDArray[np.uint8]) -> None:
    limited, same = make("d2net", max_edge_sum_px=192), make("d2net", max_edge_px=112)
    np.testing.assert_array_equal(limited.extract(frame(image)).keypoints, same.extract(frame(image)).keypoints)


def test_d2nets_levels_tell_their_size(make: Make, image: NDArray[np.uint8]) -> None:
    features = make("d2net", scales=[0.5, 1.0, 2.0]).extract(frame(image))
    assert set(np.round(features.scales, 3)) == {8.0, 4.0, 2.0}


def test_delgs_cells_are_a_lattice_of_each_level(make: Make, image: NDArray[np.uint8]) -> None:
    level = make("delg", scales=[0.5]).extract(frame(image))
    assert len(level) == 5 * 7
    np.testing.assert_allclose((level.keypoints - 1.0) % 32, 0.0, atol=1e-4)
    np.testing.assert_allclose(level.scales, 32.0)
    authors = make("delg", scales=[0.5], geometry="authors").extract(frame(image))
    np.testing.assert_allclose(level.keypoints - authors.keypoints, 0.5, atol=1e-4)


def test_delgs_levels_are_measured_by_their_true_size(make: Make, image: NDArray[np.uint8]) -> None:
    """224 * 0.7071 is 158.4 px: the level has 158."""
    columns = np.unique(make("delg", scales=[0.7071]).extract(frame(image)).keypoints[:, 0])
    np.testing.assert_allclose(columns, (16 * np.arange(10) + 0.5) * 224 / 158, atol=1e-3)


def test_delgs_threshold_and_levels_choose(make: Make, image: NDArray[np.uint8]) -> None:
    both = make("delg", scales=[0.7071, 1.0]).extract(frame(image))
    assert len(set(np.round(both.scales, 1))) == 2
    middle = float(np.median(both.scores))
    chosen = make("delg", scales=[0.7071, 1.0], attention_threshold=middle).extract(frame(image))
    assert 0 < len(chosen) == (both.scores > middle).sum()
