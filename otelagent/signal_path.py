"""One signal's way through the process: from what records it to where it goes, with its books."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from otelagent.config.model import CONSOLE
from otelagent.delivery import Destination, FanOut, Ledger, Ledgers, Payload, flush_all, open_delivery
from otelagent.loss import LossReport

if TYPE_CHECKING:
    from otelagent.config import Config

__all__ = ["Recording", "SignalPath"]

# What encoding may take of what a parent has left; it takes milliseconds.
_INHERITING_S = 1.0


Listener = Callable[[str, bytes, int], object]
"""Takes (signal, encoded OTLP request, item count) and doesn't raise."""


class Recording(Protocol):
    """What a path needs of an engine; see `otelagent.record.Engine`."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def flush(self, deadline_s: float) -> bool: ...
    def shutdown(self, deadline_s: float) -> bool: ...
    def after_fork_in_child(self) -> None: ...


class SignalPath:
    """The destinations of one signal, each with its ledger. What records it is given later: it needs both.

    Record hands bytes over to `deliver`, and delivery takes them: neither knows the other.

    :param signal: ``traces`` or ``logs``.
    :param resource: gives the resource attributes that the signal is exported with, once there is something to export.
    :ivar ledgers: by the names that `status` has for the destinations: ``traces`` is the main one, ``traces:<name>``
        another, ``traces:console`` the terminal.
    :ivar destinations: as `ledgers`, but none for the exporter ``none``.
    :ivar ledger: what records the signal counts in.
    :ivar listeners: get each request that is handed over, beside its destinations.
    """

    def __init__(self, config: Config, signal: str, resource: Callable[[], Mapping[str, object]]) -> None:
        self.signal = signal
        self.ledgers: dict[str, Ledger] = {signal: Ledger(signal)}
        self.destinations: dict[str, Destination] = {}
        routes = []
        for name in config.destination_names(signal):
            key = f"{signal}:{name}" if name else signal
            ledger = self.ledgers.setdefault(key, Ledger(signal))
            self.destinations[key] = open_delivery(config, ledger, resource, name)
            routes.append(config.export(signal, name).routes)
        self._fan_out = FanOut([(self.destinations[key], self.ledgers[key]) for key in self.destinations], routes)
        # The terminal is beside them: it takes what they don't, and no route knows of it.
        self._fan_outs = [self._fan_out]
        if signal == "traces" and config.console != "off":
            key = f"{signal}:{CONSOLE}"
            self.ledgers[key] = Ledger(signal)
            self.destinations[key] = open_delivery(config, self.ledgers[key], resource, CONSOLE)
            self._fan_outs.append(FanOut([(self.destinations[key], self.ledgers[key])]))
        self.ledger = Ledgers(signal, tuple(self.ledgers.values()))
        self.listeners: tuple[Listener, ...] = ()
        self.recording: Recording | None = None
        self._kept: list[tuple[bytes, int]] | None = None
        self._losses = LossReport(lambda: self.ledger.lost)

    def describe(self) -> dict[str, str]:
        """Where the signal goes, by destination, secrets masked."""
        nowhere = {} if self.signal in self.destinations else {self.signal: "nowhere, exporter is none"}
        return nowhere | {key: destination.describe() for key, destination in self.destinations.items()}

    def status(self) -> dict[str, dict[str, object] | None]:
        """By destination; see `Destination.status`."""
        return {key: self.destinations[key].status() if key in self.destinations else None for key in self.ledgers}

    def in_memory(self, key: str) -> int:
        """How many encoded items wait in a destination's memory, those that are being sent among them."""
        return self.destinations[key].queued_items if key in self.destinations else 0

    @property
    def untaken(self) -> int:
        """How many items no destination's routes took."""
        return self._fan_out.untaken

    def start_delivery(self) -> None:
        """Begins with what other processes have left."""
        for destination in self.destinations.values():
            destination.start()

    def deliver(self, signal: str, body: bytes, items: int) -> None:
        """What recording hands each request to; see `otelagent.record.Deliver`."""
        if self._kept is not None:
            self._kept.append((body, items))
            return
        for listener in self.listeners:
            listener(signal, body, items)
        payload = Payload(signal, body, items)
        for fan_out in self._fan_outs:
            fan_out.submit(payload)
        if signal not in self.destinations:
            self.ledgers[signal].dropped(items, "exporter_none")

    def flush_delivery(self, deadline_s: float) -> bool:
        """Waits for what was handed to `deliver`; see `otelagent.record.FlushDelivery`."""
        return flush_all(self.destinations.values(), deadline_s)

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

    def after_fork_in_child(self, *, inherit: bool = False) -> None:
        """Starts over: what waited is the parent's.

        :param inherit: what was recorded there and waits is this process's to deliver, with the parent's resource: the
            parent will do nothing more.
        """
        kept: list[tuple[bytes, int]] = []
        if inherit and self.recording is not None:
            self._kept = kept
            try:
                self.recording.flush(time.monotonic() + _INHERITING_S)
            finally:
                self._kept = None
        self._losses.after_fork_in_child()
        if self.recording is not None:
            self.recording.after_fork_in_child()
        self.ledger.after_fork_in_child()
        for fan_out in self._fan_outs:
            fan_out.after_fork_in_child()
        for destination in self.destinations.values():
            destination.after_fork_in_child()
        if self.signal not in self.destinations:
            self.ledgers[self.signal].after_fork_in_child()
        for body, items in kept:
            self.ledger.ended(items)
            self.deliver(self.signal, body, items)
