"""From PyTorch modules to ONNX and OpenVINO files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ros2_loc.errors import DataError


def trace(
    module: nn.Module, inputs: tuple[Tensor, ...], free: Any, names: tuple[list[str], list[str]], path: Path, network: str
) -> None:
    """Write a module as ONNX.

    Args:
        module: in evaluation mode, from tensors to a tensor or several.
        inputs: examples.
        free: of each of them the dimensions that are another each time, as `torch.export` wants them, or None for none.
        names: of the inputs and of the outputs.
        path: of the file.
        network: shown in errors.

    Raises:
        DataError: an operation that can't be exported.
    """
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, inputs, dynamo=True, dynamic_shapes=free, input_names=names[0], output_names=names[1], verbose=False
            )
        program.save(str(path))  # type: ignore[union-attr]
    except Exception as error:  # PyTorch has no common class for what an operation without ONNX counterpart raises
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{network} can't be exported by PyTorch {torch.__version__}: {reason}") from error
    finally:
        quiet.setLevel(level)


def write_network(traced: Path, path: Path, form: str, precision: str, metadata: Mapping[str, str]) -> None:
    """The ONNX file `traced` with metadata, as OpenVINO's .xml and .bin where `form` is openvino."""
    if form == "openvino":
        import openvino

        network = openvino.Core().read_model(traced)
        for key, value in metadata.items():
            network.set_rt_info(value, ["ros2_loc", key])
        openvino.save_model(network, path, compress_to_fp16=precision == "fp16")
        return
    import onnx

    model = onnx.load(traced)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
