"""Which code, on which machine: what a result needs to be made again."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from ros2_loc import __version__


def describe_machine() -> dict[str, str]:
    """Version, commit and machine, for the settings of a result."""
    return {
        "ros2_loc": __version__,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def commit(folder: Path | None = None) -> str:
    """Hash of the checkout that the code is from, with "+" where files differ from it; empty where it is installed without git."""
    folder = folder or Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        found, changed = (
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{found}+" if changed else found
