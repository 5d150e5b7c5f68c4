"""The dense engines we compare with: torch, ONNX Runtime and OpenVINO, asked for float32, each with the stated threads.

Every engine is handed the same weights and the same tokens, and its output is compared with torch's before it is timed. What an engine
multiplies in is asked of it where it can tell: by itself, OpenVINO takes bfloat16 on processors that have it.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import ArgumentError, NotSupportedError

__all__ = ["Engine", "Run", "encoders", "linears", "require_engines", "torch_encoder"]

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], NDArray[np.float32]]
"""Runs one batch given by named arrays and returns the output."""

_NAMES = ("torch", "onnxruntime", "openvino")
_PRECISIONS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Engine:
    """A way to run a batch, and the type it multiplies in."""

    run: Run
    precision: str = "float32"

    def __call__(self, arrays: Arrays) -> NDArray[np.float32]:
        """Run a batch."""
        return self.run(arrays)


def encoders(model: nn.Module, peers: Sequence[str], threads: int) -> dict[str, Engine]:
    """Return a runner of the dense encoder for every engine asked for; inputs ``input_ids`` and ``attention_mask``.

    Raises
    ------
    NotSupportedError
        If an engine asked for is not installed.
    """
    _known(peers)
    found: dict[str, Engine] = {}
    if "torch" in peers:
        found["torch"] = torch_encoder(model)
    if set(peers) - {"torch"}:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            _export(_Hidden(model), _example(), file)
            found |= _sessions(file, peers, threads)
    return found


def linears(layer: nn.Linear, peers: Sequence[str], threads: int) -> dict[str, Engine]:
    """Return a runner of one dense linear layer for every engine asked for; input ``x``."""
    _known(peers)
    found: dict[str, Engine] = {}
    if "torch" in peers:
        found["torch"] = Engine(lambda arrays: _numpy(layer(torch.from_numpy(arrays["x"]))))
    if set(peers) - {"torch"}:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "linear.onnx"
            _write_gemm(layer, file)
            found |= _sessions(file, peers, threads)
    return found


def require_engines(peers: Sequence[str]) -> None:
    """Refuse, before anything long begins, engines that are unknown or not installed."""
    _known(peers)
    if set(peers) - {"torch"}:
        _require("onnx", "onnxscript", *(peer for peer in peers if peer != "torch"))


def torch_encoder(model: nn.Module) -> Engine:
    """Return a runner of an encoder under torch, dense or with sparse layers inside."""

    def run(arrays: Arrays) -> NDArray[np.float32]:
        with torch.inference_mode():
            return _numpy(model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).last_hidden_state)

    return Engine(run)


class _Hidden(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _known(peers: Sequence[str]) -> None:
    unknown = [peer for peer in peers if peer not in _NAMES]
    if unknown:
        raise ArgumentError(f"{unknown[0]} is no engine to compare with; there are {', '.join(_NAMES)}")


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.full((2, 8), 2000)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], file: Path) -> None:
    """Write a module as ONNX with free batch and length; the exporter's chatter is dropped."""
    _require("onnxscript", "onnx")
    import logging

    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    names = ["input_ids", "attention_mask"]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                example,
                str(file),
                input_names=names,
                output_names=["y"],
                dynamic_shapes=dict.fromkeys(names, axes),
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _write_gemm(layer: nn.Linear, file: Path) -> None:
    """Write one linear layer as ONNX: what the exporter would make of it, without its seconds."""
    _require("onnx")
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
    found: dict[str, Engine] = {}
    if "onnxruntime" in peers:
        found["onnxruntime"] = _onnxruntime(file, threads)
    if "openvino" in peers:
        found["openvino"] = _openvino(file, threads)
    return found


def _onnxruntime(file: Path, threads: int) -> Engine:
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return Engine(lambda arrays: session.run(None, dict(arrays))[0])


def _openvino(file: Path, threads: int) -> Engine:
    _require("openvino")
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    request = compiled.create_infer_request()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def run(arrays: Arrays) -> NDArray[np.float32]:
        inputs = {name: openvino.Tensor(array, shared_memory=True) for name, array in arrays.items()}
        result: NDArray[np.float32] = request.infer(inputs, share_outputs=True)[0]
        return result

    return Engine(run, _PRECISIONS.get(precision, precision))


def _require(*packages: str) -> None:
    import importlib.util

    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NotSupportedError(
                f"comparing with this engine needs the package {package}: pip install 'tilewright[peers]'"
            )


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy()
    return array
