"""YAML and overrides -> frozen dataclasses; nothing unknown is let through."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ros2_loc.config import build, read_yaml, share_folder, to_dict
from ros2_loc.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    ratio: float = 0.8
    mode: Literal["fast", "good"] = "good"


@dataclass(frozen=True)
class Outer:
    count: int = 5
    name: str | None = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count must not be negative, got {self.count}")


def test_values_go_over_defaults() -> None:
    built = build(Outer, {"inner": {"ratio": 0.5}}, "here")
    assert built == Outer(5, None, Inner(0.5, "good"))
    assert isinstance(built.inner, Inner)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cuont": 3}, "cuont"),
        ({"count": "many"}, "many"),
        ({"inner": {"mode": "best"}}, "mode|best"),
        ({"inner": {"ratoi": 1.0}}, "ratoi"),
        ({"count": -1}, "negative"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        build(Outer, values, "default.yaml: solver")
    assert str(caught.value).startswith("default.yaml: solver") and "\n" not in str(caught.value)


def test_a_round_trip_through_a_mapping() -> None:
    config = Outer(7, "x", Inner(0.1, "fast"))
    assert build(Outer, to_dict(config), "here") == config


def test_an_override_can_empty_a_section(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("reranker: {name: x, settings: {a: 1}}\nother: {b: 2}\n")
    assert read_yaml(tmp_path / "a.yaml", ["reranker={}"]) == {"reranker": {}, "other": {"b": 2}}
    assert read_yaml(tmp_path / "a.yaml", ["reranker.settings={}"])["reranker"] == {"name": "x", "settings": {}}
    assert read_yaml(tmp_path / "a.yaml", ["reranker={}", "reranker.name=y"])["reranker"] == {"name": "y"}
    assert read_yaml(tmp_path / "a.yaml", ["reranker.settings.a=3"])["reranker"] == {"name": "x", "settings": {"a": 3}}


def test_yaml_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("count: 3\ninner: {ratio: 0.7}\n")
    assert read_yaml(path, ["inner.ratio=0.9", "inner.mode=fast"]) == {"count": 3, "inner": {"ratio": 0.9, "mode": "fast"}}


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "a: [1\n", "a: b: c\n"])
def test_yaml_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"a\.yaml") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_the_share_folder_holds_the_pipelines() -> None:
    assert list((share_folder() / "config" / "pipelines").glob("*.yaml"))
