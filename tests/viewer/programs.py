"""Programs under ``otelagent-run --ui``, and what the viewer then knows of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

from otelagent.viewer.process import Running
from tests.support import ENGINE

__all__ = ["RUN", "ask", "environment", "program", "start"]

RUN = [sys.executable, "-m", "otelagent.cli.run", "--ui"]


def environment(**changes: str) -> dict[str, str]:
    """Of a program: none of OTEL_* is inherited but the engine."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "PYTHONPATH"))}
    engine = {name: os.environ[name] for name in ("OTELAGENT_ENGINE",) if name in os.environ}
    return {**inherited, **ENGINE, **engine, **changes}


def program(folder: Path, source: str) -> list[str]:
    """The command of a script."""
    path = folder / "shop.py"
    path.write_text(textwrap.dedent(source))
    return [sys.executable, str(path)]


def start(*command: str, **changes: str) -> subprocess.Popen[str]:
    """Runs a command that is talked to by its standard streams."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment(**changes))


def ask(viewer: Running, path: str) -> Any:
    """What the API answers."""
    request = urllib.request.Request(viewer.http + path, headers={"Authorization": f"Bearer {viewer.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
