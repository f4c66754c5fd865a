"""What files hold, read again when they change."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from otelagent.delivery.auth import Unavailable
from otelagent.delivery.failures import FailureLog
from otelagent.threads import sleep

__all__ = ["Watched", "read_text"]

T = TypeVar("T")

MAX_FILE_BYTES = 64 * 1024
"""A longer file of headers or a token is none."""

# A file that was written to a moment ago may not be complete. Renamed and symbolically linked files are as old as their
# content, so that a replacement that was written before is taken at once.
_SETTLING_S = 0.1
# How soon files are looked at again that are as invalid as they were.
_AGAIN_S = 1.0

_Signature = tuple[tuple[int, ...] | None, ...]


class Watched(Generic[T]):
    """Something made from files: anew when one of them changes, and kept as it is when that fails.

    A look costs one `stat` a file. What is missing or invalid leaves the last good thing in place and is told once a
    minute; what may still be written is left for the next look.

    :param paths: of the files; symbolic links are followed.
    :param load: makes it; what it raises, `OSError` or `ValueError`, holds no secret.
    :param log: where it is told.
    :param reason: of the results that come of there being nothing, see `Unavailable`.
    """

    def __init__(
        self, paths: Sequence[str], load: Callable[[], T], log: FailureLog, reason: str = "credentials"
    ) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._log = log
        self._reason = reason
        self._value: T | None = None
        self._seen: _Signature | None = None
        self._invalid = ""
        self._again_s = math.inf

    def get(self, anew: bool = False) -> T:
        """The thing as the files have it now, else the last good one.

        :param anew: make it from the files even if they look unchanged, and don't be content with the last good one.
        :raises Unavailable: there is none.
        """
        must = anew or self._value is None
        if must or self._signature() != self._seen or time.monotonic() >= self._again_s:
            problem = self._renew(wait=must)
            if problem and must:
                raise Unavailable(problem, reason=self._reason)
            if self._invalid:
                self._log.news(f"file {self._names()}", f"{self._invalid}; what was read before is still used")
        assert self._value is not None
        return self._value

    def _renew(self, wait: bool) -> str:
        """Why there is nothing new that can be used; empty if there is."""
        signature = self._signature()
        settling_s = _settling_s(signature)
        if wait and settling_s:
            sleep(settling_s)
            signature = self._signature()
            settling_s = _settling_s(signature)
        if settling_s:
            return f"{self._names()}: changed a moment ago and may not be complete"
        invalid = ""
        try:
            value = self._load()
        except (OSError, ValueError) as error:
            invalid = str(error)
        if self._signature() != signature:
            return f"{self._names()}: changes while it is read"
        self._seen, self._invalid = signature, invalid
        self._again_s = time.monotonic() + _AGAIN_S if invalid else math.inf
        if not invalid:
            self._value = value
        return invalid

    def _signature(self) -> _Signature:
        return tuple(_look(path) for path in self._paths)

    def _names(self) -> str:
        return " or ".join(self._paths)


def read_text(path: str) -> str:
    """A small text file's content, without the white space around it.

    :raises OSError: it can't be read; the message names it.
    :raises ValueError: it is too long, no ASCII text or no regular file; so too.
    """
    try:
        # Opening a pipe without this waits until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{path}: not a regular file")
            content = os.read(descriptor, MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(f"{path}: {error.strerror or type(error).__name__}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: longer than {MAX_FILE_BYTES} bytes")
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not ASCII text") from None


def _look(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev


def _settling_s(signature: _Signature) -> float:
    """How long the youngest of some files is still to be left alone, in seconds."""
    # The one use of the wall clock, which file systems write down. A time in the future says nothing.
    now_s = time.time()
    ages_s = [now_s - look[0] / 1e9 for look in signature if look is not None]
    return max((_SETTLING_S - age_s for age_s in ages_s if 0 <= age_s < _SETTLING_S), default=0.0)
