"""Numbers are formatted as a reader expects."""

import pytest

from tilewright.pages import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (7, "7"), (1536, "1,536"), (12.0, "12"), (1e6, "1,000,000")),
        *(
            (0.5589, "0.559"),
            (2.13, "2.130"),
            (1.0, "1.000"),
            (34.51, "34.51"),
            (0.00123456, "0.001235"),
            (12345.6, "12,346"),
            (3.2e15, "3,200,000,000,000,000"),
            (0.0000123456, "0.00001235"),
        ),
        *((True, "yes"), (False, "no"), (None, ""), ("all", "all"), (-0.5, "-0.500")),
    ],
)
def test_number(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.50 s"),
        (0.0341, "34.1 ms"),
        (0.000012, "12.0 µs"),
        (3e-9, "3.00 ns"),
        (1234.0, "1,234 s"),
        (0.0, "0 ns"),
    ],
)
def test_seconds(value, text):
    assert wording.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(90.9e6, "90.9 MB"), (512.0, "512 bytes"), (2048.0, "2.05 kB"), (1.5e9, "1.50 GB"), (0.0, "0 bytes")],
)
def test_size(value, text):
    assert wording.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.624, "1.62"), (0.943, "0.94"), (11.23, "11.2"), (0.0512, "0.0512"), (250.0, "250")]
)
def test_times(value, text):
    assert wording.times(value) == text + wording.TIMES


@pytest.mark.parametrize(
    ("density", "text"),
    [(1.0, "1"), (0.5, "1/2"), (1 / 16, "1/16"), (1 / 3, "1/3"), (0.3, "0.3"), (0.0, "0"), (0.252, "0.252")],
)
def test_fraction(density, text):
    assert wording.fraction(density) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.12e14, "312 Top/s"),
        (999.96, "1 kop/s"),
        (1500, "1.5 kop/s"),
        (0.0021, "2.1 mop/s"),
        (0, "0 op/s"),
        (4e-14, "0.04 pop/s"),
    ],
)
def test_amount(value, text):
    assert wording.amount(value, "op/s") == text


@pytest.mark.parametrize(
    ("value", "most", "text"),
    [
        (32500.0, 6, "32,500"),
        (1.2e-5, 6, "0.000012"),
        (0.5, 4, "0.5"),
        (123456789.0, 4, "123,500,000"),
        (-0.25, 3, "-0.25"),
        (0, 3, "0"),
    ],
)
def test_digits(value, most, text):
    assert wording.digits(value, most) == text


@pytest.mark.parametrize(
    ("value", "text"), [(4.2, "4.20 s"), (12.6, "13 s"), (312.4, "5 min 12 s"), (7325, "2 h 2 min")]
)
def test_duration(value, text):
    assert wording.duration(value) == text


def test_the_rest():
    assert wording.percent(0.9417) == "94.2 %"
    assert wording.share_range(0.925, 0.9591) == "92.5 to 95.9 %"
    assert [wording.signed(v, wording.percent) for v in (0.1, -0.1)] == ["+10.0 %", "\N{MINUS SIGN}10.0 %"]
    assert wording.spread(1.0, 1.0, "s") == ""
    assert wording.spread(0.001, 0.002, "s") == "1.00 ms to 2.00 ms"
    assert wording.quantity(3.0, "share") == "3.000 share"
    assert wording.quantity(0.5, "1") == wording.quantity(0.5, "") == "0.500"
    assert wording.inputs_text({"M": 384, "layout": "row-major"}) == "M 384, layout row-major"
