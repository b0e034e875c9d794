"""Errors that a user can act on: one line that says what is wrong, where, and what to do."""

from __future__ import annotations


class Ros2LocError(Exception):
    """Base of every error that the command line and the nodes turn into one line for the user."""


class ConfigError(Ros2LocError):
    """A pipeline or node configuration that can't be used."""


class DataError(Ros2LocError):
    """A file, bag, map or message whose content is missing, damaged or contradictory."""


class GeometryError(Ros2LocError, ValueError):
    """A value that is no rotation, pose, camera or covariance."""


class MissingDependencyError(Ros2LocError):
    """An optional package that a chosen component needs is not installed."""
