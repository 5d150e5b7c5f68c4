"""The dense peers: one fp32 linear layer in torch, ONNX Runtime and OpenVINO, one thread each, ready to be called."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def aligned(array: Array) -> Array:
    """Return a copy that starts on a cache line, as every library allocates its own."""
    buffer = np.empty(array.size + 15, dtype=np.float32)
    skip = -(buffer.ctypes.data // 4) % 16
    view = buffer[skip : skip + array.size].reshape(array.shape)
    view[...] = array
    return view


def torch_linear(x: Array, weight: Array, bias: Array, threads: int = 1) -> Callable[[], Array]:
    """Return a call of torch.nn.functional.linear without autograd."""
    import torch

    torch.set_num_threads(threads)
    tx, tw, tb = (torch.from_numpy(aligned(a)) for a in (x, weight, bias))

    def call() -> Array:
        with torch.inference_mode():
            return torch.nn.functional.linear(tx, tw, tb).numpy()

    return call


def onnxruntime_linear(x: Array, weight: Array, bias: Array, threads: int = 1) -> Callable[[], Array]:
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
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source, out = aligned(x), aligned(np.zeros((M, N), np.float32))
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, source.shape, source.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def call() -> Array:
        assert source is not None  # the binding holds its address only
        session.run_with_iobinding(binding)
        return out

    return call


def openvino_linear(x: Array, weight: Array, bias: Array, threads: int = 1) -> Callable[[], Array]:
    """Return a call of a compiled OpenVINO MatMul + Add in float32."""
    import openvino as ov
    from openvino import opset13 as ops

    parameter = ops.parameter(list(x.shape), ov.Type.f32)
    product = ops.matmul(parameter, ops.constant(weight), False, True)
    model = ov.Model([ops.add(product, ops.constant(bias))], [parameter])
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    source = aligned(x)
    request.set_input_tensor(ov.Tensor(source, shared_memory=True))

    def call() -> Array:
        assert source is not None  # the tensor holds its address only
        request.infer()
        result: Array = request.get_output_tensor().data
        return result

    return call


PEERS = {"torch": torch_linear, "onnxruntime": onnxruntime_linear, "openvino": openvino_linear}
