"""Who listens on a port of this machine's loopback (Linux; elsewhere only that somebody does)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["SOMEBODY", "who_listens"]

SOMEBODY = "another program"
"""One that can't be seen: another user's, or on another system."""

_LISTEN = "0A"


def who_listens(port: int) -> str:
    """The program and its process id as far as they can be seen; empty if nobody takes connections.

    :param port: of TCP.
    """
    inodes = _inodes(port)
    if not inodes and not _accepts(port):
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        if _sockets(process) & inodes:
            try:
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
            except OSError:  # gone meanwhile
                continue
    return SOMEBODY


def _sockets(process: Path) -> set[str]:
    """The inodes of a process's sockets; none of another user's."""
    found: set[str] = set()
    try:
        entries = list((process / "fd").iterdir())
    except OSError:
        return found
    for entry in entries:
        try:
            link = os.readlink(entry)
        except OSError:  # closed meanwhile
            continue
        if link.startswith("socket:["):
            found.add(link[8:-1])
    return found


def _inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
