"""The index of places: each kind against a plain sort, among some, changed, on disk; and bad input in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ros2_loc.config import build
from ros2_loc.core.types import GlobalDescriptor
from ros2_loc.errors import ConfigError, DataError, Ros2LocError
from ros2_loc.retrieval.index import IndexConfig, PlaceIndex
from ros2_loc.retrieval.index_kinds import KINDS, choose_kind
from ros2_loc.retrieval.index_recall import exact_neighbours

COUNT, DIMENSION = 1500, 32


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def places(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Clusters, as places of one street are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(60, DIMENSION))
    return unit(centres[rng.integers(0, 60, count)] + 0.7 * rng.normal(size=(count, DIMENSION)))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return places()


@pytest.fixture(scope="module")
def indices(vectors: np.ndarray) -> dict[str, PlaceIndex]:
    """Never changed by a test."""
    return {kind: made(vectors, kind) for kind in KINDS}


def made(vectors: np.ndarray, kind: str, **settings: Any) -> PlaceIndex:
    return PlaceIndex.build(vectors, IndexConfig(kind=kind, code_bytes=8, **settings), "test")  # type: ignore[arg-type]


def found(index: PlaceIndex, vector: np.ndarray, k: int = 10, among: np.ndarray | None = None) -> list[int]:
    return [c.source for c in index.search(GlobalDescriptor(vector, "test"), k, among)]


def best(vectors: np.ndarray, query: np.ndarray, k: int, among: np.ndarray | None = None) -> list[int]:
    among = np.arange(len(vectors)) if among is None else among
    return among[np.argsort(-(vectors[among] @ query), kind="stable")[:k]].tolist()


def test_finds_the_most_similar_places_in_order(vectors: np.ndarray) -> None:
    result = PlaceIndex.build(vectors).search(GlobalDescriptor(vectors[7], "test"), 5)
    assert [c.source for c in result] == best(vectors, vectors[7], 5)
    assert result[0].score == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_finds_nearly_all_and_says_how_much(kind: str, vectors: np.ndarray, indices: dict[str, PlaceIndex]) -> None:
    index = indices[kind]
    queries = unit(vectors[::30] + 0.1 * np.random.default_rng(1).normal(size=vectors[::30].shape))
    share = np.mean([len(set(found(index, q)) & set(best(vectors, q, 10))) / 10 for q in queries])
    assert share > 0.95 and index.kind == kind and len(index) == COUNT
    assert index.recall_of_flat == 1.0 if kind == "flat" else 0.97 <= index.recall_of_flat <= 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3, 40, 700, COUNT - 1])
def test_searches_among_some_places_only(kind: str, count: int, vectors: np.ndarray, indices: dict[str, PlaceIndex]) -> None:
    among = np.sort(np.random.default_rng(count).choice(COUNT, count, replace=False))
    result = found(indices[kind], vectors[7], 10, among)
    assert len(result) == min(10, count) and set(result) <= set(among.tolist())
    assert result == best(vectors, vectors[7], 10, among)  # exact, half floats too


@pytest.mark.parametrize("kind", KINDS)
def test_many_among_more_are_searched_by_the_index_itself(kind: str, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros2_loc.retrieval.index._AMONG_EXACT", 0)
    index, rng = made(vectors, kind), np.random.default_rng(0)
    for share in (0.5, 0.05):
        among = np.flatnonzero(rng.random(COUNT) < share)
        shares = [len(set(found(index, v, 10, among)) & set(best(vectors, v, 10, among))) / 10 for v in vectors[::75]]
        assert np.mean(shares) > 0.95
        assert all(set(found(index, v, 10, among)) <= set(among.tolist()) for v in vectors[::300])


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_are_gives_all(kind: str, vectors: np.ndarray) -> None:
    index = made(vectors[:300], kind)
    everything = found(index, vectors[3], 5000)
    assert len(everything) <= 300 and len(set(everything)) == len(everything)
    if kind == "flat":
        assert len(everything) == 300
    assert found(index, vectors[3], 7, np.array([5, 2])) == best(vectors, vectors[3], 2, np.array([2, 5]))


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("stored", ["fp32", "fp16", "sq8"])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str, stored: str, memory_map: bool, vectors: np.ndarray, tmp_path: Path) -> None:
    index = made(vectors[:600], kind, stored=stored, effort=16)
    index.save(tmp_path / "index.faiss")
    again = PlaceIndex.load(tmp_path / "index.faiss", memory_map)
    query = GlobalDescriptor(vectors[3], "test")
    assert again.search(query, 9) == index.search(query, 9)
    for name in ("kind", "encoder", "dimension", "effort", "recall_of_flat", "num_bytes"):
        assert getattr(again, name) == getattr(index, name)
    assert index.num_bytes == pytest.approx((tmp_path / "index.faiss").stat().st_size, rel=0.15, abs=8000)


def test_the_file_is_a_faiss_index_too(vectors: np.ndarray, tmp_path: Path) -> None:
    made(vectors, "flat").save(tmp_path / "index.faiss")
    assert faiss.read_index(str(tmp_path / "index.faiss")).ntotal == COUNT


@pytest.mark.parametrize("kind", KINDS)
def test_places_come_and_go_without_building_again(kind: str, vectors: np.ndarray, tmp_path: Path) -> None:
    more = places(50, seed=5)
    index = made(vectors, kind)
    index.remove(np.arange(0, COUNT, 3))
    numbers = index.add(more)
    assert numbers.tolist() == list(range(COUNT, COUNT + 50)) and len(index) == COUNT - 500 + 50
    alive = np.concatenate([np.setdiff1d(np.arange(COUNT), np.arange(0, COUNT, 3)), numbers])
    everything = np.concatenate([vectors, more])

    def check(tested: PlaceIndex) -> None:
        shares = []
        for q in everything[1::97]:
            result = found(tested, q)
            assert set(result) <= set(alive.tolist())
            shares.append(len(set(result) & set(best(everything, q, 10, alive))) / 10)
        assert np.mean(shares) > 0.9
        assert found(tested, vectors[3], 4, np.array([0, 3, 4, 1501])) == best(everything, vectors[3], 2, np.array([4, 1501]))

    check(index)
    index.save(tmp_path / "index.faiss")  # moves what stays together
    check(index)
    again = PlaceIndex.load(tmp_path / "index.faiss")
    check(again)
    assert again.add(more[:2]).tolist() == [COUNT + 50, COUNT + 51]


def test_a_number_is_not_given_again_even_after_saving(vectors: np.ndarray, tmp_path: Path) -> None:
    index = made(vectors[:20], "flat")
    index.remove(np.array([19]))
    index.save(tmp_path / "index.faiss")
    assert PlaceIndex.load(tmp_path / "index.faiss").add(vectors[:1]).tolist() == [20]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["add", "remove", "save"]), min_size=1, max_size=8), st.integers(0, 99))
def test_any_order_of_changes_leaves_what_a_dictionary_would_hold(changes: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = places(30, seed)
    numbers = rng.permutation(1000)[:30]
    index = PlaceIndex.build(start, ids=numbers)
    held = dict(zip(numbers.tolist(), start, strict=True))
    for change in changes:
        if change == "add":
            new = places(4, int(rng.integers(1 << 30)))
            held.update(zip(index.add(new).tolist(), new, strict=True))
        elif change == "remove" and held:
            gone = rng.permutation(list(held))[: rng.integers(1, 6)]
            index.remove(gone)
            held = {k: v for k, v in held.items() if k not in set(gone.tolist())}
        elif change == "save":
            with tempfile.TemporaryDirectory() as folder:
                index.save(Path(folder) / "i")
                index = PlaceIndex.load(Path(folder) / "i")
    query = places(1, seed + 7)[0]
    keys = np.array(list(held), dtype=np.int64)
    expected = keys[np.argsort(-np.array([held[k] @ query for k in keys.tolist()]))] if held else keys
    assert len(index) == len(held) and found(index, query, 5) == expected[:5].tolist()
    assert found(index, query, 3, keys[::2]) == [k for k in expected.tolist() if k in set(keys[::2].tolist())][:3]


def test_own_numbers_in_any_order(vectors: np.ndarray) -> None:
    numbers = np.random.default_rng(0).permutation(10_000)[:100]
    index = PlaceIndex.build(vectors[:100], ids=numbers)
    assert found(index, vectors[42], 1) == [numbers[42]]
    assert found(index, vectors[42], 5, numbers[[3, 8]]) == numbers[best(vectors, vectors[42], 2, np.array([3, 8]))].tolist()


def test_exact_neighbours_leave_a_place_itself_out(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros2_loc.retrieval.index_recall._AT_ONCE", 400)
    sample = np.array([0, 399, 400, COUNT - 1])
    for row, neighbours in zip(sample, exact_neighbours(vectors, sample), strict=True):
        assert neighbours.tolist() == best(vectors, vectors[row], 11)[1:]


def test_a_fixed_effort_is_kept_and_its_recall_told(vectors: np.ndarray) -> None:
    index = made(vectors, "ivf_pq", effort=1, refine=1)
    assert index.effort == 1 and index.recall_of_flat < 0.9


@pytest.mark.parametrize(
    ("count", "dimension", "kind"), [(0, 512, "flat"), (48_000, 512, "flat"), (100_000, 512, "hnsw"), (10_000_000, 512, "ivf_pq")]
)
def test_the_kind_goes_by_size(count: int, dimension: int, kind: str) -> None:
    assert choose_kind(IndexConfig(), count, dimension) == kind


class TestBadInput:
    def refused(self, work: Callable[[], object], match: str, error: type[Ros2LocError] = DataError) -> None:
        with pytest.raises(error, match=match) as caught:
            work()
        assert "\n" not in str(caught.value)

    def test_an_empty_map_finds_nothing(self, tmp_path: Path) -> None:
        index = PlaceIndex.build(np.zeros((0, DIMENSION), np.float32))
        index.save(tmp_path / "index.faiss")
        for empty in (index, PlaceIndex.load(tmp_path / "index.faiss"), PlaceIndex.load(tmp_path / "index.faiss", memory_map=True)):
            assert len(empty) == 0 and found(empty, places(1)[0]) == [] and found(empty, places(1)[0], 3, np.array([0])) == []

    def test_one_image(self, vectors: np.ndarray) -> None:
        assert found(PlaceIndex.build(vectors[:1]), vectors[5], 100) == [0]
        index = made(vectors[:1], "hnsw")
        assert found(index, vectors[5], 100) == [0]
        index.remove(np.array([0]))
        assert found(index, vectors[5]) == []

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_vectors_that_are_none(self, vectors: np.ndarray, value: float) -> None:
        bad = vectors[:9].copy()
        bad[4] = value
        self.refused(lambda: PlaceIndex.build(bad), "place 4")
        self.refused(lambda: PlaceIndex.build(vectors[:9]).add(bad), "place 4")

    def test_shapes(self, vectors: np.ndarray) -> None:
        self.refused(lambda: PlaceIndex.build(np.zeros((0,), np.float32)), "places, numbers")
        self.refused(lambda: PlaceIndex.build(np.zeros((5, 0), np.float32)), "places, numbers")
        self.refused(lambda: PlaceIndex.build(vectors[:9]).add(unit(vectors[:3, :16])), "16 numbers, the index 32")

    def test_descriptors_of_another_encoder_or_size(self, indices: dict[str, PlaceIndex]) -> None:
        self.refused(lambda: indices["flat"].search(GlobalDescriptor(places(1)[0], "netvlad"), 3), "'netvlad'.*'test'")
        short = unit(np.ones((1, 16)))[0]
        self.refused(lambda: indices["hnsw"].search(GlobalDescriptor(short, "test"), 3), "16 numbers.*32")

    def test_no_place_asked_for(self, indices: dict[str, PlaceIndex]) -> None:
        self.refused(lambda: found(indices["flat"], places(1)[0], 0), "ask for one", ConfigError)

    def test_numbers(self, vectors: np.ndarray) -> None:
        self.refused(lambda: PlaceIndex.build(vectors[:3], ids=np.array([1, 2, 1])), "place 1 is named twice")
        self.refused(lambda: PlaceIndex.build(vectors[:3], ids=np.array([1, 2])), "3 numbers")
        index = PlaceIndex.build(vectors[:3])
        self.refused(lambda: index.add(vectors[:1], ids=np.array([2])), "place 2 is in the index")
        self.refused(lambda: index.remove(np.array([1, 9])), "place 9 is not")
        index.remove(np.array([1]))
        self.refused(lambda: index.remove(np.array([1])), "place 1 is not")
        assert found(index, vectors[0], 5, np.array([1, 77, -4, 2])) == [2]  # unknown places are not found, that is all

    def test_a_mapped_index_is_read_only(self, vectors: np.ndarray, tmp_path: Path) -> None:
        made(vectors, "hnsw").save(tmp_path / "i")
        index = PlaceIndex.load(tmp_path / "i", memory_map=True)
        self.refused(lambda: index.add(vectors[:1]), "memory_map")
        self.refused(lambda: index.remove(np.array([1])), "memory_map")

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
    @pytest.mark.parametrize("memory_map", [False, True])
    def test_a_damaged_file_is_named(self, keep: float, memory_map: bool, vectors: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / "index.faiss"
        made(vectors, "flat").save(path)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        self.refused(lambda: PlaceIndex.load(path, memory_map), "index.faiss")
        self.refused(lambda: PlaceIndex.load(tmp_path / "none"), "no such file")

    def test_a_file_damaged_in_the_middle(self, vectors: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / "index.faiss"
        made(vectors, "flat").save(path)
        whole = path.read_bytes()
        path.write_bytes(b"????" + whole[4:])
        self.refused(lambda: PlaceIndex.load(path), "index.faiss.*again")
        path.write_bytes(whole.replace(b'"dimension": 32', b'"dimension": 31'))
        self.refused(lambda: PlaceIndex.load(path), "index.faiss.*again")
        path.write_bytes(whole.replace(b'"encoder"', b'"decoder"'))
        self.refused(lambda: PlaceIndex.load(path), "description is damaged")

    def test_configuration(self, vectors: np.ndarray) -> None:
        self.refused(lambda: made(vectors[:100], "ivf_pq"), "needs 256 places", ConfigError)
        self.refused(lambda: build(IndexConfig, {"kind": "lsh"}, "here"), "here", ConfigError)
        self.refused(lambda: build(IndexConfig, {"links": 0}, "here"), "links", ConfigError)
        self.refused(lambda: build(IndexConfig, {"target_recall": 1.5}, "here"), "target_recall", ConfigError)


class FakeGpu:
    """faiss-gpu as far as it is used, on the processor: selectors are unknown there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searches = 0
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "GpuClonerOptions", type("Options", (), {}), raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda resources, card, index, options: FakeCopy(self, index), raising=False)


class FakeCopy:
    def __init__(self, gpu: FakeGpu, index: Any) -> None:
        self.gpu, self.index = gpu, index

    def search(self, queries: np.ndarray, k: int, params: Any = None) -> Any:
        assert k <= 2048 and (params is None or params.sel is None)
        self.gpu.searches += 1
        return self.index.search(queries, k, params=params)


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_is_used_where_it_can_be_and_changes_no_answer(kind: str, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    index = made(vectors[:600], kind, effort=8)
    expected = [found(index, v) for v in vectors[::300]]
    gpu = FakeGpu(monkeypatch)
    index = made(vectors[:600], kind, effort=8)
    assert [found(index, v) for v in vectors[::300]] == expected
    assert gpu.searches == (0 if kind == "hnsw" else len(expected))
    found(index, vectors[0], 5, np.arange(9))
    index.remove(np.array([5]))
    assert 5 not in found(index, vectors[5]) and gpu.searches == (0 if kind == "hnsw" else len(expected))
