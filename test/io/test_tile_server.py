"""A server of tiles on the loopback: asked once for each tile, patiently, and understood when it refuses."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from ros2_loc.core.geodesy import geodetic_from_mercator_px
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.downloads import retry_after_s
from ros2_loc.io.imagery.pyramid import GeodeticBox, TilePyramid
from ros2_loc.io.imagery.tile_server import Pace, TileServer, redacted

ZOOM, X0, Y0 = 17, 68590, 45010


def box(columns: int = 3, rows: int = 2) -> GeodeticBox:
    """The inner parts of so many tiles."""
    north, west = geodetic_from_mercator_px([256 * X0 + 5, 256 * Y0 + 5], ZOOM)
    south, east = geodetic_from_mercator_px([256 * (X0 + columns) - 5, 256 * (Y0 + rows) - 5], ZOOM)
    return float(south), float(west), float(north), float(east)


@dataclass
class Answers:
    """What the server does: status codes to give first to each path, then the picture."""

    first: dict[str, list[int]] = field(default_factory=dict)
    always: dict[str, int] = field(default_factory=dict)
    body: bytes | None = None
    kind: str = "image/png"
    retry_after: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/").partition(".")[0]
            answers.asked[path] += 1
            answers.agents.add(self.headers["User-Agent"])
            status = answers.always.get(path, answers.always.get("*", 200))
            if answers.first.get(path):
                status = answers.first[path].pop(0)
            data = b"" if status != 200 else answers.body if answers.body is not None else picture(path)
            self.send_response(status)
            self.send_header("Content-Type", answers.kind)
            self.send_header("Content-Length", str(len(data)))
            if answers.retry_after:
                self.send_header("Retry-After", answers.retry_after)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    answers.url = f"http://127.0.0.1:{http.server_port}/{{z}}/{{x}}/{{y}}.png"
    yield answers
    http.shutdown()
    http.server_close()
    thread.join()


def picture(path: str) -> bytes:
    """One colour for each tile."""
    _, x, y = (int(word) for word in path.split("/"))
    return cv2.imencode(".png", np.full((256, 256, 3), ((x - X0) * 40 + 50, (y - Y0) * 40 + 50, 7)[::-1], np.uint8))[1].tobytes()


def open_all(server: Answers, cache: Path, columns: int = 3, rows: int = 2, **values: object) -> TilePyramid:
    quick = {"rate_hz": 1000.0, "first_wait_s": 0.01, "cache": cache, **values}
    return TileServer(server.url, **quick).open(box(columns, rows), ZOOM, 0.2, show_progress=False)  # type: ignore[arg-type]


def test_all_tiles_in_their_places_and_asked_for_once(server: Answers, tmp_path: Path) -> None:
    source = open_all(server, tmp_path, attribution="Somebody")
    rgb, alpha = source.window(0, 0, *source.size_px)
    assert source.size_px == (768, 512) and (alpha == 255).all()
    for i in range(3):
        for j in range(2):
            assert (rgb[j * 256 : j * 256 + 256, i * 256 : i * 256 + 256] == (50 + 40 * i, 50 + 40 * j, 7)).all()
    open_all(server, tmp_path)
    assert set(server.asked.values()) == {1} and len(server.asked) == 6
    assert all(agent.startswith("ros2_loc/") for agent in server.agents)
    facts = source.provenance()
    assert facts["attribution"] == "Somebody" and facts["kind"] == "tile server" and facts["tiles"] == 6 and facts["zoom"] == ZOOM


def test_rows_from_the_south(server: Answers, tmp_path: Path) -> None:
    server.url = server.url.replace("{y}", "{-y}")
    server.body = picture(f"{ZOOM}/{X0}/{Y0}")
    open_all(server, tmp_path, 1, 1)
    assert list(server.asked) == [f"{ZOOM}/{X0}/{2**ZOOM - 1 - Y0}"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Answers, tmp_path: Path, status: int) -> None:
    path = f"{ZOOM}/{X0 + 1}/{Y0}"
    server.first[path] = [status, status]
    assert open_all(server, tmp_path).holes == 0
    assert server.asked[path] == 3


def test_the_server_says_how_long_to_wait(server: Answers, tmp_path: Path) -> None:
    path = f"{ZOOM}/{X0}/{Y0}"
    server.first[path], server.retry_after = [429], "1"
    begin = time.monotonic()
    open_all(server, tmp_path, 1, 1)
    assert time.monotonic() - begin >= 1.0 and server.asked[path] == 2


def test_a_server_that_stays_away_is_given_up_and_what_was_fetched_is_kept(server: Answers, tmp_path: Path) -> None:
    path = f"{ZOOM}/{X0}/{Y0}"
    server.always[path] = 503
    with pytest.raises(DataError, match=rf"tile {path}: no answer in 3 tries \(503 .*run again"):
        open_all(server, tmp_path, tries=3)
    before = Counter(server.asked)
    server.always.clear()
    assert open_all(server, tmp_path, tries=3).holes == 0
    again = server.asked - before
    assert again[path] == 1 and all(server.asked[p] == 1 for p in server.asked if p != path)


def test_no_server_at_all(tmp_path: Path) -> None:
    nobody = Answers(url="http://127.0.0.1:9/{z}/{x}/{y}.png")
    with pytest.raises(DataError, match=r"no answer in 2 tries \(.*refused"):
        open_all(nobody, tmp_path, tries=2)


def test_missing_tiles_are_holes_and_not_asked_for_again(server: Answers, tmp_path: Path) -> None:
    server.always[f"{ZOOM}/{X0 + 2}/{Y0 + 1}"] = 404
    server.always[f"{ZOOM}/{X0}/{Y0}"] = 204
    for _ in range(2):
        assert open_all(server, tmp_path).holes == 2
    assert set(server.asked.values()) == {1}


def test_nothing_there_ends_early(server: Answers, tmp_path: Path) -> None:
    server.always["*"] = 404
    with pytest.raises(DataError, match=r"none of 20 tiles of zoom 17 there: choose a smaller --zoom"):
        open_all(server, tmp_path, 8, 8)
    assert sum(server.asked.values()) == 20


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_final(server: Answers, tmp_path: Path, status: int) -> None:
    server.always["*"] = status
    server.url += "?key=secret123"
    with pytest.raises(DataError, match=rf"refused \({status} .*need a key") as caught:
        open_all(server, tmp_path)
    assert sum(server.asked.values()) == 1 and "secret" not in str(caught.value)


@pytest.mark.parametrize(("body", "kind"), [(b"<!DOCTYPE html><p>log in", "text/html"), (b'{"error": 1}', "application/json")])
def test_a_web_page_is_no_tile(server: Answers, tmp_path: Path, body: bytes, kind: str) -> None:
    server.body, server.kind = body, kind
    with pytest.raises(DataError, match="the answer is text"):
        open_all(server, tmp_path)
    assert not list(tmp_path.rglob("*.tile"))


def test_half_a_picture_is_not_kept(server: Answers, tmp_path: Path) -> None:
    server.body = b"\x89PNG\r\n nonsense"
    with pytest.raises(DataError, match="not an 8-bit image"):
        open_all(server, tmp_path)
    assert not list(tmp_path.rglob("*.tile"))


def test_requests_keep_their_distance() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(0.2, lambda: now[0], sleep)
    for _ in range(4):
        pace.wait()
    assert sum(slept) == pytest.approx(0.6)
    pace.hold(5.0)
    pace.wait()
    assert sum(slept) == pytest.approx(5.6)
    now[0] += 100.0
    pace.wait()
    assert sum(slept) == pytest.approx(5.6)  # no debt is kept from a pause


def test_secrets_are_left_out() -> None:
    assert redacted("https://me:pw@a.org/{z}/{x}/{y}.png?key=abc&style=sat") == "https://a.org/{z}/{x}/{y}.png?key=...&style=..."
    assert redacted("https://a.org/wmts?x={x}&y={y}&z={z}") == "https://a.org/wmts?x={x}&y={y}&z={z}"


def test_what_retry_after_says() -> None:
    assert retry_after_s(None) == 0.0 and retry_after_s("7") == 7.0 and retry_after_s("99999") == 120.0
    assert 5.0 < retry_after_s(formatdate(time.time() + 10, usegmt=True)) <= 10.0 and retry_after_s("soon") == 0.0


def test_a_template_must_name_column_row_and_zoom(tmp_path: Path) -> None:
    for template in ("https://a.org/{z}/{x}.png", "https://a.org/{x}/{y}.png", "https://a.org"):
        with pytest.raises(ConfigError, match=r"\{z\}, \{x\} and \{y\}"):
            TileServer(template)
    with pytest.raises(ConfigError, match="must be positive"):
        TileServer("https://a.org/{z}/{x}/{y}", rate_hz=0.0)
