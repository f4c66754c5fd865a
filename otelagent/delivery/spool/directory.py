"""The spool's directories: private, never behind a symbolic link, and each entry with one owner.

    <spool directory>/<key>/<entry>/<segment>...

A key stands for one service and one destination: what a process leaves is sent by the next one of the same service to
the same place, and by no other. An entry is what one process has written. Its owner holds a lock (flock) on it for as
long as it lives, so that the entries of dead processes are known by their lock being free, and whoever takes the lock
adopts the entry.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from otelagent.delivery.spool.segment import SegmentName
from otelagent.forks import at_fork

try:
    import fcntl
except ImportError:  # Not on Windows: there is no spool.
    fcntl = None  # type: ignore[assignment]

__all__ = ["ABOUT", "LOCK", "Entry", "entries", "open_directory", "quota", "used_bytes"]

ABOUT = "about.json"
"""The file in a key's directory that says, for people, what the key stands for."""

LOCK = "lock"
_QUOTA = "quota.lock"
_ENTRY = re.compile(r"[0-9]{1,10}-[0-9a-f]{8}")
# What a process that was killed between making an entry and locking it needs at most in between.
_UNBORN_S = 60.0
# How long others may hold the quota; they hold it for one write.
_QUOTA_WAIT_S = 1.0
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

# Locks that are held, or being taken. What a descriptor locks stays locked until its last copy is closed, and a child
# that is forked at this moment has copies: it closes them, or nobody could write as long as it lives.
_locks: set[int] = set()


def open_directory(path: str, inside: int | None = None, *, make: bool = False) -> int:
    """A descriptor of a directory that is ours alone (0700).

    :param inside: a descriptor of the directory that `path` is relative to.
    :param make: make it if it is missing; without `inside`, its parents too.
    :raises OSError: there is none, it belongs to another user, or its name is a symbolic link.
    """
    if not hasattr(os, "geteuid") or fcntl is None:
        raise OSError(errno.ENOTSUP, "this system has no file locks")
    try:
        descriptor = os.open(path, _DIRECTORY, dir_fd=inside)
    except FileNotFoundError:
        if not make:
            raise
        if inside is None:
            os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        try:
            os.mkdir(path, 0o700, dir_fd=inside)
        except FileExistsError:
            pass
        descriptor = os.open(path, _DIRECTORY, dir_fd=inside)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", path)
        if status.st_mode & 0o777 != 0o700:
            os.fchmod(descriptor, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Entry:
    """The directory that one process has written to, while it is locked by this one.

    :ivar name: ``<pid>-<random>`` of the process that made it.
    :ivar descriptor: of the directory.
    """

    def __init__(self, name: str, descriptor: int, lock: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self._lock = lock

    @classmethod
    def create(cls, key: int) -> Entry:
        """A new one, locked.

        :param key: a descriptor of the directory for it.
        """
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        descriptor = open_directory(name, key, make=True)
        try:
            lock = _open_lock(LOCK, descriptor, os.O_CREAT | os.O_EXCL)
        except BaseException:
            os.close(descriptor)
            raise
        entry = cls(name, descriptor, lock)
        try:
            os.fchmod(lock, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            entry.close()
            raise
        return entry

    @classmethod
    def adopt(cls, key: int, name: str) -> Entry | None:
        """The entry of a process that is dead, locked; None if its owner lives or another process was faster.

        :param key: as for `create`.
        """
        descriptor = lock = -1
        try:
            descriptor = open_directory(name, key)
            try:
                lock = _open_lock(LOCK, descriptor)
            except FileNotFoundError:
                # Its owner is about to make the lock, or was killed before it could.
                if time.time() - os.fstat(descriptor).st_mtime < _UNBORN_S:
                    return None
                lock = _open_lock(LOCK, descriptor, os.O_CREAT)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:  # Else: adopted, emptied and removed while we waited for our turn.
                entry = cls(name, descriptor, lock)
                descriptor = lock = -1
                return entry
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            pass
        finally:
            _close_lock(lock)
            if descriptor >= 0:
                os.close(descriptor)
        return None

    def segments(self) -> list[SegmentName]:
        """The names of its segments, the oldest first."""
        return sorted(filter(None, map(SegmentName.parse, os.listdir(self.descriptor))))

    def exists(self) -> bool:
        """Whether nobody has removed it."""
        return os.fstat(self._lock).st_nlink > 0

    def sync(self) -> None:
        """Has the disk keep the names of the files."""
        os.fsync(self.descriptor)

    def remove(self, key: int) -> None:
        """Removes the entry if nothing is left in it but its lock, and lets go of it."""
        try:
            if os.listdir(self.descriptor) == [LOCK]:
                os.unlink(LOCK, dir_fd=self.descriptor)
                os.rmdir(self.name, dir_fd=key)
        except OSError:
            pass  # The next owner tries again.
        self.close()

    def close(self) -> None:
        """Lets go of the lock: from now on others may adopt the entry.

        It isn't unlocked but closed: the copy that a forked child has closed must not free the parent's.
        """
        lock, descriptor = self._lock, self.descriptor
        self._lock = self.descriptor = -1
        _close_lock(lock)
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def entries(key: int) -> list[str]:
    """The names of the entries in a key's directory."""
    return sorted(name for name in os.listdir(key) if _ENTRY.fullmatch(name))


def used_bytes(key: int) -> int:
    """What all segments of a key take, in bytes."""
    used = 0
    for name in entries(key):
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=key)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            with os.scandir(descriptor) as files:
                for file in files:
                    if SegmentName.parse(file.name):
                        try:
                            used += file.stat(follow_symlinks=False).st_size
                        except FileNotFoundError:
                            pass
        finally:
            os.close(descriptor)
    return used


@contextmanager
def quota(key: int) -> Iterator[None]:
    """While it lasts, no other process adds to the key's entries.

    :raises TimeoutError: another process keeps it for too long.
    """
    lock = _open_lock(_QUOTA, key, os.O_CREAT)
    try:
        until = time.monotonic() + _QUOTA_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TimeoutError(errno.ETIMEDOUT, "another process doesn't let go of the spool") from None
                time.sleep(0.005)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
        _close_lock(lock)


def _open_lock(name: str, directory: int, flags: int = 0) -> int:
    lock = os.open(name, _FILE | flags, 0o600, dir_fd=directory)
    _locks.add(lock)
    return lock


def _close_lock(lock: int) -> None:
    if lock in _locks:  # Else the child of a fork has closed it already.
        _locks.discard(lock)
        with suppress(OSError):
            os.close(lock)


def _close_locks() -> None:
    for lock in tuple(_locks):
        _close_lock(lock)


at_fork(in_child=_close_locks)
