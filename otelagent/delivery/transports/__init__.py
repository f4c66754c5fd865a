"""The seam between delivery and the network, and its implementations."""

from __future__ import annotations

from typing import Protocol

from otelagent.delivery.payload import Payload
from otelagent.delivery.result import Result

__all__ = ["Transport"]


class Transport(Protocol):
    """One way to bring a payload to one place. It knows no retry and no queue, and one thread at a time uses it.

    Opening one is cheap and imports nothing: the client and its libraries come with the first `send`, in the thread
    that sends.
    """

    def send(self, payload: Payload, timeout_s: float) -> Result:
        """Tries once.

        Whatever the network, the server or the disk does becomes a result; an exception is a bug of the transport.

        :param timeout_s: seconds for the whole try, connecting and reading the answer included; > 0.
        """

    def close(self) -> None:
        """Ends connections and files. A later `send` opens them again."""

    def describe(self) -> str:
        """Where payloads go, secrets masked."""

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's connections without a word to the peer; the next `send` makes new ones."""
