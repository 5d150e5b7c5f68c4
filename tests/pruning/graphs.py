"""Small seeded models with real graphs; all parameters and statistics are random, so that no error hides behind ones and zeros."""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]])
SIZES: dict[str, Any] = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


class ResNet(nn.Module):
    """A residual block with batch norms, a depthwise convolution, and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.first, self.first_norm = nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.second, self.second_norm = nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pool, self.slope = nn.MaxPool2d(2), nn.PReLU(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.second_norm(self.second(torch.relu_(self.first_norm(self.first(x)))))
        x = self.pool(self.slope(self.depthwise(x)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Grouped(nn.Module):
    """Grouped convolutions and group norms, which depend on the index of a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1, groups=4)
        self.norm, self.wide = nn.GroupNorm(4, 16), nn.Conv2d(16, 32, 1)
        self.last = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.wide(self.norm(self.grouped(self.stem(x)))).relu())


class Recurrent(nn.Module):
    """A bidirectional LSTM, an LSTM whose states are used, and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 16)
        self.both = nn.LSTM(16, 8, 2, batch_first=True, bidirectional=True)
        self.one, self.gru = nn.LSTM(16, 12, 2, batch_first=True), nn.GRU(12, 8)
        self.head = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, (hidden, _) = self.one(self.both(self.stem(x))[0])
        return self.head(torch.cat([self.gru(x)[0][:, -1], hidden[-1]], dim=-1))


class Attention(nn.Module):
    """torch's attention in a residual stream that is read by a fused GLU and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(5, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.glu, self.down = nn.Linear(16, 48), nn.Linear(24, 16)
        self.side, self.head = nn.Linear(5, 8), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x))
        y = y + self.attention(y, y, y, need_weights=False)[0]
        gate, up = self.glu(y).chunk(2, dim=-1)
        y = y + self.down(nn.functional.silu(gate) * up)
        return self.head(torch.cat([y, self.side(x).tanh()], dim=-1).mean(dim=1))


def bert(labels: bool) -> nn.Module:
    kind = transformers.BertForSequenceClassification if labels else transformers.BertModel
    return kind(transformers.BertConfig(**SIZES, intermediate_size=64))


def gpt2() -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=20, n_embd=32, n_layer=2, n_head=4, n_positions=16, bos_token_id=0, eos_token_id=0
        )
    )


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2, intermediate_size=48))


def vit() -> nn.Module:
    sizes = {name: size for name, size in SIZES.items() if name != "vocab_size"}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**sizes, intermediate_size=64, image_size=16, patch_size=4, num_labels=3)
    )


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Linear(16, 4))


def image() -> Tensor:
    return torch.randn(2, 3, 16, 16)


GRAPHS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "bert": (lambda: bert(False), lambda: {"input_ids": TOKENS, "attention_mask": (TOKENS != 2).long()}),
    "bert-labels": (lambda: bert(True), lambda: {"input_ids": TOKENS}),
    "gpt2": (gpt2, lambda: {"input_ids": TOKENS}),
    "llama": (llama, lambda: (TOKENS,)),
    "vit": (vit, image),
    "resnet": (ResNet, image),
    "grouped": (Grouped, image),
    "recurrent": (Recurrent, lambda: torch.randn(2, 6, 5)),
    "attention": (Attention, lambda: torch.randn(2, 6, 5)),
    "encoder": (encoder, lambda: torch.randn(3, 5, 6)),
}


def build(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Any]:
    """Return a model in eval mode with random parameters and statistics, and an example."""
    torch.manual_seed(0)
    make, example = GRAPHS[name]
    model = make()
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if "running" in n)]:
            tensor.copy_(tensor + 0.2 * torch.rand_like(tensor))
    batch = example()
    return model.eval().to(dtype), batch.to(dtype) if isinstance(batch, Tensor) else batch
