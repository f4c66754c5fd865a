"""Headers and tokens from files."""

from __future__ import annotations

import re
from collections.abc import Callable

from otelagent.delivery.auth import Headers
from otelagent.delivery.auth.watched import Watched, read_text
from otelagent.delivery.failures import FailureLog

__all__ = ["FileHeaders", "read_bearer_token", "read_headers"]

# What both HTTP (RFC 9110 sections 5.1 and 5.5) and gRPC ("Custom-Metadata") take.
_NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_VALUE = re.compile(r"[\x20-\x7e]*")
# RFC 6750 section 2.1 has fewer characters; tokens that servers give out have more.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class FileHeaders:
    """The headers that a file holds, as it is at the time of each try.

    :param path: needn't be there yet.
    :param read: makes headers of it.
    :param log: where an invalid file is told.
    """

    def __init__(self, path: str, read: Callable[[str], Headers], log: FailureLog) -> None:
        self._watched = Watched((path,), lambda: read(path), log)
        self._given: Headers = {}

    def headers(self, deadline_s: float) -> Headers:
        self._given = self._watched.get()
        return self._given

    def refused(self, sent: Headers) -> bool:
        return self._given != self._watched.get(anew=True)

    def accepted(self, sent: Headers) -> None:
        """It changes nothing."""

    def after_fork_in_child(self) -> None:
        """There is nothing of the parent's to let go of."""


def read_headers(path: str) -> Headers:
    """A header a line, ``name: value``. Empty lines and those that begin with ``#`` are left out.

    :raises OSError: the file can't be read.
    :raises ValueError: a line is none of these, or there is none; the message has its number and nothing of it.
    """
    headers: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{path}: line {number} is no 'name: value'")
        headers[name] = value
    if not headers:
        raise ValueError(f"{path}: no header in it")
    return headers


def read_bearer_token(path: str) -> Headers:
    """A token and nothing else but white space around it, such as Kubernetes keeps for a service account.

    :raises OSError: the file can't be read.
    :raises ValueError: there is no token in it.
    """
    token = read_text(path)
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{path}: {'more than a token' if token else 'no token'} in it")
    return {"authorization": f"Bearer {token}"}
