"""Delivery: from encoded OTLP requests to a collector, with every item accounted for.

Nothing in here knows what a span is, and nothing that goes wrong in here reaches the application: it is counted in a
ledger and logged as ``otelagent.delivery``.
"""

from __future__ import annotations

from otelagent.delivery.delivery import open_delivery, open_transport
from otelagent.delivery.fan_out import FanOut, flush_all, shutdown_all
from otelagent.delivery.ledger import Ledger, Ledgers, LedgerSnapshot
from otelagent.delivery.payload import Payload
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable
from otelagent.delivery.retry import RetryPolicy
from otelagent.delivery.transports import Transport
from otelagent.delivery.worker import Destination, Limits

__all__ = [
    "Accepted",
    "Destination",
    "FanOut",
    "Ledger",
    "LedgerSnapshot",
    "Ledgers",
    "Limits",
    "Payload",
    "Rejected",
    "Result",
    "RetryPolicy",
    "Retryable",
    "Transport",
    "flush_all",
    "open_delivery",
    "open_transport",
    "shutdown_all",
]
