"""Programs under test: what touches a process's globals runs in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

__all__ = [
    "ENGINE",
    "Outcome",
    "backends_or_skip",
    "fill_pipe",
    "free_port",
    "native_or_skip",
    "processes_with",
    "run_program",
    "wait_until",
]

_Found = TypeVar("_Found")


#: The engine of programs under test, as an environment: what the tests themselves run with; a fixture may fill it.
ENGINE: dict[str, str] = {name: os.environ[name] for name in ("OTELAGENT_ENGINE",) if name in os.environ}


def native_or_skip() -> None:
    """Skip a test of the native engine where it isn't built; in CI that is for `make test ENGINE=sdk` alone."""
    if importlib.util.find_spec("otelagent_native") is None:
        if os.environ.get("CI") and os.environ.get("ENGINE") != "sdk":
            pytest.fail("the native engine is not built: make native")
        pytest.skip("the native engine is not built (make native)")


def backends_or_skip() -> None:
    """Skip a test of the real back ends where they aren't built; in CI it fails."""
    from backends import MissingBinary, locate

    try:
        locate()
    except MissingBinary as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def processes_with(variable: str) -> list[str]:
    """Command lines of the processes that have this, ``NAME=value``, in their environment, which children inherit."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def free_port() -> int:
    """A TCP port on loopback for a server that can only be told one.

    It is none of those that the kernel gives to whoever asks for any: by the time the server binds it, another might
    have it.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [*range(10_000, low), *range(high + 1, 65_536)] or [0]
    for _ in range(1_000):
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", random.SystemRandom().choice(ports))) as one,
        ):
            return int(one.getsockname()[1])
    raise OSError("no port is free")


def fill_pipe(writer: int) -> None:
    """Writes zeros until there is no room for more."""
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)


def wait_until(look: Callable[[], _Found | None], timeout_s: float = 30.0) -> _Found:
    """What `look` gives as soon as it is true."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s"
        time.sleep(0.002)
    return found


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    code: int
    out: str
    err: str
    spans_file: Path

    @property
    def json(self) -> Any:
        """The last line of standard output, which the program printed as JSON."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def spans(self) -> list[dict[str, Any]]:
        """What the file exporter wrote, each span as OTLP JSON with its scope's name and its resource's attributes."""
        if not self.spans_file.exists():
            return []
        return [
            {**span, "scope": scope["scope"]["name"], "resource": resource["resource"]["attributes"]}
            for line in self.spans_file.read_text().splitlines()
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def run_program(folder: Path, source: str, *command: str, **environ: str) -> Outcome:
    """Run Python source as a script in `folder`, with the file exporter and warnings as errors.

    :param command: put before the interpreter, such as ``otelagent-run``.
    :param environ: changes of the environment; none of OTEL_* or OTELAGENT_* is inherited.
    """
    script = folder / "program.py"
    script.write_text(textwrap.dedent(source))
    spans = folder / "spans.jsonl"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "PYTHONPATH"))}
    done = subprocess.run(
        [*command, sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        env={**inherited, **ENGINE, "OTELAGENT_EXPORTER": "file", "OTELAGENT_FILE": str(spans), **environ},
    )
    return Outcome(done.returncode, done.stdout, done.stderr, spans)
