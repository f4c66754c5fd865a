"""Calling back when a module has been imported."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wrapt

from otelagent import import_hooks
from otelagent.import_hooks import when_imported


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the import path; what was imported from it is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    import_hooks._waiting.clear()


def write(place: Path, name: str, code: str = "") -> None:
    path = place.joinpath(*name.split("."))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".py").write_text(code)
    importlib.invalidate_caches()


def test_an_imported_module_is_there_at_once() -> None:
    seen: list[ModuleType] = []
    when_imported("subprocess", seen.append)
    assert seen == [subprocess]


def test_called_once_after_the_module_has_run_in_the_order_asked(place: Path) -> None:
    write(place, "hooked_one", "x = 1")
    seen: list[tuple[str, Any]] = []
    when_imported("hooked_one", lambda module: seen.append(("first", module.x)))
    when_imported("hooked_one", lambda module: seen.append(("second", module.x)))
    assert seen == []
    module = importlib.import_module("hooked_one")
    assert seen == [("first", 1), ("second", 1)]
    importlib.reload(module)
    assert len(seen) == 2


def test_a_submodule(place: Path) -> None:
    write(place, "hooked_pack.__init__", "import hooked_pack.inner")
    write(place, "hooked_pack.inner", "y = 2")
    seen: list[int] = []
    when_imported("hooked_pack.inner", lambda module: seen.append(module.y))
    importlib.import_module("hooked_pack")
    assert seen == [2]


def test_the_module_sees_its_own_loader(place: Path) -> None:
    code = "loaders = type(__loader__).__name__, type(__spec__.loader).__name__, __loader__ is __spec__.loader"
    write(place, "hooked_loader", code)
    when_imported("hooked_loader", lambda module: None)
    module = importlib.import_module("hooked_loader")
    assert module.loaders == ("SourceFileLoader", "SourceFileLoader", True)


def test_finding_it_without_importing_it(place: Path) -> None:
    write(place, "hooked_found", "z = 3")
    seen: list[int] = []
    when_imported("hooked_found", lambda module: seen.append(module.z))
    spec = importlib.util.find_spec("hooked_found")
    assert spec is not None
    assert spec.loader is not None
    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
    assert spec.loader.get_source("hooked_found") == "z = 3"
    assert pkgutil.resolve_name("hooked_found:z") == 3
    assert seen == [3]


def test_a_finder_that_gives_the_same_spec_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place, "hooked_same")
    kept = importlib.machinery.PathFinder.find_spec("hooked_same")
    assert kept is not None

    class Keeping:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            return kept if name == "hooked_same" else None

    seen: list[str] = []
    when_imported("hooked_same", lambda module: seen.append(module.__name__))
    monkeypatch.setattr(sys, "meta_path", [import_hooks._FINDER, Keeping, *sys.meta_path])
    for _ in range(2 * sys.getrecursionlimit()):
        assert importlib.util.find_spec("hooked_same") is kept
    module = importlib.import_module("hooked_same")
    assert seen == ["hooked_same"]
    assert type(module.__loader__) is type(kept.loader) is importlib.machinery.SourceFileLoader


def test_run_as_a_program(place: Path) -> None:
    write(place, "hooked_program.__init__")
    write(place, "hooked_program.__main__", "print(__name__, __spec__.name, __loader__.__class__.__name__)")
    code = (
        "import runpy; from otelagent.import_hooks import when_imported\n"
        "when_imported('hooked_program', lambda module: print('hook'))\n"
        "when_imported('hooked_program.__main__', print)\n"
        "runpy.run_module('hooked_program', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["hook", "__main__ hooked_program.__main__ SourceFileLoader"]


def test_a_module_that_replaces_itself(place: Path) -> None:
    write(place, "hooked_other", "import sys\nclass Other: pass\nsys.modules[__name__] = Other()")
    seen: list[str] = []
    when_imported("hooked_other", lambda module: seen.append(type(module).__name__))
    importlib.import_module("hooked_other")
    assert seen == ["Other"]


def test_an_import_that_fails_can_be_tried_again(place: Path) -> None:
    write(place, "hooked_failing", "import sys\nif not hasattr(sys, 'hooked'): raise ValueError('not yet')")
    seen: list[str] = []
    when_imported("hooked_failing", lambda module: seen.append(module.__name__))
    with pytest.raises(ValueError, match="not yet"):
        importlib.import_module("hooked_failing")
    assert seen == []
    sys.hooked = True  # type: ignore[attr-defined]
    try:
        importlib.import_module("hooked_failing")
    finally:
        del sys.hooked  # type: ignore[attr-defined]
    assert seen == ["hooked_failing"]


def test_a_missing_module_stays_missing() -> None:
    when_imported("hooked_nowhere", lambda module: None)
    with pytest.raises(ModuleNotFoundError, match="hooked_nowhere"):
        importlib.import_module("hooked_nowhere")
    assert importlib.util.find_spec("hooked_nowhere") is None


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3)])
def test_an_exception_stays_out_of_the_import(
    error: BaseException, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(place, "hooked_calm")
    seen: list[str] = []

    def fail(module: ModuleType) -> None:
        raise error

    when_imported("hooked_calm", fail)
    when_imported("hooked_calm", lambda module: seen.append(module.__name__))
    importlib.import_module("hooked_calm")
    assert seen == ["hooked_calm"]
    assert "the import of hooked_calm could not be acted on" in caplog.text


def test_asked_for_while_it_loads_it_is_given_whole(place: Path) -> None:
    write(place, "hooked_half", "import sys\nsys.ask()\nwhole = True")
    seen: list[bool] = []
    when_imported("hooked_half", lambda module: None)
    sys.ask = lambda: when_imported("hooked_half", lambda module: seen.append(module.whole))  # type: ignore[attr-defined]
    try:
        importlib.import_module("hooked_half")
    finally:
        del sys.ask  # type: ignore[attr-defined]
    assert seen == [True]


@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_the_hooks_of_wrapt(place: Path, monkeypatch: pytest.MonkeyPatch, ours_first: bool) -> None:
    name = f"hooked_both_{ours_first}"
    write(place, name)
    seen: list[str] = []
    wrapt.register_post_import_hook(lambda module: seen.append("wrapt"), name)
    when_imported(name, lambda module: seen.append("ours"))
    theirs = [finder for finder in sys.meta_path if type(finder).__name__ == "ImportHookFinder"]
    both = [import_hooks._FINDER, *theirs]
    others = [finder for finder in sys.meta_path if finder not in both]
    monkeypatch.setattr(sys, "meta_path", (both if ours_first else both[::-1]) + others)
    importlib.import_module(name)
    assert sorted(seen) == ["ours", "wrapt"]


def test_in_a_zip_archive(place: Path) -> None:
    with zipfile.ZipFile(place / "packed.zip", "w") as archive:
        archive.writestr("hooked_zipped.py", "v = 5")
        archive.writestr("hooked_beside.py", "v = 6")
    sys.path.insert(0, str(place / "packed.zip"))
    seen: list[int] = []
    when_imported("hooked_zipped", lambda module: seen.append(module.v))
    try:
        importlib.import_module("hooked_beside")
        importlib.import_module("hooked_zipped")
    finally:
        sys.path.remove(str(place / "packed.zip"))
    assert seen == [5]


def test_a_module_in_c() -> None:
    code = (
        "import sys\nfrom otelagent.import_hooks import when_imported\n"
        "for name in ('_csv', 'array', '__hello__'):\n"
        "  assert name not in sys.modules, name\n  when_imported(name, lambda module: seen.append(module.__name__))\n"
        "seen = []\nimport _csv, array, __hello__\nprint(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['_csv', 'array', '__hello__']"


def test_threads_import_at_once(place: Path) -> None:
    names = [f"hooked_thread_{number}" for number in range(20)]
    seen: list[str] = []
    for name in names:
        write(place, name, "import time; time.sleep(.002)")
        when_imported(name, lambda module: seen.append(module.__name__))
    threads = [threading.Thread(target=lambda: [importlib.import_module(name) for name in names]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_child_forgets_what_other_threads_were_searching(place: Path) -> None:
    write(place, "hooked_forked")
    code = (
        "import os, sys, threading\n"
        "from otelagent.import_hooks import when_imported\n"
        "class Slow:\n"
        "  def find_spec(self, name, path=None, target=None):\n"
        "    if name == 'hooked_forked' and threading.current_thread() is not threading.main_thread():\n"
        "      searching.set(); done.wait()\n"
        "searching, done = threading.Event(), threading.Event()\n"
        "sys.meta_path.insert(0, Slow())\n"
        "when_imported('hooked_forked', lambda module: print('hook', flush=True))\n"
        "from otelagent import import_hooks\n"
        "threading.Thread(target=lambda: sys.meta_path[0].find_spec('hooked_forked'), daemon=True).start()\n"
        "searching.wait()\n"
        "if os.fork() == 0:\n"
        "  print(import_hooks._FINDER._searching)\n"
        "  import hooked_forked; os._exit(0)\n"
        "os.wait(); done.set()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()", "hook"]
