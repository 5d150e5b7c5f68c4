"""The dense engines to compare with: torch, ONNX Runtime and OpenVINO, in float32, with the given number of threads.

Every engine receives the same weights and the same tokens, and its output is checked before it is timed. The precision of OpenVINO is
queried, since by default it uses bfloat16 on processors that support it.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import ArgumentError, unknown
from ..tasks.calling import answer_of, uncached
from .onnx import require_packages, write_onnx

__all__ = [
    "OPENVINO_DEFAULT",
    "Engine",
    "Run",
    "linears",
    "onnx_engine",
    "require_engines",
    "torch_engine",
    "whole_models",
]

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], NDArray[np.float32]]
"""Function that runs one batch, given as arrays by name, and returns the output."""

_NAMES = ("torch", "onnxruntime", "openvino")
OPENVINO_DEFAULT = "openvino (default)"
"""OpenVINO at its default precision: bfloat16 on processors that support it."""

_PRECISIONS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Engine:
    """An engine that runs batches, and its precision."""

    run: Run
    precision: str = "float32"

    def __call__(self, arrays: Arrays) -> NDArray[np.float32]:
        """Run a batch and return the output."""
        return self.run(arrays)


def whole_models(
    model: nn.Module, example: Mapping[str, Tensor], peers: Sequence[str], threads: int
) -> dict[str, Engine]:
    """Return a dense model as an engine of each requested kind.

    Parameters
    ----------
    model
        Model that takes keyword arguments. Its output is the logits, the last hidden state or the first tensor of the result.
    example
        Inputs of one call, tensors by name, with at least two items.
    peers
        Names of the engines.
    threads
        Threads per engine.

    Raises
    ------
    NotSupportedError
        If an engine is not installed, or the model cannot be converted for it.
    """
    _known(peers)
    engines: dict[str, Engine] = {}
    if "torch" in peers:
        engines["torch"] = torch_engine(model)
    if set(peers) - {"torch"}:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            write_onnx(model, example, file)
            engines |= _sessions(file, peers, threads)
    return engines


def linears(layer: nn.Linear, peers: Sequence[str], threads: int) -> dict[str, Engine]:
    """Return a dense linear layer as an engine of each requested kind; its input is named ``x``."""
    _known(peers)
    engines: dict[str, Engine] = {}
    if "torch" in peers:
        engines["torch"] = Engine(lambda arrays: _numpy(layer(torch.from_numpy(arrays["x"]))))
    if set(peers) - {"torch"}:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "linear.onnx"
            _write_gemm(layer, file)
            engines |= _sessions(file, peers, threads)
    return engines


def require_engines(peers: Sequence[str]) -> None:
    """Refuse engines that are unknown or not installed, before anything slow starts."""
    _known(peers)
    if set(peers) - {"torch"}:
        require_packages("onnx", "onnxscript", *(peer for peer in peers if peer != "torch"))


def torch_engine(model: nn.Module) -> Engine:
    """Return a model, dense or with sparse layers, as a torch engine."""
    extra = uncached(model)

    def run(arrays: Arrays) -> NDArray[np.float32]:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            return _numpy(answer_of(model(**tensors, **extra)))

    return Engine(run)


def _known(peers: Sequence[str]) -> None:
    invalid = [peer for peer in peers if peer not in _NAMES]
    if invalid:
        raise ArgumentError(unknown("engine", invalid[0], _NAMES))


def _write_gemm(layer: nn.Linear, file: Path) -> None:
    """Write one linear layer as ONNX, as torch's exporter would, but without its overhead of seconds."""
    require_packages("onnx")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = layer.weight.detach().numpy()
    bias = layer.bias.detach().numpy() if layer.bias is not None else np.zeros(len(weight), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", weight.shape[1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", weight.shape[0]])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(file))


def _sessions(file: Path, peers: Sequence[str], threads: int) -> dict[str, Engine]:
    engines: dict[str, Engine] = {}
    if "onnxruntime" in peers:
        engines["onnxruntime"] = onnx_engine(file, threads)
    if "openvino" in peers:
        engines["openvino"] = _openvino(file, threads, {"INFERENCE_PRECISION_HINT": "f32"})
        default = _openvino(file, threads, {})
        if default.precision != "float32":
            engines[OPENVINO_DEFAULT] = default
    return engines


def onnx_engine(file: Path, threads: int) -> Engine:
    """Return an ONNX file as an engine of ONNX Runtime."""
    require_packages("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return Engine(lambda arrays: session.run(None, dict(arrays))[0])


def _openvino(file: Path, threads: int, precision: Mapping[str, str]) -> Engine:
    require_packages("openvino")
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, **precision}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    request = compiled.create_infer_request()
    name = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def run(arrays: Arrays) -> NDArray[np.float32]:
        inputs = {name: openvino.Tensor(array, shared_memory=True) for name, array in arrays.items()}
        result: NDArray[np.float32] = request.infer(inputs, share_outputs=True)[0]
        return result

    return Engine(run, _PRECISIONS.get(name, name))


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy()
    return array
