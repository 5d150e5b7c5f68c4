"""Code shared by all studies: records, which make a study resumable, confidence intervals, and output folders."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from tilewright.records import Record, read_records, write_record

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Summary:
    """Mean over several seeds and its 95% confidence interval (Student's t); for a single seed, the interval is the mean itself."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Summary":
        """Summarise values that differ only in their seed."""
        array = np.asarray(list(values), dtype=float)
        mean, n = float(array.mean()), len(array)
        half = float(student.ppf(0.975, n - 1) * array.std(ddof=1) / n**0.5) if n > 1 else 0.0
        return cls(mean, mean - half, mean + half, n)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.mean - self.low:.3f}" if self.n > 1 else f"{self.mean:.3f}"


class Book:
    """The points of a study, one record each. Recorded points are not recomputed, so a killed study resumes where it stopped."""

    def __init__(self, name: str, small: bool = False, output: Path | None = None) -> None:
        self.name, self.small = name, small
        self.output = output
        folder = output or ROOT / "studies" / "records"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"
        self.records = read_records(self.path) if self.path.exists() else []

    @property
    def figure(self) -> Path:
        """The path of the study's figure."""
        return (self.output or ROOT / "docs" / "studies") / f"{self.name.replace('_', '-')}.svg"

    @property
    def scratch(self) -> Path:
        """The folder for models and checkpoints, kept between runs and never committed."""
        folder = (self.output or ROOT / "runs" / "studies") / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def find(self, inputs: Mapping[str, Any], seed: int | None) -> Record | None:
        """Return the record of a point; None if it has not been computed yet."""
        point = dict(inputs)
        return next((r for r in self.records if r.seed == seed and dict(r.inputs) == point), None)

    def add(
        self,
        name: str,
        value: float,
        inputs: Mapping[str, Any],
        seed: int | None,
        unit: str = "1",
        checked: bool = False,
        **extra: Any,
    ) -> Record:
        """Write the record of a point and log it to stderr. `checked`: outputs were verified in the same run, as speeds require."""
        record = Record.measure("study", name, value, unit, inputs=inputs, seed=seed, checked=checked, extra=extra)
        write_record(self.path, record)
        self.records.append(record)
        print(
            f"{self.name}: {name} {value:.4g} {' '.join(map(str, inputs.values()))} seed {seed}",
            file=sys.stderr,
            flush=True,
        )
        return record

    def values(self, name: str, **inputs: Any) -> list[float]:
        """Return the values of all records with this name whose inputs include these, ordered by seed."""
        records = [r for r in self.records if r.name == name and all(r.inputs.get(k) == v for k, v in inputs.items())]
        return [r.median for r in sorted(records, key=lambda r: -1 if r.seed is None else r.seed)]


def begin(name: str, doc: str | None) -> Book:
    """Parse the command line of a study (``--small``, ``--output``, ``--threads``) and open its book."""
    import torch

    parser = argparse.ArgumentParser(prog=f"python -m studies.{name}", description=(doc or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="compute only a few points, in about a minute")
    parser.add_argument("--output", type=Path, help="folder for records and figures, instead of the committed ones")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return Book(name, arguments.small, arguments.output or (ROOT / "runs" / "small" if arguments.small else None))
