"""The published XFeat as ONNX, made to take images of any size.

That file was written for images of 640 x 640 px: its cells are cut out by a hundred slices with fixed ends, and two enlargements have a
fixed size. Both have an operation that says the same for all sizes; nothing else is changed, so the outputs for 640 x 640 px stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ros2_loc.errors import DataError, MissingDependencyError
from ros2_loc.registry import install_command

CELL_PX = 8
_INPUTS = ("batch", 3, "height", "width")


def any_size(path: Path) -> bytes:
    """The network of `path` with free batch, height and width (multiples of 32 px).

    Returns:
        An ONNX file's content; inputs and outputs keep their names, and the outputs are descriptors, logits, reliability.

    Raises:
        DataError: not an ONNX file, or not that of XFeat.
        MissingDependencyError: onnx is not installed.
    """
    onnx = _onnx()
    try:
        model = onnx.load(path)
    except Exception as error:  # of protobuf, whose classes differ from version to version
        raise DataError(f"{path}: can't be read as ONNX; copy the file again") from error
    graph = model.graph
    normalized = [node for node in graph.node if node.op_type == "InstanceNormalization"]
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    head = _reading_reshaped(graph)
    if len(normalized) != 1 or len(resizes) != 2 or len(head) != 1:
        raise DataError(f"{path}: is not the published XFeat: give the xfeat.onnx of `ros2-loc weights`")
    _cut_into_cells(onnx, graph, normalized[0].output[0], head[0])
    for node in resizes:
        _enlarge_to_partner(onnx, graph, node)
    _free_sizes(onnx, graph)
    _drop_unread(graph)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _reading_reshaped(graph: Any) -> list[Any]:
    """The convolutions that read a reshaped tensor: the first one of the keypoint head."""
    reshaped = {node.output[0] for node in graph.node if node.op_type == "Reshape"}
    return [node for node in graph.node if node.op_type == "Conv" and node.input[0] in reshaped]


def _cut_into_cells(onnx: Any, graph: Any, image: str, head: Any) -> None:
    """One channel -> 64 channels of an eighth of the size, in the order of the rows of a cell."""
    node = onnx.helper.make_node("SpaceToDepth", [image], ["cells"], name="cells", blocksize=CELL_PX)
    head.input[0] = "cells"
    graph.node.insert(list(graph.node).index(head), node)


def _enlarge_to_partner(onnx: Any, graph: Any, resize: Any) -> None:
    """Give a Resize the size of the tensor that its result is added to."""
    made, parts = [], []
    for name, axes in ((resize.input[0], (0, 1)), (_finest(graph), (2, 3))):
        part = f"{resize.output[0]}_{'size' if axes[0] else 'channels'}"
        graph.initializer.append(onnx.helper.make_tensor(f"{part}_axes", onnx.TensorProto.INT64, [2], axes))
        made.append(onnx.helper.make_node("Shape", [name], [f"{part}_all"]))
        made.append(onnx.helper.make_node("Gather", [f"{part}_all", f"{part}_axes"], [part], axis=0))
        parts.append(part)
    joined = f"{resize.output[0]}_sizes"
    made.append(onnx.helper.make_node("Concat", parts, [joined], axis=0))
    resize.input[3] = joined
    position = list(graph.node).index(resize)
    for offset, node in enumerate(made):
        graph.node.insert(position + offset, node)


def _finest(graph: Any) -> str:
    """The summand of the three scales that is not enlarged."""
    enlarged = {node.output[0] for node in graph.node if node.op_type == "Resize"}
    first = next(node for node in graph.node if node.op_type == "Add" and enlarged & set(node.input))
    return next(name for name in first.input if name not in enlarged)


def _free_sizes(onnx: Any, graph: Any) -> None:
    image = graph.input[0]
    image.CopyFrom(onnx.helper.make_tensor_value_info(image.name, onnx.TensorProto.FLOAT, _INPUTS))
    for output, channels in zip(graph.output, (64, 65, 1), strict=True):
        shape = ("batch", channels, f"{output.name}_height", f"{output.name}_width")
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, shape))
    del graph.value_info[:]


def _drop_unread(graph: Any) -> None:
    """Remove what no longer leads to an output."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    read = [one for one in graph.initializer if one.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(read)


def _onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"XFeat at any image size needs the package onnx: {install_command('onnx')}") from error
    return onnx
