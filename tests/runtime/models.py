"""Small real models for the runtime tests."""

import torch
from torch import nn


def perceptron(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32)).eval()


def mixed(seed: int = 0) -> nn.Module:
    """Layers with and without a sparse kernel, a buffer, and integer and half-precision tensors."""
    torch.manual_seed(seed)
    model = nn.ModuleDict(
        {"conv": nn.Conv2d(8, 16, 3), "norm": nn.BatchNorm2d(16), "lstm": nn.LSTM(16, 24), "fc": nn.Linear(24, 40)}
    ).eval()
    model.register_buffer("steps", torch.tensor(7))
    model.register_buffer("narrow", torch.arange(5, dtype=torch.bfloat16))
    return model


class Tied(nn.Module):
    """A weight with two names, as in language models that tie their embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 32)
        self.inner = nn.Linear(32, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.embed(ids)))


def bert(**changes):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 100,
    }
    return BertModel(BertConfig(**{**sizes, **changes})).eval()


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64)).eval()
