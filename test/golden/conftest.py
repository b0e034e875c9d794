"""One test for each network and seed in the folder of golden outputs, and a table of the errors at the end."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

CHECKOUT = Path(__file__).resolve().parents[2]
IMPLEMENTED = (
    *("centernet", "cosplace", "cvlnet", "cvnet", "d2det", "d2net", "delg", "hrnet", "loftr", "patchnetvlad", "r2d2", "rrt", "superglue"),
    *("transvpr",),
)
# seconds to half a minute of a core each: with the slow tests, unless goldens are asked for
LARGE = ("centernet", "cosplace", "cvlnet", "cvnet", "d2det", "d2net", "delg", "hrnet", "loftr", "r2d2", "superglue")
LINES = pytest.StashKey[list[str]]()
_SEED = re.compile(r"golden_seed(\d+)\.npz")


def parity_folder(config: pytest.Config) -> tuple[Path, bool]:
    """The folder of golden outputs, and whether it was asked for by --parity."""
    asked = config.getoption("parity", default=None)
    shared = Path(os.environ.get("ROS2_LOC_SHARED", CHECKOUT.parent / "shared"))
    return (Path(asked).resolve(), True) if asked else (shared / "parity", False)


def goldens(folder: Path) -> list[tuple[str, int]]:
    """(network, seed) of each golden file of a network that this project has."""
    files = [(network, file.name) for network in IMPLEMENTED for file in (folder / network).glob("golden_seed*.npz")]
    return sorted((network, int(found.group(1))) for network, name in files if (found := _SEED.fullmatch(name)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test each; none where the default folder is not there."""
    if "golden" not in metafunc.fixturenames:
        return
    folder, asked = parity_folder(metafunc.config)
    found = goldens(folder)
    if asked and not found:
        raise pytest.UsageError(f"--parity {folder}: no golden_seed*.npz of {', '.join(IMPLEMENTED)} there")
    if not found:
        skip = pytest.mark.skip(reason=f"no golden outputs at {folder}: give their folder by --parity")
        metafunc.parametrize("golden", [pytest.param(None, id="none", marks=skip)])
        return
    named = asked or any("golden" in argument for argument in metafunc.config.args)
    later = {name: () if named or name not in LARGE else (pytest.mark.slow,) for name in IMPLEMENTED}
    parameters = [pytest.param((folder / name, seed), id=f"{name}-seed{seed}", marks=later[name]) for name, seed in found]
    metafunc.parametrize("golden", parameters)


@pytest.fixture(scope="session")
def parity(request: pytest.FixtureRequest) -> Path:
    """The folder of golden outputs."""
    folder = parity_folder(request.config)[0]
    if not goldens(folder):
        pytest.skip(f"no golden outputs at {folder}: give their folder by --parity")
    return folder


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the end of the run."""
    return request.config.stash.setdefault(LINES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The errors of all arrays, and the networks of the folder that are still to come."""
    folder, asked = parity_folder(config)
    lines = config.stash.get(LINES, [])
    if not lines and not asked:
        return
    terminalreporter.section("golden outputs: max |a - b| / max |b|, at most 1e-4; discrete results the same")
    for line in lines:
        terminalreporter.write_line(line)
    files = folder.glob("*/golden_seed*.npz") if folder.is_dir() else []
    others = sorted({file.parent.name for file in files} - set(IMPLEMENTED))
    if others:
        terminalreporter.write_line(f"not implemented by this project yet, so not tested: {', '.join(others)}")
