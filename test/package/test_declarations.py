"""package.xml, requirements.txt and setup.py name what the code imports, and agree on the version."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

import ros2_loc

ROS_MODULES = re.compile(
    r"rclpy|ament_index_python|\w+_msgs(_py)?|\w+_srvs|\w+_interfaces|message_filters|cv_bridge|tf_transformations|tf2_\w+|launch\w*"
)
ROS_PACKAGES = {"tf2_ros": "tf2_ros_py"}  # the module's package where the names differ
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "rerun": "rerun-sdk",
    "yaml": "PyYAML",
}


def imported_modules(folder: Path) -> set[str]:
    """Top-level names of everything that the Python files under `folder` import, ros2_loc and the standard library aside."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"ros2_loc"}


def declared_in_manifest(checkout: Path) -> set[str]:
    """The packages on which package.xml depends when the nodes run."""
    root = ElementTree.parse(checkout / "package.xml").getroot()
    return {element.text for tag in ("depend", "exec_depend") for element in root.findall(tag)}


def distribution(requirement: str) -> str:
    """The name in a requirement line, in lower case."""
    return re.match(r"[\w.-]+", requirement).group().lower()


def test_ros_imports_are_in_package_xml(checkout: Path) -> None:
    imported = imported_modules(checkout / "ros2_loc") | imported_modules(checkout / "launch")
    missing = {ROS_PACKAGES.get(name, name) for name in imported if ROS_MODULES.fullmatch(name)} - declared_in_manifest(checkout)
    assert not missing, f"imported, but not in package.xml: {sorted(missing)}"


def test_other_imports_are_requirements(checkout: Path, setup_module_of_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    declared = {distribution(line) for line in setup_module_of_package.run_requirements()}
    extras = (checkout / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    declared.update(distribution(line) for line in re.findall(r'"([^"]+)"', extras))
    imported = {name for name in imported_modules(checkout / "ros2_loc") if not ROS_MODULES.fullmatch(name)}
    missing = {DISTRIBUTIONS.get(name, name).lower() for name in imported} - declared
    assert not missing, f"imported, but neither in requirements.txt nor among the extras of pyproject.toml: {sorted(missing)}"


def test_the_version_is_one(checkout: Path) -> None:
    manifest = ElementTree.parse(checkout / "package.xml").getroot().findtext("version")
    changelog = re.search(r"^(\d+\.\d+\.\d+)", (checkout / "CHANGELOG.rst").read_text(), re.MULTILINE).group(1)
    assert manifest == changelog == ros2_loc.__version__


def test_manifest_has_the_tags_that_the_build_needs(checkout: Path) -> None:
    root = ElementTree.parse(checkout / "package.xml").getroot()
    assert root.get("format") == "3"
    assert root.findtext("member_of_group") == "rosidl_interface_packages"
    assert root.findtext("export/build_type") == "ament_cmake"
    assert (checkout / root.find("license").get("file")).read_text().lstrip().startswith("Apache License")
    declared = [element.text for element in root if element.tag.endswith("depend")]
    assert len(declared) == len(set(declared))
    for copy in (checkout / "interfaces").glob("*/package.xml"):
        assert copy.parent.name in declared_in_manifest(checkout)
