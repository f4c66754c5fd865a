"""What may be imported where, and when: the start-up budget holds only while these do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otelagent
import otelagent_instrumentation

HERE = Path(otelagent.__file__).parent
INSTRUMENTATION = Path(otelagent_instrumentation.__file__).parent


def imported(path: Path) -> set[str]:
    """Every module a file imports, also inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("folder", [HERE / "patching", HERE / "protocols", HERE / "semconv", INSTRUMENTATION], ids=str)
def test_the_sdk_is_never_needed_to_instrument(folder: Path) -> None:
    files = list(folder.rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            assert not name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")), path


def test_an_instrumentation_imports_no_target_at_its_top() -> None:
    for path in INSTRUMENTATION.rglob("*.py"):
        if path.name == "__init__.py":
            continue
        target = path.stem
        top = {
            name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        standard = target in sys.stdlib_module_names or target == "concurrent_futures"
        assert standard or not any(name.partition(".")[0] == target for name in top), path


def loaded_by(program: str, *commands: str) -> set[str]:
    """Every module that an interpreter has imported, or tried to, when a program is over."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
    code = f"{program}\nimport os, sys\nos.write(1, ' '.join(sys.modules).encode())\nos._exit(0)"
    done = subprocess.run(
        [*commands, sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environ,
    )
    # importlib's own functions import past the interpreter's clock, and what failed isn't in sys.modules.
    timed = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {*timed, *done.stdout.split()} - {"imported package"}


def foreign(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] not in OWN}


OWN = frozenset({"otelagent", "otelagent_instrumentation", "otelagent_native"})

# What the API needs to be there for the application, and whoever uses it has imported anyway.
API = "import opentelemetry.trace, opentelemetry.propagate"

# What `init()` may import besides, by engine: names, and the program whose imports may come along.
ALLOWED = {
    "native": (
        API,
        {"heapq", "importlib._abc", "importlib.util", "math", "queue", "signal"}
        | {"_heapq", "_queue", "opentelemetry.sdk", "opentelemetry.sdk.version", "collections.abc"}
        # Built into the interpreter.
        | {"errno"}
        # For the resource. Up to 3.12 the API's `uuid` brings it.
        | {"platform", "_wmi"},
    ),
    "sdk": (
        f"{API}\nimport opentelemetry.sdk.trace",
        {"heapq", "importlib._abc", "importlib.util", "math", "queue", "signal", "_heapq", "_queue", "collections.abc"},
    ),
}

# Our own that wait for the first payload, for the library that they describe, or for a setting that needs them.
LATE = (
    "otelagent.config.credentials",
    "otelagent.config.destinations",
    "otelagent.config.document",
    "otelagent.config.endpoint",
    "otelagent.config.routes",
    "otelagent.config.table",
    "otelagent.delivery.auth",
    "otelagent.delivery.items",
    "otelagent.delivery.notices",
    "otelagent.delivery.otlp",
    "otelagent.delivery.routing",
    "otelagent.delivery.transports.deadline",
    "otelagent.delivery.transports.grpc",
    "otelagent.delivery.transports.http_body",
    "otelagent.delivery.transports.http_client",
    "otelagent.protocols.",
    "otelagent.record.native_logs",
    "otelagent.record.open_spans",
    "otelagent.record.sdk_logs",
    "otelagent.running_spans",
    "otelagent.semconv.db",
    "otelagent.semconv.http",
    "otelagent.semconv.sql",
    "otelagent.testing",
    "otelagent.tracing",
    "otelagent_instrumentation.client.",
    "otelagent_instrumentation.db.",
    "otelagent_instrumentation.server.",
)


def native_is_there(engine: str) -> str:
    if engine == "native":
        pytest.importorskip("otelagent_native", reason="the native engine is not built")
    return engine


def test_import_otelagent_loads_nothing() -> None:
    assert foreign(loaded_by("import otelagent") - loaded_by("pass")) <= {"__future__"}


@pytest.mark.parametrize("engine", ALLOWED)
def test_init_loads_what_is_listed(engine: str) -> None:
    loaded = loaded_by(f"import otelagent; otelagent.init(engine={native_is_there(engine)!r})")
    program, allowed = ALLOWED[engine]
    assert foreign(loaded) - loaded_by(program) - allowed == set()
    assert not [name for name in loaded if name.startswith(LATE)]


@pytest.mark.parametrize("engine", ALLOWED)
def test_the_launcher_adds_nothing_to_that(engine: str) -> None:
    launcher = str(Path(sys.executable).with_name("otelagent-run"))
    loaded = loaded_by("pass", launcher, "--engine", native_is_there(engine))
    program, allowed = ALLOWED[engine]
    assert "otelagent.agent" in loaded
    assert foreign(loaded) - loaded_by(program) - allowed - {"sitecustomize"} == set()


def test_the_launcher_itself_needs_next_to_nothing() -> None:
    program = "import otelagent.cli.run as run\nrun._execute = lambda *_: None\nrun._become(['true'], {})\n"
    program += "from otelagent.config import load\nload({}, {'OTELAGENT_SERVICE_NAME': 'shop'})"
    assert foreign(loaded_by(program) - loaded_by("pass")) <= {"__future__", "_signal", "errno", "types"}


def test_the_pytest_plugin_costs_next_to_nothing_until_a_test_asks() -> None:
    added = loaded_by("import pytest, otelagent.testing.plugin") - loaded_by("import pytest")
    assert added == {"otelagent", "otelagent.testing", "otelagent.testing.plugin"}
