"""The rooms import downward only, and the contracts that say so can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed: pip install '.[test]'")

ROOMS = ("cli", "core", "evaluation", "io", "localization", "mapping", "ros", "world")
VIOLATIONS = {
    "core/reads.py": "import ros2_loc.io\n",  # upward
    "cli/starts.py": "import ros2_loc.ros\n",  # sideways
    "localization/node.py": "import rclpy\n",
    "mapping/network.py": "import torch\n",
    "io/command.py": "import argparse\n",
    "evaluation/metrics.py": "import matplotlib.pyplot\n",
}
ALLOWED = {
    "ros/node.py": "import rclpy\nfrom std_msgs.msg import Header\nimport ros2_loc.localization\n",
    "cli/verb.py": "import argparse\nimport ros2_loc.evaluation\n",
    "evaluation/report.py": "import matplotlib.pyplot\nimport ros2_loc.world\n",
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """lint-imports over the package in `folder`."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    environment = dict(os.environ, PYTHONPATH=str(folder))
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def little_package(checkout: Path, tmp_path: Path) -> Path:
    """A package of empty rooms under the contracts of pyproject.toml, with imports that are all allowed."""
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    package = tmp_path / "ros2_loc"
    for room in ROOMS:
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").touch()
    for module in ("__init__", "registry", "config", "errors"):
        (package / f"{module}.py").touch()
    write(package, ALLOWED)
    return tmp_path


def write(package: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        (package / name).write_text(text)


def test_the_package_keeps_its_contracts(checkout: Path) -> None:
    result = lint(checkout)
    assert result.returncode == 0, result.stdout + result.stderr


def test_allowed_imports_pass(little_package: Path) -> None:
    result = lint(little_package)
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_violation_is_seen(little_package: Path) -> None:
    write(little_package / "ros2_loc", VIOLATIONS)
    result = lint(little_package)
    assert result.returncode == 1
    for name in VIOLATIONS:
        module = "ros2_loc." + name.removesuffix(".py").replace("/", ".")
        assert f"{module} ->" in result.stdout or f"{module} (l." in result.stdout or f"{module} is not allowed" in result.stdout, module
    assert result.stdout.count(" BROKEN") == 5
