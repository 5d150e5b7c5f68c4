"""Configs and headers that violate the format, one rule at a time: each is rejected with a clear message."""

import struct

import pytest
from bending import WEIGHTS, refused

from tilewright.errors import FormatError
from tilewright.formats import read_checkpoint_bytes


def test_the_parts_put_together_are_a_checkpoint(parts):
    """The premise of the other tests: the files they change are valid before."""
    assert len(read_checkpoint_bytes(parts.files()).weights) == len(WEIGHTS)


def test_the_sample_has_every_encoding(parts):
    assert {parts.entry(n)["encoding"] for n in WEIGHTS} == {"rank", "bitmap", "sorted", "holes"}
    assert {name.rpartition(".")[2] for name in parts.header} >= {"values", "index", "inner", "rows", "residual_index"}


ENTRY_FAULTS = [
    ("nm", {"pattern": "2:5x"}, r"parameter 'nm\.weight': .*unknown pattern"),
    ("nm", {"pattern": "2:04"}, r"the pattern '2:04' is not in its canonical form"),
    ("nm", {"pattern": "2:4x1"}, r"'2:4x1' is not in its canonical form"),
    ("nm", {"pattern": 24}, r"the pattern 24 is not in its canonical form"),
    ("nm", {"pattern": "2:" + "4" * 5000}, r"is not in its canonical form"),
    ("nm", {"pattern": "2:4t"}, r"2:4t needs both sides to be multiples of 4, got \[4, 10\]"),
    ("nm", {"pattern": "2:4x1025"}, r"tile of a n:m pattern must be at most 1,024, got 1025"),
    ("nm", {"pattern": "1:4"}, r"'nm\.weight\.values' has 24 values, but the index calls for 12"),
    ("nm", {"dtype": "float64"}, r"unknown dtype 'float64'; expected float32 or float16 or bfloat16"),
    ("nm", {"dtype": "float16"}, r"'nm\.weight\.values' must be one-dimensional F16, got F32 of shape \[24\]"),
    ("nm", {"dtype": ["float32"]}, r"dtype must be a string, got \['float32'\]"),
    ("nm", {"layout": "sideways"}, r"unknown layout 'sideways'; expected linear or conv or transposed"),
    ("nm", {"shape": [4]}, r"shape is \[4\]; it must be 2 to 2 integers from 1 to 2147483647"),
    ("nm", {"shape": [4, 10.0]}, r"shape is \[4, 10\.0\]; it must be"),
    ("nm", {"shape": [True, 10]}, r"shape is \[True, 10\]; it must be"),
    ("nm", {"shape": [0, 10]}, r"shape is \[0, 10\]; it must be"),
    ("nm", {"shape": [-4, 10]}, r"shape is \[-4, 10\]; it must be"),
    ("nm", {"shape": [1 << 31, 10]}, r"shape is \[2147483648, 10\]; it must be"),
    ("nm", {"shape": [10**4000, 10]}, r"shape is .*\.\.\.; it must be"),
    ("nm", {"shape": [4, 11]}, r"a linear parameter of shape \[4, 10\] does not match the weight \[4, 11\]; pass the shape"),
    ("nm", {"original_shape": [10, 4]}, r"a linear parameter of shape \[10, 4\] does not match the weight \[4, 10\]"),
    ("nm", {"original_shape": [40]}, r"original_shape is \[40\]; it must be 2 to 8 integers"),
    ("nm", {"original_shape": [1] * 9}, r"original_shape is .*; it must be 2 to 8"),
    ("nm", {"original_shape": [4, 5, 2]}, r"a linear weight must have two dimensions, got shape \[4, 5, 2\]"),
    ("nm", {"encoding": "sorted"}, r"unknown encoding 'sorted' for 2:4; expected one of rank, bitmap"),
    ("nm", {"encoding": "bitmap"}, r"a bitmap of \d+ tiles of \d+ inputs takes"),
    ("any", {"encoding": "rank"}, r"unknown encoding 'rank' for any@90%; expected one of bitmap, sorted, holes"),
    ("any", {"encoding": None}, r"encoding must be a string, got None"),
    ("nm", {"count": 23}, r"23 kept columns, but 2:4 keeps 24 here"),
    ("nm", {"count": 1 << 61}, r"kept columns, but the stored values leave room for 24"),
    ("nm", {"count": -1}, r"count must be a non-negative integer, got -1"),
    ("nm", {"count": True}, r"count must be a non-negative integer, got True"),
    ("nm", {"count": 1 << 62}, r"count must be a non-negative integer, got \d+"),
    ("any", {"count": 31}, r"'any\.weight\.index': \d+ bytes, but 31 of 320 positions as sorted take \d+|bits are set, expected 31"),
    ("any", {"count": 33}, r"the index claims 33 kept columns, but the stored values leave room for 32"),
    ("nm", {"stored": 3}, r"only tile-wise patterns may leave out outputs, but this is 2:4"),
    ("nm", {"residual": {"encoding": "bitmap", "count": 0}}, r"only tew patterns have a residual, but this is 2:4"),
    ("nm", {"comment": ""}, r"its entry must have count, dtype, .* and nothing else, but has \['comment', "),
    ("tw", {"stored": 8}, r"'tw\.weight\.rows' has 1 bytes for 8 of 8 outputs; expected 1 bytes and fewer than 8 outputs"),
    ("tw", {"stored": 1}, r"'tw\.weight\.rows': \d bits are set for 1 stored outputs"),
    ("tw", {"stored": "4"}, r"stored must be a non-negative integer, got '4'"),
    ("tew", {"residual": {"encoding": "sorted"}}, r"residual must have encoding and count, got \{'encoding': 'sorted'\}"),
    ("tew", {"residual": {"encoding": "sorted", "count": 7}}, r"the entry announces 7 elements, but residual_values has 8"),
    ("tew", {"residual": {"encoding": "rank", "count": 8}}, r"unknown encoding 'rank'; expected one of bitmap, sorted, holes"),
    ("tvw", {"pattern": "tvw4@75%:1:2"}, r"'tvw\.weight\.values' has \d+ values, but the index calls for \d+"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), ENTRY_FAULTS)
