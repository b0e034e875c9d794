"""Which images of a database show the place of a query: files that list it, and positions that tell it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ros2_loc.errors import DataError
from ros2_loc.io.files import read_bytes, read_text

Positives = list[set[int]]

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


def positives_within(database_m: NDArray[np.float64], queries_m: NDArray[np.float64], radius_m: float) -> Positives:
    """Of each query the database images at most so far away; positions (N, D) and (Q, D) m, D axes alike."""
    found = KDTree(database_m).query_ball_point(queries_m, radius_m)
    return [set(map(int, rows)) for rows in found]


def read_vprbench(path: str | Path) -> Positives:
    """The database images (their numbers in the order of names) of each query, from a truth file of VPR-Bench (Zaffar et al. 2021).

    Its rows are (query's number, list of database numbers), where -1 says that there is none. The file is a pickled array of objects:
    nothing is called while reading it but what makes arrays and lists of numbers.

    Raises:
        DataError: another kind of file, numbers that are none, or queries that are not numbered 0, 1, 2, ...
    """
    path = Path(path)
    data = read_bytes(path, "ground truth of VPR-Bench (.npy)")
    try:
        rows = _objects(data)
        numbers = [int(row[0]) for row in rows]
        found = [{int(n) for n in np.atleast_1d(row[1]) if int(n) >= 0} for row in rows]
    except (ValueError, TypeError, IndexError, KeyError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: is no ground truth of VPR-Bench ({error}); its rows are query, list of database images") from error
    if numbers != list(range(len(numbers))):
        raise DataError(f"{path}: its queries are not numbered 0 to {len(numbers) - 1}; order its rows")
    return found


def read_pairs(path: str | Path, database: list[str], queries: list[str]) -> Positives:
    """The database images of each query, from text rows `query database` of names; `#` begins a comment.

    Raises:
        DataError: a row that is not two names, or a name that is not there.
    """
    rows = {name: k for k, name in enumerate(database)}, {name: k for k, name in enumerate(queries)}
    found: Positives = [set() for _ in queries]
    for number, line in enumerate(read_text(path, "list of pairs").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(f"{path}: line {number} is not `query database`: {line.strip()[:60]!r}")
        unknown = next((word for word, known in zip(words, (rows[1], rows[0]), strict=True) if word not in known), None)
        if unknown is not None:
            raise DataError(f"{path}: line {number}: there is no image {unknown!r}; write names as they are in the folders")
        found[rows[1][words[0]]].add(rows[0][words[1]])
    return found


class _Numbers(pickle.Unpickler):
    """Knows arrays and lists of numbers, and refuses all else that a pickle may name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array of numbers")
        return super().find_class(module, name)


def _objects(data: bytes) -> NDArray[Any]:
    """(Q, 2) array of objects of a .npy file."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if not dtype.hasobject:
        stream.seek(0)
        return np.asarray(np.load(stream, allow_pickle=False))
    array = np.asarray(_Numbers(stream).load())
    if array.ndim != 2 or array.shape != shape or array.shape[1] != 2:
        raise ValueError(f"shape {array.shape}")
    return array
