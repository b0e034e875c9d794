"""`ros2-loc export`: what it writes, and what it refuses in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[torch]'")
for package in ("torchvision", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[test]'")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sift"], "invalid choice"),
        (["xfeat", "--out", "net.onnx", "--width", "64"], "give --width and --height, or neither"),
        (["xfeat", "--out", "net.onnx", "--precision", "int8"], "int8 needs --calibrate IMAGES"),
        (["xfeat", "--out", "net.onnx", "--calibrate", "."], "int8 needs --calibrate IMAGES"),
        (["xfeat", "--out", "net.xml"], "ends in .onnx"),
        (["xfeat", "--out", "net.onnx", "--weights", "/no/such.pth"], "/no/such.pth: neither a file nor the name of weights"),
        (["context_r2d2", "--out", "net.onnx"], "give --weights FILE"),
    ],
)
def test_one_line(call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("export", *words)
    assert said.code == 2 and said.err.count("\n") == 1 and expected in said.err, said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_writes_a_file_and_says_how_to_use_it(call: Callable, tmp_path: Path) -> None:
    from ros2_loc.io.images import write_image
    from ros2_loc.models.xfeat import XFeat

    torch.manual_seed(0)
    torch.save(XFeat(XFeat.Config()).state_dict(), tmp_path / "xfeat.pt")
    for k in range(3):
        image = np.random.default_rng(k).integers(0, 256, (80, 120, 3), dtype=np.uint8)
        write_image(tmp_path / "images" / f"{k}.png", image)
    out, size = tmp_path / "net.onnx", ["--width", "96", "--height", "64"]
    words = ["xfeat", "--weights", tmp_path / "xfeat.pt", "--out", out, *size]
    said = call("export", *words, "--precision", "int8", "--calibrate", tmp_path / "images")
    assert said.code == 0 and "xfeat, 96x64 px, int8" in said.out and f"backend: onnxruntime, model: {out}" in said.out, said
    assert out.is_file() and not list(tmp_path.glob(".*"))
