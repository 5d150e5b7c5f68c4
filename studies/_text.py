"""Characters of Python's own documentation as integer codes, for language models and sequence-to-sequence models."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from tilewright.jobs import python_docs

VOCABULARY = 96
"""Number of codes: printable ASCII, and 0 for padding, masked characters and everything else."""


@cache
def characters() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training and held-out text, a stream of codes each. Passages are shuffled once and never split between the two."""
    passages = list(python_docs().passages)
    np.random.default_rng(0).shuffle(passages)
    cut = len(passages) * 9 // 10
    return encode("\n".join(passages[:cut])), encode("\n".join(passages[cut:]))


def encode(text: str) -> NDArray[np.int64]:
    """Return codes 1 to 95 for printable characters, 1 (a space) for newlines, and 0 for everything else."""
    raw = np.frombuffer(text.replace("\n", " ").encode("utf-32-le"), np.uint32).astype(np.int64)
    return np.where((raw >= 32) & (raw < 127), raw - 31, 0)


class Windows:
    """Windows of a stream; item i starts at character ``i * stride``."""

    def __init__(self, stream: NDArray[np.int64], length: int, stride: int) -> None:
        self.stream, self.length, self.stride = stream, length, stride

    def __len__(self) -> int:
        return (len(self.stream) - self.length) // self.stride

    def __getitem__(self, index: int) -> torch.Tensor:
        start = index * self.stride
        return torch.from_numpy(self.stream[start : start + self.length].copy())


def bare(window: torch.Tensor) -> torch.Tensor:
    """Return a window in lower case with only letters, digits and spaces, padded at the end."""
    upper = (window >= 34) & (window <= 59)
    lowered = torch.where(upper, window + 32, window)
    keep = (lowered == 1) | ((lowered >= 17) & (lowered <= 26)) | ((lowered >= 66) & (lowered <= 91))
    text = lowered[keep]
    return torch.nn.functional.pad(text, (0, len(window) - len(text)))


VOWELS = torch.tensor([ord(letter) - 31 for letter in "aeiou"])


def without_vowels(windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return windows ``[batch, length]`` with every lower-case vowel replaced by 0, and the boolean mask of those positions."""
    hidden = torch.isin(windows, VOWELS)
    return windows.masked_fill(hidden, 0), hidden
