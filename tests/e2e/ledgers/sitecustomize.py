"""Keeps the books of a process under test: what `otellifecycle.status()` said last, after the agent's end, in a file.

Tests put this directory on PYTHONPATH, so that it is there in every Python process of an application, whichever way
that process came to be and whichever way it ends (`atexit` is not asked when a signal kills).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def _keep(directory: str) -> None:
    from otelagent import lifecycle
    from otelagent.process import ProcessWatch

    call = ProcessWatch._call

    def and_write(watch: Any, function: Callable[[], object]) -> None:
        call(watch, function)
        if function == watch._on_exit:
            status = lifecycle.status()
            if status.get("ledger"):
                part = os.path.join(directory, f".{os.getpid()}")
                with open(part, "w") as file:
                    json.dump(status, file)
                os.replace(part, os.path.join(directory, f"{os.getpid()}.json"))

    setattr(ProcessWatch, "_call", and_write)  # noqa: B010 - mypy refuses an assignment to a method


if "E2E_LEDGERS" in os.environ:
    _keep(os.environ["E2E_LEDGERS"])
