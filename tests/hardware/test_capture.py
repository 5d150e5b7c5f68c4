"""Models as lists of operations: work against torch's count, shapes against those by hand, weights against their masks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tilewright import NM, mask, sparsify_
from tilewright.errors import ArgumentError, NotSupportedError
from tilewright.formats import pack
from tilewright.hardware.capture import capture
from tilewright.pruning import masks_of
from tilewright.runtime import SparseLinear


def brief(workload):
    return [(o.name, o.function or o.kind, o.M, o.N, o.K, o.copies, o.reads, o.writes) for o in workload]


def transformer(name):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    match name:
        case "bert":
            return transformers.BertModel, transformers.BertConfig(**small, vocab_size=50), (2, 12)
        case "vit":
            return transformers.ViTModel, transformers.ViTConfig(**small, image_size=32, patch_size=8), (2, 3, 32, 32)
        case "gpt2":
            return (
                transformers.GPT2LMHeadModel,
                transformers.GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=50),
                (2, 12),
            )
        case "llama":
            config = transformers.LlamaConfig(**small, num_key_value_heads=2, vocab_size=50)
            return transformers.LlamaForCausalLM, config, (2, 12)
        case "resnet":
            config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], num_labels=5)
            return transformers.ResNetForImageClassification, config, (2, 3, 32, 32)
    raise AssertionError


def example(shape, **options):
    return torch.zeros(shape, dtype=torch.int64 if len(shape) == 2 else torch.float32, **options)


@pytest.mark.parametrize("name", ["bert", "vit", "resnet", "gpt2", "llama"])
def test_work_is_what_torch_counts(name):
    cls, config, shape = transformer(name)
    config._attn_implementation = "eager"  # torch counts no fused attention on the CPU
    model = cls(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example(shape))
    eager = capture(model, example(shape))
    assert 2 * eager.macs == counter.get_total_flops()
    assert eager.useful == eager.macs
    assert not eager.unmodelled
    if name != "resnet":
        config._attn_implementation = "sdpa"
    net = capture(cls(config), example(shape))
    assert net.macs == eager.macs
    assert not net.unmodelled
    with torch.device("meta"):
        unreal = cls(config)
    assert brief(capture(unreal, example(shape, device="meta"))) == brief(net)


@pytest.mark.parametrize("name", ["bert", "vit", "resnet", "gpt2", "llama"])
def test_rescaling_the_batch_is_capturing_it(name):
    cls, config, shape = transformer(name)
    with torch.device("meta"):
        model = cls(config)
    sample = example(shape, device="meta")
    scaled, again = capture(model, sample).with_batch(6), capture(model, sample, batch=6)
    assert (scaled.batch, scaled.macs) == (6, again.macs)
    for one, other in zip(scaled, again, strict=True):
        assert (one.name, one.M, one.N, one.K, one.copies, one.writes) == (
            other.name,
            other.M,
            other.N,
            other.K,
            other.copies,
            other.writes,
        )
        # Constants that are added to every sample, such as positions, count once for each.
        assert one.reads == other.reads or (one.kind == "elementwise" and other.reads < one.reads < 1.7 * other.reads)


def test_a_bert_layer_by_hand():
    cls, config, shape = transformer("bert")
    net = [row for row in brief(capture(cls(config), example(shape))) if "layer.1." in row[0]]
    B, S, H, heads, F = 2, 12, 48, 4, 96
    x, scores, d = B * S * H, B * heads * S * S, H // heads
    at = "encoder.layer.1."
    assert net == [
        *((f"{at}attention.self.{name}", "linear", B * S, H, H, 1, x, x) for name in ("query", "key", "value")),
        (f"{at}attention.self.qk", "matmul", S, S, d, B * heads, 2 * x, scores),
        (f"{at}attention.self.softmax", "softmax", 0, 0, 0, 1, scores, scores),
        (f"{at}attention.self.pv", "matmul", S, d, S, B * heads, scores + x, x),
        (f"{at}attention.output.dense", "linear", B * S, H, H, 1, x, x),
        (f"{at}attention.output.add", "add", 0, 0, 0, 1, 2 * x, x),
        (f"{at}attention.output.LayerNorm", "layer_norm", 0, 0, 0, 1, x, x),
        (f"{at}intermediate.dense", "linear", B * S, F, H, 1, x, B * S * F),
        (f"{at}intermediate.intermediate_act_fn", "gelu", 0, 0, 0, 1, B * S * F, B * S * F),
        (f"{at}output.dense", "linear", B * S, H, F, 1, B * S * F, x),
        (f"{at}output.add", "add", 0, 0, 0, 1, 2 * x, x),
        (f"{at}output.LayerNorm", "layer_norm", 0, 0, 0, 1, x, x),
    ]


def test_who_waits_for_whom():
    cls, config, shape = transformer("bert")
    waits = {o.name: set(o.inputs) for o in capture(cls(config), example(shape))}
    at = "encoder.layer.1."
    assert waits[f"{at}attention.self.query"] == {"encoder.layer.0.output.LayerNorm"}
    assert waits[f"{at}attention.self.qk"] == {f"{at}attention.self.query", f"{at}attention.self.key"}
    assert waits[f"{at}attention.self.pv"] == {f"{at}attention.self.value", f"{at}attention.self.softmax"}
    assert waits[f"{at}attention.output.add"] == {f"{at}attention.output.dense", "encoder.layer.0.output.LayerNorm"}


def test_keys_of_grouped_queries_are_read_once():
    cls, config, shape = transformer("llama")
    for attention in ("sdpa", "eager"):
        config._attn_implementation = attention
        rows = capture(cls(config), example(shape)).operations
        scores = next(o for o in rows if o.kind == "matmul")
        B, S, H = 2, 12, 48
        assert (scores.copies, scores.reads) == (8, B * S * H + B * S * H // 2)  # 4 heads of queries share 2 of keys


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(6, 4), (5, 6), ("linear", 5, 4, 6, 1, 30, 20)),
        (nn.Linear(6, 4, bias=False), (2, 5, 6), ("linear", 10, 4, 6, 1, 60, 40)),
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 5, 7), ("conv", 70, 8, 27, 1, 210, 560)),
        (nn.Conv2d(4, 8, 3, stride=2, groups=4, bias=False), (1, 4, 9, 9), ("conv", 16, 2, 9, 4, 324, 128)),
        (nn.Conv1d(4, 6, 5, dilation=2), (3, 4, 20), ("conv", 36, 6, 20, 1, 240, 216)),
        (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), ("conv", 27, 3, 16, 1, 128, 81)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), ("conv", 25, 54, 4, 1, 100, 726)),
    ],
)
def test_layers_by_hand(layer, shape, expected):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(shape))
    net = capture(layer, torch.zeros(shape))
    ((_, kind, *rest),) = brief(net)
    assert (kind, *rest) == expected
    if not isinstance(layer, nn.ConvTranspose2d):  # torch counts the outputs of one; the work is that of its inputs
        assert 2 * net.macs == counter.get_total_flops()


class Model(nn.Module):
    """A module around a function."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.body = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.body(self, *args, **kwargs)


