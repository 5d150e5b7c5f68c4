"""Loads the scripts of benchmarks/validation, so that tests and records share one list of published numbers."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

HOME = Path(__file__).parents[2] / "benchmarks" / "validation"


@cache
def script(name):
    sys.path.insert(0, str(HOME))
    try:
        spec = importlib.util.spec_from_file_location(f"validation_{name.strip('_')}", HOME / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(HOME))
