"""Feeds damaged checkpoints to the reader, and those it accepts to every kernel.

    python tests/formats/fuzz_checkpoint.py --mutants 100000 --seed 0 [--native path/to/_native.so] [--most-memory 256]

Each mutant must be rejected with a `FormatError`, or yield weights that pass validation and whose products agree between all
implementations. Anything else stops the run with the mutant's number (`--only` repeats one) and exit code 1. `--native` uses the
given build of the extension, such as one with AddressSanitizer. There ASAN_OPTIONS=max_allocation_size_mb limits memory, because
AddressSanitizer reserves more address space than any limit on it would allow.
"""

import argparse
import importlib.util
import itertools
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mutants import Files, mutants

from tilewright.errors import FormatError
from tilewright.formats import Packed, read_checkpoint_bytes

LARGEST_PRODUCT = 1 << 22
"""Weights above this many elements are not multiplied: a valid file may describe a large weight that keeps little."""


def load_native(path: str) -> None:
    """Make `tilewright.kernels` use this build of its extension."""
    name = "tilewright.kernels._native"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no extension module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def available() -> list[str]:
    """Return the kernels this machine can run, with the definition in NumPy last."""
    from tilewright.kernels import implementations

    return [found.name for found in implementations() if found.available]


def multiply(packed: Packed, names: list[str], draw: np.random.Generator) -> int:
    """Run all implementations on a weight and compare their results; return how many ran."""
    from tilewright.kernels import linear

    outputs, inputs = packed.shape
    if outputs * inputs > LARGEST_PRODUCT:
        return 0
    x = draw.standard_normal((int(draw.integers(1, 20)), inputs), dtype=np.float32)
    results = [linear(x, packed, implementation=name) for name in names]
    for name, result in zip(names, results, strict=True):
        assert result.shape == (len(x), outputs), f"{name} returned shape {result.shape}"
        # Damaged values may be huge or NaN; all other results must agree.
        tame = np.isfinite(results[-1]) & (np.abs(results[-1]) < 1e3)
        if np.abs(_widened(packed)).max(initial=0) < 1e3:
            np.testing.assert_allclose(result[tame], results[-1][tame], rtol=1e-3, atol=1e-2, err_msg=name)
    return len(names)


def _widened(packed: Packed) -> np.ndarray:
    """Return all stored values as float32; NaN counts as too large to compare."""
    values = [packed.values, *([packed.residual.values] if packed.residual else [])]
    both = np.concatenate(values)
    wide = (both.astype(np.uint32) << 16).view(np.float32) if packed.dtype == "bfloat16" else both.astype(np.float32)
    return np.where(np.isnan(wide), np.inf, wide)


def judge(files: Files, names: list[str], draw: np.random.Generator) -> str:
    """Return the outcome for a mutant; exceptions other than `FormatError` are not caught."""
    try:
        checkpoint = read_checkpoint_bytes(files)
    except FormatError as error:
        message = str(error)
        assert 20 < len(message) < 1000, f"not a sentence: {message!r}"
        assert message.isprintable(), f"unprintable message {message!r}"
        return "refused"
    for tensor in checkpoint.dense.values():
        assert len(tensor.data) <= sum(map(len, files.values()))
    ran = [multiply(weight.packed, names, draw) for weight in checkpoint.weights.values()]
    return "multiplied" if any(ran) else "accepted"


def run(count: int, seed: int, names: list[str], only: int | None = None) -> dict[str, Counter[str]]:
    """Test `count` mutants; return how many of each kind were rejected, accepted and multiplied."""
    outcomes: dict[str, Counter[str]] = {}
    numbered = enumerate(itertools.islice(mutants(seed), count))
    for number, (kind, files) in numbered:
        if only is not None and number != only:
            continue
        try:
            outcome = judge(files, names, np.random.default_rng((seed, number)))
        except BaseException:
            print(
                f"mutant {number} of seed {seed} ({kind}): repeat with --seed {seed} --only {number}", file=sys.stderr
            )
            raise
        outcomes.setdefault(kind, Counter())[outcome] += 1
    return outcomes


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="judge this mutant alone")
    parser.add_argument("--native", help="path of the compiled extension to use")
    parser.add_argument("--most-memory", type=int, default=256, help="MiB the run may grow by; 0 for no limit")
    options = parser.parse_args()
    if options.native:
        load_native(options.native)
    names = available()
    if options.most_memory:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = size + (options.most_memory << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started = time.perf_counter()
    count = options.mutants if options.only is None else options.only + 1
    outcomes = run(count, options.seed, names, options.only)
    total = sum(outcomes.values(), Counter())
    for kind, counts in sorted(outcomes.items()):
        print(
            f"{kind:16} "
            + "  ".join(f"{outcome} {counts[outcome]:6}" for outcome in ("refused", "accepted", "multiplied"))
        )
    took = time.perf_counter() - started
    print(f"{total.total()} mutants in {took:.0f} s: {dict(total)}; kernels {', '.join(names)}")


if __name__ == "__main__":
    main()
