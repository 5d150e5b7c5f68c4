"""The dense peers: one float32 linear layer in torch, ONNX Runtime and OpenVINO, by default on one thread each.

Each peer has `copies` copies of the weight and uses the next one at every call, like the layers of a network. Input and output are the
same memory at every call, because a network's activations have just been written.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Call = Callable[[], Array]


def aligned(array: Array) -> Array:
    """Return a copy aligned to a cache line, as libraries align their own arrays."""
    buffer = np.empty(array.size + 15, dtype=np.float32)
    skip = -(buffer.ctypes.data // 4) % 16
    view = buffer[skip : skip + array.size].reshape(array.shape)
    view[...] = array
    return view


def in_turn(calls: Sequence[Call]) -> Call:
    """Return a function that makes the next of the calls each time, starting over after the last."""
    following = itertools.cycle(calls)
    return lambda: next(following)()


def torch_linear(x: Array, weight: Array, bias: Array, copies: int, threads: int = 1) -> Call:
    """Return a call of torch.nn.functional.linear without autograd."""
    import torch

    torch.set_num_threads(threads)
    tx, tb = torch.from_numpy(x), torch.from_numpy(bias)

    def call(tw: Any) -> Array:
        with torch.inference_mode():
            return torch.nn.functional.linear(tx, tw, tb).numpy()

    weights = [torch.from_numpy(aligned(weight)) for _ in range(copies)]
    return in_turn([lambda tw=tw: call(tw) for tw in weights])


def onnxruntime_linear(x: Array, weight: Array, bias: Array, copies: int, threads: int = 1) -> Call:
    """Return a call of an ONNX Gemm with bound input and output, so that nothing is copied."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    M, N = len(x), len(weight)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [M, N])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    out = aligned(np.zeros((M, N), np.float32))

    def prepared() -> Call:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

        def call() -> Array:
            session.run_with_iobinding(binding)
            return out

        return call

    return in_turn([prepared() for _ in range(copies)])


def openvino_linear(x: Array, weight: Array, bias: Array, copies: int, threads: int = 1) -> Call:
    """Return a call of a compiled OpenVINO MatMul + Add in float32."""
    import openvino as ov
    from openvino import opset13 as ops

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core, out = ov.Core(), aligned(np.zeros((len(x), len(weight)), np.float32))

    def prepared() -> Call:
        parameter = ops.parameter(list(x.shape), ov.Type.f32)
        product = ops.matmul(parameter, ops.constant(weight), False, True)
        model = ov.Model([ops.add(product, ops.constant(bias))], [parameter])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        request.set_output_tensor(ov.Tensor(out, shared_memory=True))

        def call() -> Array:
            request.infer()
            return out

        return call

    return in_turn([prepared() for _ in range(copies)])


PEERS = {"torch": torch_linear, "onnxruntime": onnxruntime_linear, "openvino": openvino_linear}
