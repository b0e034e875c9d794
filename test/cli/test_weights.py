"""`ros2-loc weights` against a server on the loopback, with rows of its own in the table."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ros2_loc.cli.checks import Mark
from ros2_loc.cli.weight_checks import check_weights
from ros2_loc.errors import DataError
from ros2_loc.localization.pipeline import PipelineConfig
from ros2_loc.models.weight_files import locate, sha256
from ros2_loc.models.weight_table import TABLE, WeightFile
from ros2_loc.registry import components

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL under which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()
    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that is looked in."""
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", str(tmp_path / "here"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    return tmp_path / "here"


@pytest.fixture
def mine(site: tuple[Path, str], here: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """The row `mine`: published on the site, free for all uses."""
    folder, url = site
    torch.save({"conv.weight": torch.ones(3)}, folder / "mine.pth")
    row = WeightFile(
        published="mine.pth",
        url=f"{url}/mine.pth",
        source="https://example.org/mine",
        sha256=sha256(folder / "mine.pth"),
        licence="BSD-3-Clause",
        commercial=True,
        size_mb=1.2,
        preprocessing="0..1",
        used_by=("sift",),
    )
    monkeypatch.setitem(TABLE, "mine", row)
    return row


def replace(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    monkeypatch.setitem(TABLE, "mine", dataclasses.replace(TABLE["mine"], **changes))  # type: ignore[arg-type]


def one_line(err: str) -> bool:
    return err.startswith("ros2-loc: error: ") and err.count("\n") == 1


def test_a_file_is_fetched_once_and_found_by_its_name(call: Callable, mine: WeightFile, here: Path) -> None:
    with pytest.raises(DataError, match=r"'mine' \(mine.pth, sha256 \w{12}...\) are not here: ros2-loc weights pull mine$"):
        locate("mine")
    said = call("weights", "pull", "mine")
    assert said.code == 0 and all(word in said.out for word in ("1.2 MB", mine.url, "BSD-3-Clause", str(here / "mine.pth"))), said
    assert locate("mine") == here / "mine.pth" and json.loads((here / "mine.pth.json").read_text())["sha256"] == mine.sha256
    assert "is here already" in call("weights", "pull", "mine").out
    assert call("weights", "where", "mine").out == f"{here / 'mine.pth'}\n"


def test_a_damaged_file_is_named_and_pulled_again(call: Callable, mine: WeightFile, here: Path) -> None:
    call("weights", "pull", "mine")
    (here / "mine.pth").write_bytes(b"damaged")
    said = call("weights", "check", "mine")
    assert said.code == 1 and "sha256 is" in said.out and "ros2-loc weights pull mine" in said.out
    assert call("weights", "pull", "mine").code == 0 and sha256(here / "mine.pth") == mine.sha256
    said = call("weights", "check", "mine")
    assert said.code == 0 and "it holds 1 tensors" in said.out


def test_other_uses_need_consent(call: Callable, mine: WeightFile, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, licence="CC BY-NC-SA 3.0", commercial=False)
    said = call("weights", "pull", "mine")
    assert said.code == 2 and one_line(said.err) and "CC BY-NC-SA 3.0" in said.err and "--accept-licence" in said.err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    said = call("weights", "pull", "mine")
    assert said.code == 2 and "was not accepted" in said.err and not here.exists()
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert call("weights", "pull", "mine").code == 0
    (here / "mine.pth").unlink()
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked in spite of --accept-licence"))
    assert call("weights", "pull", "mine", "--accept-licence").code == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sha256": "0" * 64}, "sends another file"),
        ({"url": "", "published": "gone.pth"}, "get gone.pth from https://example.org/mine, then add --from FILE"),
        ({"published": "gone.pth"}, "404"),
    ],
)
def test_what_goes_wrong_is_one_line_and_keeps_nothing(
    call: Callable, mine: WeightFile, here: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], expected: str
) -> None:
    if expected == "404":
        changes = {"url": mine.url.replace("mine.pth", "gone.pth")}
    replace(monkeypatch, **changes)
    said = call("weights", "pull", "mine")
    assert said.code == 1 and one_line(said.err) and expected in said.err and "--from" in said.err, said
    assert not here.exists() or not list(here.iterdir())


def test_without_a_network_a_copy_does(call: Callable, mine: WeightFile, site: tuple[Path, str], here: Path, tmp_path: Path) -> None:
    copy = tmp_path / "usb" / "mine.pth"
    copy.parent.mkdir()
    copy.write_bytes((site[0] / "mine.pth").read_bytes()[:-1])
    said = call("weights", "pull", "mine", "--from", copy)
    assert said.code == 1 and one_line(said.err) and "is another file" in said.err and not list(here.iterdir())
    copy.write_bytes((site[0] / "mine.pth").read_bytes())
    assert call("weights", "pull", "mine", "--from", copy).code == 0 and locate("mine") == here / "mine.pth"
    assert call("weights", "pull", "mine", "--from", copy.parent, "--again").code == 0
    other = tmp_path / "elsewhere"
    assert call("weights", "pull", "mine", "--from", mine.url, "--to", other, "--again").code == 0 and (other / "mine.pth").is_file()
    said = call("weights", "pull", "mine", "small", "--from", copy)
    assert said.code == 2 and "one name at a time" in said.err


