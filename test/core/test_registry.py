"""Names become plugins; wrong names, keys and missing packages are said in one line."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass

import pytest

from ros2_loc import registry
from ros2_loc.errors import ConfigError, MissingDependencyError


class Plugin:
    @dataclass(frozen=True)
    class Config:
        size: int = 3

    def __init__(self, config: Config, device: str) -> None:
        self.config, self.device = config, device


@pytest.fixture
def with_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_plugin_of_the_tests")
    module.Plugin = Plugin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.TABLE["extractor"], "tested", registry.Component("a_plugin_of_the_tests:Plugin", "for tests"))
    monkeypatch.setitem(registry.TABLE["extractor"], "lacking", registry.Component("a_package_that_nobody_has.x:Y", "for tests"))


@pytest.mark.usefixtures("with_plugin")
def test_a_section_becomes_a_plugin_with_its_config() -> None:
    plugin = registry.create("extractor", {"name": "tested", "size": 7}, "cuda")
    assert isinstance(plugin, Plugin) and plugin.config == Plugin.Config(7) and plugin.device == "cuda"


@pytest.mark.usefixtures("with_plugin")
@pytest.mark.parametrize(
    ("section", "words"),
    [({"name": "tested", "sise": 7}, "sise"), ({"size": 7}, "needs a name"), ({"name": "nonsense"}, "there are: .*tested")],
)
def test_a_wrong_section_is_refused(section: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        registry.create("extractor", section)


@pytest.mark.usefixtures("with_plugin")
def test_a_missing_package_is_named_with_the_remedy() -> None:
    with pytest.raises(MissingDependencyError, match="pip install a_package_that_nobody_has"):
        registry.create("extractor", {"name": "lacking"})


def test_the_table_names_modules_and_classes() -> None:
    for kind, rows in registry.components().items():
        assert kind in registry.KINDS
        for name, component in rows.items():
            assert component.target.count(":") == 1 and component.summary, name
