"""Try mutants on a room's tests, each in a fork of a process that has imported everything.

cosmic-ray's own ``exec`` overwrites the file in the work tree with each mutant and starts the tests in a new interpreter: a run that is
killed leaves a broken file behind, and importing torch and other libraries takes longer than most tests. mutmut forks, but replaces the
package with a copy, which the import hook of an editable scikit-build-core install does not see. Therefore mutants and sessions are
cosmic-ray's, and only the trial is done here; nothing on disk changes.

A warm process collects the room's tests once. For a mutant inside a function, a fork of it replaces the code of that function and runs
the tests that call it, directly or through a shared fixture, quickest first, until one fails. All other mutants (constants, defaults,
decorators, and functions that ran during collection) go to a fork of the process before collection, which imports the changed source
through a hook and runs all tests. A test does not see the change in what it reads from a cache that another test filled, or from an
interpreter that it starts; both can only lower the score.
"""

import ast
import gc
import importlib.abc
import importlib.util
import itertools
import json
import math
import os
import resource
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _mutant_draw import Mutant

__all__ = ["ROOT", "Trial"]

ROOT = Path(__file__).parents[1]
_MEMORY = 16 << 30  # limit in bytes: a mutant may allocate any amount
_OPTIONS = ["-q", "-s", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]


class Trial:
    """Run a room's tests on mutants.

    Parameters
    ----------
    folder
        Folder of the room's code, relative to the repository; its doctests count as tests.
    tests
        Files and folders of the room's tests.
    scratch
        Folder for everything that the tests print and write.
    """

    def __init__(self, folder: str, tests: Sequence[str], scratch: Path) -> None:
        self.tests, self.scratch = [str(ROOT / place) for place in (*tests, folder)], scratch
        loaded = [name for name in sys.modules if name.partition(".")[0] == "tilewright"]
        if loaded:
            raise SystemExit(
                f"{loaded[0]} is already loaded, so forks would not import the changed version; start in a fresh process"
            )
        self._server, theirs = Pipe()
        self._process = os.fork()
        if self._process == 0:
            self._server.close()  # otherwise the other end would never notice that this process has stopped
            _say_to(scratch / "collected")
            warm = _Warm(str(ROOT / folder), scratch, theirs)
            sys.setprofile(warm.note)
            os._exit(pytest.main([*_OPTIONS, f"--basetemp={scratch / 'warm'}", *self.tests], plugins=[warm]))
        theirs.close()
        if failed := self._server.recv():
            raise SystemExit(f"{failed} fails without any change; fix it before trying mutants (see {scratch / 'log'})")
        self.seconds, self.callers = json.loads((scratch / "learnt.json").read_text())

    def killer(self, mutant: "Mutant") -> str | None:
        """Return the test that kills a mutant, or how else it died; None if it survives all tests of the room."""
        function = _enclosing(mutant)
        near = self.callers.get(function, [])
        order = sorted(self.seconds, key=lambda test: (test not in near, self.seconds[test]))
        if near and function not in self.callers[""]:
            order = order[: len(near)]
            self._server.send((str(ROOT / mutant.path), mutant.mutated(), order, self.seconds))
            return self._server.recv()
        return _forked(lambda report: self._cold(mutant, order, report), self.scratch)

    def close(self) -> None:
        """End the warm process."""
        self._server.close()
        os.waitpid(self._process, 0)

    def _cold(self, mutant: "Mutant", order: list[str], report: Callable[[str], None]) -> int:
        sys.meta_path.insert(0, _Finder(ROOT / mutant.path, mutant.mutated()))
        chooser = _Watch(self.seconds, report, order)
        return pytest.main([*_OPTIONS, "-x", f"--basetemp={self.scratch / 'cold'}", *self.tests], plugins=[chooser])


def _forked(work: Callable[[Callable[[str], None]], int], scratch: Path) -> str | None:
    """Run in a fork with its own process group and limits; return its report or how it died, or None if it succeeds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        pipe = os.fdopen(writer, "w")
        _say_to(scratch / "log")
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        _allow(60)
        os.chdir(ROOT)
        code = 70
        try:
            code = work(lambda text: print(text, file=pipe, flush=True))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    clock = threading.Timer(1800, os.killpg, (child, signal.SIGKILL))  # a deadlock takes no processor time
    clock.start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    clock.cancel()
    clock.join()
    with os.fdopen(reader, "rb") as pipe:
        words = pipe.read().decode().partition("\n")[0]
    return None if code == 0 else words or f"exit {code}"


def _say_to(path: Path) -> None:
    """Redirect everything that this process prints to a file."""
    sys.stdout.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _allow(seconds: float) -> None:
    """Limit the processor time that this process may use from now on."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), hard))


