"""Padding is excluded everywhere: however a model arranges its tokens, masks chosen with padding equal those chosen without."""

import copy
import warnings

import pytest
import torch
import transformers
from torch import nn

from tilewright.errors import ArgumentError
from tilewright.pruning import Calibration, Padding, masks_of, sparsify_
from tilewright.training import Batches, RecoverOptions, recover_

PADS = (0, 1, 3, 7)


def chosen(build, batch, update="none", score="wanda", **options):
    torch.manual_seed(0)
    model = build()
    sparsify_(model, "2:4", score=score, update=update, data=Calibration([batch], **options))
    return masks_of(model)


def padded(ids, padding, value=9):
    """Return ids ``[B, T]``, with padding values that would change the result, and their mask."""
    ids = torch.tensor(ids)
    more = torch.full((len(ids), padding), value)
    real = torch.cat([torch.ones_like(ids), torch.zeros_like(more)], dim=1)
    return torch.cat([ids, more], dim=1), real


class Arranged(nn.Module):
    """A model that embeds tokens, rearranges them, and applies linear layers."""

    def __init__(self, arrange) -> None:
        super().__init__()
        self.embed, self.first, self.second = nn.Embedding(64, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.arrange = arrange

    def forward(self, input_ids, attention_mask=None):
        return self.second(self.arrange(self.first(self.embed(input_ids))).tanh())


ARRANGEMENTS = {
    "as they are": lambda x: x,
    "flattened": lambda x: x.flatten(0, 1),
    "time first": lambda x: x.transpose(0, 1),
    "in heads": lambda x: x.unflatten(-1, (1, 32)),
    "one a sample": lambda x: x[:, 0],
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("padding", PADS)
def test_every_arrangement_of_tokens(arrangement, padding):
    ids, real = padded([[5, 6, 7], [3, 8, 2]], padding)
    expected, _ = padded([[5, 6, 7], [3, 8, 2]], 0)
    masks = chosen(lambda: Arranged(ARRANGEMENTS[arrangement]), {"input_ids": ids, "attention_mask": real})
    dense = chosen(lambda: Arranged(ARRANGEMENTS[arrangement]), {"input_ids": expected})
    assert all(torch.equal(masks[name], dense[name]) for name in dense)


def test_these_tests_would_notice_padding():
    ids, real = padded([[5, 6, 7], [3, 8, 2]], 7)
    counted = chosen(
        lambda: Arranged(ARRANGEMENTS["as they are"]),
        {"input_ids": ids, "attention_mask": real},
        tokens=lambda batch: None,
    )
    masked = chosen(lambda: Arranged(ARRANGEMENTS["as they are"]), {"input_ids": ids, "attention_mask": real})
    assert not torch.equal(counted["first.weight"], masked["first.weight"])


MASKS = {
    "bool": lambda real: real.bool(),
    "float": lambda real: real.float(),
    "added to scores": lambda real: (1.0 - real) * torch.finfo(torch.float32).min,
    "added, four axes": lambda real: ((1.0 - real) * -1e9)[:, None, None, :],
    "bool, four axes": lambda real: real.bool()[:, None, None, :],
    "three axes": lambda real: real[:, None, :],
}


@pytest.mark.parametrize("form", MASKS)
def test_every_form_of_mask(form):
    ids, real = padded([[5, 6, 7], [3, 8, 2]], 5)
    expected = chosen(lambda: Arranged(ARRANGEMENTS["as they are"]), {"input_ids": ids[:, :3]})
    masks = chosen(
        lambda: Arranged(ARRANGEMENTS["as they are"]), {"input_ids": ids, "attention_mask": MASKS[form](real)}
    )
    assert all(torch.equal(masks[name], expected[name]) for name in expected)


def test_a_mask_of_who_looks_where_is_refused():
    ids, real = padded([[5, 6, 7]], 2)
    square = real[:, None, None, :].expand(1, 1, 5, 5).bool()
    with pytest.raises(
        ArgumentError, match=r"attention_mask has shape \[1, 1, 5, 5\], which is a mask of position pairs"
    ):
        chosen(lambda: Arranged(ARRANGEMENTS["as they are"]), {"input_ids": ids, "attention_mask": square})


def test_positions_that_fit_no_mask_are_told_of():
    def routed(x):
        return x.flatten(0, 1)[:5]  # like the tokens routed to one expert

    ids, real = padded([[5, 6, 7], [3, 8, 2]], 2)
    batch = {"input_ids": ids, "attention_mask": real}
    with pytest.warns(
        UserWarning, match=r"the inputs of second\.weight, of shape \[5\] .* match no mask of the batch \(\[2, 5\]\)"
    ):
        chosen(lambda: Arranged(routed), batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen(lambda: Arranged(routed), {"input_ids": ids, "attention_mask": torch.ones_like(real)})  # no padding
        chosen(lambda: Arranged(routed), batch, tokens=lambda batch: None)  # all positions declared real


class TimeFirst(Arranged):
    """A model with a module that declares time-first inputs."""

    def __init__(self) -> None:
        super().__init__(ARRANGEMENTS["time first"])
        self.rnn = nn.GRU(32, 32)

    def forward(self, input_ids, attention_mask=None):
        return self.rnn(super().forward(input_ids))[0]


def test_square_batches_of_a_time_first_model_are_refused():
    ids, real = padded([[5, 6], [3, 8], [1, 1]], 1)
    with pytest.raises(ArgumentError, match="3 sequences of 3 tokens and some modules of the model put time first"):
        chosen(TimeFirst, {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])})
    ids, real = padded([[5, 6], [3, 8], [1, 1]], 4)
    masks = chosen(TimeFirst, {"input_ids": ids, "attention_mask": real})
    expected = chosen(TimeFirst, {"input_ids": ids[:, :2]})
    assert torch.equal(masks["second.weight"], expected["second.weight"])


def t5():
    config = transformers.T5Config(
        vocab_size=64, d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def bart():
    config = transformers.BartConfig(
        vocab_size=64, d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


@pytest.mark.parametrize("update", ["none", "obs"])
@pytest.mark.parametrize("build", [t5, bart])
@pytest.mark.parametrize(("encoder", "decoder"), [(0, 8), (5, 0), (5, 5), (3, 8), (0, 5)])
def test_both_sides_of_an_encoder_decoder(build, encoder, decoder, update):
    """Includes sides of equal length, which shapes alone do not distinguish."""
    ids, mask = padded([[3, 4, 5, 6, 7, 8, 9, 10]], encoder)
    out, real = padded([[5, 6, 7, 8, 9, 11, 12, 13]], decoder)
    batch = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": out, "decoder_attention_mask": real}
    plain = {"input_ids": ids[:, :8], "attention_mask": mask[:, :8], "decoder_input_ids": out[:, :8]}
    masks, expected = chosen(build, batch, update), chosen(build, plain, update)
    differing = [name for name in expected if not torch.equal(masks[name], expected[name])]
    assert not differing


def test_labels_say_which_positions_of_a_decoder_are_real():
    ids, mask = padded([[3, 4, 5, 6]], 3)
    labels, _ = padded([[5, 6, 7, 8]], 3, value=-100)
    masks = chosen(t5, {"input_ids": ids, "attention_mask": mask, "labels": labels})
    expected = chosen(t5, {"input_ids": ids[:, :4], "attention_mask": mask[:, :4], "labels": labels[:, :4]})
    assert all(torch.equal(masks[name], expected[name]) for name in expected)


def test_two_masks_of_one_shape_are_refused_where_the_call_is_somebody_else_s():
    ids, mask = padded([[3, 4, 5, 6]], 3)
    batch = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids, "decoder_attention_mask": mask}
    with pytest.raises(
        ArgumentError, match=r"two masks of shape \[1, 7\], one for the encoder and one for the decoder"
    ):
        chosen(t5, batch, forward=lambda model, batch: model(**batch))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (3, 2), (6,)])
