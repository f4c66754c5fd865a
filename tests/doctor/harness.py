"""`otelagent doctor` as a user runs it, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ENGINE

__all__ = ["TAKES", "Examine", "Report", "clean_environ", "doctor"]

TAKES: dict[str, Any] = {"status": 200}
"""The answer of a server that takes everything."""


@dataclass(frozen=True)
class Report:
    """A report.

    :ivar out: what was on standard output before it.
    """

    code: int
    json: dict[str, Any]
    out: str
    err: str

    def of(self, check: str) -> list[dict[str, str]]:
        """The findings of a check."""
        return [one for one in self.json["checks"] if one["id"] == check]

    def status(self, check: str) -> str:
        """The worst that a check came to; empty where its question didn't arise."""
        found = {one["status"] for one in self.of(check)}
        return next((status for status in ("fail", "warn", "pass", "skip") if status in found), "")

    def said(self, check: str) -> str:
        """The detail and the advice of what is wrong with it."""
        return " ".join(f"{one['detail']} → {one['advice']}" for one in self.of(check) if one["status"] != "pass")


Examine = Callable[..., Report]
"""Runs the doctor with a program."""


def clean_environ(**changes: str) -> dict[str, str]:
    """A user's environment with no setting of whoever runs the tests but the engine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL", "PYTHON")) and "proxy" not in name.lower()
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, **ENGINE, "PATH": path, "OTEL_SERVICE_NAME": "shop", **changes}


def doctor(
    *options: str,
    command: Sequence[str] = (),
    cwd: Path | None = None,
    given: Mapping[str, str] | None = None,
    until: Callable[[], object] | None = None,
    **environ: str,
) -> Report:
    """Runs it with ``--json``, which is the last line of its standard output.

    :param given: more of the environment.
    :param until: when it returns, the doctor is told to end the command.
    """
    words = [sys.executable, "-m", "otelagent.cli.main", "doctor", "--json", "--timeout", "3", *options]
    with subprocess.Popen(
        [*words, *(("--", *command) if command else ())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=clean_environ(**environ, **(given or {})),
    ) as process:
        try:
            if until is not None:
                until()
                process.terminate()
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    *before, last = out.splitlines() or [""]
    assert last.startswith("{"), (process.returncode, out, err)
    return Report(process.returncode, json.loads(last), "".join(f"{line}\n" for line in before), err)
