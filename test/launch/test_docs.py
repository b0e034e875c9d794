"""docs/nodes.md names every topic and service of the nodes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

NODES = ("object_detector", "map_localizer", "cross_view_localizer", "pose_fusion", "map_server", "bag_player", "recorder")


@pytest.mark.parametrize("name", NODES)
def test_every_topic_is_documented(name: str, checkout: Path) -> None:
    text = (checkout / "docs" / "nodes.md").read_text()
    section = text.split(f"## {name}\n")[1].split("\n## ")[0]
    topics = []
    for node in ast.walk(ast.parse((checkout / "ros2_loc" / "ros" / f"{name}_node.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("publish", "subscribe", "serve"):
            topics += [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
    assert topics and [topic for topic in topics if f"`{topic}`" not in section] == []


def test_the_launch_arguments_in_the_text_exist(checkout: Path) -> None:
    from ros2_loc.graph import LOCALIZE

    text = (checkout / "docs" / "nodes.md").read_text()
    known = {argument.name for argument in LOCALIZE.arguments}
    used = {word.split(":=")[0].strip("`(").rpartition(" ")[2] for word in text.split() if ":=" in word}
    assert used and used <= known
