"""Every plugin in the table keeps the promises of core/interfaces.py."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ros2_loc import registry
from ros2_loc.core.camera import Camera
from ros2_loc.core.interfaces import CrossViewEncoder, Encoder, Extractor, Matcher, Reranker
from ros2_loc.core.pose import BODY_FROM_OPTICAL, Pose, so3_exp
from ros2_loc.core.types import Candidate, Frame, LocalFeatures, PlaceEvidence
from ros2_loc.errors import ConfigError, DataError, MissingDependencyError
from ros2_loc.io.features import append_evidence, read_evidence

WIDTH, HEIGHT = 320, 240
# plugins whose weights can't be had without their authors: tested without training
RANDOM: dict[str, dict[str, object]] = {
    "superpoint": {},
    "superglue": {},
    "d2net": {},
    "delg": {"scales": [0.7071, 1.0]},
    "cosplace": {},
    "eigenplaces": {},
    "patch_netvlad": {},
    "netvlad": {},
    "transvpr": {},
    "cvnet": {},
    "rrt": {},
    "loftr": {},
}
# settings of encoders in these tests
ENCODERS: dict[str, dict[str, object]] = {
    "netvlad": {"num_pcs": 32, "size": [128, 96]},
    "transvpr": {"size": [128, 96]},
    "delg": {"max_edge_px": 128},
    "cvnet": {"max_edge_px": 128, "scales": [0.7071, 1.0]},
}
# settings of re-rankers in these tests
RERANKERS: dict[str, dict[str, object]] = {
    "patch_netvlad": {"num_pcs": 32, "image_size": [WIDTH, HEIGHT]},
    "transvpr": {"image_size": [WIDTH, HEIGHT]},
    "cvnet": {"max_edge_px": 128, "scales": [1.0]},
}
# whose features a matcher takes, and of how many numbers; others take any
FEATURES = {"superglue": ("superpoint", 256), "lighterglue": ("xfeat", 64), "lightglue": ("aliked", 128)}
# R2D2's training lets peaks be anywhere beside what they are of, and its weights put them 0.4 px further left than in a mirror
HANDED = {"r2d2": 1.0, "context_r2d2": 1.0}
# trained on upright images: upside down they choose other points (their positions: test/models/test_aliked.py, extractors/test_xfeat.py)
UPRIGHT = {"aliked", "xfeat"}
# cells of 16 px lie alike in the turned image for one scale and such sizes only
TURNED = {"delg": ({"scales": [1.0]}, (16 * 19 + 1, 16 * 14 + 1))}


def plugins(kind: str) -> list[str]:
    return sorted(registry.components()[kind])


def make(kind: str, name: str, **settings: object):  # type: ignore[no-untyped-def]
    try:
        return registry.create(kind, {"name": name, **settings})
    except MissingDependencyError as error:
        pytest.skip(str(error))
    except DataError as error:
        if "weights pull" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _published_weights(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    """Where the weights that may not be part of this project lie on a developer's machine."""
    shared = Path(os.environ.get("ROS2_LOC_SHARED", checkout.parent / "shared")) / "weights"
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", os.pathsep.join(filter(None, [os.environ.get("ROS2_LOC_WEIGHTS"), str(shared)])))


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """Smooth noise at several scales: blobs and corners everywhere."""
    rng = np.random.default_rng(3)
    total = np.zeros((HEIGHT, WIDTH, 3))
    for size in (4, 8, 16, 40):
        coarse = rng.uniform(size=(HEIGHT // size + 2, WIDTH // size + 2, 3))
        total += np.kron(coarse, np.ones((size, size, 1)))[:HEIGHT, :WIDTH]
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


def frame(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> Frame:
    camera = Camera.pinhole(image.shape[1], image.shape[0], 300, 300, 160, 120)
    return Frame(0, image, camera, Pose.identity(), mask=mask)


def test_every_component_can_be_resolved_and_has_a_frozen_config() -> None:
    for kind, rows in registry.components().items():
        for name in rows:
            try:
                plugin = registry.resolve(kind, name)
            except MissingDependencyError:
                continue
            assert dataclasses.is_dataclass(plugin.Config)  # type: ignore[attr-defined]
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(plugin.Config(), dataclasses.fields(plugin.Config)[0].name, 1)  # type: ignore[attr-defined]
            assert plugin.name == name  # type: ignore[attr-defined]
            with pytest.raises(ConfigError, match="nonsense"):
                registry.create(kind, {"name": name, "nonsense": 1})


def needs_own_weights(name: str) -> list[pytest.MarkDecorator]:
    """Those whose weights are not part of this project are networks that take seconds."""
    return [pytest.mark.slow] if registry.components()["extractor"][name].requires else []


@pytest.fixture(scope="session")
def untrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Settings of plugins that are tested without training, none for others."""

    def weights(name: str) -> dict[str, Any]:
        if name in RANDOM:
            return {"weights": str(request.getfixturevalue("random_weights")(name)), **RANDOM[name]}
        return {"weights": untrained_context(tmp_path_factory.mktemp("context"))} if name == "context_r2d2" else {}

    return cache(weights)


@pytest.fixture(params=[pytest.param(name, marks=needs_own_weights(name)) for name in plugins("extractor")])
def extractor(request: pytest.FixtureRequest, untrained: Callable[[str], dict[str, Any]]) -> Iterator[Extractor]:
    yield make("extractor", request.param, **untrained(request.param))


def untrained_context(folder: Path) -> str:
    """Context-R2D2 as it starts from R2D2: nobody has published weights of it."""
    from ros2_loc.models.context_r2d2 import ContextR2D2, start_from
    from ros2_loc.models.hrnet import HRNet
    from ros2_loc.models.weights import save_model

    network = ContextR2D2(ContextR2D2.Config(context_channels=8, semantic=HRNet.Config.tiny()))
    try:
        start_from(network, "r2d2_wasf_n16")
    except DataError as error:
        pytest.skip(str(error))
    save_model(folder / "context.safetensors", network, {"recipe": "start", "seed": 0, "licence": "CC BY-NC-SA 3.0"})
    return str(folder / "context.safetensors")


def test_extractor_keeps_count_order_and_bounds(
    extractor: Extractor, image: NDArray[np.uint8], untrained: Callable[[str], dict[str, Any]]
) -> None:
    assert isinstance(extractor, Extractor)
    few = make("extractor", extractor.name, max_keypoints=60, **untrained(extractor.name)).extract(frame(image))
    assert 40 < len(few) <= 60
    features = extractor.extract(frame(image))
    assert len(features) > 100
    assert (np.diff(features.scores) <= 0).all()
    assert ((features.keypoints >= 0) & (features.keypoints <= [WIDTH, HEIGHT])).all()
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1.0, atol=1e-3)


def test_extractor_gives_the_same_for_the_same_image(extractor: Extractor, image: NDArray[np.uint8]) -> None:
    a, b = extractor.extract(frame(image)), extractor.extract(frame(image.copy()))
    np.testing.assert_array_equal(a.keypoints, b.keypoints)
    np.testing.assert_array_equal(a.descriptors, b.descriptors)


def test_extractor_gives_for_several_what_it_gives_for_each(extractor: Extractor, image: NDArray[np.uint8]) -> None:
    assert extractor.batch_size >= 1
    frames = [frame(image), frame(np.ascontiguousarray(image[::-1])), frame(np.ascontiguousarray(image[: HEIGHT // 2]))]
    for alone, together in zip(map(extractor.extract, frames), extractor.extract_many(frames), strict=True):
        assert abs(len(alone) - len(together)) <= 2 and together.size == alone.size
        n = min(20, len(alone))
        np.testing.assert_allclose(together.keypoints[:n], alone.keypoints[:n], atol=0.01)
        np.testing.assert_allclose(together.descriptors[:n], alone.descriptors[:n], atol=1e-3)
    assert extractor.extract(frames[2]).size == (WIDTH, HEIGHT // 2) and extractor.extract_many([]) == []


def test_extractor_honours_the_mask(extractor: Extractor, image: NDArray[np.uint8]) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[:, : WIDTH // 2] = True
    features = extractor.extract(frame(image, mask))
    assert len(features) > 20
    assert (features.keypoints[:, 0] < WIDTH / 2 + 1.0).all()


def test_extractor_finds_nothing_on_a_blank_image(extractor: Extractor) -> None:
    features = extractor.extract(frame(np.full((HEIGHT, WIDTH, 3), 127, np.uint8)))
    if extractor.name in RANDOM:
        return  # it is training that tells them so
    assert len(features) == 0 and features.keypoints.shape == (0, 2) and features.descriptors.ndim == 2


def test_extractor_follows_the_pixel_convention(
    extractor: Extractor, image: NDArray[np.uint8], untrained: Callable[[str], dict[str, Any]]
) -> None:
    """Turned by 180 degrees, a keypoint at (x, y) comes to (W - x, H - y) where the first pixel's centre is (0.5, 0.5), else it is off
    by one.
    """
    if extractor.name in UPRIGHT:
        pytest.skip(f"{extractor.name} is not meant for images that are upside down")
    settings, (width, height) = TURNED.get(extractor.name, ({}, (WIDTH, HEIGHT)))
    one = make("extractor", extractor.name, **(untrained(extractor.name) | settings)) if settings else extractor
    image = np.ascontiguousarray(image[:height, :width])
    upright = one.extract(frame(image))
    turned = one.extract(frame(np.ascontiguousarray(image[::-1, ::-1])))
    back = np.array([width, height]) - turned.keypoints
    distance = np.linalg.norm(upright.keypoints[:, None] - back[None], axis=2)
    nearest = distance.argmin(axis=1)
    close = distance[np.arange(len(nearest)), nearest] < 1.5
    assert close.mean() > 0.4  # learned ones don't see the same upside down
    offset = upright.keypoints[close] - back[nearest[close]]
    assert np.abs(np.mean(offset, axis=0)).max() < HANDED.get(extractor.name, 0.2)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 9)])
def test_extractor_takes_images_of_any_size(extractor: Extractor, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    features = extractor.extract(frame(noise))
    assert features.size == (size[1], size[0]) and features.extractor == extractor.name
    assert ((features.keypoints >= 0) & (features.keypoints <= features.size)).all()


def odd_images() -> dict[str, NDArray[np.uint8]]:
    """What lens caps, overexposure, test cards and broken sensors give."""
    black = np.zeros((64, 80), np.uint8)
    point, checks = black.copy(), black.copy()
    point[30, 50] = 255
    checks[:, 40:] = 255 * (np.indices((64, 40)).sum(axis=0) % 2)
    grays = {"black": black, "white": 255 - black, "one bright pixel": point, "every second pixel of a half": checks}
    return {name: np.repeat(gray[..., None], 3, axis=2) for name, gray in grays.items()}


def test_extractor_gives_numbers_on_odd_images_and_alters_no_other(extractor: Extractor, image: NDArray[np.uint8]) -> None:
    odd, image = odd_images(), np.ascontiguousarray(image[:64, :80])
    alone = extractor.extract(frame(image))
    *all_features, together = extractor.extract_many([frame(one) for one in (*odd.values(), image)])
    for name, features in zip(odd, all_features, strict=True):  # the record refuses what is not finite
        np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1.0, atol=1e-3, err_msg=name)
        assert np.isfinite(features.scores).all() and np.isfinite(features.scales).all() and (features.scales > 0).all(), name
        if name in ("black", "white") and extractor.name not in RANDOM:
            assert len(features) == 0, name
    assert abs(len(together) - len(alone)) <= 2
    np.testing.assert_allclose(together.keypoints[:20], alone.keypoints[:20], atol=0.01)


def features_of(count: int, seed: int, extractor: str = "test", dimension: int = 32) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, dimension)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints = rng.uniform(0, 200, size=(count, 2)).astype(np.float32)
    return LocalFeatures(keypoints, descriptors, np.ones(count, np.float32), np.ones(count, np.float32), extractor, (WIDTH, HEIGHT))


@pytest.mark.parametrize("name", plugins("matcher"))
def test_matcher_pairs_each_feature_once_and_finds_copies(name: str, untrained: Callable[[str], dict[str, Any]]) -> None:
    matcher, kind = make("matcher", name, **untrained(name)), FEATURES.get(name, ("test", 32))
    assert isinstance(matcher, Matcher)
    query = features_of(80, 1, *kind)
    order = np.random.default_rng(0).permutation(80)
    matches = matcher.match(query, query.select(order))
    assert len(matches) >= 75
    assert (order[matches.indices[:, 1]] == matches.indices[:, 0]).all()
    noisy = matcher.match(query, features_of(90, 2, *kind))
    for column in noisy.indices.T:
        assert len(np.unique(column)) == len(column)
    none = features_of(0, 0, *kind)
    assert len(matcher.match(query, none)) == 0 == len(matcher.match(none, query))
    references = [query.select(order), none, features_of(40, 3, *kind), query.select(order[:30])]
    for many, reference in zip(matcher.match_many(query, references), references, strict=True):
        alone = matcher.match(query, reference)
        np.testing.assert_array_equal(many.indices, alone.indices)
        np.testing.assert_allclose(many.scores, alone.scores, atol=1e-4)
    assert matcher.match_many(query, []) == []


# each with a backbone of seconds; the networks themselves are tested with the quick ones (test/models)
LARGE = {"delg", "cvnet", "netvlad", "eigenplaces", "patch_netvlad", "transvpr", "loftr"}


def quick_and_slow(kind: str) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in plugins(kind)]


ENCODER_NAMES = quick_and_slow("encoder")


@pytest.mark.parametrize("name", ENCODER_NAMES)
def test_encoder_gives_unit_vectors_that_tell_images_apart(
    name: str, image: NDArray[np.uint8], untrained: Callable[[str], dict[str, Any]]
) -> None:
    encoder = make("encoder", name, **(untrained(name) | ENCODERS.get(name, {})))
    assert isinstance(encoder, Encoder) and (encoder.needs_image or encoder.needs_features) and encoder.batch_size >= 1
    sift = registry.create("extractor", {"name": "sift"})
    other = frame(np.ascontiguousarray(np.roll(image[:, ::-1], 40, axis=0)[..., ::-1] // 2))
    noise = frame(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    shifted = frame(np.roll(image, (5, 9), axis=(0, 1)))
    all_frames = [frame(image), other, noise, shifted]
    features = [sift.extract(f) for f in all_frames]
    state = encoder.fit(features)
    first, _, far, near = (encoder.encode(f, x).vector for f, x in zip(all_frames, features, strict=True))
    assert first @ near > first @ far + (0.03 if name in RANDOM else 0.1)
    again = make("encoder", name, **(untrained(name) | ENCODERS.get(name, {})))
    again.restore(state)
    np.testing.assert_array_equal(again.encode(all_frames[0], features[0]).vector, first)
    empty = encoder.encode(all_frames[0], features[0].select(slice(0, 0)))
    assert abs(np.linalg.norm(empty.vector) - 1.0) < 1e-4


@pytest.mark.parametrize("name", ENCODER_NAMES)
def test_encoder_gives_for_several_what_it_gives_for_each(
    name: str, image: NDArray[np.uint8], untrained: Callable[[str], dict[str, Any]]
) -> None:
    """Of different sizes, whatever they show; without what it does not need."""
    encoder = make("encoder", name, **(untrained(name) | ENCODERS.get(name, {})))
    sift = registry.create("extractor", {"name": "sift"})
    small = np.ascontiguousarray(image[:64, :80])
    frames = [frame(one) for one in (small, image[:100, :120].copy(), *odd_images().values(), small[::-1].copy(), image[:9, :40].copy())]
    features = [sift.extract(f) for f in frames]
    encoder.fit([sift.extract(frame(image)), *features])
    together = encoder.encode_many(frames if encoder.needs_image else None, features if encoder.needs_features else None)
    alone = [encoder.encode(f if encoder.needs_image else None, x) for f, x in zip(frames, features, strict=True)]
    assert {one.encoder for one in together} == {name} and encoder.encode_many([], []) == []
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-4)


def places_of(reranker: Reranker, image: NDArray[np.uint8]) -> tuple[list[Frame] | None, list[LocalFeatures] | None]:
    """The query and four places, of which the third shows what the query does, moved; what the re-ranker does not need is None."""
    around = np.tile(image, (2, 2, 1))
    shown = [around[:192, :256], around[100:292, 90:346, ::-1], around[16:208, 32:288], around[-192:, -256:][::-1], around[60:252, 250:506]]
    query = features_of(60, 1)
    features = [query, features_of(60, 2), query.select(np.arange(50)), features_of(60, 3), features_of(0, 3)]
    features[2] = dataclasses.replace(features[2], keypoints=features[2].keypoints + np.float32([3.0, 5.0]))
    frames = [frame(np.ascontiguousarray(one)) for one in shown]
    frames = [*frames[:3], *(frame(np.ascontiguousarray(one.image[:160])) for one in frames[3:])]
    return frames if reranker.needs_image else None, features if reranker.needs_features else None


@pytest.fixture(scope="module", params=quick_and_slow("reranker"))
def reranker(request: pytest.FixtureRequest, untrained: Callable[[str], dict[str, Any]]) -> Reranker:
    return make("reranker", request.param, **(untrained(request.param) | RERANKERS.get(request.param, {})))  # type: ignore[no-any-return]


def described(reranker: Reranker, image: NDArray[np.uint8]) -> tuple[PlaceEvidence, list[PlaceEvidence]]:
    """A query and three places, the second of which is the query's."""
    if reranker.needs_features:
        query = features_of(60, 1)
        return reranker.describe(None, query), reranker.describe_many(
            None, [features_of(60, 2), query.select(np.arange(50)), features_of(60, 3)]
        )
    other = np.ascontiguousarray(np.roll(image[::-1, ::-1], 40, axis=0)[..., ::-1] // 2)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    images = [other, np.roll(image, (16, 32), axis=(0, 1)), noise]
    return reranker.describe(frame(image), None), reranker.describe_many([frame(one) for one in images], None)


def empty(reranker: Reranker, image: NDArray[np.uint8]) -> PlaceEvidence:
    """Of an image in which everything moves."""
    if reranker.needs_features:
        return reranker.describe(None, features_of(0, 0))
    return reranker.describe(frame(image, np.zeros((HEIGHT, WIDTH), dtype=bool)), None)


CANDIDATES = [Candidate(7, 0.9), Candidate(3, 0.8), Candidate(5, 0.7)]


def test_reranker_puts_the_right_place_first_and_loses_none(reranker: Reranker, image: NDArray[np.uint8]) -> None:
    assert isinstance(reranker, Reranker)
    query, places = described(reranker, image)
    scores = reranker.score(query, CANDIDATES, places)
    assert scores.scores.dtype == np.float32 and scores.scores.shape == (3,) and scores.scores.argmax() == 1
    assert set(scores.stage_s) <= {"matching", "scoring"}
    assert len(reranker.score(query, [], []).scores) == 0


def test_reranker_scores_a_place_alone_as_among_others(reranker: Reranker, image: NDArray[np.uint8]) -> None:
    query, places = described(reranker, image)
    together = reranker.score(query, CANDIDATES, places)
    again = reranker.score(query, CANDIDATES, places)
    np.testing.assert_array_equal(again.scores, together.scores)
    if reranker.listwise:
        return
    for index, (candidate, place) in enumerate(zip(CANDIDATES, places, strict=True)):
        alone = reranker.score(query, [candidate], [place])
        np.testing.assert_allclose(alone.scores[0], together.scores[index], rtol=1e-4, atol=1e-5)


def test_reranker_stores_numbers_that_say_the_same_when_read(reranker: Reranker, image: NDArray[np.uint8], tmp_path: Path) -> None:
    query, places = described(reranker, image)
    for index, place in enumerate([query, *places]):
        assert place.reranker == reranker.name and set(place.arrays) == set(query.arrays)
        assert all(array.dtype.kind in "fiub" and np.isfinite(array).all() for array in place.arrays.values())
        append_evidence(tmp_path / "evidence.h5", f"{index}.jpg", place)
    read = read_evidence(tmp_path / "evidence.h5", [f"{index}.jpg" for index in range(4)])
    scores = reranker.score(query, CANDIDATES, places).scores
    np.testing.assert_array_equal(reranker.score(read[0], CANDIDATES, read[1:]).scores, scores)


def test_reranker_describes_several_as_it_describes_each(reranker: Reranker, image: NDArray[np.uint8]) -> None:
    assert reranker.batch_size >= 1
    if reranker.needs_features:
        records = [features_of(40, 1), features_of(30, 2)]
        alone, together = [reranker.describe(None, one) for one in records], reranker.describe_many(None, records)
    else:
        frames = [frame(image), frame(np.ascontiguousarray(image[: HEIGHT // 2, ::-1]))]
        alone, together = [reranker.describe(one, None) for one in frames], reranker.describe_many(frames, None)
    for first, second in zip(alone, together, strict=True):
        for name in first.arrays:
            np.testing.assert_allclose(first.arrays[name], second.arrays[name], atol=2e-3, err_msg=name)


def test_reranker_puts_places_without_evidence_last(reranker: Reranker, image: NDArray[np.uint8]) -> None:
    query, places = described(reranker, image)
    nothing = empty(reranker, image)
    scores = reranker.score(query, CANDIDATES, [nothing, places[1], places[2]]).scores
    if len(reranker.keypoints(query)):  # others look everywhere, masked or not
        assert scores[0] == scores.min() < scores[1]
        assert len(reranker.keypoints(nothing)) == 0 == len(reranker.matches(nothing, places[0]).inliers)
    assert len(set(reranker.score(nothing, CANDIDATES, [nothing, *places[:2]]).scores.tolist())) == 1 or not len(reranker.keypoints(query))


def test_reranker_shows_matches_inside_of_both_images(reranker: Reranker, image: NDArray[np.uint8]) -> None:
    query, places = described(reranker, image)
    seen = reranker.matches(query, query)
    # untrained, LoFTR refines at random
    np.testing.assert_allclose(seen.query_px, seen.place_px, atol=5.0 if reranker.name == "loftr" else 0.0)
    seen = reranker.matches(query, places[1])
    assert seen.query_px.shape == seen.place_px.shape == (len(seen.inliers), 2) and seen.inliers.dtype == bool
    for pixels in (seen.query_px, seen.place_px, reranker.keypoints(query)):
        assert ((pixels >= 0) & (pixels <= [WIDTH, HEIGHT])).all()


@pytest.fixture(scope="module", params=plugins("cross_view"))
def cross_view(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CrossViewEncoder:
    """With random weights: promises don't depend on training."""
    section = {"name": request.param}
    if request.param == "cvlnet":
        pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
        from ros2_loc.models.cvlnet import CVLNet, random
        from ros2_loc.models.weights import save_model

        section["weights"] = str(tmp_path_factory.mktemp("weights") / "random.safetensors")
        save_model(Path(section["weights"]), random(CVLNet.Config(), 0), {"recipe": "random", "seed": 0, "licence": "Apache-2.0"})
    try:
        return registry.create("cross_view", section)  # type: ignore[no-any-return]
    except MissingDependencyError as error:
        pytest.skip(str(error))


MOUNTING = Pose(BODY_FROM_OPTICAL, np.array([0.5, 0.0, 1.6]))


def moved(metres: float, yaw_rad: float = 0.0) -> Pose:
    return Pose(so3_exp([0, 0, yaw_rad]), np.array([metres * np.cos(yaw_rad), metres * np.sin(yaw_rad), 0.0]))


def video(image: NDArray[np.uint8], count: int, mounting: Pose = MOUNTING) -> list[Frame]:
    camera = Camera.pinhole(WIDTH, HEIGHT, 160, 160, 160, 100)
    return [Frame(i, np.ascontiguousarray(np.roll(image, 7 * i, axis=1)), camera, mounting) for i in range(count)]


def test_cross_view_tiles_are_described_alike_alone_and_together(cross_view: CrossViewEncoder) -> None:
    assert isinstance(cross_view, CrossViewEncoder) and cross_view.fingerprint.startswith(cross_view.name)
    side, s, k = cross_view.tile_px, cross_view.grid.cells, cross_view.grid.num_shifts
    images = np.random.default_rng(0).integers(0, 255, (3, side, side, 3), dtype=np.uint8)
    together, alone = cross_view.encode_tiles(images), cross_view.encode_tiles(images[1:2])
    assert together.features.shape[0] == 3 and together.features.shape[2:] == (s, s) and together.uncertainty.shape == (3, k, k)
    np.testing.assert_allclose(np.linalg.norm(together.features.reshape(3, -1), axis=1), 1.0, atol=1e-3)
    np.testing.assert_allclose(alone.features[0], together.features[1], atol=1e-4)
    np.testing.assert_allclose(alone.uncertainty[0], together.uncertainty[1], atol=1e-4)
    assert together.encoder == cross_view.fingerprint
    with pytest.raises(DataError, match="tiles"):
        cross_view.encode_tiles(images[:, :-1])


@pytest.mark.parametrize("count", [1, 3])
def test_cross_view_videos_are_described_the_same_each_time(cross_view: CrossViewEncoder, image: NDArray[np.uint8], count: int) -> None:
    poses = [moved(-4.0 * i, 0.3) for i in range(count)]
    first, second = ([cross_view.encode_frame(f) for f in video(image, count)] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
    described = cross_view.describe(first, poses)
    np.testing.assert_array_equal(described.features, cross_view.describe(second, poses).features)
    assert described.visible.any() and not described.visible.all()
    assert not described.features[:, ~described.visible].any()
    np.testing.assert_allclose(np.linalg.norm(described.features), 1.0, atol=1e-3)
    assert described.encoder == first[0].encoder == cross_view.fingerprint


def test_cross_view_hypotheses_together_are_those_alone(cross_view: CrossViewEncoder, image: NDArray[np.uint8]) -> None:
    features = [cross_view.encode_frame(f) for f in video(image, 3)]
    hypotheses = [[moved(-4.0 * i, yaw) for i in range(3)] for yaw in (-0.5, 0.0, 2.0)]
    for together, poses in zip(cross_view.describe_many(features, hypotheses), hypotheses, strict=True):
        alone = cross_view.describe(features, poses)
        np.testing.assert_array_equal(together.visible, alone.visible)
        np.testing.assert_allclose(together.features, alone.features, atol=1e-4)


@pytest.mark.parametrize("turn", [[np.pi, 0.0, 0.0], [0.0, -np.pi / 2, 0.0]], ids=["upside down", "at the sky"])
def test_cross_view_cameras_that_see_no_ground_see_nothing(cross_view: CrossViewEncoder, image: NDArray[np.uint8], turn: list) -> None:
    mounting = Pose(so3_exp(turn) @ BODY_FROM_OPTICAL, MOUNTING.translation)
    camera = Camera.pinhole(WIDTH, HEIGHT, 160, 160, 160, 1.0)  # upright, all of its image shows the ground
    features = cross_view.encode_frame(Frame(0, image, camera, mounting))
    described = cross_view.describe([features], [Pose.identity()])
    assert not described.visible.any() and not described.features.any()


def test_cross_view_refuses_frames_without_poses_and_features_of_others(cross_view: CrossViewEncoder, image: NDArray[np.uint8]) -> None:
    features = cross_view.encode_frame(video(image, 1)[0])
    with pytest.raises(DataError, match="needs a pose"):
        cross_view.describe([features, features], [Pose.identity()])
    with pytest.raises(DataError, match="needs a pose"):
        cross_view.describe([], [])
    with pytest.raises(DataError, match="encode the frames again"):
        cross_view.describe([dataclasses.replace(features, encoder="other")], [Pose.identity()])
