"""Models with every kind of weight."""

import torch
from torch import nn


class Conv1D(nn.Module):
    """A stand-in for Hugging Face's Conv1D: same class name, ``nf``, and weight stored as ``[K, N]``."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Zoo(nn.Module):
    """One module of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.linear = nn.Linear(8, 12)
        self.conv = nn.Conv2d(8, 4, 3)
        self.grouped = nn.Conv1d(8, 8, 3, groups=2)
        self.deconv = nn.ConvTranspose2d(4, 4, 2)
        self.gpt = Conv1D(6, 8)
        self.lstm = nn.LSTM(8, 4, num_layers=2, bidirectional=True)
        self.cell = nn.GRUCell(8, 4)
        self.attention = nn.MultiheadAttention(8, 2)
        self.cross = nn.MultiheadAttention(8, 2, kdim=12, vdim=16)
        self.norm = nn.LayerNorm(8)


class Tied(nn.Module):
    """A head that shares the embedding's weight, two layers that share one, and one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.left = nn.Linear(8, 8)
        self.right = nn.Linear(8, 8)
        self.right.weight = self.left.weight
        self.once = nn.Linear(8, 8)
        self.again = self.once

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.again(self.once(x)))


def mlp(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a small network with the same weights on every call."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).to(dtype)