def test_where_no_sha256_is_known_the_first_one_holds(
    call: Callable, mine: WeightFile, site: tuple[Path, str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(monkeypatch, sha256="")
    said = call("weights", "pull", "mine")
    assert said.code == 0 and mine.sha256 in said.out and "compare it" in said.out
    assert locate("mine") == here / "mine.pth"
    torch.save({"conv.weight": torch.zeros(3)}, here / "mine.pth")
    with pytest.raises(DataError, match="sha256 is"):
        locate("mine")
    torch.save({"conv.weight": torch.zeros(4)}, site[0] / "mine.pth")
    said = call("weights", "pull", "mine")
    assert said.code == 1 and "sends another file" in said.err
    assert call("weights", "pull", "mine", "--again").code == 0
    assert sha256(locate("mine")) == sha256(site[0] / "mine.pth") != mine.sha256
    (here / "mine.pth.json").unlink()
    with pytest.raises(DataError, match="nothing says its sha256: `ros2-loc weights pull mine --from"):
        locate("mine")
    assert call("weights", "pull", "mine", "--from", here / "mine.pth").code == 0 and locate("mine")


def test_where_no_sha256_is_known_what_is_no_weights_is_not_kept(
    call: Callable, mine: WeightFile, site: tuple[Path, str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(monkeypatch, sha256="")
    (site[0] / "mine.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    said = call("weights", "pull", "mine")
    assert said.code == 1 and one_line(said.err) and "nothing was kept" in said.err and not list(here.iterdir())


def test_the_list_says_where_each_stands(call: Callable, mine: WeightFile) -> None:
    def row(out: str) -> str:
        return next(line for line in out.splitlines() if line.startswith("mine "))

    assert row(call("weights", "list").out).split() == ["mine", "missing", "1.2", "yes", "sift", "BSD-3-Clause"]
    call("weights", "pull", "mine")
    said = call("weights", "list", "--commercial")
    assert " here " in row(said.out) and "superglue_indoor" not in said.out and " shipped " in said.out


def test_names_and_folders(call: Callable, here: Path) -> None:
    said = call("weights", "pull", "huge")
    assert said.code == 2 and one_line(said.err) and "no weights 'huge'; there are: small" in said.err
    assert call("weights", "where").out.splitlines()[0] == str(here)
    assert "shipped" in call("weights", "list").out and call("weights", "pull", "small").out.startswith("small: is here already")


def test_a_folder_of_folders_is_looked_in(mine: WeightFile, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", str(site[0].parent))
    assert locate("mine") == site[0] / "mine.pth"


def test_doctor_names_what_a_pipeline_lacks(call: Callable, mine: WeightFile) -> None:
    pipeline = PipelineConfig(extractor={"name": "sift", "weights": "mine"})
    (finding,) = check_weights(pipeline)
    assert finding.mark is Mark.BAD and "extractor sift" in finding.text and "ros2-loc weights pull mine" in finding.text
    call("weights", "pull", "mine")
    (finding,) = check_weights(pipeline)
    assert finding.mark is Mark.GOOD
    assert not list(check_weights(PipelineConfig()))


def test_every_row_says_what_a_user_must_know() -> None:
    for name, row in TABLE.items():
        assert name == name.lower() and row.licence and row.source and row.preprocessing and row.used_by and row.size_mb > 0
        assert bool(row.file) != bool(row.published), name
        assert not row.sha256 or len(row.sha256) == 64
        assert row.sha256 or row.url or "https://" in row.source
        assert all(url.startswith("https://") and url.endswith(row.published) for url in (row.url, *row.mirrors) if url)


def test_components_say_which_weights_are_missing_and_what_they_are_allowed_for(call: Callable, here: Path) -> None:
    said = call("components")
    lines = {tuple(line.split()[:2]): line.split() for line in said.out.splitlines() if line}
    assert lines["extractor", "sift"][2:5] == ["yes", "-", "yes"]
    assert lines["extractor", "r2d2"][2:5] == ["no", "r2d2_wasf_n16", "no"]
    assert lines["cross_view", "cvlnet"][2:5] == ["yes", "small", "yes"]
    assert "ros2-loc weights pull r2d2_wasf_n16" in said.out.partition("Not usable here:")[2]


def test_every_plugin_that_has_weights_of_the_table_is_named_there() -> None:
    for rows in components().values():
        for name, component in rows.items():
            if component.weights:
                assert name in TABLE[component.weights].used_by
