from __future__ import annotations

import importlib.abc
import subprocess
import sys

import pytest

from otelagent.config import load
from otelagent.delivery.ledger import Ledger
from otelagent.errors import ConfigError
from otelagent.record import Engine, open_engine
from tests.support import native_or_skip


def deliver(signal: str, body: bytes, items: int) -> None:
    pass


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "otelagent_native", None)


@pytest.mark.usefixtures("without_native")
@pytest.mark.parametrize(
    ("setting", "reason"),
    [("auto", "otelagent-native is not installed"), ("sdk", "set to sdk")],
)
def test_the_engine_is_the_sdks_without_native_and_says_why(setting: str, reason: str) -> None:
    opened: Engine = open_engine(load({"engine": setting}, {}), Ledger("traces"), deliver)
    assert opened.name == "sdk"
    assert reason in opened.reason


@pytest.mark.usefixtures("without_native")
def test_native_is_an_error_where_it_is_missing() -> None:
    with pytest.raises(ConfigError) as raised:
        open_engine(load({}, {"OTELAGENT_ENGINE": "native"}), Ledger("traces"), deliver)
    assert (raised.value.setting, raised.value.source) == ("engine", "OTELAGENT_ENGINE")
    assert "not installed" in raised.value.problem
    assert "'auto'" in raised.value.hint


def test_an_extension_that_breaks_is_left_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "otelagent_native":
                raise ImportError("built for another interpreter")

    monkeypatch.delitem(sys.modules, "otelagent_native", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    problem = "otelagent-native can't be imported: built for another interpreter"
    with pytest.raises(ConfigError, match=problem):
        open_engine(load({"engine": "native"}, {}), Ledger("traces"), deliver)
    opened: Engine = open_engine(load({"engine": "auto"}, {}), Ledger("traces"), deliver)
    assert (opened.name, opened.reason) == ("sdk", problem)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("auto", "engine is auto, and otelagent-native is installed"), ("native", "engine is set to native")],
)
def test_the_native_engine_is_opened_where_it_is_installed(setting: str, reason: str) -> None:
    native_or_skip()
    opened: Engine = open_engine(load({"engine": setting}, {}), Ledger("traces"), deliver)
    assert (opened.name, opened.reason) == ("native", reason)


def test_the_native_engine_imports_no_sdk() -> None:
    native_or_skip()
    code = """
import sys
from otelagent.config import load
from otelagent.delivery.ledger import Ledger
from otelagent.record import open_engine
engine = open_engine(load({"engine": "native", "sampler": "parentbased_traceidratio"}, {}), Ledger("traces"), print)
engine.provider.get_tracer("t").start_span("a").end()
heavy = ("opentelemetry.sdk.", "google.protobuf", "opentelemetry.exporter", "grpc", "httpx")
loaded = {name for name in sys.modules if name.startswith(heavy)}
assert loaded <= {"opentelemetry.sdk.version"}, loaded  # one line, which the resource names
engine.shutdown(0.0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_nothing_heavy_is_imported_before_the_engine_opens() -> None:
    code = """
import sys
import otelagent.record
heavy = ("opentelemetry.sdk", "google.protobuf", "opentelemetry.exporter", "grpc", "httpx")
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
from otelagent.config import load
from otelagent.delivery.ledger import Ledger
otelagent.record.open_engine(load({"engine": "sdk"}, {}), Ledger("traces"), lambda *a: None)
assert "opentelemetry.sdk.trace" in sys.modules
assert not [name for name in heavy[1:] if name in sys.modules], [name for name in heavy if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_subinterpreter_has_the_sdk_engine_and_says_why(legacy: bool) -> None:
    native_or_skip()
    code = f"""
import otelagent_native
try:
    import _interpreters as interpreters
    one = interpreters.create("legacy" if {legacy} else "isolated")
except ImportError:
    import _xxsubinterpreters as interpreters
    one = interpreters.create(isolated=not {legacy})
interpreters.run_string(one, '''
from otelagent.config import load
from otelagent.record.choice import choose
print(choose(load({{}}, {{}})))
''')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("('sdk', \"otelagent-native can't be imported: "), done
    assert "subinterpreter" in done.stdout
