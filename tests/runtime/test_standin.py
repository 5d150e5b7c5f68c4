"""Code that reads the weight of a packed layer gets its type, shape and device, or a clear error; never uninitialised memory."""

import copy

import numpy as np
import pytest
import torch
from models import perceptron
from torch import nn
from torch.nn import functional

import tilewright
from tilewright.errors import NotSupportedError, TargetError

FORMS = ["2:4", "tw16@75%", "tew8@70%+5%", "tvw16@75%"]


def packed(tmp_path, model, text="2:4", **options):
    tilewright.sparsify_(model, text)
    tilewright.save(model, tmp_path)
    return tilewright.load_(copy.deepcopy(model), tmp_path, measure=False, **options)


class Reads(nn.Module):
    """Computes with the weight and never calls the layer, as fused attention and state-space models do."""

    def __init__(self, product) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj, self.product = nn.Linear(64, 32), product

    def forward(self, x):
        return self.product(x, self.proj.weight)


PRODUCTS = {
    "linear": lambda x, w: functional.linear(x, w),
    "linear, inputs second": lambda x, w: functional.linear(w, x),
    "matmul": lambda x, w: x @ w.T,
    "addmm": lambda x, w: torch.addmm(torch.zeros(32), x, w.t()),
    "einsum": lambda x, w: torch.einsum("bi,oi->bo", x, w),
    "mT": lambda x, w: torch.mm(x, w.mT),
    "cast first": lambda x, w: functional.linear(x, w.to(x.dtype)),
    "detached": lambda x, w: functional.linear(x, w.detach()),
    "data": lambda x, w: functional.linear(x, w.data),
    "index": lambda x, w: x @ w[:16].T,
    "out of place": lambda x, w: functional.linear(x, w.clone()),
    "into another": lambda x, w: torch.zeros(32, 64).copy_(w).sum() + x,
    "fresh parameter": lambda x, w: functional.linear(x, nn.Parameter(w)),
    "stacked": lambda x, w: functional.linear(x, torch.cat([w, w])),
    "vmap": lambda x, w: torch.vmap(lambda row: functional.linear(row, w))(x),
    "norm": lambda x, w: x / w.norm(),
    "numpy": lambda x, w: x + float(np.asarray(w).sum()),
    "list": lambda x, w: x + w.tolist()[0][0],
    "memory": lambda x, w: w.data_ptr(),
    "storage": lambda x, w: w.untyped_storage(),
    "write": lambda x, w: w.data.zero_(),
    "assign": lambda x, w: setattr(w, "data", torch.zeros(32, 64)),
    "initialise": lambda x, w: nn.init.normal_(w),
    "dlpack": lambda x, w: torch.from_dlpack(w),
    "compare": lambda x, w: w == w,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_computing_with_the_weight_is_refused_in_a_sentence(name, tmp_path):
    loaded = packed(tmp_path, Reads(PRODUCTS[name]).eval())
    with torch.no_grad(), pytest.raises((NotSupportedError, RuntimeError)) as caught:
        loaded(torch.randn(5, 64))
    if name not in ("numpy", "list"):  # torch's own errors, which name the type
        assert "is packed" in str(caught.value)
        assert "SparseLinear(in_features=64, out_features=32, pattern=2:4" in str(caught.value)
        assert "layer.dense().weight" in str(caught.value)
        assert "dense=[...]" in str(caught.value)


def test_memory_that_is_never_written_is_never_read(tmp_path):
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)  # torch then fills memory it does not write with NaN
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        loaded = packed(tmp_path, Reads(PRODUCTS["linear"]).eval())
        with pytest.raises(NotSupportedError):
            loaded(torch.randn(5, 64))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_questions_about_it_are_answered(dtype, tmp_path):
    layer = packed(tmp_path, perceptron())[0].to(dtype)
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    assert (weight.dtype, weight.device, weight.shape) == (dtype, torch.device("cpu"), (96, 64))
    assert (weight.size(), weight.size(0), weight.size(-1), weight.numel(), weight.dim(), len(weight)) == (
        (96, 64),
        96,
        64,
        6144,
        2,
        96,
    )
    assert not weight.is_meta
    assert not weight.requires_grad
    assert weight.is_floating_point()
    assert torch.zeros(2, dtype=torch.float64).to(weight).dtype is dtype
    assert torch.zeros(2, dtype=torch.float64).type_as(weight).dtype is dtype
    assert repr(weight).startswith("StandIn(shape=[96, 64]")


class Asks(nn.Module):
    """Reads the type and shape of the weight before calling the layer, as T5 does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wo = nn.Linear(64, 32)

    def forward(self, x):
        if isinstance(self.wo.weight, torch.Tensor) and x.dtype != self.wo.weight.dtype:
            x = x.to(self.wo.weight.dtype)
        return self.wo(x.to(self.wo.weight.device)) * self.wo.weight.shape[0]


@pytest.mark.parametrize("way", ["eager", "compile", "export", "trace"])
def test_a_model_that_only_asks_runs_every_way(way, tmp_path):
    model, x = Asks().eval(), torch.randn(5, 64)
    loaded = packed(tmp_path, model)
    ways = {
        "eager": lambda: loaded,
        "compile": lambda: torch.compile(loaded, fullgraph=True, backend="aot_eager"),
        "export": lambda: torch.export.export(loaded, (x,)).module(),
        "trace": lambda: torch.jit.trace(loaded, x),
    }
    with torch.no_grad():
        torch.testing.assert_close(ways[way]()(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text", FORMS)
def test_compiled_code_that_computes_with_the_weight_is_right(text, tmp_path):
    model, x = Reads(PRODUCTS["linear"]).eval(), torch.randn(5, 64)
    loaded = packed(tmp_path, model, text)
    with torch.no_grad():
        compiled = torch.compile(loaded, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
        exported = torch.export.export(loaded, (x,)).module()
        torch.testing.assert_close(exported(x), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("target", ["proj", "pr*", "SparseLinear"])
def test_a_layer_can_be_loaded_dense(target, tmp_path):
    model, x = Reads(PRODUCTS["linear"]).eval(), torch.randn(5, 64)
    loaded = packed(tmp_path, model, dense=[target])
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x))
    assert [row["reason"] for row in tilewright.explain(loaded).rows] == ["dense as asked"]


def test_a_layer_that_does_not_exist_cannot_be_loaded_dense(tmp_path):
    with pytest.raises(
        TargetError, match=r"`dense` contains '7', which matches no packed layer; the first of 2 are 0, 2"
    ):
        packed(tmp_path, perceptron(), dense=["7"])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own warning, for the dense encoder
@pytest.mark.parametrize("padded", [False, True])
def test_the_encoder_of_torch_runs_packed(padded, tmp_path):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    loaded = packed(tmp_path, model)
    x, padding = torch.randn(2, 9, 128), torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 5:] = padded
    with torch.inference_mode():
        expected, result = (m(x, src_key_padding_mask=padding) for m in (model, loaded))
    real = ~padding
    torch.testing.assert_close(result[real], expected[real], atol=1e-4, rtol=1e-4)
