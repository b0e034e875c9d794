"""Downloads from a server on the loopback that breaks off, forgets ranges, sends other bytes, or has nothing."""

from __future__ import annotations

import hashlib
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io import downloads
from ros2_loc.io.downloads import Download, copy_checked

BODY = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """What it does, and what it was asked."""

    url: str = ""
    body: bytes = BODY
    statuses: list[int] = field(default_factory=list)  # given first, one an answer
    break_after: list[int] = field(default_factory=list)  # bytes of the body before the connection ends, one an answer
    ranges: bool = True
    etag: str = '"v1"'
    kind: str = "application/octet-stream"
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request


@contextmanager
def serving() -> Iterator[Server]:
    what = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            what.asked.append(wanted)
            status = what.statuses.pop(0) if what.statuses else 200
            if status != 200 or self.path != "/file":
                return self.send_error(404 if status == 200 else status)
            same = self.headers.get("If-Range") in (None, what.etag)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and what.ranges and same else 0
            if start >= len(what.body):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(what.body) - 1}/{len(what.body)}")
            self.send_header("Content-Type", what.kind)
            self.send_header("Content-Length", str(len(what.body) - start))
            if what.etag:
                self.send_header("ETag", what.etag)
            self.end_headers()
            count = what.break_after.pop(0) if what.break_after else len(what.body)
            self.wfile.write(what.body[start:][:count])
            return None

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    what.url = f"http://127.0.0.1:{http.server_port}/file"
    yield what
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as what:
        yield what


def download(path: Path, *urls: str, **options: Any) -> Download:
    return Download(urls, path, **{"sha256": DIGEST, "sleep": lambda _: None, **options})


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    assert download(tmp_path / "new" / "w.pt", server.url).fetch() == DIGEST
    assert (tmp_path / "new" / "w.pt").read_bytes() == BODY and left(tmp_path / "new") == ["w.pt"]


@given(breaks=st.lists(st.integers(1, 200_000), max_size=6), etag=st.sampled_from(['"v1"', 'W/"weak"', ""]), known=st.booleans())
def test_it_goes_on_where_it_broke_off(tmp_path_factory: pytest.TempPathFactory, breaks: list[int], etag: str, known: bool) -> None:
    folder = tmp_path_factory.mktemp("d")
    with serving() as server:
        server.break_after, server.etag = list(breaks), etag
        assert download(folder / "w.pt", server.url, sha256=DIGEST if known else "", tries=9).fetch() == DIGEST
    assert (folder / "w.pt").read_bytes() == BODY and left(folder) == ["w.pt"]


def test_the_next_run_asks_for_the_rest_only(server: Server, tmp_path: Path) -> None:
    server.break_after, server.statuses = [100_000], [200, 503, 503]
    with pytest.raises(DataError, match=r"no answer in 2 tries \(503.*0.1 MB are kept, run again later"):
        download(tmp_path / "w.pt", server.url, tries=2).fetch()
    assert (tmp_path / ".w.pt.part").stat().st_size == 100_000 and not (tmp_path / "w.pt").exists()
    server.asked.clear()
    download(tmp_path / "w.pt", server.url).fetch()
    assert server.asked == ["bytes=100000-"] and (tmp_path / "w.pt").read_bytes() == BODY and left(tmp_path) == ["w.pt"]


def test_a_stop_in_the_middle_keeps_what_arrived(server: Server, tmp_path: Path) -> None:
    server.break_after = [70_000]

    def stopped(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(tmp_path / "w.pt", server.url, sleep=stopped).fetch()
    assert (tmp_path / ".w.pt.part").read_bytes() == BODY[:70_000]
    server.asked.clear()
    download(tmp_path / "w.pt", server.url).fetch()
    assert server.asked == ["bytes=70000-"] and (tmp_path / "w.pt").read_bytes() == BODY


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.ranges, server.break_after = False, [100_000]
    download(tmp_path / "w.pt", server.url).fetch()
    assert (tmp_path / "w.pt").read_bytes() == BODY


def test_a_file_that_changed_meanwhile_begins_anew(server: Server, tmp_path: Path) -> None:
    server.break_after, server.statuses = [100_000], [200, 404]
    with pytest.raises(DataError, match="404"):
        download(tmp_path / "w.pt", server.url, sha256="").fetch()
    server.body, server.etag = BODY[::-1], '"v2"'
    download(tmp_path / "w.pt", server.url, sha256="").fetch()
    assert (tmp_path / "w.pt").read_bytes() == BODY[::-1]


def test_a_wrong_beginning_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".w.pt.part").write_bytes(b"x" * 1000)
    download(tmp_path / "w.pt", server.url).fetch()
    assert server.asked == ["bytes=1000-", None] and (tmp_path / "w.pt").read_bytes() == BODY


