"""The opening of a job's report: the model, the task, the date, the duration, and how to use the result."""

import time
from typing import Any

from ..pages import About
from .models import inner_model
from .recipe.recipe import Recipe
from .tasks import Task

__all__ = ["about", "usage"]

_EMBED = """\
import tilewright

model = tilewright.load("model")
vectors = model.encode(["A sentence to embed.", "Another one."])
print(vectors.shape)
"""
_TEXT = """\
import tilewright
from transformers import AutoTokenizer

model = tilewright.load("model")
tokenizer = AutoTokenizer.from_pretrained("model")
inputs = tokenizer("A text to read.", return_tensors="pt")
"""
_GENERATE = (
    _TEXT
    + """\
tokens = model.generate(**inputs, max_new_tokens=20)
print(tokenizer.decode(tokens[0]))
"""
)
_CLASSIFY = (
    _TEXT
    + """\
logits = model(**inputs).logits
print(model.config.id2label[int(logits.argmax())])
"""
)
_READ = (
    _TEXT
    + """\
print(model(**inputs)[0].shape)
"""
)
_IMAGE = """\
import tilewright
import torch

model = tilewright.load("model")
image = torch.zeros(1, {channels}, {height}, {width})  # normalised as in training
print(model(image)[0].shape)
"""
_MODULE = """\
import tilewright

model = build_model()  # the function or class that built the dense one
tilewright.load_(model, "model")
model.eval()
"""


def about(recipe: Recipe, dense: Any, task: Task, seconds: float) -> About:
    """Return the facts that a report opens with.

    Parameters
    ----------
    recipe
        Recipe of the job.
    dense
        The dense model.
    task
        Task that the model is evaluated on.
    seconds
        Duration of this run, in seconds.
    """
    inner = inner_model(dense)
    weights = sum(parameter.numel() for parameter in inner.parameters())
    name = recipe.model.replace("\\", "/").rstrip("/").rpartition("/")[2].removeprefix("package:")
    now = time.localtime()
    return About(
        model=f"{name} ({type(inner).__name__}, {weights / 1e6:.1f} million weights)",
        task=f"{task.description} None of the {task.unit} it is evaluated on are used for training.",
        date=f"{now.tm_mday} {time.strftime('%B %Y, %H:%M', now)}",
        seconds=seconds,
        command="tilewright run recipe.yaml",
        use=usage(dense),
    )


def usage(model: Any) -> str:
    """Return Python code that loads the packed model from the job's folder and calls it.

    Parameters
    ----------
    model
        The dense model, whose kind decides the code: a SentenceTransformer, a transformers model, or a plain module.
    """
    if type(model).__name__ == "SentenceTransformer":
        return _EMBED
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) is None:
        return _MODULE
    if getattr(model, "main_input_name", "") == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return _IMAGE.format(channels=config.num_channels, height=height, width=width)
    if model.can_generate():
        return _GENERATE
    return _CLASSIFY if type(model).__name__.endswith("ForSequenceClassification") else _READ
