"""`Record`: one measured result with everything needed to judge it, stored as one line of JSON.

Record files are append-only (see `files.append_line`): processes that write at the same time never mix their lines, and a
killed run leaves at most one incomplete last line, which readers skip and the next writer removes.
"""

import json
import math
import os
import statistics
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..errors import ArgumentError, FormatError
from .environment import machine, revision, versions
from .files import append_line

__all__ = ["Record", "TornRecordWarning", "read_records", "write_record"]


class TornRecordWarning(UserWarning):
    """The last line of a record file was left incomplete by a killed run and is skipped."""


@dataclass(frozen=True)
class Record:
    """One measured result.

    Parameters
    ----------
    kind
        Family of the result: ``"quality"``, ``"latency"``, ``"size"``, ``"layer"``, ``"loss"``, ``"kernel"``. Others are
        allowed.
    name
        What was measured, for example ``"mrr"`` or ``"encode"``.
    inputs
        What it was measured on: model, engine, sentences, threads. Two records with equal kind, name and inputs are comparable.
    machine, versions, revision
        Where it was measured; see `machine`, `versions` and `revision`.
    seed
        Random seed; None if nothing was random.
    unit
        Unit of `min`, `median` and `max`: ``"s"``, ``"bytes"``, ``"ratio"``; ``"1"`` for a plain number.
    n
        Number of samples.
    min, median, max
        Smallest, median and largest sample, in `unit`.
    checked
        True when the result was compared with the reference in the same run. Reports never print an unchecked timing.
    extra
        Anything else worth keeping, by name.

    Raises
    ------
    ArgumentError
        When a field has the wrong type, a number is not finite, or min, median and max are out of order.
    """

    kind: str
    name: str
    inputs: Mapping[str, object]
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    revision: str | None
    seed: int | None
    unit: str
    n: int
    min: float
    median: float
    max: float
    checked: bool
    extra: Mapping[str, object]

    def __post_init__(self) -> None:
        for name in ("kind", "name", "unit"):
            self._expect(name, str, "text")
        for name in ("inputs", "machine", "versions", "extra"):
            self._expect(name, Mapping, "a mapping")
            object.__setattr__(self, name, _plain(getattr(self, name), name))
        self._expect("checked", bool, "true or false")
        if self.revision is not None:
            self._expect("revision", str, "text")
        if self.seed is not None:
            self._expect("seed", int, "a whole number")
        self._expect("n", int, "a whole number")
        for name in ("min", "median", "max"):
            self._expect(name, (int, float), "a number")
            object.__setattr__(self, name, float(getattr(self, name)))
        if not all(map(math.isfinite, (self.min, self.median, self.max))):
            raise ArgumentError(
                f"record {self.kind}/{self.name}: min {self.min}, median {self.median}, max {self.max} must all be finite; "
                "do not record failed measurements"
            )
        if self.n < 1 or not self.min <= self.median <= self.max:
            raise ArgumentError(
                f"record {self.kind}/{self.name}: needs n >= 1 and min <= median <= max, "
                f"got n {self.n}, min {self.min}, median {self.median}, max {self.max}"
            )

    def _expect(self, name: str, kind: type | tuple[type, ...], words: str) -> None:
        value = getattr(self, name)
        # bool is a subclass of int, but as a count or a number it is a mistake.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ArgumentError(f"record field {name!r} must be {words}, got {value!r}")

    @classmethod
    def measure(
        cls,
        kind: str,
        name: str,
        samples: float | Iterable[float],
        unit: str,
        *,
        inputs: Mapping[str, object] | None = None,
        seed: int | None = None,
        checked: bool = False,
        extra: Mapping[str, object] | None = None,
    ) -> "Record":
        """Make a record from samples taken on this machine just now.

        Parameters
        ----------
        kind, name, unit, inputs, seed, checked, extra
            See the fields of the class.
        samples
            One number, or several taken under the same conditions, in `unit`.

        Raises
        ------
        ArgumentError
            When there are no samples, or one is not finite.

        Examples
        --------
        >>> r = Record.measure("latency", "encode", [0.012, 0.010, 0.011], "s", inputs={"sentences": 1}, checked=True)
        >>> r.n, r.min, r.median, r.max
        (3, 0.01, 0.011, 0.012)
        """
        values = [float(s) for s in samples] if isinstance(samples, Iterable) else [float(samples)]
        if not values:
            raise ArgumentError(f"record {kind}/{name}: no samples were given; a record needs at least one")
        bad = [v for v in values if not math.isfinite(v)]
        if bad:
            raise ArgumentError(f"record {kind}/{name}: {len(bad)} of {len(values)} samples are not finite ({bad[0]})")
        return cls(
            kind=kind,
            name=name,
            inputs=inputs or {},
            machine=machine(),
            versions=versions(),
            revision=revision(),
            seed=seed,
            unit=unit,
            n=len(values),
            min=min(values),
            median=statistics.median(values),
            max=max(values),
            checked=checked,
            extra=extra or {},
        )

    def to_json(self) -> str:
        """Return the record as one line of JSON, without the newline."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Return the record that `to_json` wrote; raises `FormatError` for any other text."""
        try:
            body = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as e:
            raise FormatError(f"not a JSON record: {e}") from e
        names = [f.name for f in fields(cls)]
        if not isinstance(body, dict) or sorted(body) != sorted(names):
            content = ", ".join(sorted(body)) if isinstance(body, dict) else type(body).__name__
            raise FormatError(f"a record must be a JSON object with the keys {', '.join(names)}; got {content}")
        try:
            return cls(**body)
        except ArgumentError as e:
            raise FormatError(str(e)) from e


def write_record(path: str | os.PathLike[str], record: Record) -> None:
    """Append one record to a record file, creating the file if needed.

    An incomplete last line left by a killed run is removed first. If the record cannot be written completely, the file is
    restored.

    Raises
    ------
    OSError
        When the file cannot be opened or the disk is full.
    """
    append_line(path, record.to_json())


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Return all records of a file, in the order they were written.

    Raises
    ------
    FormatError
        When a line other than an incomplete last one is not a record; the message names the line.
    OSError
        When the file cannot be read.

    Warns
    -----
    TornRecordWarning
        When the last line is incomplete and is skipped.
    """
    *lines, tail = Path(path).read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            records.append(_parse_line(line, path, number))
    if tail.strip():
        try:
            records.append(_parse_line(tail, path, len(lines) + 1))
        except FormatError:
            warnings.warn(
                f"{os.fspath(path)}: line {len(lines) + 1} was left incomplete by a killed run and is skipped; "
                "repeat the measurement to get that record",
                TornRecordWarning,
                stacklevel=2,
            )
    return records


def _parse_line(line: bytes, path: str | os.PathLike[str], number: int) -> Record:
    try:
        return Record.from_json(line.decode())
    except UnicodeDecodeError as e:
        raise FormatError(f"{os.fspath(path)}: line {number} is not UTF-8 text ({e})") from e
    except FormatError as e:
        raise FormatError(f"{os.fspath(path)}: line {number}: {e}") from e


def _plain(value: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Reduce a mapping to what JSON can represent, so that a record equals its own line read back."""
    try:
        plain = json.loads(json.dumps(dict(value), default=_from_array, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as e:
        raise ArgumentError(f"record field {name!r} cannot be written as JSON: {e}") from e
    assert isinstance(plain, dict)
    return plain


def _from_array(value: object) -> object:
    tolist = getattr(value, "tolist", None)  # NumPy and torch scalars and arrays
    if tolist is None:
        raise TypeError(f"{value!r} is not text, a number, a list or a mapping")
    return tolist()


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number JSON allows")
