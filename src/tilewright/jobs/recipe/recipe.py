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
"""Maximum number of faults listed in a message."""


Task = Literal["retrieval", "classification", "regression", "next-token", "images", "match"]


class Bench(Part):
    """Batch sizes to time, and the dense engines to compare with.

    Parameters
    ----------
    sentences
        Batch sizes, in items of the task.
    threads
        Threads per engine.
    peers
        Dense engines to compare with.
    rounds
        Samples per measurement.
    """

    sentences: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 8, 32), min_length=1)
    threads: int = Field(default=1, ge=1, le=1024)
    peers: tuple[Literal["torch", "onnxruntime", "openvino"], ...] = Field(
        default=("torch", "onnxruntime", "openvino"), min_length=1
    )
    rounds: int = Field(default=7, ge=3)


class Require(Part):
    """Requirements on the result; a job that misses one fails and reports the number.

    Parameters
    ----------
    quality
        Minimum share of the dense model's quality by the task's measure, median over seeds. For measures where lower is better, such as
        perplexity, the share is the dense value divided by the sparse value.
    linear_ratio
        Minimum speed-up of the sparse linear layers over the best dense engine, at the largest batch.
    encode_ratio
        Minimum speed-up of the whole model over the best dense engine, at the largest batch.
    weights_size
        Maximum size on disk of the pruned weights, as a fraction of their dense size in the same value type.
    """

    quality: float | None = Field(default=None, gt=0, le=1.5)
    linear_ratio: float | None = Field(default=None, gt=0)
    encode_ratio: float | None = Field(default=None, gt=0)
    weights_size: float | None = Field(default=None, gt=0)


class Recipe(Part):
    """A whole job: model, pruning, recovery, storage, measurements and requirements.

    Parameters
    ----------
    version
        Version of the recipe schema: 1.
    name
        Short name of the job, used in titles.
    model
        Folder of a transformers or sentence-transformers model, ``package:NAME`` for one inside an installed Python package, a name on
        the Hugging Face hub, or ``module:callable`` for a function that builds a plain torch module.
    task
        Task that the model is evaluated on. Default: the task that the model's configuration implies, or ``match``, similarity to the
        dense model's outputs, if it implies none.
    permute
        Channel reordering before pruning. Default: channels keep their order.
    prune
        Layers to prune, their pattern and the pruning method.
    recover
        Recovery of quality by distillation from the dense model. Default: no recovery.
    data
        Data of the task.
    bench
        Speed measurements.
    require
        Requirements that the result must meet.
    dtype
        Data type of the packed values on disk.
    seeds
        Seeds of the recovery, which runs once per seed. The model of the first seed is kept.

    Raises
    ------
    pydantic.ValidationError
        From the constructor, with every fault. `load_recipe` turns them into sentences.
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
        """Decide the task and put it into `data`, whose class depends on it."""
        if not isinstance(body, dict):
            return body
        data, task = body.get("data"), body.get("task")
        if isinstance(data, dict) and "task" in data:
            raise ValueError("unknown key data.task; task is a top-level key, next to data")
        if task is None:
            task = _decided(str(body.get("model")), data)
        known = isinstance(task, str) and task in TASKS  # anything else is refused by validation, which names the key
        if known and (data is None or isinstance(data, dict)):
            data = {**(data or {}), "task": task}
        return {**body, "task": task, "data": data if known else RetrievalData()}

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        """Refuse sections that contradict each other, and fill in default calibration data if it is needed."""
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}; each seed may appear only once")
        needed = self.prunes_at_once and self.prune.looks_at_data
        if self.prune.calibration is not None and not needed:
            raise ValueError("prune.calibration is given, but nothing in this recipe uses it; remove it")
        if self.recover is not None:
            for objection in self.recover.objections(self.prune):
                raise ValueError(objection)
            self._try_options()
        if needed and self.prune.calibration is None:
            full = self.prune.model_copy(update={"calibration": CalibrationData()})
            object.__setattr__(self, "prune", full)  # the model is frozen, and this default depends on other sections
        return self

    def _try_options(self) -> None:
        """Refuse values that training would refuse, with the same message."""
        assert self.recover is not None
        try:
            self.recover.way(self.prune)
            for seed in self.seeds:
                self.recover.options(seed)
        except ValueError as error:
            raise ValueError(f"recover: {error}") from None

    @property
    def prunes_at_once(self) -> bool:
        """Whether all pruning happens before training."""
        return self.recover is None or self.recover.once

    def resolved(self) -> dict[str, Any]:
        """Return every field with its value, as plain JSON data."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 of the resolved recipe."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()

    def options(self, seed: int) -> "RecoverOptions":
        """Return the recovery options for one seed."""
        assert self.recover is not None
        return self.recover.options(seed)


def _decided(model: str, data: Any) -> str:
    """Return the task of a model for a recipe that names none."""
    try:
        return decide(source_of(model), None)
    except (TilewrightError, OSError, ValueError) as error:  # OSError, ValueError: a name that no file can have
        if data is None or (isinstance(data, dict) and set(data) <= set(RetrievalData.model_fields)):
            return RetrievalData().task  # running the recipe reports what is wrong with the model
        raise ValueError(f"task is not given and cannot be inferred from the model: {brief(error)}") from None


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read and validate a recipe.

    Raises
    ------
    RecipeError
        If the file is missing, is not YAML, or has an unknown key or a wrong value. The message lists every fault with its key.
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
        raise RecipeError(f"expected a mapping of keys to values, got {type(body).__name__}; see examples/minilm.yaml")
    try:
        return Recipe.model_validate(body)
    except ValidationError as error:
        faults = [fault_text(fault, Recipe) for fault in error.errors()]
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise RecipeError("; ".join(faults[:MOST_FAULTS]) + more) from None


def require_data(recipe: Recipe) -> None:
    """Check that the model exists, can do the task, and fits the data; takes milliseconds and does not import torch.

    Raises
    ------
    ArgumentError
        If one of these fails; the message says what is wrong and where.
    """
    check_task(source_of(recipe.model), recipe.data)
