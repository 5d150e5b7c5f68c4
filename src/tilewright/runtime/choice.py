"""Never slower: each sparse layer is measured against its dense twin, and the faster one runs.

A measurement depends on the processor, the library versions, the thread count, the weight's shape, pattern and density, not on its
values, so it is made once and kept in a file under ``$TILEWRIGHT_CACHE`` (``~/.cache/tilewright`` unless told).
"""

import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..errors import ArgumentError, CheckFailed
from ..files import write_whole
from ..kernels import implementations
from ..patterns import parse
from .install import Note, dense_twin, pin, set_submodule, sparse_layers
from .modules import SparseLinear

__all__ = ["Choice", "check_tokens", "choose", "kernel_in_use", "settle_", "times"]

_TOKENS: dict[bool, tuple[int, ...]] = {True: (1, 128), False: (16, 128)}
"""Where a layer must win when the caller does not say how many tokens a call carries, by whether the model generates text:
then it sees one token at a time as well, and otherwise a short sentence is the least."""

_LARGEST_CACHE = 16 << 20
"""Bytes of a file of choices that is read; one of a machine takes about 300."""

_ROUNDS = 5
_BUDGET = 0.02
"""Rounds of dense and sparse in turn, and seconds after which a measurement stops early (at two rounds)."""


@dataclass(frozen=True)
class Choice:
    """What was measured for one layer.

    Parameters
    ----------
    sparse
        True if the packed form runs.
    ratios
        Dense time over sparse time by number of tokens: above 1 the packed form is faster.
    kernel
        Implementation that ran.
    threads
        Threads it ran with.
    """

    sparse: bool
    ratios: dict[int, float]
    kernel: str
    threads: int

    @property
    def reason(self) -> str:
        """One phrase for the user."""
        measured = ", ".join(f"{ratio:.2f}x dense at {n} token{'s' * (n > 1)}" for n, ratio in self.ratios.items())
        return f"{'sparse' if self.sparse else 'dense'}: measured {measured} ({self.threads} thread{'s' * (self.threads > 1)})"


def settle_(model: nn.Module, tokens: int | None = None) -> dict[str, Choice]:
    """Measure every sparse layer of a model (or look it up) and make those dense that would be slower; in place."""
    check_tokens(tokens)
    cache = _Cache()
    if tokens is None:
        generates = any(
            getattr(module, "can_generate", bool)() for module in model.modules() if hasattr(module, "can_generate")
        )
        counts = _TOKENS[generates]
    else:
        counts = (tokens,)
    made = {}
    for name, layer in sparse_layers(model).items():
        choice = choose(layer, counts, cache)
        made[name] = choice
        keep: nn.Module = layer if choice.sparse else dense_twin(layer)
        pin(keep, Note(layer.pattern, layer.stored_dtype, choice.reason, min(choice.ratios.values())))
        if not choice.sparse:
            set_submodule(model, name, keep)
    cache.write()
    return made


def choose(layer: SparseLinear, counts: tuple[int, ...] = _TOKENS[False], cache: "_Cache | None" = None) -> Choice:
    """Return whether a layer should run sparse here, for calls of so many tokens; measured, or from the cache."""
    kept = cache if cache is not None else _Cache()
    key = _key(layer, counts)
    choice = kept.get(key)
    if choice is None:
        choice = _measure(layer, counts)
        kept.put(key, choice)
        if cache is None:
            kept.write()
    return choice


def check_tokens(tokens: object) -> None:
    """Refuse anything but None and a whole number from 1."""
    if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1):
        raise ArgumentError(f"tokens must be a whole number of at least 1, or None for the usual ones; got {tokens!r}")


def _measure(layer: SparseLinear, counts: tuple[int, ...]) -> Choice:
    ratios = {}
    dense = layer.dense()
    plain = SparseLinear(layer.packed(), layer.bias)
    plain.surrounding = layer.surrounding
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for count in counts:
            x = torch.randn(count, layer.in_features, generator=generator).to(layer.surrounding)
            ratios[count] = _ratio(dense, plain, x)
    return Choice(min(ratios.values()) >= 1.0, ratios, kernel_in_use(), torch.get_num_threads())


