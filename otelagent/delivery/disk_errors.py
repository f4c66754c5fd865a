"""What a person is told when a file or a directory refuses: which one, why, and what helps."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

__all__ = ["explain", "token"]

_RIGHTS = "let this user write there"
_REMEDIES: Mapping[int, str] = {
    errno.ENOENT: "make the directory {directory}",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "mount it writable",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
}


def explain(error: OSError, path: str, setting: str) -> str:
    """The error in one line, with the path and what to do about it.

    :param path: the file or directory that was asked for; shown absolute.
    :param setting: the setting that names another one.
    """
    path = os.path.abspath(path)
    remedy = _REMEDIES.get(error.errno or 0, "").format(directory=os.path.dirname(path))
    other = f"set {setting} to another place"
    what = error.strerror or str(error)
    return f"{path}: {what} ({remedy}, or {other})" if remedy else f"{path}: {what} ({other})"


def token(kind: str, error: OSError) -> str:
    """The reason for the ledger, such as ``file_enoent``.

    :param kind: what refused: ``file`` or ``spool``.
    """
    return f"{kind}_{errno.errorcode.get(error.errno or 0, 'error').lower()}"
