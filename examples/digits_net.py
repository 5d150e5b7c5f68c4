"""A plain torch module that classifies digits, for recipes that name `examples.digits_net:build`; building it trains it, in seconds."""

import torch
from sklearn.datasets import load_digits
from torch import nn

__all__ = ["build"]


def build() -> nn.Module:
    """Return a perceptron trained on scikit-learn's digits, given as 64 numbers from 0 to 1; the result is the same every time."""
    bunch = load_digits()
    x = torch.tensor(bunch.data / 16, dtype=torch.float32)
    y = torch.tensor(bunch.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(150):
            rows = torch.randint(len(x), (128,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()