@pytest.mark.parametrize(
    ("call", "shapes", "expected"),
    [
        (lambda m, a, b: a @ b, [(5, 6), (6, 7)], ("matmul", 5, 7, 6, 1)),
        (lambda m, a, b: torch.einsum("bik,bjk->bij", a, b), [(3, 5, 6), (3, 7, 6)], ("matmul", 5, 7, 6, 3)),
        (lambda m, a, b: torch.baddbmm(torch.zeros(3, 5, 7), a, b), [(3, 5, 6), (3, 6, 7)], ("matmul", 5, 7, 6, 3)),
        (lambda m, a, b: torch.mv(a, b), [(5, 6), (6,)], ("matmul", 5, 1, 6, 1)),
        (lambda m, a, b: torch.dot(a, b), [(6,), (6,)], ("matmul", 1, 1, 6, 1)),
        (lambda m, a, b: functional.linear(a, b), [(5, 6), (7, 6)], ("matmul", 5, 7, 6, 1)),
        (lambda m, a, b: functional.conv2d(a, b), [(1, 3, 4, 4), (5, 3, 2, 2)], ("matmul", 9, 5, 12, 1)),
    ],
)
def test_products_of_activations(call, shapes, expected):
    (row,) = brief(capture(Model(call), tuple(torch.zeros(shape) for shape in shapes)))
    assert row[1:6] == expected


def test_a_constant_on_the_left_is_a_weight_all_the_same():
    model = Model(lambda m, x: m.w @ x, w=nn.Parameter(torch.zeros(4, 6)))
    (row,) = brief(capture(model, torch.zeros(6, 9)))
    assert row[1:6] == ("linear", 9, 4, 6, 1)


def test_what_depends_on_no_input_is_computed_before():
    model = Model(lambda m, x: x @ (m.w @ m.w + torch.arange(4.0)).softmax(0), w=nn.Parameter(torch.zeros(4, 4)))
    (row,) = brief(capture(model, torch.zeros(3, 4)))
    assert row[1:6] == ("linear", 3, 4, 4, 1)


def test_inference_mode_inside_a_model_hides_nothing():
    inner = nn.Linear(6, 4)

    @torch.inference_mode()
    def forward(model, x):
        return model.inner(x).relu()

    names = [row[1] for row in brief(capture(Model(forward, inner=inner), torch.zeros(5, 6)))]
    assert names == ["linear", "relu"]


