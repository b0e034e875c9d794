"""Serves the page of `ros2-loc places relabel` to a browser on this machine, and to nobody else.

It listens on 127.0.0.1. Every request carries a token drawn at the start, and the Host header of this address: other pages in the browser
can neither read nor write here. Images are asked for by number, so no path comes from outside.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ros2_loc.errors import ConfigError, Ros2LocError
from ros2_loc.evaluation.relabelling import Relabelling
from ros2_loc.io.images import encode_image, read_image, resize_image
from ros2_loc.visualization.relabel_page import PAGE

_LONGEST_PX = 1200
_MOST_BYTES = 10_000
_log = logging.getLogger(__name__)


class RelabelServer(ThreadingHTTPServer):
    """The server; `serve_forever` runs it, `url` is what to open."""

    daemon_threads = True

    def __init__(self, work: Relabelling, port: int = 0) -> None:
        """Binds 127.0.0.1; port 0 takes a free one.

        Raises:
            ConfigError: the port is taken.
        """
        self.work, self.lock, self.token = work, Lock(), secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise ConfigError(f"port {port}: {error.strerror}; give another one, or 0 for a free one") from error
        self.hosts = tuple(f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))

    @property
    def url(self) -> str:
        """Of the page, with its token."""
        return f"http://{self.hosts[0]}/?token={self.token}"


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, said: str) -> None:
        super().__init__(said)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: RelabelServer
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_GET(self) -> None:
        """The page, a state, or an image."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """What is said of a photo, or a look at another place."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """To the log, without the token."""
        _log.debug("%s %s", self.command, urlsplit(self.path).path)

    def _answer(self, act: Any) -> None:
        try:
            self._check()
            act(urlsplit(self.path).path.strip("/").split("/"))
        except _RefusedError as refused:
            self.close_connection = True  # what it sent beside the head was not read
            self._send_json({"error": str(refused)}, refused.status)
        except Ros2LocError as error:
            self._send_json({"error": " ".join(str(error).split())}, HTTPStatus.BAD_REQUEST)

    def _check(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
        given = self.headers.get("X-Token") if self.command == "POST" else parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        if not secrets.compare_digest((given or "").encode(), self.server.token.encode()):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the token is missing or wrong: open the address that the terminal shows")

    def _get(self, parts: list[str]) -> None:
        work = self.server.work
        if parts == [""]:
            self._send_page()
        elif parts[0] == "state" and len(parts) <= 2:
            self._send_state(_number(parts[1], len(work.photos)) if len(parts) == 2 else work.first_open)
        elif parts[0] in ("photo", "database") and len(parts) == 2:
            images = work.photos if parts[0] == "photo" else work.database
            self._send_image(images[_number(parts[1], len(images))].path)
        else:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self, parts: list[str]) -> None:
        asked, work = self._body(), self.server.work
        number = asked.get("number")
        if not isinstance(number, int) or isinstance(number, bool):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "which photo? give its number")
        place = asked.get("east_m"), asked.get("north_m")
        if parts == ["say"]:
            with self.server.lock:
                work.say(number, str(asked.get("word")), *place, asked.get("heading_deg"))
            self._send_state(min(number + 1, len(work.photos) - 1))
        elif parts == ["near"]:
            if not all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in place):
                raise _RefusedError(HTTPStatus.BAD_REQUEST, "give metres east and north")
            self._send_state(_number(str(number), len(work.photos)), place)
        else:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _body(self) -> dict[str, Any]:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= _MOST_BYTES:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"a request has up to {_MOST_BYTES} bytes, and says how many")
        try:
            asked = json.loads(self.rfile.read(length))
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "a request is a JSON object")
        return asked

    def _send_state(self, number: int, place: tuple[Any, Any] | None = None) -> None:
        """A photo, where it lies by its label or its name, and what is near there or near another place."""
        work = self.server.work
        photo, label = work.photos[number], work.label_of(number)
        at = label or photo
        east, north = place or (at.east_m, at.north_m)
        self._send_json(
            {
                "number": number,
                "count": len(work.photos),
                "open": work.num_open,
                "name": photo.path.name,
                "word": None if label is None else label.word,
                "east_m": at.east_m,
                "north_m": at.north_m,
                "heading_deg": at.heading_deg,
                "shown": {"east_m": east, "north_m": north},
                "near": [asdict(neighbour) for neighbour in work.neighbours(east, north)],
            }
        )

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        page = PAGE.replace("NONCE", nonce).replace("TOKEN", self.server.token)
        policy = f"default-src 'none'; img-src 'self'; connect-src 'self'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"
        self._send(page.encode(), "text/html; charset=utf-8", extra={"Content-Security-Policy": policy})

    def _send_image(self, path: Any) -> None:
        image = read_image(path)
        scale = min(1.0, _LONGEST_PX / max(image.shape[:2]))
        small = resize_image(image, max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        self._send(encode_image(small, ".jpg", 88), "image/jpeg")

    def _send_json(self, content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        for name, value in {**fixed, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _number(text: str, count: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < count):
        raise _RefusedError(HTTPStatus.NOT_FOUND, f"there are the numbers 0 to {count - 1}")
    return int(text)
