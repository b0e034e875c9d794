"""Mutual nearest neighbours of one query in many places: by matrix products over several places at once, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# products and descriptors that are held at once: 16 MB; larger arrays are given back to the system and zeroed again each time
_BLOCK = 1 << 22


class Pairs(NamedTuple):
    """Matches of all places, those of the first place first, in the order of the place's descriptors.

    Attributes:
        query, place: (M,) indices of the descriptors in their images.
        owner: (M,) which place.
        products: (M,) float32 dot products.
    """

    query: NDArray[np.int64]
    place: NDArray[np.int64]
    owner: NDArray[np.int64]
    products: NDArray[np.float32]


def mutual_pairs(query: NDArray, places: Sequence[NDArray], device: str = "cpu") -> Pairs:
    """Descriptors that have their largest dot product with each other.

    Args:
        query: (N, D), any kind of float.
        places: each (n, D), n differing, or 0.
        device: cpu, by NumPy; cuda, by PyTorch.
    """
    if not len(query):
        return _joined([])
    match = _match_by_torch if device.startswith("cuda") else _match
    parts = [part for first, block in _blocks(len(query), places) for part in match(query, block, first, device)]
    return _joined(parts)


def _blocks(num_query: int, places: Sequence[NDArray]) -> Iterator[tuple[int, Sequence[NDArray]]]:
    """(index of the first, some places) so that their products fit."""
    first, held = 0, 0
    for index, place in enumerate(places):
        cost = len(place) * (num_query + place.shape[1])
        if held and held + cost > _BLOCK:
            yield first, places[first:index]
            first, held = index, 0
        held += cost
    if held:
        yield first, places[first:]


def _match(query: NDArray, places: Sequence[NDArray], first: int, device: str) -> Iterator[Pairs]:
    # places in rows: what is then looked for lies together in memory
    products = np.concatenate(places, dtype=np.float32, casting="same_kind") @ query.astype(np.float32, copy=False).T
    ends = np.cumsum([len(place) for place in places])
    for owner, part in enumerate(np.split(products, ends[:-1]), start=first):
        if len(part):
            yield _mutual(part, owner)


def _mutual(products: NDArray[np.float32], owner: int) -> Pairs:
    """Of (n, N)."""
    nearest = products.argmax(axis=1)
    best = products[np.arange(len(products)), nearest]
    # instead of argmax along the columns, which is seven times slower than max
    rows = np.flatnonzero(best >= products.max(axis=0)[nearest])
    _, kept = np.unique(nearest[rows], return_index=True)  # of equal ones the first
    rows = rows[np.sort(kept)]
    return Pairs(nearest[rows], rows, np.full(len(rows), owner), best[rows])


def _match_by_torch(query: NDArray, places: Sequence[NDArray], first: int, device: str) -> Iterator[Pairs]:
    import torch

    counts = torch.tensor([len(place) for place in places], device=device)
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(place).to(device).float() for place in places], batch_first=True)
    products = padded @ torch.from_numpy(query).to(device).float().T
    products.masked_fill_((torch.arange(padded.shape[1], device=device) >= counts[:, None])[..., None], -torch.inf)
    best, nearest = products.max(dim=2)
    chosen = products.argmax(dim=1).gather(1, nearest) == torch.arange(padded.shape[1], device=device)
    owner, row = (chosen & best.isfinite()).nonzero(as_tuple=True)
    found = (nearest[owner, row], row, owner + first, best[owner, row])
    yield Pairs(*(array.cpu().numpy() for array in found))


def _joined(parts: Sequence[Pairs]) -> Pairs:
    none = np.zeros(0, dtype=np.int64)
    parts = parts or [Pairs(none, none, none, np.zeros(0, dtype=np.float32))]
    return Pairs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
