"""Smaller weights of ONNX files: 8-bit matrix products and word embeddings, and 16-bit floats for what is left."""

import contextlib
import logging
import math
import tempfile
from pathlib import Path

LARGE = 1000  # values; smaller tensors are biases, scales and norms, which are worth more than their bytes
LARGEST_HALF = 65504.0  # of float16


def make_smaller(path, quantization):
    """Rewrites the weights of an ONNX file in place, but for those of the novelty and the keys of the memory.

    The limit of the one is exact, and what tells the other's examples from each other is small.

    Args:
        quantization: "int8" for 8-bit weights of matrix products and word embeddings and float16 for others, those of
            convolutions among them; "float16" for all. What is stored as float16 is computed in float32.
    """
    import onnx

    model = onnx.load(path)
    exact = [node for node in model.graph.node if is_exact(node)]
    kept = {name for node in exact for name in node.input}
    if quantization == "int8":
        quantize_products(path, [node.name for node in exact])
        model = onnx.load(path)
    store_as_float16(model.graph, kept)
    onnx.save(model, path)


def is_exact(node):
    """Whether a node of a graph computes the novelty, or searches the memory."""
    scopes = [item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"]
    parts = ("model.memory'", "model.familiarity")
    return any("familiarity" in name for name in node.input) or any(part in s for s in scopes for part in parts)


def quantize_products(path, excluded):
    """Makes weights of matrix products and word embeddings 8-bit, but for the nodes of some names.

    Convolutions of 8 bits are slower on CPUs than those of float32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        quantized = Path(folder, path.name)
        with without_advice():
            quantize_dynamic(
                path,
                quantized,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                nodes_to_exclude=excluded,
                per_channel=True,
                weight_type=QuantType.QInt8,
                # 7 of the 8 bits: sums of two full products overflow in WebAssembly and on processors without VNNI, and
                # the file is to answer alike wherever it is taken.
                reduce_range=True,
            )
        quantized.replace(path)


@contextlib.contextmanager
def without_advice():
    """Leaves out onnxruntime's advice, given by the root logger, to pre-process what torch's exporter made."""

    def keep(record):
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def store_as_float16(graph, kept):
    """Makes the large float32 weights of a graph float16, each with a Cast behind it that a runtime does once."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        large = len(tensor.dims) > 1 and math.prod(tensor.dims) > LARGE
        if tensor.data_type != TensorProto.FLOAT or not large or tensor.name in kept:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        if np.abs(values).max() <= LARGEST_HALF:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.float16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
