"""What `doctor` and `weights check` say about weight files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ros2_loc.cli.checks import Finding, bad, good
from ros2_loc.errors import Ros2LocError
from ros2_loc.models.weight_files import find, locate
from ros2_loc.models.weight_table import TABLE, WeightFile

if TYPE_CHECKING:
    from ros2_loc.localization.pipeline import PipelineConfig


def standing(name: str) -> str:
    """shipped, here (its content is not looked at), missing, or to be brought by hand."""
    row = TABLE[name]
    if find(name):
        return "shipped" if row.file else "here"
    return "missing" if row.url or row.file else "by hand"


def check_weights(pipeline: PipelineConfig) -> Iterator[Finding]:
    """Whether the files that a pipeline's plugins take are here and right."""
    from ros2_loc.registry import components

    for kind in ("extractor", "matcher", "encoder", "reranker", "detector"):
        section = getattr(pipeline, kind)
        row = components()[kind].get(section.get("name", ""))
        weights = section.get("weights") or (row.weights if row else "")
        if weights:
            try:
                yield good("weights", f"{kind} {section['name']}: {locate(weights)}")
            except Ros2LocError as error:
                yield bad("weights", f"{kind} {section['name']}: {error}")


def look_at(name: str) -> Finding:
    """Whether a file is the one of the table, and whether its network takes it."""
    try:
        path = locate(name)
        return good(name, f"{path}: its sha256 is right{loaded(TABLE[name], path)}")
    except Ros2LocError as error:
        return bad(name, str(error))


def loaded(row: WeightFile, path: Path) -> str:
    """Load a file as far as can be done here, strictly, and say what came of it.

    Raises:
        DataError: it is no file of weights, or its network does not take it.
    """
    from ros2_loc.cli.ros_installation import has_package

    if path.suffix == ".onnx" and not row.loader:
        return ""
    if not has_package("torch"):
        return "; not loaded, there is no PyTorch"
    from ros2_loc.models.weights import attribute_of, load_model, tensors_of

    if row.loader or row.file:
        network = attribute_of(row.loader)(path) if row.loader else load_model(path)
        return f", its network takes it ({type(network).__name__})"
    return f", it holds {len(tensors_of(path))} tensors"
