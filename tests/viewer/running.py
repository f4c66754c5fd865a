"""`otelagent ui` as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from types import TracebackType
from typing import Any

__all__ = ["Viewer"]

PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Viewer:
    """A running one, on any free ports.

    :param options: more of the command line.
    :param before: Python to run in the process before the command, such as one that makes its times shorter.
    :param grpc: whether it takes OTLP/gRPC here.
    :ivar grpc: ``host:port`` of OTLP/gRPC.
    :ivar log: what it has written to standard error.
    """

    def __init__(self, *options: str, before: str = "", grpc: bool = True) -> None:
        script = f"{before}\nfrom otelagent.cli.main import main\nimport sys\nsys.exit(main())"
        command = [sys.executable, "-c", script, "ui", "--port", "0", *options]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        found = self._read(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)")
        self.base, self.token = found.groups()
        self.grpc = self._read(r"OTLP/gRPC is taken on http://(\S+)")[1] if grpc else ""

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def _read(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended before it said {pattern}")

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        self._log.close()

    def ask(self, path: str, body: bytes | None = None, *, token: bool = True, **headers: str) -> tuple[int, bytes]:
        """The status and the body of an answer; header names with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            with urllib.request.urlopen(urllib.request.Request(self.base + path, body, sent), timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str, **options: Any) -> Any:
        status, body = self.ask(path, **options)
        assert status == 200, body
        return json.loads(body)

    def send(self, signal_name: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        return self.ask(
            f"/v1/{signal_name}", body, token=False, **{"Content_Type": PROTOBUF["Content-Type"], **headers}
        )
