"""What may be imported where, and when: the start-up budget holds only while these do."""

from __future__ import annotations

import ast
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


def loaded_by(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program + "\nimport sys; print(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_import_otelagent_loads_neither_opentelemetry_nor_a_client() -> None:
    heavy = {"opentelemetry.trace", "opentelemetry.sdk", "httpx", "grpc", "wrapt", "google.protobuf", "asyncio"}
    assert not heavy & loaded_by("import otelagent")


def test_init_loads_no_transport_and_no_target() -> None:
    loaded = loaded_by("import otelagent; otelagent.init()")
    heavy = {"httpx", "grpc", "google.protobuf", "opentelemetry.exporter", "packaging"}
    targets = {"flask", "fastapi", "requests", "uvicorn", "sqlite3"}
    assert not (heavy | targets) & loaded
