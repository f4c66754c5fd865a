"""One signal's way through the process: from what records it to where it goes, with its books."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from otelagent.delivery import Destination, Ledger, Payload, open_delivery
from otelagent.loss import LossReport

if TYPE_CHECKING:
    from otelagent.config import Config

__all__ = ["Recording", "SignalPath"]


class Recording(Protocol):
    """What a path needs of an engine; see `otelagent.record.Engine`."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def flush(self, deadline_s: float) -> bool: ...
    def shutdown(self, deadline_s: float) -> bool: ...
    def after_fork_in_child(self) -> None: ...


class SignalPath:
    """The ledger and the destination of one signal. What records it is given later: it needs both.

    Record hands bytes over to `deliver`, and delivery takes them: neither knows the other.

    :param signal: ``traces`` or ``logs``.
    :param resource: gives the resource attributes that the signal is exported with, once there is something to export.
    :ivar destination: None for the exporter ``none``.
    """

    def __init__(self, config: Config, signal: str, resource: Callable[[], Mapping[str, object]]) -> None:
        self.signal = signal
        self.ledger = Ledger(signal)
        self.destination: Destination | None = None
        if config.export(signal).exporter != "none":
            self.destination = open_delivery(config, self.ledger, resource)
        self.recording: Recording | None = None
        self._losses = LossReport(lambda: self.ledger.lost)

    def describe(self) -> str:
        """Where the signal goes, secrets masked."""
        return self.destination.describe() if self.destination is not None else "nowhere, exporter is none"

    def status(self) -> dict[str, object] | None:
        """See `Destination.status`."""
        return self.destination.status() if self.destination is not None else None

    def start_delivery(self) -> None:
        """Begins with what other processes have left."""
        if self.destination is not None:
            self.destination.start()

    def deliver(self, signal: str, body: bytes, items: int) -> None:
        """What recording hands each request to; see `otelagent.record.Deliver`."""
        if self.destination is not None:
            self.destination.submit(Payload(signal, body, items))
        else:
            self.ledger.dropped(items, "exporter_none")

    def flush_delivery(self, deadline_s: float) -> bool:
        """Waits for what was handed to `deliver`; see `otelagent.record.FlushDelivery`."""
        return self.destination is None or self.destination.flush(deadline_s)

    def begin_flush(self) -> int:
        """Starts a flush: returns what `end_flush` wants."""
        return self._losses.begin()

    def end_flush(self, told: int) -> bool:
        """Ends a flush; see `LossReport.end`."""
        return self._losses.end(told)

    def stop_recording(self, deadline_s: float) -> bool:
        """Hands on everything recorded; later items are dropped. May be called again where it was interrupted."""
        if self.recording is None:
            return True
        done = self.recording.shutdown(deadline_s)
        return self.recording.flush(deadline_s) and done

    def stop_delivery(self, deadline_s: float) -> bool:
        """Delivers what it can until then."""
        return self.destination is None or self.destination.shutdown(deadline_s)

    def after_fork_in_child(self) -> None:
        """Starts over: what waited is the parent's."""
        self._losses.after_fork_in_child()
        if self.recording is not None:
            self.recording.after_fork_in_child()
        if self.destination is not None:
            self.destination.after_fork_in_child()
        else:
            self.ledger.after_fork_in_child()