def test_wrong_entries(parts, name, change, message):
    parts.entry(name).update(change)
    refused(parts.files(), message)


@pytest.mark.parametrize("key", ["pattern", "dtype", "shape", "layout", "original_shape", "encoding", "count"])
def test_missing_keys(parts, key):
    del parts.entry("any")[key]
    refused(parts.files(), rf"config\.json: parameter 'any\.weight': its entry must have .*{key}")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            None,
            r"config\.json: quantization_config must be an object whose quant_method is 'tilewright', got None; this is not",
        ),
        ({"quant_method": "gptq"}, r"must be an object whose quant_method is 'tilewright'"),
        (
            {"quant_method": "tilewright", "format_version": 3},
            r"format_version is 3, but this release reads versions 1 to 2; update",
        ),
        ({"quant_method": "tilewright", "format_version": True}, r"format_version is True"),
        (
            {"quant_method": "tilewright", "format_version": 1},
            r"modules must map module names to parameters, got None",
        ),
        (
            {"quant_method": "tilewright", "format_version": 1, "modules": {"a": 1}},
            r"modules must map module names to parameters",
        ),
        (
            {"quant_method": "tilewright", "format_version": 1, "modules": {"a": {"b": 1}}},
            r"'a\.b': its entry must have",
        ),
        (
            {"quant_method": "tilewright", "format_version": 1, "modules": {"a": {"b.c": {}}}},
            r"the name must be non-empty and without dots",
        ),
        (
            {"quant_method": "tilewright", "format_version": 1, "modules": {}, "recipe": 3},
            r"recipe must be an object and recipe_hash",
        ),
    ],
)
def test_wrong_quantization_config(parts, block, message):
    parts.config["quantization_config"] = block
    refused(parts.files(), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"config\.json: not valid UTF-8 JSON"),
        (b"[]", r"config\.json: expected a JSON object, got a list"),
        (b'{"a": 1, "a": 2}', r"config\.json: the key 'a' appears twice in one JSON object"),
        (b'{"a": NaN}', r"config\.json: NaN is not JSON"),
        (b'{"a": -Infinity}', r"config\.json: -Infinity is not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', r"config\.json: not valid UTF-8 JSON"),
        (b'{"a": "\xff"}', r"config\.json: not valid UTF-8 JSON"),
        (b'{"a": ' + b"[" * 200_000, r"config\.json: the JSON is nested too deeply|config\.json: not valid UTF-8 JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", r"config\.json: not valid UTF-8 JSON \(.Exceeds the limit"),
        (
            b'{"quantization_config": "' + b"\\u0000" * 9000 + b'"}',
            r"quantization_config must be an object .*\.\.\.; this is not",
        ),
    ],
)
def test_json_that_is_not_the_formats(good, text, message):
    refused({**good, "config.json": text}, message)