class _Watch:
    """Give each test its time limit, and report the one that fails."""

    def __init__(self, seconds: dict[str, float], report: Callable[[str], None], order: list[str]) -> None:
        self.seconds, self.report, self.order = seconds, report, order

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutants", settings.get_profile("gate"), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")  # one failing example is enough, so shrinking is off

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {test: index for index, test in enumerate(self.order)}
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        _allow(8 + 5 * self.seconds.get(nodeid, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(report.longreprtext)
            self.report(report.nodeid)


class _Warm(_Watch):
    """Collect the tests, run them once to learn what each calls, and then try the mutants received."""

    def __init__(self, folder: str, scratch: Path, client: Any) -> None:
        super().__init__({}, lambda text: None, [])
        self.folder, self.scratch, self.client = folder, scratch, client
        self.called: set[str] = set()
        self.shared: dict[str, set[str]] = {}

    def note(self, frame: types.FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self.folder):
            self.called.add(f"{frame.f_code.co_filename}:{frame.f_code.co_firstlineno}")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep all tests, in their original order."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        """Record the functions that a shared fixture calls, since each of its tests depends on them."""
        before, self.called = self.called, set()
        try:
            return (yield)
        finally:
            self.called, inside = before | self.called, self.called
            if fixturedef.scope != "function":
                self.shared.setdefault(fixturedef.argname, set()).update(inside)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.setprofile(None)
        failed = _forked(lambda report: self._learn(session, report), self.scratch)
        self.client.send(failed)
        items = {item.nodeid: item for item in session.items}
        while True:
            try:
                job = self.client.recv()
            except EOFError:
                return True
            self.client.send(_forked(lambda report, job=job: self._try(session, items, *job, report), self.scratch))
        return True

    def _learn(self, session: pytest.Session, report: Callable[[str], None]) -> int:
        self.report = report
        seconds, callers = dict[str, float](), {"": sorted(self.called)}
        for item in session.items:
            self.called, self.seconds, start = set(), {item.nodeid: 600}, time.process_time()
            sys.setprofile(self.note)
            _run(session, [item])
            sys.setprofile(None)
            seconds[item.nodeid] = time.process_time() - start
            shared = (self.shared.get(name, set()) for name in item.fixturenames)
            for function in self.called.union(*shared):
                callers.setdefault(function, []).append(item.nodeid)
        (self.scratch / "learnt.json").write_text(json.dumps([seconds, callers]))
        return session.testsfailed

    def _try(
        self, session: pytest.Session, items: dict[str, pytest.Item], path: str, text: str, order: list[str],
        seconds: dict[str, float], report: Callable[[str], None],
    ) -> int:  # fmt: skip
        self.report, self.seconds = report, seconds
        _exchange(path, text)
        _run(session, [items[test] for test in order])
        return session.testsfailed


def _run(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Run tests one after another until one fails."""
    for item, after in itertools.pairwise([*items, None]):
        if not session.testsfailed and item is not None:
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)


def _exchange(path: str, text: str) -> None:
    """Replace the code of every function of a file in this process by its code in another version of the file."""
    codes, waiting = dict[tuple[str, int], types.CodeType](), [compile(text, path, "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        codes[code.co_qualname, code.co_firstlineno] = code
        waiting += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    for function in gc.get_objects():
        if type(function) is types.FunctionType and function.__code__.co_filename == path:
            function.__code__ = codes[function.__code__.co_qualname, function.__code__.co_firstlineno]


class _Finder(importlib.abc.MetaPathFinder):
    """Find one module in its changed version, and leave all others to the other finders."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.code = path, compile(text, str(path), "exec", dont_inherit=True)
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        self.package = parts[-1] == "__init__"
        self.module = ".".join(parts[:-1] if self.package else parts)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        loader = _Loader(fullname, str(self.path))
        loader.get_code = lambda fullname: self.code
        inside = [str(self.path.parent)] if self.package else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader, submodule_search_locations=inside
        )


class _Loader(SourceFileLoader):
    """A loader whose code is set from outside, which bypasses every cache of compiled files."""

    get_code: Any = None


def _enclosing(mutant: "Mutant") -> str:
    """Return the key of the innermost function around a change; changes at module or class level have no function."""
    line, first = mutant.line, 0
    for node in ast.walk(ast.parse(mutant.source)):
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0):
            first = max(first, min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]))
    return f"{ROOT / mutant.path}:{first}"
