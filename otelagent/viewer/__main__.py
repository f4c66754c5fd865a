"""A viewer in the background: `otelagent.viewer.process` runs this and reads a line of JSON, its state or error."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

__all__ = ["main"]


def main() -> int:
    """Runs it.

    :returns: the exit code, which nobody sees.
    """
    options: dict[str, Any] = json.loads(sys.argv[1])
    # What started it may become another program, which would find a child that it has never started.
    if hasattr(os, "fork") and os.fork():
        os._exit(0)

    from otelagent.viewer.serving import serve

    try:
        serve(**options, on_ready=lambda viewer, state: _tell(asdict(state)))
    except OSError as error:
        _tell({"error": str(error)})
        return 1
    return 0


def _tell(report: dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(report).encode() + b"\n")
    except BrokenPipeError:
        pass  # who has started it has gone; somebody else may find it
    os.dup2(2, 1)


if __name__ == "__main__":
    sys.exit(main())
