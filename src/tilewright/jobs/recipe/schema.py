"""`recipe_schema`: the JSON schema of recipes, generated from the recipe classes and their docstrings."""

import inspect
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from .recipe import Recipe

__all__ = ["recipe_schema"]


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a recipe.

    The schema covers every key, type, range and choice. Only `load_recipe` checks constraints that involve several keys, and whether
    the numbers of a pattern fit.

    Examples
    --------
    >>> recipe_schema()["required"]
    ['version', 'name', 'model', 'prune']
    """
    schema = Recipe.model_json_schema()
    kinds = {kind.__name__: kind for kind in _below(Recipe)}
    for name, body in {Recipe.__name__: schema, **schema.get("$defs", {})}.items():
        _describe(body, kinds[name])
    data = schema["properties"]["data"]
    data["anyOf"] = data.pop("oneOf")  # keys that several tasks share match more than one of them
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "Tilewright recipe"}


def _describe(body: dict[str, Any], kind: type[BaseModel]) -> None:
    """Use the first sentence of a class's docstring as its description, and give each key its own."""
    text = inspect.getdoc(kind) or ""
    body["description"] = _plain(text.partition("\n\n")[0])
    hidden = [name for name, key in kind.model_fields.items() if key.exclude]  # set by the recipe, never written
    body["properties"] = {name: key for name, key in body["properties"].items() if name not in hidden}
    body.pop("title", None)
    for parent in reversed(kind.__mro__):
        for name, words in _parameters(inspect.cleandoc(parent.__doc__ or "")):
            if name in body["properties"]:
                body["properties"][name]["description"] = _plain(words)
    for name, key in body["properties"].items():
        key.pop("title", None)
        if name == "method":
            key["description"] = f"`{key['const']}`. {body['description']}"


def _parameters(doc: str) -> list[tuple[str, str]]:
    """Return the names and texts of a numpydoc Parameters section."""
    section = doc.partition("Parameters\n----------\n")[2]
    section = re.split(r"\n\n\w+\n-{3,}\n", section)[0]
    parameters = []
    for entry in re.split(r"\n(?=\S)", section.strip("\n")):
        names, _, words = entry.partition("\n")
        parameters += [(name.strip(), words) for name in names.split(",")]
    return parameters


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _below(kind: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a class and the classes of its fields, recursively."""
    kinds = [kind]

    def look(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            kinds.extend(_below(annotation))
        for inner in getattr(annotation, "__args__", ()):
            look(inner)

    for field in kind.model_fields.values():
        look(field.annotation)
    return kinds
