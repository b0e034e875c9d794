"""An index in one file: what faiss writes, which any program that has faiss can read, and behind it what the places are.

The file ends with the places' numbers, a line of JSON, the lengths of both and a mark. A file that was cut short has no mark.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ros2_loc.errors import DataError, MissingDependencyError
from ros2_loc.io.files import require_file

_MARK = b"ros2_loc places 1"
_LENGTHS = struct.Struct("<QQ")
_KIND_OF_FILE = "index of places"


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """What the index was made of.

    Attributes:
        encoder: name of the encoder, "" where it was not said.
        kind: flat, hnsw or ivf_pq.
        dimension, count: of the vectors.
        next_id: the number that the next place gets.
        effort: vertices or lists that a search visits.
        recall_of_flat: share of the ten nearest that it finds, measured when it was built.
    """

    encoder: str
    kind: str
    dimension: int
    count: int
    next_id: int
    effort: int
    recall_of_flat: float


def write_index(path: Path, index: Any, ids: NDArray[np.int64], meta: IndexMeta) -> None:
    """Write all to `path`; places that are numbered from 0 on take no room."""
    faiss.write_index(index, str(path))
    numbers = b"" if _from_zero(ids) else np.ascontiguousarray(ids, dtype="<i8").tobytes()
    text = json.dumps(asdict(meta)).encode()
    with path.open("ab") as file:
        file.write(numbers + text + _LENGTHS.pack(len(numbers), len(text)) + _MARK)


def read_index(path: Path, memory_map: bool) -> tuple[Any, NDArray[np.int64], IndexMeta]:
    """Index, the places' numbers, and what it was made of.

    Args:
        path: a file of `write_index`.
        memory_map: leave all on disk; the operating system reads what a search touches and keeps it while there is room.

    Raises:
        DataError: not such a file, damaged or cut short.
        MissingDependencyError: a faiss that can't map.
    """
    path = require_file(path, _KIND_OF_FILE)
    meta, ids = _read_tail(path)
    if memory_map and not hasattr(faiss, "IO_FLAG_MMAP_IFC"):
        raise MissingDependencyError(f"faiss {faiss.__version__} can't map an index into memory: pip install 'faiss-cpu>=1.11'")
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if memory_map else 0)
    except RuntimeError as error:
        raise DataError(f"{path}: not a faiss index (damaged or cut short): build the map again") from error
    if (int(index.ntotal), int(index.d), len(ids)) != (meta.count, meta.dimension, meta.count):
        raise DataError(f"{path}: holds {index.ntotal} vectors of {index.d}, says {meta.count} of {meta.dimension}: build the map again")
    return index, ids, meta


def _read_tail(path: Path) -> tuple[IndexMeta, NDArray[np.int64]]:
    end = len(_MARK) + _LENGTHS.size
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - end))
        tail = file.read()
        if tail[_LENGTHS.size :] != _MARK:
            raise DataError(f"{path}: not an {_KIND_OF_FILE} of this program (damaged or cut short): build the map again")
        ids_length, text_length = _LENGTHS.unpack(tail[: _LENGTHS.size])
        try:
            file.seek(size - end - text_length - ids_length)
            numbers, text = file.read(ids_length), file.read(text_length)
            meta = IndexMeta(**json.loads(text))
            ids = np.frombuffer(numbers, dtype="<i8").astype(np.int64) if ids_length else np.arange(meta.count, dtype=np.int64)
        except (OSError, TypeError, ValueError) as error:
            raise DataError(f"{path}: its description is damaged: build the map again") from error
    return meta, ids


def _from_zero(ids: NDArray[np.int64]) -> bool:
    return len(ids) == 0 or (int(ids[0]) == 0 and int(ids[-1]) == len(ids) - 1 and bool((np.diff(ids) == 1).all()))
