"""`Recipe`: a whole job as one YAML file, validated before anything runs."""

import hashlib
import json
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ...errors import RecipeError, TilewrightError, brief
from ...formats import ValueType
from ..sources import source_of
from ..tasks import check_task, decide
from .data import TASKS, Data, RetrievalData
from .faults import fault_text
from .parts import Part
from .prune import CalibrationData, Permute, Prune
from .recover import Recover
from .yaml_text import LARGEST, parse_yaml

if TYPE_CHECKING:
    from ...training import RecoverOptions

__all__ = ["Bench", "Recipe", "Require", "load_recipe", "parse_recipe", "require_data"]

MOST_FAULTS = 20
"""Faults that a message lists."""


Task = Literal["retrieval", "classification", "regression", "next-token", "images", "match"]


class Bench(Part):
    """What is timed against which dense engines.

    Parameters
    ----------
    sentences
        Sizes of batches: sentences, or whatever the task's items are.
    threads
        Of every engine.
    peers
        The dense engines.
    rounds
        Samples a measurement.
    """

    sentences: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 8, 32), min_length=1)
    threads: int = Field(default=1, ge=1, le=1024)
    peers: tuple[Literal["torch", "onnxruntime", "openvino"], ...] = Field(
        default=("torch", "onnxruntime", "openvino"), min_length=1
    )
    rounds: int = Field(default=7, ge=3)


class Require(Part):
    """What the job must reach; a missed one makes the job fail, with its number.

    Parameters
    ----------
    quality
        Share of the dense model's quality, by the task's measure, median over seeds: for a perplexity, the dense one over the sparse one.
    linear_ratio
        Best dense time over ours, sparse linear layers alone, at the largest number of sentences.
    encode_ratio
        The same for the whole model.
    weights_size
        Bytes of the pruned weights on disk over their dense bytes in the same type, at most.
    """

    quality: float | None = Field(default=None, gt=0, le=1.5)
    linear_ratio: float | None = Field(default=None, gt=0)
    encode_ratio: float | None = Field(default=None, gt=0)
    weights_size: float | None = Field(default=None, gt=0)


class Recipe(Part):
    """A whole job: model, pruning, recovery, storage, measurements, promises.

    Parameters
    ----------
    version
        Of this schema: 1.
    name
        A word for folders and titles.
    model
        The folder of a model of transformers or sentence-transformers, ``package:NAME`` for one inside an installed Python package, a name on
        the hub, or ``module:callable`` for a function that builds a plain torch module.
    task
        What the model is judged by; what its configuration speaks of unless given, and ``match``, likeness to the dense model, where that
        says nothing.
    permute
        Reorder channels first; without it they stay.
    prune
        Which layers, to what, by what.
    recover
        How quality comes back, by distillation from the dense model. Without it the model stays as pruned.
    data
        What is read, for the task.
    bench, require
        What is timed and promised.
    dtype
        Type of the packed values on disk.
    seeds
        The recovery is run once for each; the first one's model is kept.

    Raises
    ------
    pydantic.ValidationError
        From the constructor, with every fault. `load_recipe` turns it into sentences.
    """

    version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    model: str = Field(min_length=1)
    permute: Permute | None = None
    prune: Prune
    recover: Recover | None = None
    task: Task = "retrieval"
    data: Data = RetrievalData()
    dtype: ValueType = "float32"
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, json_schema_extra={"uniqueItems": True}
    )
    bench: Bench = Bench()
    require: Require = Require()

    @model_validator(mode="before")
    @classmethod
    def _decided(cls, body: Any) -> Any:
        """Decide the task, and tell the data which one it is for."""
        if not isinstance(body, dict):
            return body
        data, task = body.get("data"), body.get("task")
        if isinstance(data, dict) and "task" in data:
            raise ValueError("data.task is no key of a recipe; the task stands above: task, beside data")
        if task is None:
            task = _decided(str(body.get("model")), data)
        known = isinstance(task, str) and task in TASKS  # what is no word is refused below, with its place
        if known and (data is None or isinstance(data, dict)):
            data = {**(data or {}), "task": task}
        return {**body, "task": task, "data": data if known else RetrievalData()}

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        """Refuse parts that contradict each other, and spell out the calibration data if there is to be some."""
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}: each seed is run once, so none can stand twice")
        needed = self.prunes_at_once and self.prune.looks_at_data
        if self.prune.calibration is not None and not needed:
            raise ValueError("prune.calibration is given, and nothing here looks at it; leave it out")
        if self.recover is not None:
            for objection in self.recover.objections(self.prune):
                raise ValueError(objection)
            self._try_options()
        if needed and self.prune.calibration is None:
            full = self.prune.model_copy(update={"calibration": CalibrationData()})
            object.__setattr__(self, "prune", full)  # the one way to fill in a default that depends on other parts
        return self

    def _try_options(self) -> None:
        """Refuse values that the training would refuse, with its words."""
        assert self.recover is not None
        try:
            self.recover.way(self.prune)
            for seed in self.seeds:
                self.recover.options(seed)
        except ValueError as error:
            raise ValueError(f"recover: {error}") from None

    @property
    def prunes_at_once(self) -> bool:
        """Whether all pruning is done before training."""
        return self.recover is None or self.recover.once

    def resolved(self) -> dict[str, Any]:
        """Return every field with its value, as plain data."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return a SHA-256 over the resolved recipe."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()

    def options(self, seed: int) -> "RecoverOptions":
        """Return the options of the recovery for one seed."""
        assert self.recover is not None
        return self.recover.options(seed)


def _decided(model: str, data: Any) -> str:
    """Return the task of a model where the recipe names none."""
    try:
        return decide(source_of(model), None)
    except (TilewrightError, OSError, ValueError) as error:  # of the system, for a name that no file can have
        if data is None or (isinstance(data, dict) and set(data) <= set(RetrievalData.model_fields)):
            return RetrievalData().task  # whoever runs the recipe is told what is wrong with the model
        raise ValueError(f"task is not given, and cannot be told from the model: {brief(error)}") from None


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read and validate a recipe.

    Raises
    ------
    RecipeError
        If the file is missing, is no YAML, or has an unknown key or a wrong value; the message lists every fault with its place.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RecipeError(
            f"{os.fspath(path)} cannot be read: {getattr(error, 'strerror', None) or error}; name a recipe file, such as "
            "examples/minilm.yaml"
        ) from None
    try:
        return parse_recipe(data)
    except RecipeError as error:
        raise RecipeError(f"{os.fspath(path)}: {error}") from None


def parse_recipe(data: bytes) -> Recipe:
    """Validate the bytes of a recipe; raises `RecipeError` as `load_recipe` does, without the file's name."""
    body = parse_yaml(data)
    if not isinstance(body, dict):
        raise RecipeError(f"it holds {type(body).__name__} instead of keys and values; see examples/minilm.yaml")
    try:
        return Recipe.model_validate(body)
    except ValidationError as error:
        faults = [fault_text(fault, Recipe) for fault in error.errors()]
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise RecipeError("; ".join(faults[:MOST_FAULTS]) + more) from None


def require_data(recipe: Recipe) -> None:
    """Refuse a model that is not there, a task that it cannot do, and data that does not fit; takes milliseconds, and no torch.

    Raises
    ------
    ArgumentError
        With what is wrong, and where.
    """
    check_task(source_of(recipe.model), recipe.data)
