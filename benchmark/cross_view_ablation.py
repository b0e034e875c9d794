"""Trains the variants of the paper's tables one after the other, on synthetic towns, by one recipe; interrupted, it goes on where it was.

    python benchmark/cross_view_ablation.py --out trained --set loop.epochs=20
    ros2-loc evaluate cross-view --drives town:900 town:901 --ablation parts fusion ssm single --models trained
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ros2_loc.config import build, read_yaml, share_folder
from ros2_loc.errors import Ros2LocError
from ros2_loc.models.safa import Safa
from ros2_loc.training.recipes import RECIPE, CvlnetRecipe, load_recipe
from ros2_loc.training.towns import Towns
from ros2_loc.training.train_cvlnet import train_cvlnet
from ros2_loc.training.train_safa import train_safa


@dataclass(frozen=True)
class Variant:
    """Overrides of the recipe, settings of a SAFA where it is one, and whether it needs a GPU."""

    set: list[str] = field(default_factory=list)
    safa: dict[str, Any] = field(default_factory=dict)
    gpu: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=__doc__.partition("\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="a folder for each variant is made in it")
    parser.add_argument("--list", type=Path, help="another file of variants than config/training/ablation.yaml")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants (default: all that the device can train)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all, such as loop.epochs=10")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ros2_loc" / "drives", help="where towns are kept")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    arguments = parser.parse_args()
    try:
        for name, variant, recipe in chosen(arguments):
            print(f"{name}: {finished(arguments.out / name) or train(name, variant, recipe, arguments)}", flush=True)
    except KeyboardInterrupt:
        print("\nstopped; the same call goes on", file=sys.stderr)
        return 130
    except Ros2LocError as error:
        print(f"cross_view_ablation: error: {error}", file=sys.stderr)
        return 1
    return 0


def chosen(arguments: argparse.Namespace) -> list[tuple[str, Variant, CvlnetRecipe]]:
    """The variants to train with their recipes, all of which are read before the first is trained."""
    path = arguments.list or share_folder() / "config" / "training" / "ablation.yaml"
    listed = read_yaml(path)
    variants = {name: build(Variant, values or {}, f"{path}: {name}") for name, values in listed["variants"].items()}
    unknown = set(arguments.only or ()) - set(variants)
    if unknown:
        raise Ros2LocError(f"--only {', '.join(sorted(unknown))}: not in {path}, which has {', '.join(variants)}")
    names = arguments.only or [name for name, variant in variants.items() if not variant.gpu or arguments.device != "cpu"]
    return [(name, variants[name], load_recipe(listed["recipe"], [*variants[name].set, *arguments.overrides])) for name in names]


def finished(folder: Path) -> str:
    """What is there already, "" where it must be trained."""
    weights = list(folder.glob("*.safetensors"))
    return f"{weights[0]} is there" if weights and (folder / "done").exists() else ""


def train(name: str, variant: Variant, recipe: CvlnetRecipe, arguments: argparse.Namespace) -> str:
    """Trains one, from its checkpoint where there is one."""
    folder = arguments.out / name
    if not (folder / "last.pt").is_file():  # interrupted before the first checkpoint
        (folder / RECIPE).unlink(missing_ok=True)
    common: dict[str, Any] = {
        "source_name": "town",
        "resume": (folder / "last.pt").is_file(),
        "device": arguments.device,
        "show_progress": sys.stderr.isatty(),
    }
    source: Callable[[CvlnetRecipe], Towns] = lambda r: Towns(r.towns, r.network, arguments.cache)  # noqa: E731
    if variant.safa:
        alike = {"tile_px": recipe.network.tile_px, "image_px": recipe.network.image_px, "view": recipe.network.view}
        trained = train_safa(recipe, build(Safa.Config, {**alike, **variant.safa}, name), source, folder, **common)
    else:
        trained = train_cvlnet(recipe, source, folder, **common)
    (folder / "done").touch()
    return f"{trained.weights}, best after step {trained.best_step}, {trained.monitor} {trained.best:.4g}"


if __name__ == "__main__":
    sys.exit(main())