def test_a_mean_is_over_real_positions(shape):
    real = torch.tensor([[True, True, False], [True, False, False]])
    values = torch.randn(shape)
    padding = Padding([real])
    mask = padding.fitting(shape)
    assert mask is not None
    if values.ndim == mask.ndim:
        assert padding.mean(values) == pytest.approx(float(values[mask].mean()))
    rows = padding.rows(values.unsqueeze(-1), "w")
    assert torch.equal(rows[:, 0], values[mask].flatten())


def pair(build):
    torch.manual_seed(0)
    teacher = build()
    student = copy.deepcopy(teacher)
    sparsify_(student, "2:4")
    return student, teacher


def collate(items):
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@pytest.mark.parametrize("build", [t5, bart])
@pytest.mark.parametrize(("encoder", "decoder"), [(0, 0), (4, 0), (0, 4), (4, 4)])
def test_recovery_of_an_encoder_decoder_does_not_see_padding(build, encoder, decoder):
    """The first loss, on hidden states of both sides and the output, equals the loss without padding."""
    losses = []
    for pads in ((0, 0), (encoder, decoder)):
        ids, mask = padded([[3, 4, 5, 6, 7, 8]], pads[0])
        out, real = padded([[5, 6, 7, 8, 9, 11]], pads[1])
        items = [
            {
                "input_ids": ids[0],
                "attention_mask": mask[0],
                "decoder_input_ids": out[0],
                "decoder_attention_mask": real[0],
            }
        ] * 4
        student, teacher = pair(lambda: build().eval())
        student.config.dropout = 0.0
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        options = RecoverOptions(steps=1, hidden=1.0, output=1.0, output_loss="mse")
        losses.append(recover_(student, teacher, Batches(items, 4, collate=collate), options=options).losses[0])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
