"""Late imports, kept whole across forks.

The threads that encode and export import their libraries when they first need them. A fork in the middle of such an
import would leave its child a half-made module and a lock that nobody releases, so that the child could never import
it, not even for itself. A fork therefore waits until the import is over.
"""

from __future__ import annotations

# Imported for its order: at a fork the hooks that were registered first are the last to hold their locks. logging holds
# one too, that many an import needs; a fork that held it would wait here for an import that waits for it.
import logging as _  # noqa: F401
from collections.abc import Iterator
from contextlib import contextmanager

from otelagent.forks import at_fork
from otelagent.threads import RLock

__all__ = ["whole_imports"]

# The longest that a fork waits, seconds. The largest import, gRPC's, takes some hundred milliseconds.
_FORK_WAIT_S = 1.0

# Reentrant for a fork in a signal handler, which may run in the thread that imports.
_lock = RLock()
_held_for_fork = False


@contextmanager
def whole_imports() -> Iterator[None]:
    """Every import that a thread of ours may make after start-up happens inside of this."""
    with _lock:
        yield


def _before_fork() -> None:
    global _held_for_fork
    _held_for_fork = _lock.acquire(timeout=_FORK_WAIT_S)


def _after_fork_in_parent() -> None:
    if _held_for_fork:
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()


at_fork(before=_before_fork, in_parent=_after_fork_in_parent, in_child=_after_fork_in_child)
