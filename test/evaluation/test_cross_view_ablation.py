"""Which file is which row of the paper's tables, and the tables as they are printed."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from ros2_loc.cli.console import table
from ros2_loc.cli.evaluate_cross_view import _TABLES
from ros2_loc.errors import ConfigError, DataError
from ros2_loc.evaluation import cross_view_ablation as ca
from ros2_loc.evaluation.cross_view_paper import TABLES
from ros2_loc.evaluation.cross_view_queries import QueryConfig
from ros2_loc.evaluation.cross_view_records import CrossViewEvaluation
from ros2_loc.evaluation.cross_view_tables import recall_table, tables
from ros2_loc.evaluation.report.cross_view import write_cross_view_report
from ros2_loc.models.cvlnet import CVLNet, random
from ros2_loc.models.weights import save_model

sys.path.insert(0, str(Path(__file__).parent))
from cross_view_cases import evaluation, single
from cross_view_oracle import Oracle, area


def header(frames: int = 4) -> dict[str, object]:
    return {"recipe": {"samples": {"frames": {"frames": frames}}}, "seed": 1, "licence": "Apache-2.0"}


def model(name: str, frames: int = 4, architecture: str = "cvlnet", **network: object) -> ca.TrainedModel:
    settings = {**asdict(CVLNet.Config()), **network}
    return ca.TrainedModel(Path(f"{name}.safetensors"), name, architecture, settings, header(frames))


MODELS = [
    model("a_single", frames=1),
    model("b_ours"),
    model("no_gvp", view_projection="none"),
    model("no_ssm", shifts=False),
    model("no_u", uncertainty=False),
    model("conv3d", fusion="conv3d_attention"),
    model("vgg", backbone="vgg16"),
    model("both", shifts=False, uncertainty=False),
    ca.TrainedModel(Path("p.safetensors"), "polar", "safa", {"backbone": "small", "polar": True}, header(1)),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("parts", {"single frame": "a_single", "w/o GVP": "no_gvp", "w/o SSM": "no_ssm", "Ours": "b_ours"}),
        ("views", {"w/o GVP (U-Net)": None, "w/o GVP": "no_gvp", "Ours": "b_ours"}),
        ("ssm", {"w/o SSM": "no_ssm", "w/o U": "no_u", "Ours": "b_ours"}),
        ("fusion", {"direct Conv2D": None, "attention Conv3D": "conv3d", "Ours (PCSF)": "b_ours"}),
        ("backbone", {"VGG16 (the paper's)": "vgg", "small": "b_ours", "ViT": None}),
        ("single", {"SAFA": None, "Polar-SAFA": "polar", "Ours, trained with 1 frame": "a_single", "Ours, trained with 4": "b_ours"}),
        ("length", {"1 frame": "b_ours", "16 frames": "b_ours"}),
    ],
)
def test_every_row_finds_its_network_and_no_other(name: str, expected: dict[str, str | None]) -> None:
    for row in TABLES[name].rows:
        found = ca.model_of(row, MODELS)
        if row.name in expected:
            assert (found.name if found else None) == expected[row.name]


def test_the_command_line_knows_all_tables() -> None:
    assert set(_TABLES) == set(TABLES)


def test_models_are_read_from_their_headers(tmp_path: Path) -> None:
    network = random(CVLNet.Config(cells=8, tile_px=32, image_px=(16, 32), shifts=False), 0)
    save_model(tmp_path / "variants" / "no_ssm.safetensors", network, header())
    (found,) = ca.find_models(tmp_path)
    assert (found.name, found.architecture, found.network["shifts"]) == ("variants/no_ssm", "cvlnet", False)
    assert len(found.described()["sha256"]) == 64
    (tmp_path / "other.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(DataError, match=r"other\.safetensors"):
        ca.find_models(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        ca.find_models(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cross_view_ablation"):
        ca.find_models(tmp_path / "empty")


def test_an_ablation_asks_all_networks_the_same_and_says_which_are_missing(tmp_path: Path) -> None:
    place, asked = area(), []
    for name in ("ours", "no_ssm"):
        (tmp_path / name).write_bytes(name.encode())
    models = [
        ca.TrainedModel(tmp_path / "ours", "ours", "cvlnet", asdict(CVLNet.Config()), header()),
        ca.TrainedModel(tmp_path / "no_ssm", "no_ssm", "cvlnet", asdict(CVLNet.Config(shifts=False)), header()),
    ]

    def load(m: ca.TrainedModel) -> Oracle:
        asked.append(m.name)
        return Oracle(place, shift_cells=3 if m.network["shifts"] else 0)

    known: dict = {}
    config = QueryConfig(queries=5, most_frames=4)
    found, missing = ca.run_ablation("ssm", [place], models, load, config, known)
    assert [s.label for s in found] == ["w/o SSM", "Ours"] and missing == ("w/o U",)
    assert [q.name for q in found[0].queries] == [q.name for q in found[1].queries]
    assert {q.frames for q in found[0].queries} == {4}
    ca.run_ablation("views", [place], models, load, config, known)
    assert asked == ["no_ssm", "ours"]  # "Ours" is known by then
    with pytest.raises(ConfigError, match="there are: parts, views"):
        ca.run_ablation("colours", [place], models, load, config)
    e = CrossViewEvaluation("ssm", {}, found, ablation="ssm", missing=missing)
    lines = table(*reversed((recall_table(e).header, recall_table(e).rows))).splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == ["w/o SSM", "w/o U: not there", "Ours"]
    assert "(21.8)" in lines[4] and "(85.0)" in lines[4] and "(" not in lines[2]


def test_tables_of_everything(tmp_path: Path) -> None:
    found = {t.title: t for t in tables(evaluation())}
    recall = found["Recall: within 10 m by the tile's centre and its best shift"]
    assert recall.rows[0] == ("4 frames", *("33.3", "66.7", "66.7", "100.0") * 2)
    assert "3 queries, 3 tiles in Test-1, 90 in Test-2" in recall.note
    assert found["Time"].rows[0] == ("4 frames", "2.0", "10.0", "4.0", "50.0", "1.40")
    runs = found["Filter"].rows[0]
    assert runs[:5] == ("as measured", "2", "0 (0)", "0 (0)", "50 (100)") and runs[-1] == "1"
    for t in found.values():
        assert all(len(row) == len(t.header) for row in t.rows)


def test_page_of_everything_and_of_an_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from ros2_loc.evaluation.report import figures

    monkeypatch.setattr(figures, "_DPI", 40)
    page = write_cross_view_report(evaluation(), tmp_path / "e.html", {"<a picture>": np.zeros((8, 9, 3), np.uint8)}).read_text()
    assert page.count("<img") == 4 + 1 and "&lt;a picture&gt;" in page
    assert "none of 3 runs was ever confidently wrong" in page and "queries.frame_spacing_m" in page
    e = CrossViewEvaluation("ssm", {}, (single("Ours"),), ablation="ssm", missing=("w/o U",))
    page = write_cross_view_report(e, tmp_path / "a.html").read_text()
    assert "no network for: w/o U" in page and "(21.8)" in page
    with pytest.raises(DataError, match="no results"):
        write_cross_view_report(CrossViewEvaluation("empty", {}), tmp_path / "x.html")
