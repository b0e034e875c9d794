"""Images with what a detector saw in them, paired by stamp within a budget of time: what comes too late is done without, and counted.

A detector is slower than a camera and picks its images itself, so that the newest image seldom is the one that it has looked at. The newest
image with a partner is taken as long as it is no older than the budget; an idle localizer waits for one up to the budget, then goes on.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ros2_loc.core.types import Frame
from ros2_loc.perception.scene_context import SceneContextConfig, static_mask
from ros2_loc.ros.conversions import ns_from_stamp
from ros2_loc.ros.detection_messages import detections_from_message, mask_from_message
from ros2_loc.ros.diagnostics import Level, Report
from ros2_loc.ros.mailbox import Mailbox

_KEPT = 64  # images and partners that wait for each other
_JUMP_BACK_NS = 500_000_000  # a partner older by more than the newest image that was taken is of a new time
_PATIENCE = 5  # after so many images in a row without a partner, or partners later than the budget, none is waited for until that changes
_RECENT = 20


@dataclass(frozen=True, slots=True)
class ReceivedImage:
    """An image on its way to the worker.

    Attributes:
        message: Image or CompressedImage.
        stamp_ns: of its header.
        received_s: by `time.perf_counter`.
        epoch: which of the times between two jumps it belongs to.
        partner: the message of the same stamp, None where there is none or it came too late.
    """

    message: Any
    stamp_ns: int
    received_s: float
    epoch: int
    partner: Any = None


@dataclass(frozen=True, slots=True)
class Pairings:
    """What became of images and partners so far.

    Attributes:
        paired, unpaired: images that were given out.
        heard: partners that came.
        recent: whether the last images had theirs.
        delays_s: by how much the last partners came after their images.
    """

    paired: int
    unpaired: int
    heard: int
    recent: tuple[bool, ...]
    delays_s: tuple[float, ...]


class PairingMailbox(Mailbox[ReceivedImage]):
    """Gives the newest image that has its partner, or after a while the newest without."""

    def __init__(self, wait_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """
        Args:
            wait_s: how much later a pose may come for the sake of a partner.
            clock: that of `received_s`.
        """
        super().__init__()
        self._wait_s, self._clock = wait_s, clock
        self._images: OrderedDict[int, ReceivedImage] = OrderedDict()
        self._partners: OrderedDict[int, Any] = OrderedDict()
        self._arrived: OrderedDict[int, float] = OrderedDict()  # of images, also of those that were taken
        self._idle_s, self._taken_ns, self._without = -float("inf"), 0, 0
        self._delays_s: deque[float] = deque(maxlen=_RECENT)
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._paired, self._unpaired, self._heard = 0, 0, 0

    def put(self, item: ReceivedImage) -> None:
        """Offer an image."""
        with self._changed:
            if self._closed:
                return
            self._images[item.stamp_ns] = item
            _remember(self._arrived, item.stamp_ns, item.received_s)
            for stamp_ns in [ns for ns, image in self._images.items() if image.received_s < item.received_s - self._wait_s]:
                self._drop(stamp_ns)  # would be too late even with a partner
            while len(self._images) > _KEPT:
                self._drop(next(iter(self._images)))
            self._changed.notify()

    def offer(self, stamp_ns: int, partner: Any) -> None:
        """A partner has come."""
        with self._changed:
            self._heard, self._without = self._heard + 1, 0
            if stamp_ns in self._arrived:
                self._delays_s.append(max(self._clock() - self._arrived[stamp_ns], 0.0))
            _remember(self._partners, stamp_ns, partner)
            self._changed.notify()

    def pairings(self) -> Pairings:
        """The counts; any thread."""
        with self._changed:
            return Pairings(self._paired, self._unpaired, self._heard, tuple(self._recent), tuple(self._delays_s))

    def clear(self) -> None:
        """Throw away what waits: stamps have jumped back. Partners may have jumped before their images: these stay."""
        with self._changed:
            self._images.clear()
            self._arrived.clear()
            for stamp_ns in [ns for ns in self._partners if ns > self._taken_ns - _JUMP_BACK_NS]:
                del self._partners[stamp_ns]
            self._taken_ns = 0

    def close(self) -> None:
        """Wake whoever waits in `take`, for good."""
        with self._changed:
            self._closed = True
            self._images.clear()
            self._changed.notify_all()

    def take(self) -> ReceivedImage | None:
        """The image to work on, waiting for one; None once the mailbox is closed."""
        with self._changed:
            self._idle_s = self._clock()
            while not self._closed:
                if (stamp_ns := self._newest_pair()) is not None:
                    return self._handed_out(stamp_ns)
                missing_s = self._missing_s()
                if missing_s is not None and missing_s <= 0:
                    return self._handed_out(max(self._images))
                self._changed.wait(missing_s)
            return None

    def _newest_pair(self) -> int | None:
        return max(self._images.keys() & self._partners.keys(), default=None)

    def _missing_s(self) -> float | None:
        """How long partners are waited for; None while there is no image."""
        if not self._images:
            return None
        if self._without >= _PATIENCE or self._always_late():
            return 0.0
        first_s = min(image.received_s for image in self._images.values())
        return max(self._idle_s, first_s) + self._wait_s - self._clock()

    def _always_late(self) -> bool:
        last_s = list(self._delays_s)[-_PATIENCE:]
        return len(last_s) == _PATIENCE and min(last_s) > self._wait_s

    def _handed_out(self, stamp_ns: int) -> ReceivedImage:
        image, partner = self._images.pop(stamp_ns), self._partners.get(stamp_ns)
        for older in [ns for ns in self._images if ns < stamp_ns]:
            self._drop(older)
        for older in [ns for ns in self._partners if ns <= stamp_ns]:
            del self._partners[older]
        self._taken_ns = stamp_ns
        found = partner is not None
        self._paired, self._unpaired = self._paired + found, self._unpaired + (not found)
        self._without = 0 if found else self._without + 1
        self._recent.append(found)
        return replace(image, partner=partner)

    def _drop(self, stamp_ns: int) -> None:
        del self._images[stamp_ns]
        self._replaced += 1


def _remember(store: OrderedDict[int, Any], key: int, value: Any) -> None:
    store[key] = value
    while len(store) > _KEPT:
        store.popitem(last=False)


class ContextInput:
    """What a localizer hears of movers in its images: masks, or boxes of anybody."""

    def __init__(self, kind: Literal["mask", "detections"], config: SceneContextConfig, wait_s: float) -> None:
        """
        Args:
            kind: of the messages: Image (mono8) or Detection2DArray.
            config: which labels are masked, with which margin; for detections.
            wait_s: the budget.
        """
        self.mailbox = PairingMailbox(wait_s)
        self._kind, self._config, self._wait_s = kind, config, wait_s
        self._lock = threading.Lock()
        self._refused, self._unknown = 0, ""

    def received(self, message: Any) -> None:
        """Take a message; a callback."""
        self.mailbox.offer(ns_from_stamp(message.header.stamp), message)

    def masked(self, frame: Frame, message: Any) -> Frame:
        """The frame with what may move masked.

        Raises:
            DataError: the message is not of this image, or has numbers that are none.
        """
        size = frame.image.shape[:2]
        try:
            if self._kind == "mask":
                return replace(frame, mask=~mask_from_message(message, size))
            detections = detections_from_message(message, size)
        except Exception:
            with self._lock:
                self._refused += 1
            raise
        ids = {detection.label for detection in detections}
        with self._lock:
            self._unknown = ", ".join(sorted(ids)) if ids and all(i.isdigit() and not self._config.masks(i) for i in ids) else ""
        return replace(frame, mask=static_mask(detections, size, self._config))

    def report(self, topic: str) -> Report:
        """WARN when most of the last images had to do without; says what to do."""
        now, unknown = self.mailbox.pairings(), self._unknown
        delay_s = sum(now.delays_s) / len(now.delays_s) if now.delays_s else None
        values = {
            "topic": topic,
            "paired by stamp": now.paired,
            "localized without": now.unpaired,
            "refused": self._refused,
            "messages": now.heard,
            "delay behind the image (s)": delay_s,
            "waited for at most (s)": self._wait_s,
        }
        if unknown:
            text = f"class ids on {topic} are numbers ({unknown}): name those to mask in the pipeline's context.labels"
            return Report(Level.WARN, text, values)
        if not now.recent:
            return Report(Level.OK, "no image yet", values)
        found, count = sum(now.recent), len(now.recent)
        if 2 * found >= count:
            return Report(Level.OK, f"{found} of the last {count} images came with their {self._kind}", values)
        text = f"{count - found} of the last {count} images were localized without: {self._why(topic, now.heard, delay_s)}"
        return Report(Level.WARN, text, values)

    def _why(self, topic: str, heard: int, delay_s: float | None) -> str:
        if not heard:
            return f"nothing comes on {topic}"
        if delay_s is None:
            return f"no message on {topic} has the stamp of an image"
        if delay_s > self._wait_s:
            return f"{topic} is {delay_s:.2f} s behind the images; raise context_wait_ms ({1000 * self._wait_s:.0f})"
        return f"{topic} is too seldom, or has stopped"
