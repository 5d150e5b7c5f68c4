"""Every way torch can call a packed layer gives the dense result or a clear error: tracing, exporting, batching, tangents."""

import copy

import pytest
import torch
from models import perceptron
from torch.autograd import forward_ad

import tilewright
from tilewright.errors import NotSupportedError
from tilewright.runtime import SparseLinear, densified

ACTIVATIONS = ["none", "relu", "gelu", "gelu_tanh", "silu", "tanh"]


@pytest.fixture
def pair(tmp_path):
    """A masked model and the same one packed."""
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    return model, tilewright.load_(copy.deepcopy(model), tmp_path, measure=False)


def activated_pair(activation):
    from tilewright.formats import pack
    from tilewright.patterns import parse
    from tilewright.runtime.install import dense_twin

    weight = torch.nn.Linear(64, 32).weight.detach().clone()
    weight[:, 2::4] = 0
    weight[:, 3::4] = 0
    layer = SparseLinear(pack(weight.numpy(), parse("2:4")), torch.linspace(-1, 1, 32), activation)
    return layer, dense_twin(layer)


def test_a_traced_program_holds_the_operator_and_its_weights(pair, tmp_path):
    model, loaded = pair
    x = torch.randn(4, 64)
    with torch.no_grad():
        traced = torch.jit.trace(loaded, x)
        assert str(traced.inlined_graph).count("tilewright::sparse_linear") == 2
        other = torch.randn(7, 64)
        torch.testing.assert_close(traced(other), model(other), atol=1e-4, rtol=1e-4)
        traced.save(str(tmp_path / "traced.pt"))
        again = torch.jit.load(str(tmp_path / "traced.pt"))
        torch.testing.assert_close(again(other), model(other), atol=1e-4, rtol=1e-4)


def test_openvino_converts_the_dense_form(pair):
    openvino = pytest.importorskip("openvino")
    model, loaded = pair
    x = torch.randn(4, 64)
    converted = openvino.convert_model(loaded, example_input=x)
    # At full precision: by default it uses bfloat16 if the processor supports it, which changes dense results as well.
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(compiled(x.numpy())[0]), model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # several, all from the tracing exporter itself
def test_onnx_by_tracing_gets_the_dense_form(pair, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, loaded = pair
    x, file = torch.randn(4, 64), str(tmp_path / "model.onnx")
    torch.onnx.export(loaded, (x,), file, dynamo=False)
    session = runtime.InferenceSession(file)
    result = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(result), model(x), atol=1e-4, rtol=1e-4)


def test_onnx_by_export_is_refused_and_told_of_the_dense_form(pair, monkeypatch):
    from torch.onnx._internal.exporter import _flags

    monkeypatch.setattr(_flags, "_is_onnx_exporting", True)
    with pytest.raises(NotSupportedError, match=r"export its dense form: .*densified"):
        torch.export.export(pair[1], (torch.randn(4, 64),), strict=False)


def test_the_dense_form_has_no_packed_layer(pair):
    model, loaded = pair
    x = torch.randn(4, 64)
    with torch.no_grad():
        torch.testing.assert_close(densified(loaded)(x), model(x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tangents_of_forward_mode_pass(activation):
    layer, dense = activated_pair(activation)
    primal, tangent = torch.randn(3, 5, 64), torch.randn(3, 5, 64)
    with torch.no_grad(), forward_ad.dual_level():
        expected, result = (
            forward_ad.unpack_dual(module(forward_ad.make_dual(primal, tangent))) for module in (dense, layer)
        )
        assert result.tangent is not None
        torch.testing.assert_close(result.primal, expected.primal, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(result.tangent, expected.tangent, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer(primal), dense(primal), atol=1e-4, rtol=1e-4)  # no tangent, same level


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_batches_the_input(axis):
    layer, dense = activated_pair("gelu")
    x = torch.randn(2, 3, 4, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.vmap(layer, in_dims=axis)(x), torch.vmap(dense, in_dims=axis)(x), atol=1e-4, rtol=1e-4
        )
        twice = torch.vmap(torch.vmap(layer))(x)
        torch.testing.assert_close(twice, dense(x), atol=1e-4, rtol=1e-4)


TRANSFORMS = {
    "grad": lambda layer, x: torch.func.grad(lambda x: layer(x).sum())(x),
    "jvp": lambda layer, x: torch.func.jvp(layer, (x,), (x,)),
    "vmap of grad": lambda layer, x: torch.vmap(torch.func.grad(lambda row: layer(row).sum()))(x),
    "jacrev": lambda layer, x: torch.func.jacrev(layer)(x),
    "jacfwd": lambda layer, x: torch.func.jacfwd(layer)(x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_that_need_a_derivative_are_refused(name):
    layer, _ = activated_pair("none")
    with pytest.raises(NotSupportedError, match=r"no gradient under torch\.func; differentiate the masked dense model"):
        TRANSFORMS[name](layer, torch.randn(3, 64))


def test_a_program_traced_by_make_fx_holds_the_operator():
    from torch.fx.experimental.proxy_tensor import make_fx

    layer, dense = activated_pair("none")
    with torch.no_grad():
        program = make_fx(layer)(torch.randn(3, 64))
        x = torch.randn(3, 64)
        torch.testing.assert_close(program(x), dense(x), atol=1e-4, rtol=1e-4)
