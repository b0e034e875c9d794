"""The launch files start what `ros2-loc run` starts, with the same arguments (checked without `launch`, which PyPI does not have)."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ros2_loc import graph
from ros2_loc.graph import LOCALIZE

_spec = importlib.util.spec_from_file_location("fake_launch", Path(__file__).with_name("fake_launch.py"))
assert _spec and _spec.loader
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

FILES = ("localize", "replay", "build_map")


@pytest.fixture
def launch(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return lambda name: fake.load(checkout / "launch" / f"{name}.launch.py")


def described(actions: list[Any], arguments: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What each node of a launch description would be started with."""
    nodes = [a for a in actions if isinstance(a, fake.Node) and fake.holds(a.options.get("condition"), arguments)]
    return {
        (node.options.get("name") or "localization_container"): {
            "executable": node.options["executable"],
            "files": [fake.text(p, arguments) for p in node.options["parameters"] if not isinstance(p, dict)],
            "parameters": {k: fake.typed(v, arguments) for p in node.options["parameters"] if isinstance(p, dict) for k, v in p.items()},
            "remappings": {a: b for a, t in node.options["remappings"] if (b := fake.text(t, arguments)) != a},
            "arguments": [told for a in node.options["arguments"] if (told := fake.text(a, arguments))],
            "required": bool(node.options["on_exit"]),
        }
        for node in nodes
    }


def started(given: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The same of what `ros2-loc run` starts."""
    out = {}
    for process in graph.processes(LOCALIZE, given):
        command = list(process.command)
        own, ros = command[: command.index("--ros-args")], command[command.index("--ros-args") + 1 :]
        pairs = list(zip(ros[::2], ros[1::2], strict=True))
        ours = own[0] == sys.executable
        out[process.name] = {
            "executable": own[2].rpartition(".")[2].removesuffix("_node") if ours else own[0],
            "files": [value for flag, value in pairs if flag == "--params-file"],
            "parameters": {k: json.loads(v) for k, v in (value.split(":=", 1) for flag, value in pairs if flag == "-p")},
            "remappings": dict(value.split(":=", 1) for flag, value in pairs if flag == "-r"),
            "arguments": own[3:] if ours else own[1:],
            "required": process.required,
        }
    return out


CHOICES = {
    "bag": ("", "the bag"),
    "rviz": ("false", "true"),
    "container": ("false", "true"),
    "exit_with_bag": ("false", "true"),
    "use_sim_time": ("", "true"),
    "detector": ("", "centernet"),
    "image_topic": ("", "/front/image"),
}


@pytest.mark.parametrize("where", [("map",), ("tiles",), ("map", "tiles")], ids="-".join)
@pytest.mark.parametrize("chosen", list(itertools.product(*CHOICES.values())), ids=lambda chosen: "-".join(c or "_" for c in chosen))
def test_launch_file_and_run_start_the_same(launch: Any, tmp_path: Path, chosen: tuple[str, ...], where: tuple[str, ...]) -> None:
    given = {name: str(tmp_path) for name in where} | {"image_transport": "compressed"}
    given |= {name: value for name, value in zip(CHOICES, chosen, strict=True) if value}
    if "bag" in given:
        given["bag"] = str(tmp_path)
    actions = launch("localize")
    assert described(actions, fake.with_defaults(actions, given)) == started(given)


def test_the_arguments_are_those_of_the_graph(launch: Any) -> None:
    declared = [a for a in launch("localize") if isinstance(a, fake.DeclareLaunchArgument)]
    assert [a.parts[0] for a in declared] == [a.name for a in LOCALIZE.arguments]
    assert all(a.options["description"] for a in declared)


def test_images_get_their_profile(launch: Any) -> None:
    (variable,) = [a for a in launch("localize") if isinstance(a, fake.SetEnvironmentVariable)]
    assert variable.parts[0] == "FASTDDS_DEFAULT_PROFILES_FILE" and Path(fake.text(variable.parts[1], {})).is_file()


def test_replay_includes_localize_with_arguments_that_it_has(launch: Any) -> None:
    actions = launch("replay")
    (included,) = [a for a in actions if isinstance(a, fake.IncludeLaunchDescription)]
    assert Path(included.parts[0].path).is_file()
    passed = dict(included.options["launch_arguments"])
    assert set(passed) <= {argument.name for argument in LOCALIZE.arguments}
    values = fake.with_defaults(actions, {"map": "m", "bag": "b"})
    graph.fill(LOCALIZE, {name: fake.text(value, values) for name, value in passed.items()})


def test_build_map_calls_the_command_line(launch: Any) -> None:
    actions = launch("build_map")
    (node,) = [a for a in actions if isinstance(a, fake.Node)]
    values = fake.with_defaults(actions, {"map": "/m", "bag": "/b"})
    words = [fake.text(a, values) for a in node.options["arguments"]]
    assert node.options["executable"] == "ros2-loc" and words == ["map", "build", "/b", "/m", "--pipeline", "default"]


@pytest.mark.parametrize("name", FILES)
def test_launch_files_import_nothing_that_needs_more_than_launch(name: str, checkout: Path) -> None:
    tree = ast.parse((checkout / "launch" / f"{name}.launch.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in imported} <= {"launch", "launch_ros", "ros2_loc"}
    assert {module for module in imported if module.startswith("ros2_loc")} <= {"ros2_loc", "ros2_loc.config"}
