"""The page through HTTP: what it shows and writes, and whom it does not answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from ros2_loc.errors import ConfigError
from ros2_loc.evaluation.relabelling import Relabelling
from ros2_loc.io.geotagged import geotagged_name
from ros2_loc.io.images import read_image, write_image
from ros2_loc.visualization.relabel_server import RelabelServer

NASTY = "<img src=x onerror=alert(1)>&quot;"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RelabelServer]:
    for k, color in enumerate(((200, 30, 30), (30, 200, 30))):
        name = geotagged_name(500_000.0 + 20 * k, 5_000_000.0, heading_deg=90.0, zone="32U", note=NASTY if k == 0 else "b")
        write_image(tmp_path / "queries" / name, np.full((60, 90, 3), color, np.uint8))
    for k in range(4):
        name = geotagged_name(500_000.0 + 10 * k, 5_000_002.0, heading_deg=45.0, zone="32U")
        write_image(tmp_path / "database" / name, np.full((900, 1500, 3), 40 + 50 * k, np.uint8))
    (tmp_path / "secret.txt").write_text("secret")
    with RelabelServer(Relabelling(tmp_path / "queries", tmp_path / "database")) as running:
        thread = Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)


def _ask(server: RelabelServer, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    for name, value in {"Host": f"127.0.0.1:{server.server_port}", "Content-Length": str(len(data)), **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(data)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, dict(reply.getheaders()), content


def _get(server: RelabelServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return _ask(server, "GET", f"{path}?token={server.token}", **headers)


def _say(server: RelabelServer, body: object, path: str = "/say") -> tuple[int, dict]:
    status, _, content = _ask(server, "POST", path, body, X_Token=server.token)
    return status, json.loads(content)


def test_it_listens_here_only(server: RelabelServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(ConfigError, match=f"port {server.server_port}"):
        RelabelServer(server.work, server.server_port)


@pytest.mark.parametrize("path", ["/", "/state", "/photo/0", "/database/0"])
def test_without_the_token_nothing_is_shown(server: RelabelServer, path: str) -> None:
    for asked in (path, f"{path}?token=", f"{path}?token={server.token[:-1]}", f"{path}?token=%C3%A4"):
        status, _, content = _ask(server, "GET", asked)
        assert status == 403 and b"token" in content and server.token.encode() not in content


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", ""])
def test_other_hosts_are_refused(server: RelabelServer, host: str) -> None:
    assert _get(server, "/", Host=host)[0] == 403  # a page that points its own name here


def test_a_form_of_another_page_can_not_write(server: RelabelServer) -> None:
    status, _, _ = _ask(server, "POST", f"/say?token={server.token}", {"number": 0, "word": "dropped"})
    assert status == 403 and not server.work.labels  # the token must come as a header, which no form can send


@pytest.mark.parametrize(
    "path",
    ["/photo/../../secret.txt", "/photo/..%2f..%2fsecret.txt", "/photo/2", "/photo/-1", "/photo/0/1", "/photo/", "/photo/¹", "/secret.txt"],
)
def test_there_are_no_other_files(server: RelabelServer, path: str) -> None:
    status, _, content = _get(server, path.replace("¹", "%C2%B9"))
    assert status == 404 and b"secret" not in content.replace(b"secret.txt", b"")


def test_the_page_is_the_program_and_no_data(server: RelabelServer) -> None:
    status, headers, content = _get(server, "/")
    page = content.decode()
    assert status == 200 and NASTY not in page and "innerHTML" not in page
    policy = headers["Content-Security-Policy"]
    nonce = re.findall(r"script-src 'nonce-([^']+)'", policy)[0]
    assert "default-src 'none'" in policy and page.count(f'nonce="{nonce}"') == 2
    assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"


def test_photos_and_places(server: RelabelServer) -> None:
    for path, shape, level in (("/photo/1", (60, 90), (30, 200, 30)), ("/database/2", (720, 1200), (140, 140, 140))):
        status, headers, content = _get(server, path)
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert status == 200 and headers["Content-Type"] == "image/jpeg" and image.shape[:2] == shape
        assert np.abs(image.mean(axis=(0, 1)) - level).max() < 6


def test_a_day_of_work(server: RelabelServer) -> None:
    state = json.loads(_get(server, "/state")[2])
    assert (state["number"], state["count"], state["open"], state["word"]) == (0, 2, 2, None)
    assert NASTY in state["name"] and [near["number"] for near in state["near"]] == [0, 1, 2, 3]
    status, state = _say(server, {"number": 0, "east_m": 500_031.0, "north_m": 5_000_000.0}, "/near")
    assert status == 200 and state["near"][0]["number"] == 3 and state["shown"]["east_m"] == 500_031.0 and not server.work.labels
    status, state = _say(server, {"number": 0, "word": "moved", "east_m": 500_030.0, "north_m": 5_000_002.0, "heading_deg": None})
    assert status == 200 and (state["number"], state["open"]) == (1, 1)
    assert _say(server, {"number": 1, "word": "dropped"})[1]["open"] == 0
    stored = json.loads((server.work.folder / "relabel.json").read_text())["labels"]
    assert sorted(label["word"] for label in stored.values()) == ["dropped", "moved"]
    back = json.loads(_get(server, "/state/0")[2])
    assert (back["word"], back["east_m"], back["heading_deg"]) == ("moved", 500_030.0, None)


@pytest.mark.parametrize(
    "body",
    [
        b"no json", b"[1]", {"word": "right"}, {"number": True, "word": "right"}, {"number": "0", "word": "right"},
        {"number": 7, "word": "right"}, {"number": 0, "word": "erase"}, {"number": 0, "word": "moved"},
        {"number": 0, "word": "moved", "east_m": "1", "north_m": 2}, b'{"number": 0, "word": "moved", "east_m": NaN, "north_m": 1}',
        b" " * 20_000,
    ],
)  # fmt: skip
def test_nonsense_changes_nothing(server: RelabelServer, body: object) -> None:
    status, said = _say(server, body)
    assert status == 400 and "\n" not in said["error"] and not server.work.labels


@pytest.mark.slow
def test_a_browser_shows_it(server: RelabelServer, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,800", "--virtual-time-budget=8000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}"]
    subprocess.run([browser, *flags, server.url], check=True, capture_output=True, timeout=120)
    image = read_image(shot).astype(int)
    red = (abs(image - [200, 30, 30]) < 12).all(axis=2)
    assert red[60:, :500].mean() > 0.1  # the photo on the left
    gray = (abs(image - [40, 40, 40]) < 12).all(axis=2)
    assert gray[60:, 500:].mean() > 0.1  # the nearest place on the right
