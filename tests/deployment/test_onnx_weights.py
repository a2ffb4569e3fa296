import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dualvqa.deployment.onnx_weights import make_smaller

WEIGHTS = np.random.default_rng(0)
WIDE, HUGE = WEIGHTS.standard_normal((64, 64)), WEIGHTS.standard_normal((64, 64)) * 1e6
INPUT = WEIGHTS.standard_normal((2, 64)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    """A product, one whose weights are beyond float16, one that measures the novelty, and a bias."""
    weights = {"wide": WIDE, "huge": HUGE, "familiarity.directions": WIDE, "bias": WIDE[0]}
    nodes = [
        helper.make_node("MatMul", ["x", "wide"], ["a"], name="a"),
        helper.make_node("Add", ["a", "bias"], ["answer"], name="b"),
        helper.make_node("MatMul", ["x", "huge"], ["far"], name="c"),
        helper.make_node("MatMul", ["x", "familiarity.directions"], ["novelty"], name="d"),
    ]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "answer", "far")]
    floats.append(helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["n", 64]))
    initial = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "graph", floats[:1], floats[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "part.onnx")
    return tmp_path / "part.onnx"


def run(file):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": INPUT})


def kinds(file):
    return {tensor.name: tensor.data_type for tensor in onnx.load(file).graph.initializer}


def test_float16_weights_take_half_the_bytes_and_are_computed_with_in_float32(file):
    exact = run(file)
    make_smaller(file, "float16")
    assert kinds(file) == {
        "wide.float16": TensorProto.FLOAT16,
        "huge": TensorProto.FLOAT,
        "familiarity.directions": TensorProto.FLOAT,
        "bias": TensorProto.FLOAT,
    }
    answer, far, novelty = run(file)
    half = WIDE.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(answer, INPUT @ half + WIDE[0].astype(np.float32), rtol=1e-4, atol=1e-5)
    assert 0 < np.abs(answer - exact[0]).max() < 1e-2
    np.testing.assert_array_equal(far, exact[1])
    np.testing.assert_array_equal(novelty, exact[2])


def test_int8_leaves_what_measures_the_novelty_as_it_is(file, caplog):
    exact = run(file)
    make_smaller(file, "int8")
    assert TensorProto.INT8 in kinds(file).values() and kinds(file)["familiarity.directions"] == TensorProto.FLOAT
    answer, _, novelty = run(file)
    assert not caplog.records and not logging.getLogger().filters  # no advice that nobody can follow
    assert 1e-3 < np.abs(answer - exact[0]).max() < 1
    np.testing.assert_array_equal(novelty, exact[2])


def test_other_weights_of_an_int8_file_are_float16(file):
    model = onnx.load(file)
    kernel = numpy_helper.from_array(WIDE.astype(np.float32).reshape(64, 1, 8, 8), "kernel")
    model.graph.initializer.append(kernel)
    model.graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8]))
    model.graph.output.append(helper.make_tensor_value_info("grid", TensorProto.FLOAT, ["n", 64, 1, 1]))
    model.graph.node.append(helper.make_node("Conv", ["image", "kernel"], ["grid"], name="e"))
    onnx.save(model, file)
    make_smaller(file, "int8")
    assert kinds(file)["kernel.float16"] == TensorProto.FLOAT16
    assert "ConvInteger" not in {node.op_type for node in onnx.load(file).graph.node}
