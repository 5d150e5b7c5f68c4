"""`Recipe`: a whole job as one YAML file, validated before anything runs."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..errors import ArgumentError, PatternError, RecipeError
from ..formats import ValueType
from ..patterns import parse
from ..training import RecoverOptions

__all__ = ["Bench", "Prune", "Recipe", "Recover", "Require", "load_recipe"]


def _pattern(text: str) -> str:
    try:
        return str(parse(text))
    except PatternError as error:
        raise ValueError(str(error)) from None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Prune(_Part):
    """Which layers to prune, and how.

    Parameters
    ----------
    pattern
        Text of a pattern: ``"2:4"``, ``"tw16@75%"``.
    targets, ignore
        Names, globs, ``re:`` expressions or class names of modules; first match wins. Targets may also map each expression to a
        pattern of its own, which then takes the place of `pattern`.
    score, budget
        As for `sparsify_`.
    """

    pattern: Annotated[str, AfterValidator(_pattern)]
    targets: tuple[str, ...] | dict[str, Annotated[str, AfterValidator(_pattern)]] = ()
    ignore: tuple[str, ...] = ()
    score: Literal["magnitude"] = "magnitude"
    budget: Literal["uniform", "global"] = "uniform"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `sparsify_` beside the model."""
        targets = dict(self.targets) if isinstance(self.targets, dict) else list(self.targets) or None
        return {
            "pattern": self.pattern,
            "targets": targets,
            "ignore": list(self.ignore),
            "score": self.score,
            "budget": self.budget,
        }

    @property
    def patterns(self) -> str:
        """Every pattern it uses, in words."""
        return " and ".join(dict.fromkeys(self.targets.values())) if isinstance(self.targets, dict) else self.pattern


class Recover(_Part):
    """Fixed-mask distillation against the dense model; the fields of `RecoverOptions` without its seed, and the batches.

    Parameters
    ----------
    batch
        Passages in a batch.
    max_tokens
        Longer passages are cut.
    checkpoint_seconds
        Least time between two checkpoints.
    """

    steps: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=128, ge=8)
    learning_rate: float = 3e-4
    warmup: float = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = 0.0
    clip: float | None = 1.0
    hidden: float = 1.0
    output: float = 1.0
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    checkpoint_seconds: float = Field(default=60.0, gt=0)


class Data(_Part):
    """Where passages and evaluation pairs come from: the running Python's own documentation."""

    source: Literal["python-docs"] = "python-docs"
    pairs: int = Field(default=500, ge=10)
    seed: int = Field(default=0, ge=0)


class Bench(_Part):
    """What is timed against which dense engines."""

    sentences: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 8, 32), min_length=1)
    threads: int = Field(default=1, ge=1)
    peers: tuple[Literal["torch", "onnxruntime", "openvino"], ...] = Field(
        default=("torch", "onnxruntime", "openvino"), min_length=1
    )
    rounds: int = Field(default=7, ge=3)


class Require(_Part):
    """What the job must reach; a missed one makes the job fail, with its number.

    Parameters
    ----------
    mrr
        Share of the dense model's mean reciprocal rank, median over seeds.
    linear_ratio
        Best dense time over ours, sparse linear layers alone, at the largest number of sentences.
    encode_ratio
        The same for the whole model.
    weights_size
        Bytes of the pruned weights on disk over their dense bytes in the same type, at most.
    """

    mrr: float | None = Field(default=None, gt=0, le=1.5)
    linear_ratio: float | None = Field(default=None, gt=0)
    encode_ratio: float | None = Field(default=None, gt=0)
    weights_size: float | None = Field(default=None, gt=0)


class Recipe(_Part):
    """A whole job: model, pruning, recovery, storage, measurements, promises.

    Parameters
    ----------
    version
        Of this schema: 1.
    name
        A word for folders and titles.
    model
        A folder with a SentenceTransformer, ``package:NAME`` for one inside an installed Python package, or a name on the hub.
    prune, recover, data, bench, require
        The stages. Without `recover` the model stays as pruned.
    dtype
        Type of the packed values on disk.
    seeds
        The recovery is run once for each; the first one's model is kept.
    """

    version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    model: str = Field(min_length=1)
    prune: Prune
    recover: Recover | None = None
    data: Data = Data()
    dtype: ValueType = "float32"
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    bench: Bench = Bench()
    require: Require = Require()

    def resolved(self) -> dict[str, Any]:
        """Return every field with its value, as plain data."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return a SHA-256 over the resolved recipe."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()

    def options(self, seed: int) -> RecoverOptions:
        """Return the options of the recovery for one seed."""
        assert self.recover is not None
        fields = self.recover.model_dump(exclude={"batch", "max_tokens", "checkpoint_seconds", "precision"})
        precision = self.recover.precision
        return RecoverOptions(**fields, seed=seed, precision=fastest_precision() if precision == "auto" else precision)


def fastest_precision() -> Literal["float32", "bfloat16"]:
    """Return bfloat16 where the processor multiplies it natively, else float32."""
    import torch

    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if native else "float32"


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read and validate a recipe.

    Raises
    ------
    RecipeError
        If the file is missing, is no YAML, or has an unknown key or a wrong value; the message lists every fault with its place.
    """
    file = Path(path)
    try:
        body = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"{file} cannot be read: {error.strerror}; name a recipe file, such as examples/minilm.yaml"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, or a NUL in the name
        raise RecipeError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise RecipeError(f"{file} holds {type(body).__name__} instead of keys and values; see examples/minilm.yaml")
    try:
        recipe = Recipe.model_validate(body)
    except ValidationError as error:
        raise RecipeError(f"{file}: {'; '.join(map(_fault, error.errors()))}") from None
    if len(set(recipe.seeds)) < len(recipe.seeds):
        raise RecipeError(f"{file}: seeds is {list(recipe.seeds)}: each seed is run once, so none can stand twice")
    try:
        for seed in recipe.seeds if recipe.recover else ():
            recipe.options(seed)
    except ArgumentError as error:
        raise RecipeError(f"{file}: recover: {error}") from None
    return recipe


def _fault(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{place} is no key of a recipe{_nearest(fault['loc'])}"
    if fault["type"] == "missing":
        return f"{place} is missing"
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"{place} is {fault['input']!r}: {text[0].lower() + text[1:]}"


def _nearest(place: tuple[int | str, ...]) -> str:
    import difflib

    part: Any = Recipe
    for step in place[:-1]:
        kinds = {"prune": Prune, "recover": Recover, "data": Data, "bench": Bench, "require": Require}
        part = kinds.get(str(step), part)
    near = difflib.get_close_matches(str(place[-1]), list(part.model_fields), 1)
    return f"; did you mean {near[0]}?" if near else f"; the keys are {', '.join(part.model_fields)}"
