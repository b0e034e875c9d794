"""Tiles of a server by its URL template, fetched once each into a folder on disk, politely."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from ros2_loc import __version__
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.downloads import TRY_AGAIN, retry_after_s
from ros2_loc.io.files import atomic_path
from ros2_loc.io.imagery.pyramid import GeodeticBox, TileName, TilePyramid, choose_zoom, decode_tile, tiles_in
from ros2_loc.io.imagery.xyz import open_xyz

USER_AGENT = f"ros2_loc/{__version__} (tile builder; fetches each tile once and keeps it)"
MAX_ZOOM = 20
_NO_TILE = (204, 404, 410)
_ALL_MISSING_AFTER = 20  # from the middle of the area outwards: then there is nothing


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/ros2_loc/tiles`, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ros2_loc" / "tiles"


@dataclass(frozen=True)
class TileServer:
    """How a server is asked.

    Attributes:
        template: URL with {z}, {x} and {y}, or {-y} for rows counted from the south.
        cache: folder that keeps what was fetched, for all builds.
        rate_hz: requests per second at most.
        tries: of one tile, with waits in between that double.
        first_wait_s, timeout_s: before the second try; for an answer.
        attribution: whom the imagery is owed to.

    Raises:
        ConfigError: a template without {z}, {x}, {y}, or numbers that make no sense.
    """

    template: str
    cache: Path = field(default_factory=default_cache)
    rate_hz: float = 5.0
    tries: int = 6
    first_wait_s: float = 1.0
    timeout_s: float = 30.0
    attribution: str = ""

    def __post_init__(self) -> None:
        if not ("{z}" in self.template and "{x}" in self.template and ("{y}" in self.template or "{-y}" in self.template)):
            raise ConfigError(f"{self.name}: a tile server's URL has {{z}}, {{x}} and {{y}} (or {{-y}}) in it")
        if not (self.rate_hz > 0 and self.tries >= 1):
            raise ConfigError(f"requests per second and tries must be positive, got {self.rate_hz} and {self.tries}")

    @property
    def name(self) -> str:
        """The template without what may be secret: user, password and the values of its query."""
        return redacted(self.template)

    @property
    def folder(self) -> Path:
        """Where this server's tiles are kept."""
        host = re.sub(r"[^\w.-]", "_", urlsplit(self.template).hostname or "server")
        return self.cache / f"{host}-{hashlib.sha256(self.template.encode()).hexdigest()[:12]}"

    def url(self, zoom: int, place: TileName) -> str:
        """Of one tile; its row is counted from the north."""
        rows = {"{y}": place[1], "{-y}": 2**zoom - 1 - place[1], "{x}": place[0], "{z}": zoom}
        return re.sub(r"\{-?[xyz]\}", lambda word: str(rows[word[0]]), self.template)

    def open(self, box: GeodeticBox, zoom: int | None, metres_per_px: float, show_progress: bool) -> TilePyramid:
        """Fetch what is not there yet and open all of it; interrupted, the next call goes on.

        Args:
            box: south, west, north, east in degrees.
            zoom: which level; the coarsest that is fine enough where None.
            metres_per_px: how fine that is.
            show_progress: a bar on stderr.

        Raises:
            DataError: the server refuses, does not answer, has no tile there, or answers with something else than pictures.
        """
        latitude = (box[0] + box[2]) / 2
        level = zoom if zoom is not None else choose_zoom(range(MAX_ZOOM + 1), latitude, metres_per_px, None, self.name)
        places = tiles_in(box, level)
        self._fetch(level, places, show_progress)
        facts: dict[str, Any] = {"kind": "tile server", "name": self.name}
        if self.attribution:
            facts["attribution"] = self.attribution
        return open_xyz(f"{self.folder}/{{z}}/{{x}}/{{y}}.tile", level, metres_per_px, box, self.name, facts)

    def _fetch(self, zoom: int, places: list[TileName], show_progress: bool) -> None:
        middle = places[len(places) // 2]
        missing = [p for p in places if not self._path(zoom, p).exists() and not self._path(zoom, p, ".none").exists()]
        missing.sort(key=lambda p: abs(p[0] - middle[0]) + abs(p[1] - middle[1]))
        pace = Pace(1.0 / self.rate_hz)
        absent, bar = 0, tqdm(total=len(places), desc="    tiles", disable=not show_progress, leave=False, dynamic_ncols=True)
        with bar:
            bar.update(len(places) - len(missing))
            for number, place in enumerate(missing, 1):
                absent += self._fetch_one(zoom, place, pace)
                bar.update()
                if absent == number >= min(_ALL_MISSING_AFTER, len(places)):
                    tried = f"none of {absent} tiles of zoom {zoom} there"
                    raise DataError(f"{self.name}: has {tried}: choose a smaller --zoom or other --bounds")

    def _fetch_one(self, zoom: int, place: TileName, pace: Pace) -> bool:
        """Put one tile on disk; whether the server has none."""
        data = self._ask(zoom, place, pace)
        with atomic_path(self._path(zoom, place, ".tile" if data else ".none")) as path:
            path.write_bytes(data)
        return not data

    def _ask(self, zoom: int, place: TileName, pace: Pace) -> bytes:
        """The encoded picture, or nothing where the server has none."""
        where = f"{self.name}: tile {zoom}/{place[0]}/{place[1]}"
        problem = ""
        for trial in range(self.tries):
            pace.wait()
            try:
                return self._answer(Request(self.url(zoom, place), headers={"User-Agent": USER_AGENT}), where)
            except HTTPError as error:
                problem = f"{error.code} {error.reason}"
                if error.code in _NO_TILE:
                    return b""
                if error.code not in TRY_AGAIN:
                    raise DataError(f"{where}: refused ({problem}): does the URL need a key, and may its tiles be downloaded?") from error
                pace.hold(max(self.first_wait_s * 2**trial, retry_after_s(error.headers.get("Retry-After"))))
            except (URLError, HTTPException, OSError) as error:
                problem = str(getattr(error, "reason", "") or error or type(error).__name__)
                pace.hold(self.first_wait_s * 2**trial)
        raise DataError(f"{where}: no answer in {self.tries} tries ({problem}): run again later, what was fetched is kept")

    def _answer(self, request: Request, where: str) -> bytes:
        with urlopen(request, timeout=self.timeout_s) as response:
            kind, data = response.headers.get_content_type(), response.read()
            if response.status in _NO_TILE:
                return b""
        if kind == "text/html" or data[:64].lstrip()[:1] in (b"<", b"{"):
            raise DataError(f"{where}: the answer is text ({kind}), not a picture: is the URL right, and does it need a key?")
        decode_tile(data, where)
        return data

    def _path(self, zoom: int, place: TileName, suffix: str = ".tile") -> Path:
        return self.folder / str(zoom) / str(place[0]) / f"{place[1]}{suffix}"


class Pace:
    """Keeps requests apart, and waits longer where a server asks for it."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._interval_s, self._clock, self._sleep, self._next = interval_s, clock, sleep, clock()

    def wait(self) -> None:
        """Until the next request may be sent."""
        now = self._clock()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._interval_s

    def hold(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._next = max(self._next, self._clock() + seconds)


def redacted(template: str) -> str:
    """A URL without user, password, and values of its query other than x, y and z."""
    scheme, separator, rest = template.partition("://")
    place, _, query = rest.partition("?")
    place = place.rpartition("@")[2] if "@" in place.partition("/")[0] else place
    return f"{scheme}{separator}{place}" + (f"?{'&'.join(_hidden(query.split('&')))}" if query else "")


def _hidden(pairs: Iterable[str]) -> list[str]:
    return [pair if "{" in pair or "=" not in pair else f"{pair.partition('=')[0]}=..." for pair in pairs]
