"""LightGlue by kornia: strict loading, batches, refusals. Without training: what is tested does not depend on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
pytest.importorskip("kornia", reason="kornia is not installed: pip install '.[torch]'")

from ros2_loc.core.types import LocalFeatures  # noqa: E402
from ros2_loc.errors import ConfigError, DataError  # noqa: E402
from ros2_loc.perception.matchers.lightglue import SETTINGS, LightGlue, Network, renamed  # noqa: E402


def features_of(count: int, seed: int, extractor: str = "xfeat", dimension: int = 64) -> LocalFeatures:
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(count, dimension)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    ones = np.ones(count, np.float32)
    return LocalFeatures(rng.uniform(0, (320, 240), (count, 2)).astype(np.float32), descriptors, ones, ones, extractor, (320, 240))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the smallest setting, named as its authors name it."""
    torch.manual_seed(0)
    state = Network(None, flash=False, **SETTINGS["xfeat"]).state_dict()
    del state["confidence_thresholds"]
    theirs = {}
    for key, value in state.items():
        words = key.split(".")
        if words[0] == "transformers":
            words = [words[2], words[1], *words[3:]]
        theirs[".".join(["matcher", *words])] = value
    path = tmp_path_factory.mktemp("weights") / "lightglue.pth"
    torch.save(theirs, path)
    return str(path)


def matcher(weights: str, **settings: object) -> LightGlue:
    return LightGlue(LightGlue.Config(features="xfeat", weights=weights, min_score=0.0, **settings))  # type: ignore[arg-type]


def test_names_are_those_of_kornia() -> None:
    assert set(SETTINGS) <= set(Network.features) | {"xfeat"}
    state = {"matcher.self_attn.3.Wqkv.bias": 0, "cross_attn.0.to_v.weight": 1, "posenc.Wr.weight": 2, "self_attn.9.x": 3}
    assert renamed(state, 9) == {  # type: ignore[arg-type]
        "transformers.3.self_attn.Wqkv.bias": 0,
        "transformers.0.cross_attn.to_v.weight": 1,
        "posenc.Wr.weight": 2,
        "self_attn.9.x": 3,
    }


@pytest.mark.parametrize("adaptive", [True, False])
def test_many_references_give_what_each_gives(weights: str, adaptive: bool) -> None:
    one = matcher(weights, adaptive=adaptive, batch_size=2)
    query = features_of(30, 0)
    references = [features_of(count, seed + 1) for seed, count in enumerate((30, 12, 0, 30, 30))]
    together = one.match_many(query, references)
    assert sum(len(matches) for matches in together) > 0
    for many, reference in zip(together, references, strict=True):
        alone = one.match(query, reference)
        np.testing.assert_array_equal(many.indices, alone.indices)
        np.testing.assert_allclose(many.scores, alone.scores, atol=1e-5)
        for column in many.indices.T:
            assert len(np.unique(column)) == len(column)
    assert len(one.match(features_of(0, 0), query)) == 0 and one.match_many(query, []) == []


def test_equals_kornias_network(weights: str) -> None:
    one, a, b = matcher(weights, adaptive=False), features_of(20, 0), features_of(25, 1)
    network = one._network
    size = torch.tensor([[320.0, 240.0]])

    def side(f: LocalFeatures) -> dict[str, torch.Tensor]:
        keypoints = torch.from_numpy(np.clip(f.keypoints - 0.5, 0, f.size))[None]
        return {"keypoints": keypoints, "descriptors": torch.from_numpy(f.descriptors)[None], "image_size": size}

    with torch.inference_mode():
        expected = network({"image0": side(a), "image1": side(b)})
    np.testing.assert_array_equal(one.match(a, b).indices, expected["matches"][0])


def test_keypoints_at_the_edge_of_the_image_are_taken(weights: str) -> None:
    edge = features_of(4, 0)
    keypoints = np.array([[0, 0], [319.9, 0.1], [0.2, 239.9], [319.9, 239.9]], np.float32)
    edge = LocalFeatures(keypoints, edge.descriptors, edge.scores, edge.scales, "xfeat", edge.size)
    matcher(weights).match(edge, edge)


def test_features_that_the_weights_do_not_know_are_refused(weights: str) -> None:
    one, known = matcher(weights), features_of(5, 0)
    with pytest.raises(ConfigError, match=r"64-d descriptors of xfeat, got 128-d ones of sift: set features and weights"):
        one.match(known, features_of(5, 1, "sift", 128))
    with pytest.raises(ConfigError, match="got 32-d ones of xfeat"):
        one.match(features_of(5, 1, "xfeat", 32), known)
    with pytest.raises(ConfigError, match="min_score is in"):
        LightGlue.Config(min_score=1.0)


def test_weights_load_in_full_or_not_at_all(weights: str, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    state.pop("matcher.posenc.Wr.weight")
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(DataError, match=r"posenc\.Wr\.weight missing"):
        matcher(str(tmp_path / "short.pth"))
    with pytest.raises(DataError, match="weights of another network"):
        LightGlue(LightGlue.Config(features="superpoint", weights=weights))
