"""Programs under the doctor."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.delivery.harness import FaultServer
from tests.doctor.harness import TAKES, Examine, Report, doctor


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Where everything is taken."""
    with FaultServer("http", TAKES) as server:
        yield f"--endpoint={server.endpoint}"


@pytest.fixture
def examine(endpoint: str, tmp_path: Path) -> Examine:
    """Runs the doctor with a program."""

    def run(
        source: str,
        *options: str,
        flags: tuple[str, ...] = (),
        until: Callable[[], object] | None = None,
        path: str = "",
    ) -> Report:
        program = tmp_path / "program.py"
        program.write_text(textwrap.dedent(source))
        command = (sys.executable, *flags, str(program))
        given = {"PYTHONPATH": path} if path else {}
        return doctor(endpoint, *options, command=command, cwd=tmp_path, given=given, until=until)

    return run
