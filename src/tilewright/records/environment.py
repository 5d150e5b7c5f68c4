"""What a result was measured on: the machine, the software versions and the revision of this package.

Nothing here names the host, the user or a path, so reports can be shared.
"""

import functools
import os
import platform
import subprocess
from importlib import import_module, metadata
from pathlib import Path

__all__ = ["machine", "revision", "versions"]

# The instruction-set extensions that determine which kernel runs, as spelled in /proc/cpuinfo.
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
    """Return a description of this machine.

    Returns
    -------
    dict
        ``cpu`` (model name), ``cores`` (physical), ``threads`` (logical), ``usable_threads`` (those this process may run on),
        ``isa`` (list of extensions that matter to the kernels), ``memory_gib`` (GiB) and ``os``. Unknown entries are absent.
    """
    return {**_machine(), "usable_threads": _usable_threads()}


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and the libraries results depend on, without importing the libraries."""
    return dict(_versions())


def revision() -> str | None:
    """Return the short git hash of the checkout this package runs from, with ``-dirty`` appended if tracked files were edited.

    Edited record files (``*.jsonl``) do not count as dirty: a measurement that rewrites one changes nothing it measures.

    Returns
    -------
    str or None
        None if the package was installed rather than run from its own checkout, or if git is not available.
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
    """Return the model name, flags and number of physical cores, as far as Linux reports them."""
    try:
        text = Path(path).read_text()
    except OSError:
        return {}
    cores = set()
    fields: dict[str, str] = {}
    for block in text.strip().split("\n\n"):
        entry = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        fields.setdefault("model name", entry.get("model name", ""))
        fields.setdefault("flags", entry.get("flags", entry.get("Features", "")))
        if "core id" in entry:
            cores.add((entry.get("physical id", "0"), entry["core id"]))
    if cores:
        fields["cores"] = str(len(cores))
    return fields


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
    libraries = {"python": platform.python_version(), "tilewright": str(package.__version__)}
    for name in _PACKAGES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return libraries


@functools.cache
def _revision(file: Path) -> str | None:
    # A wheel unpacked inside another repository must not report that repository's hash, so the file has to be tracked.
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    short = _git(file.parent, "rev-parse", "--short", "HEAD")
    if not short:
        return None
    edited = _git(file.parent, "status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)*.jsonl")
    return short + ("-dirty" if edited else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        process = subprocess.run(
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
    return process.stdout.strip() if process.returncode == 0 else None
