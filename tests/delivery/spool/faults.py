"""The failing disk of `fault_disk.c`, compiled once."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

_keep: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def library() -> Path:
    """The compiled layer. A machine without a C compiler fails here: these tests are not skipped."""
    _keep.append(tempfile.TemporaryDirectory())
    library = Path(_keep[0].name) / "fault_disk.so"
    source = Path(__file__).with_name("fault_disk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    return library


def preload(path: Path, call: str, error: int, after: int = 0, during: Path | None = None) -> dict[str, str]:
    """The environment of a process whose files below `path` are on a failing disk; see `fault_disk.c`."""
    return {
        "LD_PRELOAD": str(library()),
        "SPOOL_FAULT_PATH": str(path),
        "SPOOL_FAULT_CALL": call,
        "SPOOL_FAULT_ERRNO": str(error),
        "SPOOL_FAULT_AFTER": str(after),
        "SPOOL_FAULT_WHILE": str(during or ""),
    }
