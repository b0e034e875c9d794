"""Re-rankers learn from the points that places have in common: labels, curriculum, batches, losses, validation, whole trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture

from ros2_loc.cli.main import main
from ros2_loc.core.pose import Pose
from ros2_loc.core.types import LocalFeatures
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.images import write_image
from ros2_loc.mapping.sparse_map import Place, SparseMap
from ros2_loc.models.cvnet import CvNet
from ros2_loc.models.rrt import Described, Rrt
from ros2_loc.models.weights import load_model, read_metadata
from ros2_loc.retrieval.rerankers.rrt import RerankingTransformer
from ros2_loc.training import covisibility, train_rerankers
from ros2_loc.training.covisibility import Covisibility, LabelledPlaces, common_points, labelled, labels, split
from ros2_loc.training.loop import TrainingLoop
from ros2_loc.training.place_classes import PlaceClasses
from ros2_loc.training.place_objective import CosPlaceObjective
from ros2_loc.training.place_recipes import CosPlaceRecipe, CvnetRerankRecipe, RrtRecipe
from ros2_loc.training.recipes import load_recipe_of
from ros2_loc.training.reranker_batches import Curriculum, FeaturePairBatches, ImageTripletBatches, Triplets, described, hardest, hidden
from ros2_loc.training.reranker_objectives import CvnetObjective, RrtObjective
from ros2_loc.training.reranker_validation import RerankValidation, auc, candidates_of
from ros2_loc.training.rrt_start import listen_to_likes
from ros2_loc.training.train_rerankers import MapImages, start, train_reranker

LOOP = TrainingLoop.Config(epochs=2, steps_per_epoch=2, learning_rate=1e-3, workers=0, monitor="auc")
VALIDATION = RerankValidation.Config(queries=4, candidates=5)
RRT = RrtRecipe(
    network=Rrt.Config(global_dimension=0, local_dimension=8, dimension=8, num_heads=2, num_layers=1, hidden=16),
    samples=FeaturePairBatches.Config(batch_size=3, max_features=12),
    validation=VALIDATION,
    loop=LOOP,
)
CVNET = CvnetRerankRecipe(
    network=CvNet.Config(50, dimension=4, channels=4, width=4),
    samples=ImageTripletBatches.Config(batch_size=1, image_px=(48, 64)),
    validation=VALIDATION,
    loop=replace(LOOP, epochs=1, steps_per_epoch=1),
    train_trunk=True,
)


def _features(words: np.ndarray, rng: np.random.Generator) -> LocalFeatures:
    n = len(words)
    descriptors = np.eye(8, dtype=np.float32)[words] + rng.normal(0, 0.1, (n, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    keypoints, scales = np.full((n, 2), 5.0, np.float32), np.full(n, 16.0, np.float32)
    return LocalFeatures(keypoints, descriptors, np.ones(n, np.float32), scales, "test", (64, 48))


def _places(count: int = 12, seed: int = 0) -> LabelledPlaces:
    """Four streets whose features are of two words each; places of a street are the same one."""
    rng = np.random.default_rng(seed)
    street = np.arange(count) % 4
    features = tuple(_features(2 * k + rng.integers(0, 2, 10), rng) for k in street)
    vectors = np.eye(4, dtype=np.float32)[street] + rng.normal(0, 0.4, (count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    same = (street[:, None] == street[None]) & ~np.eye(count, dtype=bool)
    return LabelledPlaces(tuple(f"{k}.png" for k in range(count)), features, features, vectors, same, street[:, None] != street[None])


def _load(name: str) -> np.ndarray:
    return picture(int(name.removesuffix(".png")), 64, 48)


def _map_places(seen: list[list[int]], east_m: list[float]) -> list[Place]:
    places = []
    for k, (points, east) in enumerate(zip(seen, east_m, strict=True)):
        features = _features(np.zeros(len(points), int), np.random.default_rng(k))
        there = Pose(np.eye(3), np.array([east, 0.0, 0.0]))
        places.append(Place(str(k), k, Pose.identity(), there, features, np.array(points, np.int64)))
    return places


def test_labels_come_from_common_points_and_distance() -> None:
    places = _map_places([[0, 1, 2, 3], [2, 3, 4, 4], [0, 1, 2, 3], [9, 8], [3, 9], []], [0, 5, 1, 100, 100, 3])
    shared = common_points(places)
    assert shared[0].tolist() == [4, 2, 4, 0, 1, 0] and shared.diagonal().tolist() == [4, 3, 4, 2, 2, 0], "a point counts once"
    same, other = labels(places, Covisibility(min_shared=2, max_share=0.7, far_m=25.0))
    assert same[0].tolist() == [False, True, False, False, False, False], "all in common teaches nothing"
    assert other[0].tolist() == [False, False, False, True, False, False], "one in common, or near: not clear"
    assert (same == same.T).all() and (other == other.T).all() and not (same & other).any()


@given(st.integers(0, 1000), st.integers(0, 30))
def test_what_is_drawn_is_what_it_is_said_to_be(seed: int, number: int) -> None:
    places = _places(seed=seed)
    triplets = Triplets([places, _places(8, seed + 1)], Curriculum(hard=(0.0, 1.0), pool=2))
    rng = np.random.default_rng(number)
    maps = [places, _places(8, seed + 1)]
    for which, query, same, other in triplets.draw(8, 0.5, rng):
        assert maps[which].same[query, same] and maps[which].other[query, other]
    hard = [(which, query, other) for which, query, _, other in triplets.draw(20, 1.0, rng)]
    assert all(other in hardest(maps[which], 2)[query] for which, query, other in hard), "in the end only the most similar ones"


def test_the_curriculum_grows_in_a_straight_line() -> None:
    curriculum = Curriculum(hard=(0.2, 0.8), plant=(0.6, 0.0), hide=(0.0, 0.5))
    assert [curriculum.rates(way) for way in (-1, 0, 0.5, 1, 2)] == [
        pytest.approx(rates) for rates in ((0.2, 0.6, 0.0), (0.2, 0.6, 0.0), (0.5, 0.3, 0.25), (0.8, 0.0, 0.5), (0.8, 0.0, 0.5))
    ]
    places = _places(40)
    similarity = np.where(places.other, places.vectors @ places.vectors.T, -np.inf)
    triplets = Triplets([places], Curriculum(hard=(0.0, 1.0), pool=3))
    means = [np.mean([similarity[q, o] for _, q, _, o in triplets.draw(200, way, np.random.default_rng(0))]) for way in (0.0, 0.5, 1.0)]
    assert means[0] < means[1] < means[2]
    with pytest.raises(ConfigError):
        Curriculum(hard=(0.0, 1.5))


def test_hidden_parts_are_whole_cells_of_the_mean_colour() -> None:
    image = torch.from_numpy(picture(1, 64, 48).transpose(2, 0, 1).copy())
    away = (hidden(image, 4, 0.5, np.random.default_rng(3)) != image).any(dim=0).unflatten(0, (4, 12)).unflatten(2, (4, 16))
    share = away.float().mean(dim=(1, 3))
    assert ((share < 0.02) | (share > 0.9)).all() and 0.2 < float((share > 0.5).float().mean()) < 0.8
    assert torch.equal(hidden(image, 4, 0.0, np.random.default_rng(0)), image)
    assert len(torch.unique(hidden(image, 4, 1.0, np.random.default_rng(0)).flatten(1), dim=1).T) == 1


def test_batches_are_by_number_and_as_the_networks_take_them() -> None:
    batches = FeaturePairBatches(RRT.samples, [_places()], Curriculum(), 16.0, True, 10)
    batch, again = batches.batch(3), batches.batch(3)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["label"].tolist() == [1, 1, 1, 0, 0, 0]
    assert batch["query_descriptors"].shape == (6, 10, 8) and batch["place_vector"].shape == (6, 4)
    assert torch.equal(batch["query_descriptors"][:3], batch["query_descriptors"][3:]) and bool(batch["query_valid"].all())
    assert (batch["place_scales"] == 2).all()
    images = ImageTripletBatches(CVNET.samples, [_places()], [_load], Curriculum(hide=(0.0, 1.0)), 10)
    assert {name: value.shape for name, value in images.batch(0).items()} == dict.fromkeys(("query", "same", "other"), (1, 3, 48, 64))
    own = ImageTripletBatches(CVNET.samples, [_places()], [_load], Curriculum(plant=(1.0, 0.0), hide=(0.0, 0.0)), 10)
    assert [bool(torch.equal(own.batch(n)["query"], own.batch(n)["same"])) for n in (0, 10)] == [True, False]
    flat = [int((images.batch(n)["query"][0].float().std(dim=0) == 0).sum()) for n in (0, 9)]
    assert flat[0] <= flat[1]


def test_planted_features_are_the_querys_in_places_that_are_the_same() -> None:
    curriculum = Curriculum(plant=(1.0, 0.0))
    batches = FeaturePairBatches(RRT.samples, [_places()], curriculum, 16.0, False, 10)
    first, last = batches.batch(0), batches.batch(9)
    apart = (first["query_descriptors"] - first["place_descriptors"]).norm(dim=2)
    assert float(apart[:3].mean()) < 0.2 and float(apart[3:].mean()) > 0.5
    assert float((last["query_descriptors"] - last["place_descriptors"]).norm(dim=2)[:3].mean()) > 0.4


def test_a_random_transformer_begins_by_listening_to_what_looks_alike_in_the_other_image() -> None:
    torch.manual_seed(0)
    network = Rrt(replace(RRT.network, local_dimension=32, dimension=16, num_heads=1, num_layers=2))
    rng = np.random.default_rng(0)
    words = np.abs(rng.normal(size=(40, 32))).astype(np.float32)
    features = [replace(_features(np.zeros(20, int), rng), descriptors=words[20 * k : 20 * k + 20]) for k in (0, 1)]
    listen_to_likes(network, features, 20)
    image = network.reduced(described(features[:1], None, 16.0, 20))
    tokens, _ = network.sequence(image, image)
    layer = network.layers[0]
    key = layer.key_value(tokens).chunk(2, dim=-1)[0]
    heard = (layer.query(tokens) @ key.transpose(1, 2) / 4.0).softmax(dim=-1)[0]
    other = heard[1:21, 22:42]
    right = (other.argmax(dim=1) == torch.arange(20)).float().mean()
    assert float(right) > 0.7 and float(other.detach().sum(dim=1).mean()) > 0.5, (right, heard)


def test_the_losses_are_those_of_the_papers() -> None:
    torch.manual_seed(0)
    network = Rrt(RRT.network)
    batch = FeaturePairBatches(RRT.samples, [_places()], Curriculum(), 16.0, False, 10).batch(0)
    query, place = (Described(*(batch[f"{side}_{name}"] for name in Described._fields)) for side in ("query", "place"))
    p = torch.sigmoid(network(query, place))
    wanted = -(torch.log(p[:3]).sum() + torch.log(1 - p[3:]).sum()) / 6
    assert float(RrtObjective(network)(batch)["loss"].detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    cvnet = CvNet(CVNET.network).eval()
    images = ImageTripletBatches(replace(CVNET.samples, batch_size=2), [_places()], [_load], Curriculum(), 10).batch(1)
    objective = CvnetObjective(cvnet, True).eval()
    from ros2_loc.models.pycls_resnet import normalized

    q, p_, n = (cvnet.features(normalized(images[name].float() / 255)) for name in ("query", "same", "other"))
    orders = (((q, p_), 1), ((p_, q), 1), ((q, n), 0), ((n, q), 0))
    terms = [-torch.log_softmax(cvnet.rerank_logits(*pair), 1)[:, right].mean() for pair, right in orders]
    assert float(objective(images)["loss"].detach()) == pytest.approx(float((sum(terms) / 4).detach()), rel=1e-4)


def test_a_frozen_trunk_stays_as_it_is() -> None:
    batch = ImageTripletBatches(CVNET.samples, [_places()], [_load], Curriculum(), 10).batch(0)
    for trains in (False, True):
        network = CvNet(CVNET.network)
        objective = CvnetObjective(network, trains).train()
        before = {name: value.clone() for name, value in network.trunk.state_dict().items()}
        objective(batch)["loss"].backward()
        assert all(p.grad is not None for p in network.compress.parameters()) and network.verifier.mlp[0].weight.grad is not None
        learned = {name for name, p in network.trunk.named_parameters() if p.grad is not None}
        assert bool(learned) is trains and not any(name.startswith(("s4", "fc", "pool")) for name in learned)
        same = {name: bool(torch.equal(value, before[name])) for name, value in network.trunk.state_dict().items()}
        assert all(same[name] for name in same if name.startswith("s4") or not trains)


def test_validation_knows_good_from_bad() -> None:
    assert auc(np.array([3.0, 2.0, 1.0]), np.array([True, False, False])) == 1.0
    assert auc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert auc(np.array([1.0, 3.0, 2.0]), np.array([True, False, True])) == 0.0
    places = _places(24)
    validation = RerankValidation(RerankValidation.Config(10, 8), [places])
    perfect = validation(lambda where, query, rows: where.same[query, rows].astype(np.float32))
    worst = validation(lambda where, query, rows: -where.same[query, rows].astype(np.float32))
    assert (perfect["auc"], perfect["recall_at_1"]) == (1.0, 1.0) and (worst["auc"], worst["recall_at_1"]) == (0.0, 0.0)
    assert 0.5 < perfect["auc_before"] < 1.0 and len(validation) == 8
    for query in range(24):
        rows = candidates_of(places, query, 3)
        assert len(rows) == 3 and query not in rows and places.same[query, rows].any()
    nothing = replace_labels(places, np.zeros((24, 24), bool))
    with pytest.raises(DataError, match="right and wrong"):
        RerankValidation(VALIDATION, [nothing])
    with pytest.raises(DataError, match="another view"):
        Triplets([nothing], Curriculum())


def replace_labels(places: LabelledPlaces, same: np.ndarray) -> LabelledPlaces:
    return LabelledPlaces(places.names, places.mapped, places.found, places.vectors, same, places.other)


@pytest.fixture
def fake_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps need no files."""
    monkeypatch.setattr(train_rerankers, "labelled", lambda folder, config: _places(12, seed=9))
    monkeypatch.setattr(train_rerankers, "split", lambda folder, config, share: (_places(20), _places(12, seed=5)))


