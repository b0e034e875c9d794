"""The index of places on synthetic descriptors: time to build, recall of the exact answer, time of a query, memory, size on disk.

    python benchmark/place_index.py --folder /tmp/places       # 100,000, 300,000 and 1,000,000 places of 512 numbers: an hour or two
    python benchmark/place_index.py --folder /tmp/places --sizes 100000 --variants flat ivf_pq

Places lie along routes of 250 in zones of 4 routes: a random walk in a space of 64 numbers whose spread falls as i ** -1/4, drawn
towards its zone, carried into the descriptor's space by one random matrix, plus noise of its own in all directions. So neighbours on
a route are alike, zones differ, and the dimension is far below the descriptor's (printed: by the spectrum, and by the nearest neighbours).
A query is a place seen again: its latent numbers moved, fresh noise. "cpu" is the processor's time of the same queries, which other
work on the machine lengthens less. Smaller sizes are the first rows of the largest. Recall counts the ten
places that 32-bit exact search finds for a query.

Every variant is built and measured in a process of its own, whose memory is its own; "mapped" leaves the file on disk. What is done lies
in the folder and is not done again.

The plan to 100 million places, printed last, scales what was measured by what it grows with. Compressed lists, 4 sqrt(P) of them: a place
takes its code, its number in the list and its number in the map in memory, and its vector, which only the last ordering reads, on disk
(`PlaceIndex.load(path, memory_map=True)`). Centres are learned from 64 places each, which costs as P, and every place is compared with all
centres, which costs as P ** 1.5: the largest size that was built is scaled by both, the truth lies between. A query compares all centres
and visits the lists that reach the recall; each holds sqrt(P) / 4 places.
While it is built an index lies in memory whole: beyond what that holds, build parts (one a city, say) and search those near the belief.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ros2_loc.cli.console import table
from ros2_loc.core.types import GlobalDescriptor
from ros2_loc.io.files import atomic_path
from ros2_loc.retrieval.index import IndexConfig, PlaceIndex
from ros2_loc.retrieval.index_recall import recall

LATENT, ROUTE, ROUTES_OF_ZONE = 64, 250, 4
STEP = 0.45  # of the random walk between neighbours, relative to the spread on a route
OWN_NOISE = 0.45  # length of the noise in all directions, relative to the rest
QUERY_MOVE = 0.5  # of the latent numbers, relative to the spread on a route
QUERIES = 1000
VARIANTS: dict[str, dict[str, Any]] = {
    "flat": {"kind": "flat"},
    "hnsw": {"kind": "hnsw"},
    "ivf_pq": {"kind": "ivf_pq"},
    "ivf_pq_sq8": {"kind": "ivf_pq", "stored": "sq8"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="data, indices and results are kept there")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 300_000, 1_000_000], metavar="P")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--apart", type=float, default=1.5, help="spread of zones, relative to that on a route; less is harder")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of a query")
    parser.add_argument("--build-threads", type=int, default=2)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)  # what a child process does
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        do_one(folder, arguments.one)
        return 0
    make_data(folder, max(arguments.sizes), arguments.dimension, arguments.apart)
    rows = []
    for size in sorted(arguments.sizes):
        for variant in arguments.variants:
            child(folder, arguments.build_threads, "build", variant, size)
            for mapped in (False, True):
                for threads in arguments.threads:
                    child(folder, threads, "measure", variant, size, int(mapped), threads)
                rows.append(row_of(folder, variant, size, mapped, arguments.threads))
                print(" | ".join(rows[-1]), flush=True)
    heads = [f"query ms, {t} thread{'s' * (t > 1)}: p50 p95 (cpu)" for t in arguments.threads]
    print(table(rows, ["places", "index", "build s", "recall@10", "effort", *heads, "resident MB", "file MB"]))
    for variant in set(arguments.variants) & {"ivf_pq", "ivf_pq_sq8"}:
        print(f"\n{variant}, scaled\n{plan(folder, variant, arguments.sizes, arguments.dimension)}")
    return 0


def make_data(folder: Path, count: int, dimension: int, apart: float) -> None:
    """`vectors.npy` (P, D), `queries.npy` (Q, D), and how they lie."""
    if (folder / "queries.npy").exists():
        return
    rng = np.random.default_rng(0)
    spread = np.arange(1, LATENT + 1) ** -0.25
    carry = rng.normal(size=(LATENT, dimension)).astype(np.float32)
    with atomic_path(folder / "vectors.npy") as path:
        vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, dimension))
        latents = np.empty((count, LATENT), dtype=np.float32)
        for start in tqdm(range(0, count, ROUTE * ROUTES_OF_ZONE), desc=" places"):
            part = slice(start, min(count, start + ROUTE * ROUTES_OF_ZONE))
            latents[part] = zone(rng, spread, apart)[: part.stop - start]
            vectors[part] = seen(latents[part], carry, rng)
        vectors.flush()
    chosen = np.sort(rng.choice(min(count, 100_000), QUERIES, replace=False))
    moved = latents[chosen] + QUERY_MOVE * spread * rng.normal(size=(QUERIES, LATENT))
    queries = seen(moved.astype(np.float32), carry, rng)
    print(how_they_lie(np.load(folder / "vectors.npy", mmap_mode="r"), queries, chosen), flush=True)
    np.save(folder / "queries.npy", queries)


def zone(rng: np.random.Generator, spread: NDArray, apart: float) -> NDArray[np.float32]:
    """(ROUTES_OF_ZONE * ROUTE, LATENT): around a centre, walks that are drawn back to it."""
    centre = apart * spread * rng.normal(size=LATENT)
    here = spread * rng.normal(size=(ROUTES_OF_ZONE, LATENT))
    walk = np.empty((ROUTE, ROUTES_OF_ZONE, LATENT))
    for step in range(ROUTE):
        here = np.sqrt(1 - STEP**2) * here + STEP * spread * rng.normal(size=here.shape)
        walk[step] = here
    return (centre + walk.swapaxes(0, 1).reshape(-1, LATENT)).astype(np.float32)


def seen(latents: NDArray[np.float32], carry: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """(P, D) unit vectors."""
    clean = latents @ carry
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    noise *= OWN_NOISE * np.linalg.norm(clean, axis=1, keepdims=True) / np.sqrt(clean.shape[1])
    clean += noise
    return clean / np.linalg.norm(clean, axis=1, keepdims=True)


def how_they_lie(vectors: NDArray[np.float32], queries: NDArray[np.float32], own: NDArray[np.int64]) -> str:
    some = np.array(vectors[:: max(1, len(vectors) // 20_000)][:20_000])
    energy = np.linalg.eigvalsh(np.cov(some.T))
    near = np.sort(1.0 - queries[:300] @ some.T, axis=1)[:, :20]
    distance = np.sqrt(np.maximum(2 * near, 1e-9))
    by_neighbours = 1.0 / np.mean(np.log(distance[:, -1:] / distance[:, :-1]))
    pairs = np.einsum("pd,pd->p", vectors[:9_999], vectors[1:10_000])
    return (
        f"dimension {energy.sum() ** 2 / np.square(energy).sum():.0f} by the spectrum, {by_neighbours:.0f} by 20 nearest neighbours; "
        f"cosines (medians): query and its place {np.median(np.einsum('qd,qd->q', queries, vectors[own])):.3f}, neighbours on a route "
        f"{np.median(pairs):.3f}, strangers {np.median(queries[:300] @ some[::40].T):.3f}"
    )


def child(folder: Path, threads: int, *words: object) -> None:
    """Run `do_one` in a process with so many threads, unless its result lies there."""
    if (folder / ("-".join(map(str, words)) + ".json")).exists():
        return
    command = [sys.executable, __file__, "--folder", str(folder), "--one", *map(str, words)]
    subprocess.run(["env", f"OMP_NUM_THREADS={threads}", f"OPENBLAS_NUM_THREADS={threads}", *command], check=True)


def do_one(folder: Path, words: list[str]) -> None:
    if words[0] == "build":
        result = build_one(folder, words[1], int(words[2]))
    else:
        result = measure_one(folder, words[1], int(words[2]), bool(int(words[3])))
    with atomic_path(folder / ("-".join(words) + ".json")) as path:
        path.write_text(json.dumps(result))


def build_one(folder: Path, variant: str, size: int) -> dict[str, Any]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:size]
    truth = folder / f"truth-{size}.npy"
    if not truth.exists():
        np.save(truth, exact(np.load(folder / "queries.npy"), vectors))
    start, cpu = time.perf_counter(), time.process_time()
    index = PlaceIndex.build(vectors, IndexConfig(**VARIANTS[variant]), "synthetic", show_progress=True)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    path = folder / f"{variant}-{size}.faiss"
    with atomic_path(path) as draft:
        index.save(draft)
    return {
        "build_s": seconds,
        "build_cpu_s": cpu_seconds,
        "own_recall": index.recall_of_flat,
        "effort": index.effort,
        "bytes": index.num_bytes,
        "file": path.stat().st_size,
    }


def exact(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """(Q, 10) rows."""
    scores, rows = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), 50_000):
        here = queries @ vectors[start : start + 50_000].T
        top = np.argpartition(-here, 10, axis=1)[:, :10]
        scores = np.concatenate([scores, np.take_along_axis(here, top, axis=1)], axis=1)
        rows = np.concatenate([rows, top + start], axis=1)
        order = np.argsort(-scores, axis=1)[:, :10]
        scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return rows


def measure_one(folder: Path, variant: str, size: int, mapped: bool) -> dict[str, Any]:
    before = memory_mb()
    start = time.perf_counter()
    index = PlaceIndex.load(folder / f"{variant}-{size}.faiss", mapped)
    load_s = time.perf_counter() - start
    loaded = memory_mb()
    queries = [GlobalDescriptor(q, "synthetic") for q in np.load(folder / "queries.npy")]
    truth = np.load(folder / f"truth-{size}.npy")
    queries, truth = (queries[:100], truth[:100]) if variant == "flat" else (queries, truth)
    milliseconds, cpu, found = [], [], []
    for query in queries:
        start, worked = time.perf_counter(), time.process_time()
        candidates = index.search(query, 10)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - worked))
        found.append([c.source for c in candidates])
    after = memory_mb()
    p50, p95 = np.percentile(milliseconds[10:], [50, 95])
    cpu50, cpu95 = np.percentile(cpu[10:], [50, 95])
    return {
        "recall": recall(np.array(found), truth),
        "effort": index.effort,
        "p50": p50,
        "p95": p95,
        "cpu50": cpu50,
        "cpu95": cpu95,
        "load_s": load_s,
        "loaded_mb": loaded[0] - before[0],
        "resident_mb": after[0] - before[0],
        "own_mb": after[1] - before[1],
    }


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process, and what of it is not pages of files."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.count(":") == 1)
    return int(status["VmRSS"].split()[0]) / 1024, int(status["RssAnon"].split()[0]) / 1024


def row_of(folder: Path, variant: str, size: int, mapped: bool, threads: list[int]) -> list[str]:
    built = json.loads((folder / f"build-{variant}-{size}.json").read_text())
    runs = [json.loads((folder / f"measure-{variant}-{size}-{int(mapped)}-{t}.json").read_text()) for t in threads]
    return [
        f"{size:,}",
        variant + (" mapped" if mapped else ""),
        f"{built['build_s']:.0f}",
        f"{runs[0]['recall']:.3f}",
        str(runs[0]["effort"]),
        *(f"{run['p50']:.2f} {run['p95']:.2f} ({run['cpu50']:.2f} {run['cpu95']:.2f})" for run in runs),
        f"{runs[0]['resident_mb']:.0f} ({runs[0]['own_mb']:.0f} own)" if mapped else f"{runs[0]['resident_mb']:.0f}",
        f"{built['file'] / 1e6:.0f}",
    ]


def plan(folder: Path, variant: str, sizes: list[int], dimension: int) -> str:
    """Memory, disk, building and a query's work up to 100 million places, from the sizes that were measured."""
    built = [json.loads((folder / f"build-{variant}-{size}.json").read_text()) for size in sizes]
    largest = int(np.argmax(sizes))
    hours, effort = built[largest]["build_cpu_s"] / 3600, built[largest]["effort"]
    stored = dimension * (1 if variant.endswith("sq8") else 2)
    rows = []
    for count in (*sizes, 10_000_000, 100_000_000):
        lists = 4 * int(np.sqrt(count))
        memory = count * (64 + 8 + 8 + 1) + lists * dimension * 4
        times = count / sizes[largest]
        scanned = effort * count / lists
        build = f"{hours * times:.2f} {hours * times**1.5:.2f}"
        rows.append([f"{count:,}", f"{lists:,}", f"{memory / 1e9:.2f}", f"{count * stored / 1e9:.1f}", build, f"{scanned:,.0f}"])
    heads = ["places", "lists", "memory GB", "vectors on disk GB", "build h of one core: as P, as P ** 1.5"]
    return table(rows, [*heads, f"codes scanned at effort {effort}"])


if __name__ == "__main__":
    raise SystemExit(main())
