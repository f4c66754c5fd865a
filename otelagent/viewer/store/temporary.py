"""The place of a temporary store: it goes with its viewer, or with the next one if that was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from glob import escape, glob

from otelagent.viewer.store.owner import Owner

__all__ = ["TemporaryPlace"]

_PREFIX = "otelagent-ui-"
_FILE = "traces.db"


class TemporaryPlace:
    """A new directory, of this user alone.

    :ivar path: of the store in it.
    :ivar owner: holds that.
    :raises OSError: it can't be made.
    """

    def __init__(self) -> None:
        _remove_left_behind()
        while True:
            self._directory = tempfile.mkdtemp(prefix=_PREFIX)
            self.path = os.path.join(self._directory, _FILE)
            # Another viewer that starts may have taken it for one that was left: the lock wasn't held yet.
            with suppress(BlockingIOError, FileNotFoundError):
                self.owner = Owner(self.path)
                return

    def remove(self) -> None:
        """Removes it with all that is in it; its owner has let go of it."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _remove_left_behind() -> None:
    for directory in glob(os.path.join(escape(tempfile.gettempdir()), f"{_PREFIX}*")):
        # Whoever lives there holds the lock, whatever its process id is: containers may share the directory.
        with suppress(OSError):
            mine = not hasattr(os, "geteuid") or os.lstat(directory).st_uid == os.geteuid()
            path = os.path.join(directory, _FILE)
            if mine and not os.path.islink(directory) and os.path.exists(f"{path}-lock"):
                owner = Owner(path)
                shutil.rmtree(directory, ignore_errors=True)
                owner.release()
