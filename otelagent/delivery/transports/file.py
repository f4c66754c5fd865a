"""Payloads in a file."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress

from otelagent.delivery.disk_errors import explain, token
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

    Each line is one write to a file opened for appending, so that several signals and processes can share it. A line
    that one of them could write only half of is ended by the next, whichever's it is.

    Source: OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".

    :param path: the file, made when it is missing; its directory must exist. Only its owner may read it (0600):
        telemetry tells what the application's users do.
    :param setting: the setting that names the file.
    """

    def __init__(self, path: str, setting: str = "file") -> None:
        self._path = path
        self._setting = setting
        self._descriptor: int | None = None
        self._reader: int | None = None

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
            reason, message = token("file", error), explain(error, self._path, self._setting)
            return Rejected(reason, message) if error.errno in _PERMANENT else Retryable(reason, None, message)

    def close(self) -> None:
        opened = (self._descriptor, self._reader)
        self._descriptor = self._reader = None
        for descriptor in opened:
            if descriptor is not None:
                with suppress(OSError):  # Some file systems report here what a write has lost; nobody is left to tell.
                    os.close(descriptor)

    def after_fork_in_child(self) -> None:
        self.close()

    def _append(self, line: bytes) -> Result:
        descriptor, reader = self._opened()
        # A disk that fills up takes a part of a line, ours or another writer's. That part can't be taken back (somebody
        # may have written behind it), so that it is ended first.
        torn = reader is not None and _is_inside_line(reader, os.fstat(descriptor).st_size)
        whole = b"\n" + line if torn else line
        written = os.write(descriptor, whole)
        if written < len(whole):
            return Retryable("file_short_write", None, f"only {written} of {len(whole)} bytes could be written")
        if reader is None or torn:
            return Accepted()
        if _is_inside_line(reader, os.lseek(descriptor, 0, os.SEEK_CUR) - written):
            return Retryable("file_torn_line", None, "another writer left half a line in front of this one")
        return Accepted()

    def _opened(self) -> tuple[int, int | None]:
        """The file to append to, and the same file to read from; None where it can't be read or is no regular file."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            status = os.fstat(self._descriptor)
            if stat.S_ISREG(status.st_mode):
                with suppress(OSError):
                    reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    if os.path.samestat(status, os.fstat(reader)):
                        self._reader = reader
                    else:
                        os.close(reader)  # Another file is there by now.
        return self._descriptor, self._reader


def _is_inside_line(reader: int, at: int) -> bool:
    """Whether what is written at a place of the file is behind a line without end."""
    return at > 0 and os.pread(reader, 1, at - 1) not in (b"\n", b"")
