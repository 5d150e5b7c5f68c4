"""Options: the schedule, and the error message for every value out of range."""

import dataclasses

import pytest

from tilewright.errors import ArgumentError
from tilewright.training import RecoverOptions


def test_warm_up_then_decay() -> None:
    cosine = RecoverOptions(steps=100, learning_rate=1.0, warmup=0.1)
    rates = [cosine.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    linear = dataclasses.replace(cosine, schedule="linear")
    assert [linear.rate(step) for step in (10, 55, 99)] == pytest.approx([1.0, 0.5, 1 / 90])
    constant = dataclasses.replace(cosine, schedule="constant")
    assert {constant.rate(step) for step in range(10, 100)} == {1.0}


@pytest.mark.parametrize("warmup", [0, 0.3, 1])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_rates_are_positive_and_bounded_for_any_length(warmup: float, steps: int, schedule: str) -> None:
    options = RecoverOptions(steps=steps, learning_rate=0.5, warmup=warmup, schedule=schedule)
    assert all(0 < options.rate(step) <= 0.5 for step in range(steps))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be above 0; got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0; got nan"),
        ({"warmup": 10}, "warmup must be a fraction of the steps, 0 to 1; got 10"),
        ({"schedule": "step"}, "schedule must be one of cosine, linear, constant; got 'step'"),
        ({"weight_decay": -1}, "weight_decay must be 0 or more; got -1"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\); got \(0\.9, 1\.0\)"),
        ({"clip": 0}, "clip must be above 0, or None; got 0"),
        ({"hidden": -1}, "hidden must be 0 or more; got -1"),
        ({"hidden": 0, "output": 0}, r"hidden \+ output must be above 0, so that there is a loss; got \(0, 0\)"),
        ({"layers": "blocks.*"}, r"layers must be a tuple of names or globs; got 'blocks\.\*'"),
        ({"freeze": [1]}, "freeze must be a tuple of names or globs"),
        ({"output_loss": "kl"}, "output_loss must be one of cosine, cross-entropy, mse; got 'kl'"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16; got 'float16'"),
        ({"mode": "test"}, "mode must be one of eval, train; got 'test'"),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\*\*32 - 1; got -1"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        RecoverOptions(**({"steps": 10} | changes))
