"""The tree of coordinate frames over time, as tf2's BufferCore keeps it: no ROS in here.

Source of the behaviour: tf2 (buffer_core.cpp, cache.cpp, static_cache.cpp): linear interpolation of translations, slerp of rotations, no
extrapolation, static transforms that hold at all times, time 0 for the latest time that all links of the chain have.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from ros2_loc.core.pose import Pose, interpolate

_MAX_DEPTH = 1000


class TransformException(Exception):  # noqa: N818 - tf2's names
    """Base of all that a lookup can raise."""


class LookupException(TransformException):
    """A frame that nobody has published."""


class ConnectivityException(TransformException):
    """Two frames without a chain between them."""


class ExtrapolationException(TransformException):
    """A time outside of what is known of a link in the chain."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a frame hangs at one time."""

    stamp_ns: int
    parent: str
    parent_from_child: Pose


class _History:
    """The links of one frame to its parent over the last `cache_ns`, oldest first."""

    def __init__(self, cache_ns: int) -> None:
        self._cache_ns = cache_ns
        self._stamps: list[int] = []
        self._links: list[Link] = []

    def insert(self, link: Link) -> bool:
        if self._stamps and link.stamp_ns < self._stamps[-1] - self._cache_ns:
            return False
        i = bisect.bisect_left(self._stamps, link.stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == link.stamp_ns:
            return False
        self._stamps.insert(i, link.stamp_ns)
        self._links.insert(i, link)
        outdated = bisect.bisect_left(self._stamps, self._stamps[-1] - self._cache_ns)
        del self._stamps[:outdated], self._links[:outdated]
        return True

    def latest(self) -> Link | None:
        return self._links[-1] if self._links else None

    def at(self, stamp_ns: int) -> Link | None:
        """The link at a time. Raises ExtrapolationException where that is not between two known ones."""
        if not self._links:
            return None
        i = bisect.bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            return self._links[i]
        if i == 0 or i == len(self._stamps):
            raise ExtrapolationException(self._complaint(stamp_ns))
        before, after = self._links[i - 1], self._links[i]
        if before.parent != after.parent:
            return before
        fraction = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
        return Link(stamp_ns, before.parent, interpolate(before.parent_from_child, after.parent_from_child, fraction))

    def clear(self) -> None:
        self._stamps.clear()
        self._links.clear()

    def _complaint(self, stamp_ns: int) -> str:
        requested, first, last = (f"{ns * 1e-9:.6f}" for ns in (stamp_ns, self._stamps[0], self._stamps[-1]))
        if len(self._stamps) == 1:
            return f"Lookup would require extrapolation at time {requested}, but only time {first} is in the buffer"
        if stamp_ns > self._stamps[-1]:
            return f"Lookup would require extrapolation into the future.  Requested time {requested} but the latest data is at time {last}"
        return f"Lookup would require extrapolation into the past.  Requested time {requested} but the earliest data is at time {first}"


class _Fixed:
    """The link of a static frame: it holds at every time, and `clear` does not touch it (nobody would send it again)."""

    def __init__(self) -> None:
        self._link: Link | None = None

    def insert(self, link: Link) -> bool:
        self._link = Link(0, link.parent, link.parent_from_child)
        return True

    def latest(self) -> Link | None:
        return self._link

    def at(self, stamp_ns: int) -> Link | None:
        return self._link

    def clear(self) -> None:
        pass


class TransformTree:
    """Frames, each hanging on a parent. Not thread-safe: `tf.Buffer` holds the lock."""

    def __init__(self, cache_ns: int = 10_000_000_000) -> None:
        self._cache_ns = cache_ns
        self._frames: dict[str, _History | _Fixed] = {}
        self._known: set[str] = set()

    def insert(self, parent: str, child: str, stamp_ns: int, parent_from_child: Pose, static: bool) -> bool:
        """Add a link; False when it is older than the cache or its stamp is known already."""
        if child not in self._frames:  # as in tf2, what a frame was first stays what it is
            self._frames[child] = _Fixed() if static else _History(self._cache_ns)
        self._known |= {parent, child}
        return self._frames[child].insert(Link(stamp_ns, parent, parent_from_child))

    def clear(self) -> None:
        """Forget all but the static links."""
        for frame in self._frames.values():
            frame.clear()

    def frames(self) -> dict[str, str]:
        """child -> parent, as of the latest data."""
        return {child: link.parent for child, frame in sorted(self._frames.items()) if (link := frame.latest())}

    def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[int, Pose]:
        """(stamp_ns, target_from_source) at a time, or at the latest common time when `stamp_ns` is 0.

        Raises:
            LookupException: one of the frames was never heard of, or the tree has a loop.
            ConnectivityException: no chain between them.
            ExtrapolationException: a link is not known at that time.
        """
        for role, name in (("target_frame", target), ("source_frame", source)):
            if name not in self._known:
                raise LookupException(f'"{name}" passed to lookupTransform argument {role} does not exist. ')
        stamp_ns = stamp_ns or self._latest_common_ns(target, source)
        from_source, error_up = self._ancestors(source, stamp_ns)
        from_target, error_down = self._ancestors(target, stamp_ns)
        common = next((name for name in from_target if name in from_source), None)
        if common is not None:
            return stamp_ns, from_target[common].inverse() @ from_source[common]
        if error := error_up or error_down:
            raise ExtrapolationException(f"{error}, when looking up transform from frame [{source}] to frame [{target}]")
        raise _unconnected(target, source)

    def _ancestors(self, name: str, stamp_ns: int) -> tuple[dict[str, Pose], ExtrapolationException | None]:
        """ancestor -> ancestor_from_frame, nearest first, up to the root or to a link that is not known at that time."""
        chain = {name: Pose.identity()}
        while frame := self._frames.get(name):
            try:
                link = frame.at(stamp_ns)
            except ExtrapolationException as error:
                return chain, error
            if link is None:
                break
            chain[link.parent] = _checked_loop(link, chain) @ chain[name]
            name = link.parent
        return chain, None

    def _latest_common_ns(self, target: str, source: str) -> int:
        up, down = self._latest_stamps(source), self._latest_stamps(target)
        common = next((name for name in down if name in up), None)
        if common is None:
            raise _unconnected(target, source)
        if target == source:
            frame = self._frames.get(source)
            link = frame.latest() if frame else None
            return link.stamp_ns if link else 0
        stamps = [ns for ns in (up[common], down[common]) if ns]
        return min(stamps, default=0)

    def _latest_stamps(self, name: str) -> dict[str, int]:
        """ancestor -> the earliest of the latest stamps of the links below it (0: all static), nearest first."""
        stamps = {name: 0}
        while (frame := self._frames.get(name)) and (link := frame.latest()):
            if link.parent in stamps or len(stamps) > _MAX_DEPTH:
                raise _loop(link.parent)
            stamps[link.parent] = min((ns for ns in (stamps[name], link.stamp_ns) if ns), default=0)
            name = link.parent
        return stamps


def _checked_loop(link: Link, chain: dict[str, Pose]) -> Pose:
    if link.parent in chain or len(chain) > _MAX_DEPTH:
        raise _loop(link.parent)
    return link.parent_from_child


def _loop(name: str) -> LookupException:
    return LookupException(f"The tf tree is invalid because it contains a loop through frame [{name}]")


def _unconnected(target: str, source: str) -> ConnectivityException:
    return ConnectivityException(
        f"Could not find a connection between '{target}' and '{source}' because they are not part of the same tree.  "
        "Tf has two or more unconnected trees."
    )
