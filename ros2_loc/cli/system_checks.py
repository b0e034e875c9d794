"""What `doctor` looks at on this machine: Python packages, files, ROS 2 and its middleware."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ros2_loc.cli.checks import Finding, bad, good, note
from ros2_loc.cli.ros_installation import has_package

_REQUIRED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "pycolmap": "pycolmap",
    "faiss": "faiss-cpu",
    "poselib": "poselib",
    "h5py": "h5py",
    "omegaconf": "omegaconf",
    "yaml": "PyYAML",
    "rosbags": "rosbags",
    "matplotlib": "matplotlib",
    "tqdm": "tqdm",
}
_OPTIONAL = {
    "rerun": ("rerun-sdk", "--rerun"),
    "pycocotools": ("pycocotools", "masks in files, ros2-loc evaluate detection"),
    "trimesh": ("trimesh", "ros2-loc demo"),
    "embreex": ("embreex", "ros2-loc demo"),
}
_NODE = """
import rclpy
from rclpy.node import Node
rclpy.init()
node = Node("ros2_loc_doctor")
print(rclpy.utilities.get_rmw_implementation_identifier())
node.destroy_node()
rclpy.shutdown()
"""
_TORCH = """
import torch
print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "without a GPU", sep=", ")
"""
_SHARED_MEMORY = Path("/dev/shm")
_NEEDED_MIB = 200  # four nodes and a player, 32 MB each, and room to spare


def check_packages() -> Iterator[Finding]:
    """Python and what it must be able to import."""
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    text = f"{platform.python_version()} at {sys.executable}"
    yield good("python", text) if supported else bad("python", text, "use Python 3.10 to 3.13")
    missing = [package for module, package in _REQUIRED.items() if not has_package(module)]
    if missing:
        yield bad("packages", f"missing: {', '.join(missing)}", f"{sys.executable} -m pip install {' '.join(missing)}")
    else:
        yield good("packages", ", ".join(f"{p} {_version(p)}" for p in ("numpy", "pycolmap", "faiss-cpu", "rosbags", "omegaconf")))
        yield _broken_imports()
    for module, (package, use) in _OPTIONAL.items():
        if not has_package(module):
            yield note("optional", f"{package} is not installed, which {use} needs", f"{sys.executable} -m pip install {package}")


def _broken_imports() -> Finding:
    """A package may be there and still not load: another numpy, a missing library."""
    failures = []
    for module in ("numpy", "cv2", "faiss", "pycolmap", "h5py"):
        done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it crashed"])[-1]
            failures.append(f"{module}: {last}")
    return (
        bad("imports", "; ".join(failures), "install these packages again, in a fresh venv")
        if failures
        else good("imports", "all of them load")
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(from the system)"


def check_networks() -> Iterator[Finding]:
    """PyTorch, a GPU, and which plugins stand on them."""
    from ros2_loc.registry import components, install_command

    names = sorted(f"{kind} {name}" for kind, rows in components().items() for name, row in rows.items() if "torch" in row.requires.split())
    lacking = [package for package in ("torch", "safetensors", "timm") if not has_package(package)]
    if lacking:
        remedy = f"{sys.executable} -m {install_command(lacking[0])}"
        yield note("networks", f"no {', '.join(lacking)}, which {', '.join(names)} needs", remedy)
        return
    done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        yield bad("networks", f"torch does not load: {(done.stderr.strip().splitlines() or ['it crashed'])[-1]}", "install torch again")
        return
    yield good("networks", f"torch {done.stdout.strip()}, timm {_version('timm')}; for {', '.join(names)}")


def check_system() -> Iterator[Finding]:
    """Files of this package, the clock, the cores."""
    from ros2_loc.config import share_folder
    from ros2_loc.errors import Ros2LocError

    try:
        folder = share_folder()
        lacking = [part for part in ("config/pipelines", "config/nodes", "launch", "rviz") if not (folder / part).is_dir()]
        if lacking:
            yield bad("files", f"{folder} lacks {', '.join(lacking)}", "install ros2_loc again with pip or colcon")
        else:
            yield good("files", f"config, launch and rviz in {folder}")
    except Ros2LocError as error:
        yield bad("files", str(error))
    now = time.gmtime()
    if now.tm_year < 2024:
        yield bad(
            "clock", f"says {time.strftime('%Y-%m-%d', now)}", "set it (chrony, timedatectl): stamps of cameras and odometry must agree"
        )
    else:
        yield good("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", now))
    cores = os.cpu_count() or 1
    yield good("cores", str(cores)) if cores >= 2 else note("cores", "1", "expect few poses per second; pipeline:=fast is the lighter one")


def check_middleware() -> Iterator[Finding]:
    """ROS 2: rclpy, our messages, the middleware, its large images, discovery, RViz."""
    if not has_package("rclpy"):
        yield bad("ros", "no rclpy: the nodes can't run (offline verbs can)", "source a ROS 2, or pip install ros2_loc on Linux x86-64")
        return
    distribution = os.environ.get("ROS_DISTRO") or f"rclpy {_version('ros-rclpy')} from PyPI"
    done = _try_node()
    if done is None or done.returncode:
        why = "it does not answer" if done is None else (done.stderr.strip().splitlines() or ["it crashed"])[-1]
        yield bad("ros", f"{distribution}: a node can't be made: {why}", "source ROS 2 before starting, or install into a fresh venv")
        return
    middleware = done.stdout.strip().splitlines()[-1]
    yield good("ros", f"{distribution}, {middleware}")
    if has_package("ros2_loc.msg"):
        yield good("messages", "ros2_loc/msg is compiled")
    else:
        yield bad("messages", "ros2_loc/msg is not compiled", "pip install . (needs a C compiler), or colcon build")
    yield from _large_images(middleware)
    yield from _discovery()
    if shutil.which("rviz2") is None:
        yield note("rviz", "rviz2 is not installed here", "on a machine with ROS 2: rviz2 -d rviz/localize.rviz; or record with --rerun")


def _try_node() -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run([sys.executable, "-c", _NODE], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None


def _large_images(middleware: str) -> Iterator[Finding]:
    """Fast DDS as it comes loses best-effort images of over 512 KB."""
    if "fastrtps" in middleware:
        from ros2_loc import graph

        name, ours = graph.profile_variable()
        if os.environ.get(name):
            there = Path(os.environ[name]).is_file()
            yield (
                good("images", f"{name}={os.environ[name]}")
                if there
                else bad("images", f"{name} names no file: {os.environ[name]}", f"export {name}={ours}")
            )
        elif not any(key.startswith(("FASTDDS_", "FASTRTPS_")) for key in os.environ):
            yield note(
                "images",
                "large images need a profile; run, demo and the launch files set it, your camera's driver needs it too",
                f"export {name}={ours}",
            )
    if _SHARED_MEMORY.is_dir():
        free_mib = shutil.disk_usage(_SHARED_MEMORY).free >> 20
        left = len(list(_SHARED_MEMORY.glob("fastrtps_*"))) + len(list(_SHARED_MEMORY.glob("fastdds_*")))
        if free_mib < _NEEDED_MIB:
            yield bad(
                "shared memory", f"/dev/shm has {free_mib} MiB free, {_NEEDED_MIB} are needed", "in a container: docker run --shm-size=1g"
            )
        elif left > 200:
            yield note(
                "shared memory",
                f"{left} files of Fast DDS in /dev/shm, most left by killed nodes",
                "with no node running: rm /dev/shm/fast*",
            )
        else:
            yield good("shared memory", f"{free_mib} MiB free in /dev/shm")


def _discovery() -> Iterator[Finding]:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    if not domain.isdigit() or int(domain) > 101:
        yield bad("discovery", f"ROS_DOMAIN_ID={domain}", "use a number from 0 to 101")
        return
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    local = " (ROS_LOCALHOST_ONLY=1)" if os.environ.get("ROS_LOCALHOST_ONLY") == "1" else ""
    yield good("discovery", f"domain {domain}, range {reach}{local}; all nodes must have the same")