def test_batch_norm_goes_into_its_convolution_only():
    folded = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    alone = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    assert [row[1] for row in brief(capture(folded, torch.zeros(1, 3, 8, 8)))] == ["conv", "relu"]
    assert [row[1] for row in brief(capture(alone, torch.zeros(1, 3, 8, 8)))] == ["relu", "batch_norm"]


def test_a_chain_of_elementwise_steps_is_one_that_reads_once():
    def gelu(model, x):
        x = model.fc(x)
        return 0.5 * x * (1.0 + torch.tanh(0.8 * (x + 0.04 * x**3)))

    net = capture(Model(gelu, fc=nn.Linear(6, 8)), torch.zeros(5, 6))
    assert [row[1:] for row in brief(net)] == [("linear", 5, 8, 6, 1, 30, 40), ("tanh", 0, 0, 0, 1, 40, 40)]


def test_scales_and_biases_belong_to_their_product():
    def scaled(model, x):
        return (model.fc(x) / 8 + model.bias) * model.factors

    parts = {
        "fc": nn.Linear(6, 8, bias=False),
        "bias": nn.Parameter(torch.zeros(8)),
        "factors": nn.Parameter(torch.zeros(8)),
    }
    net = capture(Model(scaled, **parts), torch.zeros(5, 6))
    assert [row[1:] for row in brief(net)] == [("linear", 5, 8, 6, 1, 30, 40), ("mul", 0, 0, 0, 1, 48, 40)]


def test_what_others_read_from_the_middle_of_a_chain_is_written():
    def residual(model, x, y):
        total = x + y
        return model.fc(total.relu()) + total

    net = brief(capture(Model(residual, fc=nn.Linear(6, 6)), (torch.zeros(5, 6), torch.zeros(5, 6))))
    assert [row[1:] for row in net] == [
        ("add", 0, 0, 0, 1, 60, 60),
        ("linear", 5, 6, 6, 1, 30, 30),
        ("add", 0, 0, 0, 1, 60, 30),
    ]


def test_both_halves_of_a_gate_are_read():
    def gated(model, x):
        one, other = model.fc(x).chunk(2, -1)
        return one * other.sigmoid()

    net = brief(capture(Model(gated, fc=nn.Linear(6, 16)), torch.zeros(5, 6)))
    assert net[1][1:] == ("sigmoid", 0, 0, 0, 1, 80, 40)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cls", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(cls, gates, bidirectional, layers):
    T, B, K, H = 7, 3, 5, 6
    model = cls(K, H, num_layers=layers, bidirectional=bidirectional, batch_first=True)
    net = capture(
        Model(lambda m, x: m.out(m.rnn(x)[0]), rnn=model, out=nn.Linear(H * (1 + bidirectional), 2)),
        torch.zeros(B, T, K),
    )
    ways = 1 + bidirectional
    widths = [K] + [H * ways] * (layers - 1)
    assert net.macs == sum(ways * T * B * gates * H * (width + H) for width in widths) + T * B * 2 * H * ways
    steps = [o for o in net if o.kind == "recurrent"]
    assert [(o.M, o.N, o.K, o.steps) for o in steps] == [(B, gates * H, H, T)] * ways * layers
    first = {o.name: o for o in net}
    assert first["rnn.hidden_l0"].inputs == ("rnn.input_l0",)
    assert len(net.operations[-1].inputs) == ways
    assert not net.unmodelled


def test_recurrent_layers_with_lengths_projections_and_cells():
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(3, 7, 5), [7, 4, 2], batch_first=True)
    net = capture(
        Model(
            lambda m, x: m.rnn(nn.utils.rnn.PackedSequence(x, packed.batch_sizes))[0],
            rnn=nn.LSTM(5, 6, proj_size=4, batch_first=True),
        ),
        packed.data,
    )
    rows = {o.name: o for o in net}
    assert (rows["rnn.input_l0"].M, rows["rnn.input_l0"].K) == (13, 5)
    assert (rows["rnn.hidden_l0"].M, rows["rnn.hidden_l0"].K, rows["rnn.hidden_l0"].steps) == (3, 4, 7)
    assert (rows["rnn.projection_l0"].N, rows["rnn.projection_l0"].K) == (4, 6)
    cell = capture(nn.LSTMCell(5, 6), torch.zeros(3, 5))
    assert cell.macs == 3 * 24 * 5  # the first state is zero, so its product is a constant


def test_attention_layers_of_torch():
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    net = capture(model, torch.zeros(2, 5, 16))
    rows = [(o.name, o.M, o.N, o.K, o.copies) for o in net if o.is_product]
    assert rows == [
        ("self_attn.in_proj", 10, 48, 16, 1),
        ("self_attn.qk", 5, 5, 4, 8),
        ("self_attn.pv", 5, 4, 5, 8),
        ("self_attn.out_proj", 10, 16, 16, 1),
        ("linear1", 10, 32, 16, 1),
        ("linear2", 10, 16, 32, 1),
    ]
    assert not net.unmodelled


