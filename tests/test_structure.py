"""The house rules that a machine can check: imports point upwards, importing is free, the surface is the one promised."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tilewright

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tilewright"
ORDER = [
    "errors",
    "records",
    "patterns",
    "formats",
    "kernels",
    "graph",
    "pruning",
    "training",
    "runtime",
    "hooks",
    "hardware",
    "advice",
    "pages",
    "jobs",
    "cli",
]

PUBLIC = {
    *("NM", "Banked", "TileWise", "TileElementWise", "TileVectorWise", "Block", "Unstructured"),
    *("parse", "mask", "sparsify_", "verify", "explain", "save", "load", "load_", "export_dense"),
    *("simulate", "advise", "Report", "errors"),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path, typing=True):
    """Yield (room, names behind it) of every import of this package in a file; with or without those for types alone."""
    package = path.relative_to(PACKAGE).parts[:-1]
    tree = ast.parse(path.read_text())
    if not typing:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                parts = (*base, *(node.module or "").split(".")) if node.module else base
                parts = tuple(part for part in parts if part)
            elif node.module and node.module.split(".")[0] == "tilewright":
                parts = tuple(node.module.split(".")[1:])
            else:
                continue
            for name in node.names:
                yield (parts or (name.name,)), name.name
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "tilewright":
                    yield tuple(name.name.split(".")[1:]), None


def test_every_room_has_its_place():
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms <= set(ORDER)
    assert rooms == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_only_upwards_and_through_doors(path):
    here = room(path)
    for parts, _ in imported(path):
        there = parts[0]
        if here == "__init__" or there == here or there not in ORDER:
            continue
        assert ORDER.index(there) < ORDER.index(here), f"{path.name} in {here} imports {there}, which comes later"
        assert len(parts) == 1, f"{path.name} in {here} reaches past the door of {there}: {'.'.join(parts)}"


OUTSIDE = [
    *(ROOT / "benchmarks").rglob("*.py"),
    *(ROOT / "studies").glob("*.py"),
    *(ROOT / "examples").glob("*.py"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "README.md",
]
FILES_OF_THEIR_OWN = {"errors", "training.adapters.hf", "training.adapters.lightning", "hardware.scalesim"}
"""Files that the documentation sends its readers to: the adapters each need another package installed."""


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_shows_how_to_use_the_package_goes_through_doors(path):
    names = re.findall(r"(?:from|import) tilewright\.([a-zA-Z_.0-9]+)", path.read_text())
    inside = {name for name in names if not (PACKAGE / name.replace(".", "/") / "__init__.py").exists()}
    assert not inside - FILES_OF_THEIR_OWN, f"{path.name} reaches past a door; export the name where its room does"


def modules():
    """Return every module of the package with the modules that importing or calling it imports."""
    names = {
        path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        for path in FILES
    }
    known = set(names.values())
    graph = {}
    for path, name in names.items():
        targets = set()
        for parts, alias in imported(path, typing=False):
            module = ".".join(parts)
            targets.add(f"{module}.{alias}" if f"{module}.{alias}" in known else module)
        graph[name] = (targets & known) - {name}
    return graph


def test_imports_run_in_no_circle():
    graph, order, path = modules(), [], []

    def visit(name):
        assert name not in path, "a circle: " + " -> ".join([*path[path.index(name) :], name])
        if name not in order:
            path.append(name)
            for target in sorted(graph[name]):
                visit(target)
            order.append(path.pop())

    for name in sorted(graph):
        visit(name)
    assert len(order) == len(graph) > 300


def test_the_import_test_sees_imports():
    found = {parts[0] for path in (PACKAGE / "jobs").glob("*.py") for parts, _ in imported(path)}
    assert {"errors", "pruning", "pages", "runtime", "training"} <= found


def awake(code):
    """Return the top-level modules a fresh interpreter holds after running the code."""
    script = f"{code}\nimport sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    return set(
        json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)
    )


@pytest.mark.parametrize(
    "code",
    [
        "import tilewright",
        "import tilewright; tilewright.mask(tilewright.NM(2, 4), __import__('numpy').ones((4, 8)))",
        "import tilewright.formats, tilewright.kernels",
        "import tilewright.cli",
    ],
)
def test_importing_wakes_nothing_heavy(code):
    heavy = {
        "torch",
        "triton",
        "transformers",
        "sentence_transformers",
        "amaranth",
        "ray",
        "openvino",
        "onnxruntime",
        "plotly",
    }
    assert not heavy & awake(code)


def test_the_wake_test_would_notice():
    assert "torch" in awake("import tilewright; tilewright.save")


def test_the_public_names_are_the_promised_ones():
    assert set(tilewright.__all__) == PUBLIC
    assert len(tilewright.__all__) == len(PUBLIC)
    for name in PUBLIC:
        assert getattr(tilewright, name) is not None
    assert set(dir(tilewright)) == PUBLIC | {"__version__"}
    with pytest.raises(AttributeError, match="has no public name 'prune'; expected one of "):
        _ = tilewright.prune


BUDGET = {"src": 42_500, "cpp": 2_400}
"""Lines that each may have: raised on purpose, with what was gained for it, and lowered where something was deleted."""


@pytest.mark.parametrize("folder", BUDGET)
def test_the_code_stays_within_its_budget_of_lines(folder):
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".cpp", ".h")]
    lines = sum(len(path.read_text().splitlines()) for path in files)
    assert 0.9 * BUDGET[folder] < lines <= BUDGET[folder]


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "cpp").iterdir())], ids=lambda path: path.name)
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400, "split it, or argue for its length in its first lines and here"


def test_every_page_of_the_docs_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages
    assert not [page for page in pages if page not in menu]


def test_the_version_is_stated_once():
    assert f'version = "{tilewright.__version__}"' in (ROOT / "pyproject.toml").read_text()


def lazy_rooms():
    rooms = ["", *(name for name in ORDER if (PACKAGE / name).is_dir())]
    modules = {room: importlib.import_module(f"tilewright.{room}".rstrip(".")) for room in rooms}
    return {room: module for room, module in modules.items() if "__getattr__" in vars(module)}


@pytest.mark.parametrize("room", lazy_rooms())
def test_no_lazy_name_is_shadowed_by_a_file_of_the_same_name(room):
    """Importing a file sets its name in the package: a function of that name, not yet asked for, would never be found."""
    files = {
        path.stem for path in (PACKAGE / room).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    shadowed = files & set(lazy_rooms()[room].__all__) - {"errors"}  # which is its file
    assert not shadowed, f"the door of {room or 'the package'} has values named like its files: {', '.join(shadowed)}"
