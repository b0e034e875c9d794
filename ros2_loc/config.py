"""From YAML and overrides to frozen dataclasses; a key that nobody knows is an error, never ignored."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ros2_loc.errors import ConfigError

T = TypeVar("T")


def build(schema: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the frozen dataclass `schema` with `values` over its defaults.

    Args:
        schema: dataclass; its field types are enforced.
        values: nested mapping.
        where: shown in errors, for instance "config/pipelines/default.yaml: solver".

    Raises:
        ConfigError: an unknown key, a wrong type, or a value that the dataclass refuses.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(dict(values)))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {_one_line(error)}; known keys: {', '.join(_keys(schema))}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {_one_line(error)}") from error


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping in a YAML file, with `a.b=value` overrides applied.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or a malformed override.
    """
    try:
        loaded: Any = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise ConfigError(f"{path}: expected a mapping at the top level")
        for override in overrides:
            key, _, value = override.partition("=")
            if value.strip() == "{}":  # a merge would leave what is there: this empties it, for a plugin with other settings
                OmegaConf.update(loaded, key, {}, merge=False)
            else:
                loaded = OmegaConf.merge(loaded, OmegaConf.from_dotlist([override]))
        return OmegaConf.to_container(loaded, resolve=True)  # type: ignore[return-value]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except ConfigError:
        raise
    except Exception as error:  # OmegaConf lets errors of the YAML parser through as they are
        raise ConfigError(f"{path}: not a valid YAML configuration: {_one_line(error)}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen config as nested mappings, lists, strings and numbers, as YAML and JSON know them (for provenance and for writing)."""
    return _plain(OmegaConf.to_container(OmegaConf.structured(config), resolve=True))  # type: ignore[no-any-return]


def share_folder() -> Path:
    """The folder that holds `config/`, `launch/` and `rviz/`: the checkout, or `share/ros2_loc` of the prefix this package is installed in.

    Raises:
        ConfigError: none of the places has it, which means a damaged installation.
    """
    package = Path(__file__).resolve().parent
    places = [package.parent, *(p / "share" / "ros2_loc" for p in package.parents), Path(sys.prefix) / "share" / "ros2_loc"]
    for place in places:
        if (place / "config" / "pipelines").is_dir():
            return place
    raise ConfigError(f"config/pipelines is not in any of {', '.join(map(str, places[:4]))} …: install ros2_loc again with pip or colcon")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _keys(schema: type) -> list[str]:
    return list(getattr(schema, "__dataclass_fields__", {}))


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
