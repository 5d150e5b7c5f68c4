"""`SparseLinear` compared with the dense layer as a module, an operator, and a compiled and an exported graph."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tilewright.errors import ArgumentError, FormatError, NotSupportedError
from tilewright.formats import pack
from tilewright.formats.container import RawTensor
from tilewright.kernels import last_implementation
from tilewright.patterns import mask, parse
from tilewright.runtime import SparseLinear
from tilewright.runtime.op import sparse_linear
from tilewright.runtime.tensors import ARRAYS, tensor_of

TEXTS = ["2:4", "32:64x4", "2:4x8", "tw16@75%", "tew8@70%+5%", "tvw16@75%", "block32x32@75%", "any@90%"]


def weight_of(text, outputs=100, inputs=96, seed=0):
    weight = np.random.default_rng(seed).standard_normal((outputs, inputs)).astype(np.float32)
    return np.where(mask(parse(text), np.abs(weight)), weight, 0).astype(np.float32)


def layer_of(text, *, bias=True, activation="none", seed=0):
    weight = weight_of(text, seed=seed)
    b = torch.linspace(-1, 1, 100) if bias else None
    return SparseLinear(pack(weight, parse(text)), b, activation), torch.from_numpy(weight), b


def arguments(layer, x):
    return (
        x,
        *(getattr(layer, name) for name in ARRAYS),
        layer.bias,
        layer.pattern,
        layer.out_features,
        layer.in_features,
        layer.tile,
        layer.activation,
    )


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("shape", [(96,), (1, 96), (3, 5, 96), (0, 96), (2, 0, 96)])
def test_it_equals_the_dense_layer(text, shape):
    layer, weight, bias = layer_of(text)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = functional.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(layer(x).double(), expected, atol=1e-4, rtol=1e-4)
    assert last_implementation() is not None


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", functional.relu),
        ("gelu", functional.gelu),
        ("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        ("silu", functional.silu),
        ("tanh", torch.tanh),
    ],
)
def test_activations_are_torch_s(activation, function):
    layer, weight, bias = layer_of("2:4", activation=activation)
    x = 3 * torch.randn(7, 96)
    torch.testing.assert_close(layer(x), function(functional.linear(x, weight, bias)), atol=1e-4, rtol=1e-4)


def test_strided_inputs_and_no_bias():
    layer, weight, _ = layer_of("32:64x4", bias=False)
    x = torch.randn(96, 11).T
    torch.testing.assert_close(layer(x), functional.linear(x, weight), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text", ["2:4", "tew8@70%+5%", "tvw16@75%"])
def test_the_operator_passes_opcheck(text):
    layer, _, _ = layer_of(text)
    result = torch.library.opcheck(sparse_linear, arguments(layer, torch.randn(3, 96)))
    assert set(result.values()) == {"SUCCESS"}


def test_it_compiles_as_one_graph():
    first, w1, b1 = layer_of("2:4")
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(100, 10))
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(4, 96)
    with torch.inference_mode():
        expected = model[2](torch.relu(functional.linear(x, w1, b1)))
        torch.testing.assert_close(compiled(x), expected, atol=1e-4, rtol=1e-4)


def test_it_exports_with_a_free_batch():
    layer, weight, bias = layer_of("32:64x4", activation="relu")
    program = torch.export.export(layer, (torch.randn(4, 96),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = torch.randn(9, 96)
    torch.testing.assert_close(
        program.module()(x), torch.relu(functional.linear(x, weight, bias)), atol=1e-4, rtol=1e-4
    )


def test_it_computes_wide_and_answers_narrow():
    layer, weight, bias = layer_of("2:4")
    x = torch.randn(4, 96)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    expected = functional.linear(x.bfloat16().float(), weight, bias).bfloat16()
    torch.testing.assert_close(y, expected, atol=1e-2, rtol=1e-2)


def test_other_inputs_are_refused_in_sentences():
    layer, _, _ = layer_of("2:4")
    with pytest.raises(ArgumentError, match=r"takes float32, got torch.float64; convert x with .float()"):
        layer(torch.randn(2, 96, dtype=torch.float64))
    with pytest.raises(ArgumentError, match=r"must be the layer's 96 inputs, but x has shape \[2, 95\]"):
        layer(torch.randn(2, 95))
    with pytest.raises(ArgumentError, match=r"unknown activation 'softplus'; expected one of none, relu"):
        SparseLinear(layer.packed(), None, "softplus")
    with pytest.raises(ArgumentError, match=r"bias must be a float tensor of shape \[100\], got torch.float32 \[3\]"):
        SparseLinear(layer.packed(), torch.zeros(3))


def test_training_through_it_is_refused():
    layer, _, _ = layer_of("2:4")
    x = torch.randn(2, 96, requires_grad=True)
    with pytest.raises(NotSupportedError, match="for inference and has no gradient"):
        layer(x).sum().backward()


def test_indices_that_reach_outside_never_reach_the_kernels():
    layer, _, _ = layer_of("any@90%")
    bad = list(arguments(layer, torch.randn(2, 96)))
    bad[2] = bad[2] + 500
    with pytest.raises(FormatError, match="columns must be in 0 to 95"):
        sparse_linear(*bad)
    layer(torch.randn(2, 96))
    layer.columns.add_(500)  # after a good call: a write must be noticed
    with pytest.raises(FormatError, match="columns must be in 0 to 95"):
        layer(torch.randn(2, 96))


@pytest.mark.parametrize("text", TEXTS)
def test_state_moves_between_layers(text):
    layer, weight, bias = layer_of(text)
    other, _, _ = layer_of(text, seed=5)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, 96)
    torch.testing.assert_close(other(x), functional.linear(x, weight, bias), atol=1e-4, rtol=1e-4)


def test_state_that_breaks_the_layout_is_refused():
    layer, _, _ = layer_of("2:4")
    state = layer.state_dict()
    state["columns"] = state["columns"].flip(0).contiguous()
    with pytest.raises(FormatError, match="cannot load this state: columns must ascend strictly"):
        layer.load_state_dict(state)


def test_copies_and_pickles_work():
    layer, _, _ = layer_of("tew8@70%+5%")
    x = torch.randn(3, 96)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))


def test_it_gives_back_what_it_was_made_of():
    layer, weight, bias = layer_of("tvw16@75%")
    np.testing.assert_array_equal(layer.packed().unpack(), weight.numpy())
    dense = layer.dense()
    assert torch.equal(dense.weight, weight)
    assert torch.equal(dense.bias, bias)
    assert "pattern=tvw16@75%, density=0.25" in repr(layer)
    assert layer.nbytes < 0.5 * weight.numel() * 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_values_return_to_their_type(dtype):
    weight = torch.from_numpy(weight_of("2:4")).to(getattr(torch, dtype))
    bits = weight.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else weight.numpy()
    layer = SparseLinear(pack(bits, parse("2:4"), (weight != 0).numpy(), dtype=dtype))
    assert layer.values.dtype == torch.float32
    assert layer.packed().dtype == dtype
    np.testing.assert_array_equal(layer.packed().unpack(), bits)


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_s_thread_count_is_used(threads):
    layer, weight, bias = layer_of("32:64x4")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = torch.randn(130, 96)
        torch.testing.assert_close(layer(x), functional.linear(x, weight, bias), atol=1e-4, rtol=1e-4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["2:4", "tw8@60%", "tew8@60%+5%", "tvw8@75%", "any@80%"])
@pytest.mark.parametrize("names", [[], ["bias"], ["values"], ["values", "bias"], ["unknown"]], ids=str)
def test_a_part_of_a_state_changes_that_part_alone(text, names):
    """With strict=False arrays missing from the state are kept; newly allocated ones used to contain uninitialised memory."""
    layer, other = (layer_of(text, seed=seed)[0] for seed in (1, 1))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with torch.no_grad():
        other.values.mul_(2)
        other.bias.add_(1)
    part = {name: tensor for name, tensor in other.state_dict().items() if name in names}
    part |= {"unknown": torch.zeros(1)} if "unknown" in names else {}
    for fill in (torch.nan, 0.0):
        scratch = [
            torch.full((tensor.numel() + 1,), fill) for tensor in before.values()
        ]  # reused by the next allocation
        del scratch
        layer.load_state_dict(part, strict=False)
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, part[name] if name in part else before[name]), name


def test_a_whole_state_of_another_mask_still_loads():
    layer, other = layer_of("any@80%", seed=1)[0], layer_of("any@80%", seed=2)[0]
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(torch.ones(2, layer.in_features)), other(torch.ones(2, layer.in_features)))


@pytest.mark.parametrize(("activation", "shown"), [("none", False), ("relu", True)])
def test_a_printed_layer_shows_its_activation_where_it_has_one(activation, shown):
    weight = np.eye(4, dtype=np.float32)
    text = repr(SparseLinear(pack(weight, parse("1:4")), None, activation))
    assert (
        text
        == f"SparseLinear(in_features=4, out_features=4, pattern=1:4, density=0.250{', activation=relu' if shown else ''})"
    )


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("writeable", [True, False])
def test_a_tensor_of_a_file_is_right_wherever_its_bytes_begin(shift, writeable):
    values = np.arange(5, dtype=np.float32)
    buffer = np.zeros(24, np.uint8)
    buffer[shift : shift + 20] = values.view(np.uint8)
    data = buffer[shift : shift + 20]
    data.flags.writeable = writeable
    tensor = tensor_of(RawTensor("F32", (5,), data))
    assert tensor.tolist() == values.tolist()
    assert tensor.data_ptr() % 4 == 0
    assert (tensor.data_ptr() == data.ctypes.data) == (writeable and shift == 0)
