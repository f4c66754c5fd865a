"""Programs that use the agent."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["LAUNCHER", "program"]

LAUNCHER = str(Path(sys.executable).with_name("otelagent-run"))

_HEAD = """
import json, otelagent
from opentelemetry import trace
"""


def program(body: str) -> str:
    """A program of this body, indented by four or not."""
    return _HEAD + "\n".join(line[4:] if line.startswith("    ") else line for line in body.splitlines())
