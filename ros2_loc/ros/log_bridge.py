"""What the rooms without ROS say through Python's `logging`, said in a node's log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class _ToNode(logging.Handler):
    def __init__(self, logger: Any) -> None:
        super().__init__(logging.WARNING)
        self._say = {logging.WARNING: logger.warning, logging.ERROR: logger.error, logging.CRITICAL: logger.fatal}

    def emit(self, record: logging.LogRecord) -> None:
        self._say.get(record.levelno, self._say[logging.ERROR])(record.getMessage())


def forward_warnings(logger: Any) -> Callable[[], None]:
    """Send warnings and errors of `ros2_loc` to a ROS logger; returns what ends that."""
    handler, package = _ToNode(logger), logging.getLogger("ros2_loc")
    package.addHandler(handler)
    return lambda: package.removeHandler(handler)
