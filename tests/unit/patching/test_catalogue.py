"""The states of instrumentations, ours and contrib's, with distributions that exist for the test alone."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.patching import catalogue
from otelagent.patching.catalogue import Catalogue
from otelagent.patching.entry_points import find

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"

OWN = """
from otelagent.patching import Instrumentation, hook
from otelagent.semconv.call import Internal

class {cls}(Instrumentation):
    name = "{library}"
    supports = "{supports}"

    @hook("{module}", "work")
    def work(self, call):
        return Internal("own {library}")
"""

CONTRIB = """
import fake_{library}

class Instrumentor:
    is_instrumented_by_opentelemetry = {by_hand}
    conflict = {conflict}

    def _check_dependency_conflicts(self):
        return self.conflict

    def instrument(self, **options):
        assert options == {{"skip_dep_check": True}}
        if {fails}:
            raise RuntimeError("no instrument")
        fake_{library}.log.append("instrument")

    def uninstrument(self):
        fake_{library}.log.append("uninstrument")
"""


class World:
    """Libraries and instrumentations on an import path of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.catalogues: list[Catalogue] = []

    def library(self, name: str, version: str = "1.0") -> None:
        """A library `fake_<name>`."""
        (self.path / f"fake_{name}.py").write_text("log = []\ndef work():\n    return 1\n")
        self._distribution(f"fake_{name}-{version}.dist-info", f"Name: fake_{name}\nVersion: {version}\n")

    def own(self, name: str, supports: str = "", module: str = "") -> None:
        """Our instrumentation of `fake_<name>`."""
        code = OWN.format(cls="Own", library=f"fake_{name}", supports=supports, module=module or f"fake_{name}")
        (self.path / f"own_{name}.py").write_text(code)
        self._distribution(
            f"own_{name}-1.dist-info",
            f"Name: own_{name}\nVersion: 1\n",
            f"[otelagent_instrumentation]\nfake_{name} = own_{name}:Own\n",
        )

    def contrib(
        self, name: str, *, by_hand: bool = False, conflict: str | None = None, fails: bool = False, entry: str = ""
    ) -> None:
        """A contrib instrumentor of `fake_<name>`."""
        code = CONTRIB.format(library=name, by_hand=by_hand, conflict=repr(conflict), fails=fails)
        (self.path / f"contrib_{name}.py").write_text(code)
        self._distribution(
            f"contrib_{name}-1.dist-info",
            f"Name: contrib_{name}\nVersion: 1\nRequires-Dist: fake-{name}>=1; extra == 'instruments'\n",
            f"[opentelemetry_instrumentor]\n{entry or f'fake_{name}'} = contrib_{name}:Instrumentor\n",
        )

    def _distribution(self, directory: str, metadata: str, entry_points: str = "") -> None:
        info = self.path / directory
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\n{metadata}")
        if entry_points:
            (info / "entry_points.txt").write_text(entry_points)
        importlib.invalidate_caches()

    def start(self, *disabled: str, **options: Any) -> Catalogue:
        """A catalogue of what is here and nothing else, started."""
        made = Catalogue("0", disabled, **options)
        self.catalogues.append(made)
        made.start()
        return made


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(catalogue, "find", lambda groups: find(groups, [str(tmp_path)]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(OPT_IN, raising=False)
    made = World(tmp_path)
    yield made
    for started in made.catalogues:
        started.stop()
    os.environ.pop(OPT_IN, None)
    for name in [name for name in sys.modules if name.startswith(("fake_", "own_", "contrib_"))]:
        del sys.modules[name]


def states(made: Catalogue) -> dict[tuple[str, str], tuple[str, str]]:
    return {(state.name, state.kind): (state.state, state.reason) for state in made.states()}


def test_waiting_then_applied(world: World) -> None:
    world.library("lib")
    world.own("lib")
    made = world.start()
    assert states(made) == {("fake_lib", "own"): ("waiting", "")}
    assert "own_lib" not in sys.modules
    library: Any = importlib.import_module("fake_lib")
    assert states(made) == {("fake_lib", "own"): ("applied", "")}
    assert hasattr(library.work, "__wrapped__")
    assert [state.name for state in made.available()] == ["fake_lib"]
    made.stop()
    assert not hasattr(library.work, "__wrapped__")
    assert states(made) == {("fake_lib", "own"): ("disabled", "the agent is shut down")}


def test_imported_before(world: World) -> None:
    world.library("before")
    world.own("before")
    library: Any = importlib.import_module("fake_before")
    made = world.start()
    made.start()
    assert states(made) == {("fake_before", "own"): ("applied", "")}
    assert not hasattr(library.work.__wrapped__, "__wrapped__")


def test_absent_until_it_can_be_imported(world: World) -> None:
    world.own("gone")
    made = world.start()
    assert states(made) == {("fake_gone", "own"): ("absent", "the library is not installed")}
    assert made.available() == []
    world.library("gone")
    importlib.import_module("fake_gone")
    assert states(made) == {("fake_gone", "own"): ("applied", "")}


def test_absent_part_of_a_namespace(world: World) -> None:
    (world.path / "fake_space" / "there").mkdir(parents=True)
    (world.path / "fake_space" / "there" / "__init__.py").write_text("")
    for name in ("there", "elsewhere"):
        world._distribution(
            f"own_{name}-1.dist-info",
            f"Name: own_{name}\nVersion: 1\n",
            f"[otelagent_instrumentation]\nfake_space.{name} = own_{name}:Own\n",
        )
    assert {name: state for (name, _), (state, _) in states(world.start()).items()} == {
        "fake_space.there": "waiting",
        "fake_space.elsewhere": "absent",
    }
    assert "fake_space" not in sys.modules


@pytest.mark.filterwarnings("ignore")
def test_unsupported(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.library("old", "0.9")
    world.own("old", supports=">=1,<2")
    made = world.start()
    importlib.import_module("fake_old")
    reason = "fake_old 0.9 is outside >=1,<2"
    assert states(made) == {("fake_old", "own"): ("unsupported", reason)}
    assert [record.getMessage() for record in caplog.records] == [f"fake_old is not instrumented: {reason}"]


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
def test_failed(error: str, world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.library("bad")
    world.own("bad")
    (world.path / "own_bad.py").write_text(f"raise {error}('cannot be imported')\n")
    made = world.start()
    library: Any = importlib.import_module("fake_bad")
    assert library.work() == 1
    assert states(made) == {("fake_bad", "own"): ("failed", f"{error}: cannot be imported")}
    assert [record.getMessage() for record in caplog.records] == ["fake_bad (own_bad:Own) is not instrumented"]


def test_applied_where_it_could_be(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.library("partly")
    world.own("partly")
    code = (world.path / "own_partly.py").read_text()
    (world.path / "own_partly.py").write_text(
        code + '\n    @hook("fake_partly", "gone")\n    def gone(self, call): ...\n'
    )
    made = world.start()
    importlib.import_module("fake_partly")
    assert states(made) == {("fake_partly", "own"): ("applied", "fake_partly:gone: AttributeError: gone")}
    assert len(caplog.records) == 1


def test_disabled_by_name(world: World) -> None:
    for name in ("one", "two"):
        world.library(name)
        world.own(name)
    world.contrib("three")
    made = world.start("FAKE_one ", "fake_three")
    library: Any = importlib.import_module("fake_one")
    assert not hasattr(library.work, "__wrapped__")
    reason = "by the setting disabled_instrumentations"
    assert states(made) == {
        ("fake_one", "own"): ("disabled", reason),
        ("fake_two", "own"): ("waiting", ""),
        ("fake_three", "contrib"): ("disabled", reason),
    }


def test_switched_at_run_time(world: World) -> None:
    for name in ("x", "y"):
        world.library(name)
        world.own(name)
    world.contrib("z")
    world.library("z")
    made = world.start()
    x: Any = importlib.import_module("fake_x")
    z: Any = importlib.import_module("fake_z")
    original = x.work.__wrapped__
    for _ in range(2):
        assert [made.switch(name, False) for name in ("fake_x", "fake_y", "fake_z", "nothing")] == [True] * 3 + [False]
        assert set(states(made).values()) == {("disabled", "at run time")}
        assert x.work is original
        assert all(made.switch(name, True) for name in ("fake_x", "fake_y", "fake_z"))
        assert [state for state, _ in states(made).values()] == ["applied", "waiting", "applied"]
        assert x.work.__wrapped__ is original
    assert z.log == ["instrument"] + ["uninstrument", "instrument"] * 2
    y: Any = importlib.import_module("fake_y")
    assert not hasattr(y.work.__wrapped__, "__wrapped__")


def test_two_over_one_another_are_undone_by_identity(world: World) -> None:
    world.library("shared")
    world.own("shared")
    world.library("user")
    world.own("user", module="fake_shared")
    shared: Any = importlib.import_module("fake_shared")
    original = shared.work
    made = world.start()
    importlib.import_module("fake_user")
    assert shared.work.__wrapped__.__wrapped__ is original
    made.stop()
    assert shared.work is original


class TestContrib:
    def test_loaded_for_a_library_that_ours_do_not_cover(self, world: World) -> None:
        world.library("lib")
        world.contrib("lib")
        made = world.start()
        assert states(made) == {("fake_lib", "contrib"): ("waiting", "")}
        assert "contrib_lib" not in sys.modules
        library: Any = importlib.import_module("fake_lib")
        assert (states(made), library.log) == ({("fake_lib", "contrib"): ("applied", "")}, ["instrument"])
        made.stop()
        assert library.log == ["instrument", "uninstrument"]

    def test_waits_for_the_library_it_names(self, world: World) -> None:
        world.library("lib")
        world.contrib("lib", entry="by_another_name")
        made = world.start()
        importlib.import_module("fake_lib")
        assert states(made) == {("by_another_name", "contrib"): ("applied", "")}

    @pytest.mark.parametrize("prefer", [(), ("fake_lib",), ("Fake_Lib ",), ("other",)])
    def test_never_beside_ours(self, prefer: tuple[str, ...], world: World) -> None:
        world.library("lib")
        world.own("lib")
        world.contrib("lib")
        made = world.start(prefer_contrib=prefer)
        library: Any = importlib.import_module("fake_lib")
        preferred = prefer not in ((), ("other",))
        assert hasattr(library.work, "__wrapped__") is not preferred
        assert library.log == (["instrument"] if preferred else [])
        assert states(made) == (
            {
                ("fake_lib", "own"): ("disabled", "by the setting prefer_contrib"),
                ("fake_lib", "contrib"): ("applied", ""),
            }
            if preferred
            else {
                ("fake_lib", "own"): ("applied", ""),
                ("fake_lib", "contrib"): ("disabled", "otelagent's own is used; prefer_contrib reverses it"),
            }
        )

    def test_ours_stand_where_the_preferred_one_is_not_installed(self, world: World) -> None:
        world.library("lib")
        world.own("lib")
        made = world.start(prefer_contrib=("fake_lib",))
        importlib.import_module("fake_lib")
        assert states(made) == {("fake_lib", "own"): ("applied", "")}

    def test_a_preferred_one_that_is_switched_off_leaves_ours(self, world: World) -> None:
        world.library("lib")
        world.own("lib")
        world.contrib("lib")
        made = world.start(prefer_contrib=("fake_lib",), contrib=False)
        importlib.import_module("fake_lib")
        assert {kind: state for (_, kind), (state, _) in states(made).items()} == {
            "own": "applied",
            "contrib": "disabled",
        }

    def test_none_by_setting(self, world: World) -> None:
        world.library("lib")
        world.contrib("lib")
        made = world.start(contrib=False)
        library: Any = importlib.import_module("fake_lib")
        assert (states(made), library.log) == (
            {("fake_lib", "contrib"): ("disabled", "by the setting contrib")},
            [],
        )
        assert OPT_IN not in os.environ

    def test_a_version_it_does_not_support(self, world: World) -> None:
        world.library("lib")
        world.contrib("lib", conflict="DependencyConflict: requested: 'fake-lib >= 2' but found: '1.0'")
        made = world.start()
        library: Any = importlib.import_module("fake_lib")
        assert library.log == []
        assert states(made)["fake_lib", "contrib"][0] == "unsupported"

    def test_what_the_application_instrumented_stays_the_applications(self, world: World) -> None:
        world.library("lib")
        world.contrib("lib", by_hand=True)
        made = world.start()
        library: Any = importlib.import_module("fake_lib")
        assert states(made) == {("fake_lib", "contrib"): ("applied", "by the application")}
        made.stop()
        assert library.log == []

    def test_one_that_fails(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.library("lib")
        world.contrib("lib", fails=True)
        with caplog.at_level(logging.WARNING):
            made = world.start()
            importlib.import_module("fake_lib")
        assert states(made) == {("fake_lib", "contrib"): ("failed", "RuntimeError: no instrument")}
        assert len(caplog.records) == 1

    @pytest.mark.parametrize("chosen", [None, "", "http/dup"])
    @pytest.mark.parametrize("there", [True, False])
    def test_stable_conventions_unless_the_user_chose(
        self, there: bool, chosen: str | None, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if chosen is not None:
            monkeypatch.setenv(OPT_IN, chosen)
        world.library("lib")
        world.own("lib")
        if there:
            world.contrib("other")
        else:
            world.contrib("lib")  # disabled: ours is used
        world.start()
        expected = chosen if chosen is not None or not there else "http,database"
        assert os.environ.get(OPT_IN) == expected


def test_a_dotted_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """`concurrent.futures` loads `concurrent.futures.thread` only when its pool is asked for."""
    world._distribution(
        "otelagent_runtime-1.dist-info",
        "Name: otelagent-runtime\nVersion: 1\n",
        "[otelagent_instrumentation]\n"
        "concurrent.futures = otelagent_instrumentation.runtime.concurrent_futures:ConcurrentFutures\n",
    )
    from concurrent.futures import ThreadPoolExecutor

    submit: Any = ThreadPoolExecutor.submit
    made = world.start()
    assert states(made) == {("concurrent.futures", "own"): ("applied", "")}
    assert ThreadPoolExecutor.submit.__wrapped__ is submit  # type: ignore[attr-defined]
    made.switch("concurrent.futures", False)
    assert ThreadPoolExecutor.submit is submit
    assert caplog.records == []