def test_rrt_learns_which_features_belong_together(fake_maps: None, tmp_path: Path) -> None:
    recipe = replace(RRT, samples=FeaturePairBatches.Config(16, 12), loop=replace(LOOP, steps_per_epoch=60, learning_rate=5e-3))
    trained = train_reranker(recipe, [MapImages(tmp_path)], tmp_path / "out", device="cpu", source_name="streets")
    about, epochs = read_metadata(trained.weights), json.loads((tmp_path / "out" / "history.json").read_text())["epochs"]
    assert epochs[-1]["train/loss"] < epochs[0]["train/loss"] and trained.best > 0.8, epochs
    assert about["data"] == "streets" and about["validation"]["auc"] == trained.best and trained.weights.name == "rrt.safetensors"
    reranker = RerankingTransformer(RerankingTransformer.Config(weights=str(trained.weights)))
    places = _places(12, seed=7)
    query, *others = reranker.describe_many(None, list(places.found))
    scores = reranker.score(query, [], others).scores
    assert auc(scores, places.same[0, 1:]) > 0.8, "it works in the re-ranker that users name"


@pytest.mark.slow
def test_cvnet_trains_on_images_and_goes_on(fake_maps: None, tmp_path: Path) -> None:
    for k in range(20):
        write_image(tmp_path / "images" / f"{k}.png", picture(k % 4, 64, 48))
    maps = [MapImages(tmp_path, tmp_path / "images")]
    trained = train_reranker(CVNET, maps, tmp_path / "out", device="cpu")
    assert isinstance(load_model(trained.weights), CvNet) and 0.0 <= trained.best <= 1.0
    with pytest.raises(ConfigError, match="go on with --resume"):
        train_reranker(CVNET, maps, tmp_path / "out", device="cpu")
    with pytest.raises(ConfigError, match="looks at images"):
        train_reranker(CVNET, [MapImages(tmp_path)], tmp_path / "other", device="cpu")
    with pytest.raises(ConfigError, match="frozen and has no weights"):
        start(replace(CVNET, train_trunk=False))
    begun = start(replace(CVNET, begin_with=str(trained.weights), train_trunk=False))
    assert torch.equal(begun.state_dict()["compress.0.weight"], load_model(trained.weights).state_dict()["compress.0.weight"])