def test_pruned_weights_give_their_own_counts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 16))
    sparsify_(model, "tw8@75%")
    net = {o.name: o for o in capture(model, torch.zeros(3, 32))}
    for name, kept in masks_of(model).items():
        view = net[name.removesuffix(".weight")].weight
        assert view.real
        assert view.kept == int(kept.sum())
        assert str(view.pattern) == "tw8@75%"


def test_pruned_convolutions_groups_and_parts_of_weights():
    torch.manual_seed(0)
    model = nn.Conv2d(8, 16, 3, groups=2)
    sparsify_(model, "2:4")
    net = capture(model, torch.zeros(1, 8, 6, 6))
    assert [(o.M, o.N, o.K, o.copies) for o in net] == [(16, 8, 36, 1)] * 2
    assert sum(o.weight.kept for o in net) == int(masks_of(model)["weight"].sum())
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    sparsify_(attention, "any@70%")
    cross = Model(lambda m, x, y: m.a(x, y, y), a=attention)
    kept = [
        o.weight.kept for o in capture(cross, (torch.zeros(1, 3, 16), torch.zeros(1, 5, 16))) if o.weight is not None
    ]
    whole = masks_of(attention)["in_proj_weight"]
    assert kept[:2] == [int(whole[:16].sum()), int(whole[16:].sum())]


def test_packed_layers_give_their_own_counts():
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((8, 16)).astype(np.float32)
    packed = pack(dense * mask(NM(2, 4), np.abs(dense)), NM(2, 4))
    model = nn.Sequential(SparseLinear(packed, None, activation="gelu"), nn.Linear(8, 2))
    net = capture(model, torch.zeros(5, 16))
    assert [(o.name, o.function or o.kind) for o in net] == [("0", "linear"), ("0.2", "gelu"), ("1", "linear")]
    assert net.operations[0].weight.kept == packed.kept == 64
    assert net.operations[0].useful * 2 == net.operations[0].macs
    assert net.operations[2].inputs == ("0.2",)


def test_a_course_that_depends_on_values_is_followed_for_real():
    def choosy(model, x):
        return model.fc(x) if x.sum() >= 0 else x

    net = capture(Model(choosy, fc=nn.Linear(6, 4)), torch.ones(5, 6))
    assert [row[1] for row in brief(net)] == ["sum", "ge", "linear"]
    with pytest.raises(NotSupportedError, match="depends on values, but it is on the meta device; build it on the CPU"):
        capture(Model(choosy, fc=nn.Linear(6, 4, device="meta")), torch.ones(5, 6))


def test_experts_count_their_tokens():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "vocab_size": 50,
    }
    config = transformers.MixtralConfig(**sizes, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)
    net = capture(transformers.MixtralForCausalLM(config), torch.zeros(2, 16, dtype=torch.int64))
    experts = [o for o in net if "experts" in o.name and o.is_product]
    tokens = 2 * 16 * 2  # two experts for each
    assert sum(o.macs for o in experts) == tokens * 3 * 48 * 96


def test_steps_without_a_model_are_counted():
    net = capture(
        Model(lambda m, x: m.fc(torch.fft.rfft(x).real + x.sort()[0][:, :4]), fc=nn.Linear(4, 2)), torch.zeros(3, 6)
    )
    assert sum(net.unmodelled.values()) == 2
    assert set(net.unmodelled) == {"_fft_r2c", "sort"}
    assert "not modelled, sort" in net.table().summary
    assert net.operations[-1].kind == "linear"


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
    model[1].train()
    model[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    capture(model, torch.zeros(2, 6))
    assert (model.training, model[0].training, model[1].training) == (True, False, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    model(torch.zeros(2, 6))
    assert calls == [1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: capture(nn.Linear(6, 4)), r"the inputs of Linear are not known; pass those of one call as example="),
        (lambda: capture(nn.Linear(6, 4), torch.zeros(2, 5)), r"Linear did not run on the example \(\[2, 5\]\)"),
        (lambda: capture(nn.Linear(6, 4), 3), "the example contains no tensor"),
        (lambda: capture(nn.Linear(6, 4), torch.zeros(2, 6), batch=0), "batch must be at least 1, got 0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()


def test_too_long_a_sequence():
    cls, config, _ = transformer("bert")
    with pytest.raises(ArgumentError, match="takes sequences of 1 to 512 tokens, got 600"):
        capture(cls(config), sequence=600)


def test_nothing_of_a_capture_stays_in_torch():
    capture(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), torch.zeros(2, 8))
    assert not torch.nn.modules.module._has_any_global_hook()
