"""OTLP requests as rows for the store."""

from __future__ import annotations

from otelagent.viewer.ingest.bounds import TooMuch
from otelagent.viewer.ingest.otlp import SIGNALS, Malformed, decode, empty_response

__all__ = ["SIGNALS", "Malformed", "TooMuch", "decode", "empty_response"]
