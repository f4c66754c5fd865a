"""Payloads in a file."""

from __future__ import annotations

import errno
import json
import os

from otelagent.delivery.otlp_json import request_to_json
from otelagent.delivery.payload import Payload
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable
from otelagent.delivery.signals import SIGNALS
from otelagent.fork_gate import whole_imports

__all__ = ["FileTransport"]

# Nothing but a person changes these; everything else, such as a full disk, may pass.
_PERMANENT = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EROFS, errno.ENAMETOOLONG})


class FileTransport:
    """Appends one OTLP/JSON object per line, the format of the OTLP file exporter.

    Each line is one write to a file opened for appending, so that several processes can share it.

    Source: OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".

    :param path: the file, made when it is missing; its directory must exist. Only its owner may read it (0600):
        telemetry tells what the application's users do.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._torn = False

    def describe(self) -> str:
        return self._path

    def send(self, payload: Payload, timeout_s: float) -> Result:
        signal = SIGNALS.get(payload.signal)
        if signal is None:
            return Rejected("unsupported_signal", f"there is no JSON of {payload.signal}")
        with whole_imports():
            from google.protobuf.message import DecodeError

        try:
            line = json.dumps(request_to_json(payload.body, signal), separators=(",", ":")).encode() + b"\n"
        except DecodeError:
            return Rejected("encode_error", "the payload is no OTLP request")
        try:
            return self._append(line)
        except OSError as error:
            self.close()
            reason = f"file_{errno.errorcode.get(error.errno or 0, 'error').lower()}"
            message = error.strerror or str(error)
            return Rejected(reason, message) if error.errno in _PERMANENT else Retryable(reason, None, message)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError:
                pass  # Some file systems report here what a write has lost; there is nobody left to tell.

    def after_fork_in_child(self) -> None:
        self.close()

    def _append(self, line: bytes) -> Result:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        # A disk that fills up takes a part of a line. That part can't be taken back (another process may have written
        # behind it), so that it is ended before the line is written again whole.
        whole = b"\n" + line if self._torn else line
        written = os.write(self._descriptor, whole)
        if written < len(whole):
            self._torn = self._torn or written > 0
            return Retryable("file_short_write", None, f"only {written} of {len(whole)} bytes could be written")
        self._torn = False
        return Accepted()
