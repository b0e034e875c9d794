"""Soft-NMS as the code of CenterNet's authors does it, in place and to the letter, so that their numbers can be had.

Where it is not what its name says: rows that were suppressed leave copies of others behind the end, which the authors keep; and where
boxes are merged, the scores of corners stay at their place while the boxes to which they belong move.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ros2_loc.perception.detectors.soft_nms import Decay, overlaps_of

# columns of a row: a box, its score, and the scores of its two corners
_MOVED, _SCORE, _CORNERS = slice(0, 5), 4, [5, 5, 6, 6]


def soft_nms_in_place(rows: NDArray[np.float32], decay: Decay, merge_exponent: float | None = None) -> NDArray[np.float32]:
    """Rows (N, 7) of one label: box, score, scores of its corners -> as many, the best first but for what is behind the end.

    Args:
        rows: are left as they are.
        decay: with an `edge` of 1 as the authors have it.
        merge_exponent: of `soft_nms.merging_soft_nms`; None to leave boxes as they are.
    """
    rows, end, place = np.array(rows, np.float32), len(rows), 0
    while place < end:
        best = place + int(rows[place:end, _SCORE].argmax())
        rows[[place, best], _MOVED] = rows[[best, place], _MOVED]
        box, others = rows[place].astype(np.float64), rows[place + 1 : end].astype(np.float64)
        overlaps = overlaps_of(box[:4], others[:, :4], decay.edge)
        factors = decay.factors(overlaps)
        others[:, _SCORE] *= factors
        visits, kept = _visits((overlaps > 0) & (others[:, _SCORE] < decay.min_score))
        if merge_exponent is not None and visits:
            sources, places = np.array(visits).T
            weights = others[places][:, _CORNERS] * ((1.0 - factors[sources]) ** merge_exponent)[:, None]
            total = box[_CORNERS] + weights.sum(axis=0)
            rows[place, :4] = (box[:4] * box[_CORNERS] + (others[sources, :4] * weights).sum(axis=0)) / total
        for source, visited in visits:  # the last visitor of a place stays there
            rows[place + 1 + visited, _MOVED] = others[source, _MOVED]
        place, end = place + 1, place + 1 + kept
    return rows


def _visits(falls: NDArray[np.bool_]) -> tuple[list[tuple[int, int]], int]:
    """In which order rows are looked at when each that falls is replaced by the last: (row, its place then), and how many stay."""
    visits: list[tuple[int, int]] = []
    end, place, source = len(falls), 0, 0
    while place < end:
        visits.append((source, place))
        if falls[source]:
            end -= 1
            source = end
        else:
            place += 1
            source = place
    return visits, end