def test_json_that_is_too_long_is_not_parsed(good):
    refused(
        {**good, "config.json": bytes(33 << 20)},
        r"config\.json: 34603008 bytes of JSON; at most 33554432 are read",
    )


CONTAINER_FAULTS = [
    (lambda d: b"", r"model\.safetensors: 0 bytes; a safetensors file has at least 8"),
    (lambda d: d[:7], r"7 bytes; a safetensors file has at least 8"),
    (lambda d: d[:100], r"the header claims \d+ bytes; 92 follow"),
    (lambda d: d[:-1], r"the tensors take \d+ bytes of payload, but there are \d+"),
    (lambda d: d + b"\0", r"the tensors take \d+ bytes of payload, but there are \d+"),
    (lambda d: b"\xff" * 8 + d[8:], r"the header claims 18446744073709551615 bytes"),
    (lambda d: struct.pack("<Q", 40 << 20) + bytes(40 << 20), r"the header claims 41943040 bytes; .* at most 33554432 are read"),
    (lambda d: struct.pack("<Q", 2) + b"[]", r"model\.safetensors, header: expected a JSON object, got a list"),
]  # fmt: skip


@pytest.mark.parametrize(("bend", "message"), CONTAINER_FAULTS)
def test_wrong_containers(good, bend, message):
    files = {**good, "model.safetensors": bend(good["model.safetensors"])}
    if len(files["model.safetensors"]) > 1 << 20:
        with pytest.raises(FormatError, match=message):
            read_checkpoint_bytes(files)
    else:
        refused(files, message)


HEADER_FAULTS = [
    ({"dtype": "F31"}, r"tensor 'bias' has the unknown type 'F31'; expected one of F64"),
    ({"dtype": 1}, r"tensor 'bias' has the unknown type 1"),
    ({"shape": [4]}, r"tensor 'bias': \[4\] elements of F32 take 128 bits, but its data_offsets span 12 bytes"),
    ({"shape": [-3]}, r"tensor 'bias' has shape \[-3\]; it must list at most 16 non-negative integers"),
    ({"shape": [3.0]}, r"tensor 'bias' has shape \[3\.0\]"),
    ({"shape": "3"}, r"tensor 'bias' has shape '3'"),
    ({"shape": [1] * 17}, r"tensor 'bias' has shape \[1, .*; it must list at most 16"),
    ({"shape": [1 << 40, 1 << 40, 1 << 40]}, r"elements of F32 take \d+ bits, but its data_offsets span 12 bytes"),
    ({"data_offsets": [0]}, r"tensor 'bias' has data_offsets \[0\]; they must be two non-negative integers, begin <= end"),
    ({"data_offsets": [12, 0]}, r"they must be two non-negative integers, begin <= end"),
    ({"data_offsets": [0, 12, 24]}, r"they must be two non-negative integers"),
    ({"data_offsets": [4, 16]}, r"starts at byte \d+ of the payload and (overlaps the previous one|leaves a gap before it)"),
    ({"data_offsets": [1 << 50, (1 << 50) + 12]}, r"leaves a gap before it"),
    ({"note": 1}, r"tensor 'bias' must have exactly dtype, shape and data_offsets"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HEADER_FAULTS)
def test_wrong_headers(parts, change, message):
    parts.files()
    parts.header["bias"].update(change)
    refused(parts.files(relocate=False), message)


def test_overlapping_tensors(parts):
    """Two tensors share bytes and another one hides the gap: sizes add up, but offsets do not."""
    parts.files()
    first, second = "any.weight.values", "holes.weight.values"
    start = parts.header[first]["data_offsets"][0]
    length = parts.header[second]["data_offsets"][1] - parts.header[second]["data_offsets"][0]
    parts.header[second]["data_offsets"] = [start, start + length]
    refused(parts.files(relocate=False), r"starts at byte \d+ of the payload and overlaps the previous one")


def test_metadata_must_be_texts(parts):
    parts.metadata = {"format": 1}
    refused(parts.files(), r"model\.safetensors: __metadata__ must map strings to strings")


def test_a_tensor_twice_in_the_header(good):
    text = b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    refused({**good, "model.safetensors": struct.pack("<Q", len(text)) + text}, r"header: the key 'a' appears twice")
