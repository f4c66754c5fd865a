"""One viewer writes to a file at a time: it gives rows their ids from memory."""

from __future__ import annotations

import os

__all__ = ["Owner"]


class Owner:
    """Holds a file's lock until `release`; the kernel gives it up with the process.

    :param path: of the store; the lock is a file beside it.
    :raises BlockingIOError: another process has it.
    :raises OSError: the folder can't be written.
    """

    def __init__(self, path: str) -> None:
        # One file may have several names; SQLite's journal lies beside the file itself too.
        self._path = f"{os.path.realpath(path)}-lock"
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._lock()
                # Who let go of it has removed it meanwhile, and a third may have made another.
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    return
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(self._descriptor)
                raise
            os.close(self._descriptor)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows, where an open file can't be removed: the file system's own lock does
            import msvcrt

            msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Lets go of it."""
        try:
            os.unlink(self._path)
        except OSError:
            pass
        finally:
            os.close(self._descriptor)
