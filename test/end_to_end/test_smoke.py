"""The whole chain once, short: a bag of a few seconds is localized through real nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def test_a_street_is_localized_through_real_nodes(street: Any, observe: Callable[..., Any], run_graph: Callable[..., Any]) -> None:
    observer = observe(street)
    run = run_graph(**street.arguments, bag=street.bag, image_transport="compressed")
    assert observer.until(lambda: not run.is_running, timeout_s=60.0), "the run does not end with its bag"
    assert run.process.returncode == 0 and "died" not in run.log, run.log
    assert len(observer.estimates) >= 5 and len(observer.poses) >= 10
    assert np.median(observer.errors_m(observer.estimates)) < 0.1 and observer.errors_m(observer.poses).max() < 0.5
    assert {(t.header.frame_id, t.child_frame_id) for t in observer.tf} == {("odom", "base_link"), ("map", "odom")}
    errors = observer.tf_errors_m()
    assert len(errors) >= 10 and np.median(errors) < 0.15 and errors.max() < 0.5
