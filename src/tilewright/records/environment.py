"""What a result was measured on: the machine, the versions of the software, the revision of this package.

Nothing here names the host, the user or a path, so that a report can be shown to anyone.
"""

import functools
import os
import platform
import subprocess
from importlib import import_module, metadata
from pathlib import Path

__all__ = ["machine", "revision", "versions"]

# The instruction-set extensions that decide which kernel runs, as /proc/cpuinfo spells them.
_ISA = [
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "asimd",
    "asimddp",
    "sve",
]
_PACKAGES = ("torch", "numpy", "transformers", "onnxruntime", "openvino")


def machine() -> dict[str, object]:
    """Return what kind of machine this is.

    Returns
    -------
    dict
        ``cpu`` (model name), ``cores`` (physical), ``threads`` (logical), ``usable_threads`` (what this process may run on),
        ``isa`` (list of extensions that matter to kernels), ``memory_gib`` and ``os``. What cannot be found out is absent.
    """
    return {**_machine(), "usable_threads": _usable_threads()}


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and the libraries a result depends on, without importing any of them."""
    return dict(_versions())


def revision() -> str | None:
    """Return the short git hash of the checkout this package runs from, ``-dirty`` appended when tracked files were edited.

    Files of records (``*.jsonl``) do not count: a measurement that writes one anew has edited nothing that it measures.

    Returns
    -------
    str or None
        None when the package was installed rather than run from its own checkout, or git is not there.
    """
    return _revision(Path(__file__).resolve())


@functools.cache
def _machine() -> dict[str, object]:
    fields = _cpuinfo()
    facts: dict[str, object] = {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": int(fields["cores"]) if "cores" in fields else None,
        "threads": os.cpu_count(),
        "isa": [name for name in _ISA if name in fields.get("flags", "").split()],
        "memory_gib": _memory_gib(),
        "os": _os(),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _cpuinfo(path: str = "/proc/cpuinfo") -> dict[str, str]:
    """Return model name, flags and number of physical cores where Linux tells."""
    try:
        text = Path(path).read_text()
    except OSError:
        return {}
    cores = set()
    found: dict[str, str] = {}
    for block in text.strip().split("\n\n"):
        entry = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        found.setdefault("model name", entry.get("model name", ""))
        found.setdefault("flags", entry.get("flags", entry.get("Features", "")))
        if "core id" in entry:
            cores.add((entry.get("physical id", "0"), entry["core id"]))
    if cores:
        found["cores"] = str(len(cores))
    return found


def _usable_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        return None


def _os() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{platform.system()} {platform.machine()}" + (f", {name}" if name else "")


@functools.cache
def _versions() -> dict[str, str]:
    package = import_module(__package__.partition(".")[0])
    found = {"python": platform.python_version(), "tilewright": str(package.__version__)}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _revision(file: Path) -> str | None:
    # A wheel unpacked inside somebody else's repository must not borrow that repository's hash: the file has to be tracked.
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    short = _git(file.parent, "rev-parse", "--short", "HEAD")
    if not short:
        return None
    edited = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)*.jsonl")
    return short + ("-dirty" if edited else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
