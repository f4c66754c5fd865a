"""Where a spool is: its directory, and the key that says whose payloads are in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256

from otelagent.delivery.spool.directory import ABOUT, open_directory

__all__ = ["SpoolPlace", "key_of"]


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """The directory of one service's payloads for one destination.

    :param directory: the spool directory, absolute; made when the first payload needs it.
    :param key: the name of the directory in it.
    :param about: what the key stands for, for people; without secrets.
    """

    directory: str
    key: str
    about: Mapping[str, str]

    def open(self, *, make: bool = False) -> int:
        """A descriptor of the key's directory.

        :param make: make what is missing.
        :raises OSError: there is none, or it can't be had as a private one.
        """
        root = open_directory(self.directory, make=make)
        try:
            key = open_directory(self.key, root, make=make)
        finally:
            os.close(root)
        if make:
            self._describe(key)
        return key

    @contextmanager
    def opened(self, *, make: bool = False) -> Iterator[int]:
        """`open` for the time of a block."""
        key = self.open(make=make)
        try:
            yield key
        finally:
            os.close(key)

    def _describe(self, key: int) -> None:
        # Nothing depends on it, so that a disk which is full at this moment doesn't matter.
        with suppress(OSError):
            os.stat(ABOUT, dir_fd=key, follow_symlinks=False)
            return
        temporary = f".{ABOUT}.{os.getpid()}"
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600, dir_fd=key)
            try:
                os.write(descriptor, json.dumps(dict(self.about)).encode())
                os.rename(temporary, ABOUT, src_dir_fd=key, dst_dir_fd=key)
            except OSError:
                os.unlink(temporary, dir_fd=key)
            finally:
                os.close(descriptor)


def key_of(identity: Mapping[str, str]) -> str:
    """A directory's name for a service and destination: the same in every process that has the same."""
    return sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:16]
