"""A short run of the recipe fuzzer, and proof that it notices faults. The long run is `make fuzz`."""

from itertools import islice

import fuzz_recipe
import pytest


def test_mutants_are_refused_in_a_sentence_or_read_back_as_themselves():
    outcomes = fuzz_recipe.run(400, 7)
    assert outcomes.keys() == {kind.__name__ for kind in fuzz_recipe.KINDS}
    assert sum(counts["refused"] for counts in outcomes.values()) > 200
    assert sum(counts["accepted"] for counts in outcomes.values()) > 10


def test_originals_are_good():
    for text in fuzz_recipe.originals():
        assert fuzz_recipe.judge(text.encode()) == "accepted"


def test_the_same_seed_gives_the_same_mutants():
    assert list(islice(fuzz_recipe.mutants(3), 50)) == list(islice(fuzz_recipe.mutants(3), 50))
    assert list(islice(fuzz_recipe.mutants(3), 50)) != list(islice(fuzz_recipe.mutants(4), 50))


@pytest.mark.parametrize("fault", [IndexError("x"), RecursionError("x"), MemoryError()], ids=repr)
def test_another_exception_stops_the_run_and_names_the_mutant(monkeypatch, capsys, fault):
    def broken(data):
        raise fault

    monkeypatch.setattr(fuzz_recipe, "parse_recipe", broken)
    monkeypatch.setattr(fuzz_recipe, "originals", lambda: ["a: 1\nb: 2\n"])
    with pytest.raises(type(fault)):
        fuzz_recipe.run(10, 5, only=3)
    assert "mutant 3 of seed 5" in capsys.readouterr().err


def test_a_recipe_that_takes_for_ever_is_noticed(monkeypatch):
    monkeypatch.setattr(fuzz_recipe, "SECONDS", 1)
    monkeypatch.setattr(fuzz_recipe, "originals", lambda: ["a: 1\nb: 2\n"])
    monkeypatch.setattr(fuzz_recipe, "parse_recipe", lambda data: [0 for _ in iter(int, 1)])
    with pytest.raises(TimeoutError, match="more than 1 s"):
        fuzz_recipe.run(1, 0)
