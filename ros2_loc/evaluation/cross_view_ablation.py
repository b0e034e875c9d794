"""One table of the paper again, with our networks: which file is which row, and the same queries for all of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ros2_loc.core.interfaces import CrossViewEncoder
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation.cross_view import single_shot
from ros2_loc.evaluation.cross_view_paper import TABLES, Row
from ros2_loc.evaluation.cross_view_queries import Area, QueryConfig
from ros2_loc.evaluation.cross_view_records import SingleShot
from ros2_loc.io.files import sha256
from ros2_loc.models.weights import read_metadata

# what the tables vary, as it is in "Ours"; a network belongs to a row when it differs from that in the row's settings and no other
_USUAL: dict[str, dict[str, Any]] = {
    "cvlnet": {"fusion": "pcsf", "view_projection": "gvp", "shifts": True, "uncertainty": True},
    "safa": {},
}


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A file of weights and what its header says.

    Attributes:
        path: safetensors.
        name: its path in the folder, without the suffix.
        architecture: "cvlnet" or "safa".
        network: settings of the network.
        header: everything, for the report.
    """

    path: Path
    name: str
    architecture: str
    network: Mapping[str, Any]
    header: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """Name, hash and settings, for the JSON."""
        return {"name": self.name, "sha256": sha256(self.path), "architecture": self.architecture, "network": dict(self.network)}


def find_models(folder: Path) -> list[TrainedModel]:
    """All trained networks in a folder, by name.

    Raises:
        DataError: no such folder, none in it, or one without the header that `ros2-loc train` writes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; give the one that holds a .safetensors file for each variant")
    found = [read_model(path, str(path.relative_to(folder).with_suffix(""))) for path in sorted(folder.rglob("*.safetensors"))]
    if not found:
        raise DataError(f"{folder}: holds no .safetensors file; train the variants with benchmark/cross_view_ablation.py")
    return found


def read_model(path: Path, name: str) -> TrainedModel:
    """What the header of a file says; raises DataError, in one line, for a file of someone else."""
    header = read_metadata(path)
    return TrainedModel(path, name, header["network"], header["config"], header)


def usual_backbone(models: Sequence[TrainedModel]) -> str:
    """The one that most of the networks have: what an ablation does not vary."""
    names = Counter(str(model.network["backbone"]) for model in models if model.architecture == "cvlnet")
    return names.most_common(1)[0][0] if names else "small"


def model_of(row: Row, models: Sequence[TrainedModel]) -> TrainedModel | None:
    """The network of a row, the first by name where several fit: what the row does not vary is as usual."""
    wanted = {**_USUAL[row.recipe], "backbone": usual_backbone(models), **row.network}
    for model in models:
        if not _frames_fit(row, model):
            continue
        if model.architecture == row.recipe and all(model.network.get(key) == value for key, value in wanted.items()):
            return model
    return None


def _frames_fit(row: Row, model: TrainedModel) -> bool:
    """A network that was trained with single frames is for the rows that ask for it; SAFA knows no other."""
    recipe = model.header.get("recipe")
    frames = recipe["samples"]["frames"]["frames"] if isinstance(recipe, dict) else None
    return row.recipe == "safa" or (frames == 1) == (row.trained_frames == 1)


def run_ablation(
    table: str,
    areas: Sequence[Area],
    models: Sequence[TrainedModel],
    load: Callable[[TrainedModel], CrossViewEncoder],
    config: QueryConfig,
    known: dict[tuple[Path, int], SingleShot] | None = None,
    show_progress: bool = False,
) -> tuple[tuple[SingleShot, ...], tuple[str, ...]]:
    """Results of the rows that have a network, in the table's order, and the names of those that have none.

    Args:
        load: makes the encoder of a network.
        known: results by file and number of frames, which are not made again and which this call adds to.

    Raises:
        ConfigError: no such table.
    """
    if table not in TABLES:
        raise ConfigError(f"there is no ablation {table!r}; there are: {', '.join(TABLES)}")
    known = {} if known is None else known
    done: list[SingleShot] = []
    missing: list[str] = []
    for row in TABLES[table].rows:
        model = model_of(row, models)
        if model is None:
            missing.append(row.name)
            continue
        frames = row.frames or TABLES[table].frames
        if (model.path, frames) not in known:
            asked = dataclasses.replace(config, frames=frames)
            known[model.path, frames] = single_shot(areas, load(model), asked, model.described(), row.name, show_progress)
        done.append(dataclasses.replace(known[model.path, frames], label=row.name))
    return tuple(done), tuple(missing)
