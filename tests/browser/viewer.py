"""`otelagent ui` as a process, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Viewer", "outside"]

STOP_TIMEOUT_S = 20


def outside() -> dict[str, str]:
    """The environment without settings of telemetry."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}


class Viewer:
    """A running one, which ends with the test.

    :param folder: for its store and its log.
    :param port: 0 for any.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "otelagent.cli.main", "ui", "--port", str(port), "--grpc-port", "0"]
        command += ["--store", str(folder / "store.db")]
        with (folder / "viewer.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**outside(), "XDG_RUNTIME_DIR": str(folder)},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "/?token=" in line:
                break
        else:
            raise AssertionError(f"otelagent ui did not start:\n{(folder / 'viewer.log').read_text()}")
        self.address = next(word for word in line.split() if "/?token=" in word)
        """Of the page, with the token."""
        parts = urlsplit(self.address)
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.port = parts.port or 0
        self._token = parts.query.removeprefix("token=")

    def send(self, name: str, body: bytes) -> None:
        """Sends an OTLP request of a signal; it is stored when this returns."""
        headers = {"Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(f"{self.base}/v1/{name}", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert (answer.status, answer.read()) == (200, b"")

    def ask(self, path: str) -> Any:
        """What the API answers, of a path below /api/."""
        headers = {"Authorization": f"Bearer {self._token}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.base}/api/{path}", headers=headers), timeout=60
        ) as answer:
            return json.load(answer)

    def close(self) -> None:
        """Ends it as Ctrl-C does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=STOP_TIMEOUT_S)
