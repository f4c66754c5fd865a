"""The one switch every hook reads before it does any work."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SWITCH", "Switch"]


class Switch:
    """What the agent currently wants of its instrumentations.

    :ivar recording: describe calls and start spans. Off before `init()`, while paused and after `shutdown()`: then
        context is still passed on, and nothing else is built.
    :ivar follows_parent: the sampler never samples a child of an unsampled local span, so a hook under one can pass the
        context on without describing its call.
    :ivar excluded: says whether a request's path or whole URL is left untraced (setting `excluded_urls`); ``None``
        when none is.
    :ivar log_level: what is logged from this level of `logging` on becomes a log record of OpenTelemetry; ``None`` when
        nothing does.
    """

    __slots__ = ("excluded", "follows_parent", "log_level", "recording")

    def __init__(self) -> None:
        self.log_level: int | None = None
        self.recording = False
        self.follows_parent = True
        self.excluded: Callable[[str], bool] | None = None


SWITCH = Switch()