def test_a_part_that_was_whole_is_taken_and_one_too_long_is_not(server: Server, tmp_path: Path) -> None:
    for part in (BODY, BODY + b"more"):
        (tmp_path / ".w.pt.part").write_bytes(part)
        download(tmp_path / "w.pt", server.url).fetch()
        assert (tmp_path / "w.pt").read_bytes() == BODY and left(tmp_path) == ["w.pt"]


def test_other_bytes_leave_nothing_and_the_mirror_is_asked(server: Server, tmp_path: Path) -> None:
    server.body = BODY[:-1] + b"?"
    (tmp_path / "w.pt").write_bytes(b"old")
    with pytest.raises(DataError, match=rf"sends another file: sha256 \w{{12}}... instead of {DIGEST[:12]}") as caught:
        download(tmp_path / "w.pt", server.url).fetch()
    assert "\n" not in str(caught.value) and left(tmp_path) == ["w.pt"] and (tmp_path / "w.pt").read_bytes() == b"old"
    server.body, server.statuses = BODY, [404]
    assert download(tmp_path / "w.pt", server.url, server.url).fetch() == DIGEST


@pytest.mark.parametrize(
    ("statuses", "kind", "expected", "requests"),
    [
        ([404], "", "404", 1),
        ([403], "", "403", 1),
        ([500] * 9, "", "no answer in 4 tries .500 .*run again later", 4),
        ([], "text/html", "web page", 1),
    ],
)
def test_a_refusal_is_one_line(server: Server, tmp_path: Path, statuses: list[int], kind: str, expected: str, requests: int) -> None:
    server.statuses, server.kind = statuses, kind or server.kind
    with pytest.raises(DataError, match=expected) as caught:
        download(tmp_path / "w.pt", server.url).fetch()
    assert "\n" not in str(caught.value) and server.url in str(caught.value)
    assert len(server.asked) == requests and left(tmp_path) == []


def test_no_network_is_one_line(tmp_path: Path) -> None:
    waits: list[float] = []
    with pytest.raises(DataError, match=r"no answer in 4 tries \(.*\); is there a network\?"):
        download(tmp_path / "w.pt", "http://127.0.0.1:9/file", sleep=waits.append).fetch()
    assert waits == [1.0, 2.0, 4.0] and left(tmp_path) == []


def test_a_full_disk_is_said_before_writing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = downloads.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"0.3 MB to come, 0.0 MB free: the disk is full"):
        download(tmp_path / "w.pt", server.url).fetch()
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_while_writing_is_one_line(server: Server, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DataError, match="can't be written: File too large; make room or choose another place"):
            download(tmp_path / "w.pt", server.url).fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left(tmp_path) == [] and len(server.asked) == 1


def test_a_second_download_of_the_same_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.break_after = [10]

    def meanwhile(_: float) -> None:
        with pytest.raises(DataError, match="another download of it is running"):
            download(tmp_path / "w.pt", server.url).fetch()

    assert download(tmp_path / "w.pt", server.url, sleep=meanwhile).fetch() == DIGEST


def test_a_place_that_can_not_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        download(tmp_path / "file" / "w.pt", server.url).fetch()
    assert not server.asked


@pytest.mark.parametrize("url", ["ftp://host/file", "file:///etc/passwd", "host/file"])
def test_only_http_is_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https://"):
        download(tmp_path / "w.pt", url)


def test_a_local_file_is_copied_when_it_is_the_right_one(tmp_path: Path) -> None:
    source, path = tmp_path / "theirs", tmp_path / "w.pt"
    source.write_bytes(BODY)
    assert copy_checked(source, path, DIGEST) == DIGEST and path.read_bytes() == BODY
    source.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="theirs: is another file"):
        copy_checked(source, path, DIGEST)
    assert path.read_bytes() == BODY and left(tmp_path) == ["theirs", "w.pt"]
    with pytest.raises(DataError, match="no such file"):
        copy_checked(tmp_path / "none", path)
