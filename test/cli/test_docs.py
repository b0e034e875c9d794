"""Every `ros2-loc` line in the README and in docs/ can be called as it stands, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ros2_loc import graph
from ros2_loc.cli.main import VERBS, parser_of
from ros2_loc.cli.run import pairs

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """`ros2-loc ...` lines of the blocks, and those within a sentence that have more than a verb."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
    lines = [line.partition(" # ")[0].strip() for line in blocks.splitlines()]
    within = re.findall(r"`(ros2-loc [a-z-]+ [^`.]*[a-z])`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in (*lines, *within) if line.startswith("ros2-loc ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_can_be_called(page: Path) -> None:
    for command in commands(page):
        _, verb, *words = shlex.split(command.replace("--map-every N", "--map-every 5"))
        if words == ["..."] or verb not in VERBS:
            assert verb == "..." or verb in VERBS, command
            continue
        if verb in ("map", "tiles", "convert", "evaluate") and len(words) == 1:
            continue  # named, not called
        arguments = parser_of(verb).parse_args(words)
        if verb == "run" and arguments.arguments:
            graph.fill(graph.LOCALIZE, pairs(arguments.arguments))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_file(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, f"{page.name}: {target}"


def test_there_are_commands_in_the_readme() -> None:
    assert len(commands(CHECKOUT / "README.md")) >= 4