def _ratio(dense: nn.Module, sparse: nn.Module, x: torch.Tensor) -> float:
    """Return dense time over sparse time."""
    seconds = times(dense, sparse, x)
    return seconds[0] / seconds[1]


def times(dense: nn.Module, sparse: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Return the seconds of both forms of a layer, each the best of alternating rounds: noise only ever adds time.

    Raises
    ------
    CheckFailed
        If the two forms do not give the same.
    """
    one, other = dense(x), sparse(x)
    limit = 1e-3 if x.dtype == torch.float32 else 0.05
    if not torch.allclose(one, other, atol=limit * float(one.abs().max()), rtol=limit):
        raise CheckFailed(
            f"{sparse} differs by {float((one - other).abs().max()):.3g} from its dense form on this machine; its speed is "
            "not measured. Run the tests of the kernels here, and load with TILEWRIGHT_KERNEL=generic until they pass"
        )
    loops = max(1, int(2e-4 / max(_seconds(sparse, x, 1), 1e-7)))
    best = (float("inf"), float("inf"))
    start = time.perf_counter()
    for turn in range(_ROUNDS):
        best = min(best[0], _seconds(dense, x, loops)), min(best[1], _seconds(sparse, x, loops))
        if turn >= 1 and time.perf_counter() - start > _BUDGET:
            break
    return best


def _seconds(module: nn.Module, x: torch.Tensor, loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        functional.linear(x, module.weight, module.bias) if isinstance(module, nn.Linear) else module(x)
    return (time.perf_counter() - start) / loops


def kernel_in_use() -> str:
    """Return the implementation that runs where none is asked for by name."""
    forced = os.environ.get("TILEWRIGHT_KERNEL")
    return forced or next(found.name for found in implementations() if found.available)


def _key(layer: SparseLinear, counts: tuple[int, ...]) -> str:
    from .. import __version__

    parts = (
        _processor(),
        f"torch {torch.__version__}",
        f"tilewright {__version__}",
        kernel_in_use(),
        f"{torch.get_num_threads()} threads",
        f"{layer.out_features}x{layer.in_features} {layer.surrounding}",
        parse(layer.pattern).canonical,
        f"{layer.values.numel() / (layer.out_features * layer.in_features):.3f}",
        "tokens " + ",".join(map(str, counts)),
    )
    return " | ".join(parts)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        import platform

        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "unknown"
    )


class _Cache:
    """The file of earlier choices. A missing or unreadable one counts as empty, a broken entry as missing; write failures are ignored."""

    def __init__(self) -> None:
        home = (
            os.environ.get("TILEWRIGHT_CACHE")
            or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tilewright"
        )
        self._path = Path(home) / "choices.json"
        self._changed = False
        self._entries: dict[str, Any] = {}
        try:
            if self._path.is_file() and self._path.stat().st_size <= _LARGEST_CACHE:
                body = json.loads(self._path.read_bytes())
                self._entries = body if isinstance(body, dict) else {}
        except (OSError, ValueError, RecursionError):
            return

    def get(self, key: str) -> Choice | None:
        """Return the stored choice, or None if there is none that can be read."""
        entry = self._entries.get(key)
        if not isinstance(entry, dict) or not isinstance(entry.get("ratios"), dict) or not entry["ratios"]:
            return None
        sparse, kernel, threads = (entry.get(name) for name in ("sparse", "kernel", "threads"))
        if type(sparse) is not bool or type(kernel) is not str or type(threads) is not int:
            return None
        ratios = {}
        for count, ratio in entry["ratios"].items():
            plausible = isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 < ratio < 1e6
            if not plausible or not re.fullmatch(r"[1-9][0-9]{0,9}", str(count)):
                return None
            ratios[int(count)] = float(ratio)
        return Choice(sparse, ratios, kernel, threads) if sparse == (min(ratios.values()) >= 1.0) else None

    def put(self, key: str, choice: Choice) -> None:
        """Remember a choice until `write`."""
        self._entries[key] = asdict(choice)
        self._changed = True

    def write(self) -> None:
        """Store what is new, atomically."""
        if not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._entries, indent=1))
            self._changed = False
        except OSError:
            return  # a cache only saves time
