"""The report of an evaluation: one HTML page with everything in it, to be sent by mail and read on a telephone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ros2_loc.evaluation.records import Evaluation, FrameResult
from ros2_loc.evaluation.report.page import page
from ros2_loc.io.files import atomic_path

MatchesPicture = Callable[[FrameResult], "NDArray[np.uint8] | None"]


def write_report(evaluation: Evaluation, out_html: Path | str, matches_picture: MatchesPicture | None = None) -> Path:
    """Writes the page; whole or not at all.

    Args:
        evaluation: at least one frame.
        out_html: where to.
        matches_picture: called for the best, the median and the worst frame; returns a picture (H, W, 3) uint8 RGB of the frame and its
            place (`visualization.matches.draw_matches`), or None when there is none.

    Returns:
        The path of the page.

    Raises:
        DataError: an evaluation without frames, or a place that can't be written to.
    """
    html = page(evaluation, matches_picture or (lambda frame: None))
    with atomic_path(Path(out_html)) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(out_html)
