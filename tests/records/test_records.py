"""Records: written completely, read back equal, rejected when invalid."""

import dataclasses
import fcntl
import json
import os
import resource
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError, FormatError
from tilewright.records import Record, TornRecordWarning, read_records, write_record

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def a_record(**changes):
    inputs = {"engine": "tilewright", "model": "sparse", "sentences": 32}
    record = Record.measure(
        "latency", "encode", [0.3, 0.1, 0.2], "s", inputs=inputs, seed=3, checked=True, extra={"warm": 2}
    )
    return dataclasses.replace(record, **changes)


def test_measure_keeps_the_spread_and_the_surroundings():
    record = a_record()
    assert (record.n, record.min, record.median, record.max) == (3, 0.1, 0.2, 0.3)
    assert record.checked
    assert record.seed == 3
    assert record.machine["cpu"]
    assert record.versions["numpy"] == np.__version__


def test_one_number_is_one_sample():
    record = Record.measure("size", "disk", np.float32(12), "bytes")
    assert (record.n, record.min, record.median, record.max, record.checked) == (1, 12.0, 12.0, 12.0, False)


@given(
    inputs=st.dictionaries(st.text(), plain, max_size=3),
    extra=st.dictionaries(st.text(), plain, max_size=3),
    name=st.text(),
)
def test_a_record_equals_its_own_line(inputs, extra, name):
    record = Record.measure("kernel", name, [1.5, 2.5], "ratio", inputs=inputs, extra=extra)
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record


def test_arrays_and_scalars_become_plain_numbers():
    record = Record.measure(
        "loss", "recovery", [1.0], "", extra={"loss": np.array([1.0, 0.5]), "steps": (1, 2), "best": np.int64(2)}
    )
    assert record.extra == {"loss": [1.0, 0.5], "steps": [1, 2], "best": 2}


def test_the_file_keeps_the_order(tmp_path):
    path = tmp_path / "records.jsonl"
    written = [a_record(name=f"r{i}") for i in range(5)]
    for record in written:
        write_record(path, record)
    assert read_records(path) == written


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Record.measure("latency", "encode", [], "s"), "no samples were given"),
        (lambda: Record.measure("latency", "encode", [1.0, float("nan")], "s"), "1 of 2 samples are not finite"),
        (
            lambda: Record.measure("latency", "encode", 1.0, "s", inputs={"model": object()}),
            "'inputs' cannot be written as JSON",
        ),
        (
            lambda: Record.measure("latency", "encode", 1.0, "s", extra={"x": float("inf")}),
            "'extra' cannot be written as JSON",
        ),
        (lambda: a_record(median=5.0), "min <= median <= max"),
        (lambda: a_record(n=0), "needs n >= 1"),
        (lambda: a_record(n=True), "'n' must be a whole number, got True"),
        (lambda: a_record(checked=1), "'checked' must be true or false, got 1"),
        (lambda: a_record(kind=None), "'kind' must be text, got None"),
        (lambda: a_record(seed="1"), "'seed' must be a whole number, got '1'"),
        (lambda: a_record(max=float("inf")), "must all be finite"),
    ],
)
def test_a_wrong_record_is_refused_in_words(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_a_torn_last_line_is_skipped_with_a_warning(tmp_path):
    path = tmp_path / "records.jsonl"
    whole = a_record()
    line = whole.to_json().encode()
    for cut in (1, len(line) // 2, len(line) - 1):
        path.write_bytes(line + b"\n" + line[:cut])
        with pytest.warns(TornRecordWarning, match=r"records\.jsonl: line 2 was left incomplete"):
            assert read_records(path) == [whole]


def test_writing_after_a_torn_line_heals_the_file(tmp_path):
    path = tmp_path / "records.jsonl"
    first, second = a_record(name="first"), a_record(name="second")
    path.write_bytes(first.to_json().encode() + b'\n{"kind":"lat')
    write_record(path, second)
    assert read_records(path) == [first, second]


def test_a_whole_last_line_without_newline_is_kept(tmp_path):
    path = tmp_path / "records.jsonl"
    first, second = a_record(name="first"), a_record(name="second")
    path.write_text(first.to_json())
    assert read_records(path) == [first]
    write_record(path, second)
    assert read_records(path) == [first, second]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2: not a JSON record"),
        (b"[1]", "line 2: a record must be a JSON object with the keys .* got list"),
        (b'{"kind":"x"}', "line 2: a record must be a JSON object .* got kind"),
        (b"\xff\xfe", "line 2 is not UTF-8"),
        (b'{"kind": NaN}', "NaN is not a number JSON allows"),
        (b"[" * 100_000, "line 2: not a JSON record"),
    ],
)
def test_a_corrupt_line_is_named(tmp_path, line, message):
    path = tmp_path / "records.jsonl"
    good = a_record().to_json().encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    with pytest.raises(FormatError, match=message):
        read_records(path)


def test_a_line_with_a_wrong_value_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    body = json.loads(a_record().to_json())
    path.write_text(json.dumps(body | {"median": 1e999}).replace("Infinity", "1e999") + "\n")
    with pytest.raises(FormatError, match=r"line 1: .*must all be finite"):
        read_records(path)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    """A file size limit interrupts the write exactly as a full disk does."""
    path = tmp_path / "records.jsonl"
    write_record(path, a_record())
    before = path.read_bytes()
    program = f"""
        import resource, signal
        from tilewright.records import Record, write_record
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        record = Record.measure("size", "disk", 1, "bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before)} + 40, resource.RLIM_INFINITY))
        try:
            write_record({str(path)!r}, record)
        except OSError as e:
            print("refused", e.errno)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused"), done.stderr
    assert path.read_bytes() == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


def test_writers_in_several_processes_never_mix_lines(tmp_path):
    path = tmp_path / "records.jsonl"
    program = textwrap.dedent(f"""
        import sys
        from tilewright.records import Record, write_record
        for i in range(40):
            write_record({str(path)!r}, Record.measure("size", sys.argv[1], i, "bytes", extra={{"x": "y" * 5000}}))
    """)
    running = [subprocess.Popen([sys.executable, "-c", program, str(i)]) for i in range(3)]
    assert [p.wait() for p in running] == [0, 0, 0]
    records = read_records(path)
    for i in range(3):
        assert [r.median for r in records if r.name == str(i)] == list(range(40))


def test_a_writer_waits_while_another_repairs_the_file(tmp_path):
    path = tmp_path / "records.jsonl"
    path.touch()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=write_record, args=(path, a_record()))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert path.read_bytes() == b""
    writer.join(30)
    assert len(read_records(path)) == 1


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(IsADirectoryError):
        write_record(tmp_path, a_record())
    assert os.listdir(tmp_path) == []
