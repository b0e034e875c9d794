"""Large files from servers: fetched on from where an earlier try ended, checked, and whole or not there.

pooch, the usual library for this, begins anew after every break; a robot's link may never bring 260 MB in one go.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from ros2_loc import __version__
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.io.files import atomic_path, require_file, sha256

TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416
_BLOCK_BYTES = 1 << 16


class _RefusedError(Exception):
    """One server will not give the file; another may."""


@dataclass(frozen=True)
class Download:
    """A file, the places it can be had from, and patience.

    What has arrived lies in `.<name>.part` beside the file until it is whole, also between runs.

    Attributes:
        urls: http or https; the second is asked when the first refuses or sends something else.
        path: where the file shall be.
        sha256: hexadecimal; "" takes what comes.
        tries: in a row without a byte, for each URL, with waits in between that double.
        first_wait_s, timeout_s: before the second try; for an answer.
        sleep: waits.

    Raises:
        ConfigError: no URL, or one that is not http or https.
    """

    urls: tuple[str, ...]
    path: Path
    sha256: str = ""
    tries: int = 4
    first_wait_s: float = 1.0
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        wrong = next((url for url in self.urls if not url.startswith(("http://", "https://"))), None)
        if wrong is not None or not self.urls:
            raise ConfigError(f"{wrong or self.path.name}: give a URL that begins with https:// or http://")

    @property
    def part(self) -> Path:
        """What has arrived so far."""
        return self.path.with_name(f".{self.path.name}.part")

    def fetch(self, show_progress: bool = False) -> str:
        """Fetch the file, put it in its place in one step, and return its sha256.

        Raises:
            DataError: nobody gives the file or the right one (why, for each URL), the disk is full, or another download of it runs.
        """
        problems = []
        with self._open_part() as file:
            for url in self.urls:
                try:
                    found = self._fetch_from(url, file, show_progress)
                except _RefusedError as problem:
                    problems.append(f"{url}: {problem}")
                    continue
                self.part.replace(self.path)
                self._tag.unlink(missing_ok=True)
                return found
        raise DataError(f"{self.path.name} can't be had: {'; '.join(problems)}")

    @property
    def _tag(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part.etag")

    @contextmanager
    def _open_part(self) -> Iterator[BinaryIO]:
        """The part, ours alone; nothing is left of it where nothing arrived."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.part.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (self.part.exists() and os.path.samestat(os.fstat(file.fileno()), self.part.stat())):
                    raise BlockingIOError  # it ended between our two lines, and this is the finished file
                try:
                    yield file
                finally:
                    if self.part.exists() and self.part.stat().st_size == 0:
                        self._forget(file)
                        self.part.unlink()
        except BlockingIOError as error:
            raise DataError(f"{self.path}: another download of it is running: wait for it") from error
        except OSError as error:
            raise DataError(f"{self.path}: can't be written: {error.strerror}; choose another place") from error

    def _fetch_from(self, url: str, file: BinaryIO, show_progress: bool) -> str:
        resumed = file.tell() > 0
        self._complete(url, file, show_progress)
        found = sha256(self.part)
        if self.sha256 and found != self.sha256:
            self._forget(file)
            if resumed:  # the old beginning may be what was wrong
                return self._fetch_from(url, file, show_progress)
            raise _RefusedError(f"sends another file: sha256 {found[:12]}... instead of {self.sha256[:12]}...; nothing was kept")
        return found

    def _complete(self, url: str, file: BinaryIO, show_progress: bool) -> None:
        """Ask until the last byte is here."""
        failures, wait_s = 0, 0.0
        look = {"unit": "B", "unit_scale": True, "unit_divisor": 1000, "leave": False, "dynamic_ncols": True}
        with tqdm(desc=f"  {self.path.name}", disable=not show_progress, **look) as bar:
            while True:
                before, least_wait_s = file.tell(), 0.0
                try:
                    return self._ask(url, file, bar)
                except HTTPError as error:
                    problem, advice = f"{error.code} {error.reason}", "run again later"
                    least_wait_s = retry_after_s(error.headers.get("Retry-After"))
                    if error.code == _RANGE_NOT_SATISFIABLE and before:
                        if self.sha256 == sha256(self.part):
                            return None
                        self._forget(file)
                    elif error.code not in TRY_AGAIN:
                        raise _RefusedError(problem) from error
                except (URLError, HTTPException, OSError) as error:
                    problem, advice = str(getattr(error, "reason", "") or error or type(error).__name__), "is there a network?"
                arrived = file.tell() > before
                failures = 0 if arrived else failures + 1
                if failures >= self.tries:
                    raise _RefusedError(f"no answer in {self.tries} tries ({problem}); {_kept(file) or advice}")
                wait_s = self.first_wait_s if arrived or not wait_s else 2 * wait_s
                self.sleep(max(wait_s, least_wait_s))

    def _ask(self, url: str, file: BinaryIO, bar: tqdm) -> None:
        """One request, for what is missing. Where it breaks off, what came is in the file."""
        with urlopen(Request(url, headers=self._headers(file)), timeout=self.timeout_s) as response:
            if response.headers.get_content_type() == "text/html":
                raise _RefusedError("answers with a web page, not with a file")
            if file.tell() and not self._continues(response, file):
                self._forget(file)
            with self._on_disk(file):
                self._tag.write_text(response.headers.get("ETag") or "")
            length = response.headers.get("Content-Length")
            total = None if length is None else file.tell() + int(length)
            self._require_space(0 if total is None else total - file.tell())
            bar.total, bar.n = total, file.tell()
            bar.refresh()
            while block := response.read(_BLOCK_BYTES):
                with self._on_disk(file):
                    file.write(block)
                    file.flush()
                bar.update(len(block))
        if total is not None and file.tell() < total:
            raise ConnectionError(f"broke off after {file.tell()} of {total} bytes")

    def _headers(self, file: BinaryIO) -> dict[str, str]:
        headers = {"User-Agent": f"ros2_loc/{__version__}", "Accept-Encoding": "identity"}
        tag = self._tag.read_text() if self._tag.exists() else ""
        strong = tag if tag.startswith('"') else ""
        if file.tell() and (self.sha256 or strong):  # else nothing would tell whether it is still the same file
            headers["Range"] = f"bytes={file.tell()}-"
            headers |= {"If-Range": strong} if strong else {}
        return headers

    @staticmethod
    def _continues(response: HTTPResponse, file: BinaryIO) -> bool:
        return response.status == 206 and (response.headers.get("Content-Range") or "").startswith(f"bytes {file.tell()}-")

    @contextmanager
    def _on_disk(self, file: BinaryIO) -> Iterator[None]:
        """What fails in here is the disk, not the network."""
        try:
            yield
        except OSError as error:
            problem = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            self._forget(file)
            raise DataError(f"{self.path}: can't be written: {problem}; make room or choose another place") from error

    def _require_space(self, missing_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self.path.parent).free
        if missing_bytes > free_bytes:
            raise DataError(f"{self.path}: {missing_bytes / 1e6:.1f} MB to come, {free_bytes / 1e6:.1f} MB free: the disk is full")

    def _forget(self, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate()
        self._tag.unlink(missing_ok=True)


def copy_checked(source: Path, path: Path, expected: str = "") -> str:
    """Copy a file to `path` in one step and return its sha256; `expected` as `Download.sha256`.

    Raises:
        DataError: no such file, another file than expected, or a full disk; there is nothing at `path` then, or what was there before.
    """
    require_file(source, "download")
    with atomic_path(path) as draft:
        try:
            shutil.copyfile(source, draft)
        except OSError as error:
            raise DataError(f"{path}: can't be written: {error.strerror}; make room or choose another place") from error
        found = sha256(draft)
        if expected and found != expected:
            raise DataError(f"{source}: is another file: sha256 {found[:12]}... instead of {expected[:12]}...")
    return found


def retry_after_s(value: str | None) -> float:
    """Of the header: seconds, or a date; at most two minutes."""
    if not value:
        return 0.0
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), 120.0)


def _kept(file: BinaryIO) -> str:
    return f"{file.tell() / 1e6:.1f} MB are kept, run again later" if file.tell() else ""
