"""Payloads on standard output, for a developer to look at."""

from __future__ import annotations

import json
import sys

from otelagent.delivery.otlp_json import request_to_json
from otelagent.delivery.payload import Payload
from otelagent.delivery.result import Accepted, Rejected, Result
from otelagent.delivery.signals import SIGNALS
from otelagent.fork_gate import whole_imports

__all__ = ["ConsoleTransport"]


class ConsoleTransport:
    """Writes one OTLP/JSON object per line to `sys.stdout` as it is at the time."""

    def describe(self) -> str:
        return "standard output"

    def send(self, payload: Payload, timeout_s: float) -> Result:
        signal = SIGNALS.get(payload.signal)
        if signal is None:
            return Rejected("unsupported_signal", f"there is no JSON of {payload.signal}")
        with whole_imports():
            from google.protobuf.message import DecodeError

        try:
            line = json.dumps(request_to_json(payload.body, signal), separators=(",", ":")) + "\n"
        except DecodeError:
            return Rejected("encode_error", "the payload is no OTLP request")
        if sys.stdout is None:  # As in a service or a windowed application.
            return Rejected("console", "the process has no standard output")
        try:
            # One call, so that lines of other threads don't mix in.
            sys.stdout.write(line)
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            # A closed pipe or file doesn't open again.
            return Rejected("console", str(error))
        return Accepted()

    def close(self) -> None:
        """Standard output is the application's and stays open."""

    def after_fork_in_child(self) -> None:
        """There is nothing of the parent's to let go of."""