def test_what_does_not_fit_is_said(fake_maps: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = replace(RRT, network=replace(RRT.network, local_dimension=16))
    with pytest.raises(ConfigError, match="set network.local_dimension=8"):
        train_reranker(wide, [MapImages(tmp_path)], tmp_path / "out", device="cpu")
    with pytest.raises(ConfigError, match=r"network.global_dimension=4, or 0"):
        other = replace(RRT, network=replace(RRT.network, global_dimension=7))
        train_reranker(other, [MapImages(tmp_path)], tmp_path / "out", device="cpu")
    assert main(["train", "rrt", "--data", "folder", "x", "--out", str(tmp_path / "a")]) != 0
    assert main(["train", "cvnet-rerank", "--data", "map", "x", "y", "--images", "z", "--out", str(tmp_path / "a")]) != 0
    said = capsys.readouterr().err
    assert "give map and the folders of maps" in said and "1 recordings for 2 maps" in said and "Traceback" not in said


def test_shipped_recipes_are_whole() -> None:
    paper = load_recipe_of(CosPlaceRecipe, "paper", ["trunk=resnet50.pth"])
    assert (paper.classes, paper.losses) == (PlaceClasses.Config(), CosPlaceObjective.Config()), "the defaults are those of the paper"
    assert paper.loop.learning_rate * paper.losses.classifier_rate == pytest.approx(0.01)
    with pytest.raises(ConfigError, match="give --trunk FILE"):
        load_recipe_of(CosPlaceRecipe, "paper")
    assert load_recipe_of(CosPlaceRecipe, "small").whiten_by and load_recipe_of(RrtRecipe, "small").listen_to_likes
    assert not load_recipe_of(CvnetRerankRecipe, "small").train_trunk


@pytest.mark.slow
def test_labels_of_a_real_map(town_map: SparseMap, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Covisibility(min_shared=10, max_share=1.0, far_m=5.0)
    same, _ = labels(town_map.places, config)
    assert same.any(axis=1).all() and (same == same.T).all()
    with pytest.raises(DataError, match=r"map a longer drive, or lower covisibility.min_shared"):
        labelled(town_map.folder, config)  # one street: no place is another one
    others = np.abs(np.subtract.outer(np.arange(len(same)), np.arange(len(same)))) > 5
    monkeypatch.setattr(covisibility, "labels", lambda places, config: (~others & ~np.eye(len(others), dtype=bool), others))
    places = labelled(town_map.folder, config)
    assert len(places) == len(town_map.places) and len(places.found[0]) > len(places.mapped[0])
    np.testing.assert_allclose(np.linalg.norm(places.vectors, axis=1), 1.0, atol=1e-3)
    with pytest.raises(DataError, match="too short to hold"):
        split(town_map.folder, config, 0.2)
