"""Every plugin that takes weights says in one line which file is missing or wrong, and what to type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ros2_loc import registry
from ros2_loc.errors import ConfigError, DataError, MissingDependencyError, Ros2LocError
from ros2_loc.models.weight_table import TABLE

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")


def with_weights() -> Iterator[tuple[str, str]]:
    for kind, rows in registry.components().items():
        for name in sorted(rows):
            try:
                if hasattr(registry.resolve(kind, name).Config, "weights"):  # type: ignore[attr-defined]
                    yield kind, name
            except MissingDependencyError:
                continue


PLUGINS = list(with_weights())


def refusal(kind: str, name: str, weights: str | Path) -> Ros2LocError:
    with pytest.raises((ConfigError, DataError)) as caught:
        registry.create(kind, {"name": name, "weights": str(weights)})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return caught.value


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_weights_that_nobody_knows_list_the_names(kind: str, name: str) -> None:
    said = refusal(kind, name, "no_such_weights")
    assert isinstance(said, ConfigError) and "no_such_weights" in str(said) and "ros2-loc weights list" in str(said)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_files_that_are_none_of_its_weights_are_named(kind: str, name: str, tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    for suffix in (".pth", ".pt", ".onnx", ".safetensors"):
        (tmp_path / f"page{suffix}").write_text("<html>404</html>")
    for path in sorted(tmp_path.iterdir()):
        assert str(path) in str(refusal(kind, name, path)), path.name


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in PLUGINS if registry.components()[kind][name].weights])
def test_its_usual_weights_are_in_the_table_and_can_be_pulled(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = registry.components()[kind][name].weights
    default = registry.resolve(kind, name).Config().weights  # type: ignore[attr-defined]
    assert default in (weights, "")  # "": told by the features
    if TABLE[weights].file:
        return  # shipped
    monkeypatch.setenv("ROS2_LOC_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = str(refusal(kind, name, weights))
    assert TABLE[weights].published in said and f"ros2-loc weights pull {weights}" in said
    assert TABLE[weights].sha256[:12] in said
    (tmp_path / "ros2_loc" / "weights").mkdir(parents=True)
    (tmp_path / "ros2_loc" / "weights" / TABLE[weights].published).write_text("another file")
    assert "sha256" in str(refusal(kind, name, weights))
