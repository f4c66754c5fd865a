"""What the viewers of one user know of each other: a file for each that runs, which says where it is.

The directory is of the user alone (0700), each file too (0600): the token is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

__all__ = ["State", "ViewerError", "directories", "lock", "log_path", "read_all", "remove", "usable_directory", "write"]

_MAX_BYTES = 4096
_LOCK_EVERY_S = 0.05


class ViewerError(RuntimeError):
    """There is no viewer, and none can be started; the exception's text says why and what to do."""


@dataclass(frozen=True)
class State:
    """One viewer.

    :ivar port: of the page and of OTLP/HTTP.
    :ivar grpc: the port of OTLP/gRPC; None where it isn't taken.
    :ivar token: what the page and scripts show.
    :ivar host: the machine's name: a home directory may be on several.
    :ivar started: seconds since the epoch.
    """

    pid: int
    port: int
    grpc: int | None
    token: str
    host: str
    started: float

    @property
    def http(self) -> str:
        """Where OTLP/HTTP is taken."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Of the page, for the one who may see it."""
        return f"{self.http}/?token={self.token}"


def directories() -> list[str]:
    """Where the files may be, the preferred place first."""
    found = []
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        found.append(os.path.join(runtime, "otelagent"))
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return [path for path in [*found, os.path.join(state, "otelagent", "viewer")] if os.path.isabs(path)]


def usable_directory() -> str:
    """The first of them that is there or can be made, and is this user's own.

    :raises ViewerError: there is none.
    """
    problems = []
    for path in directories():
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            _check(path)
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
        else:
            return path
    told = "; ".join(problems) or "neither XDG_RUNTIME_DIR, XDG_STATE_HOME nor a home directory is set"
    raise ViewerError(f"there is no directory for the viewer's state ({told})")


def _check(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(0, "it is no directory")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise PermissionError(0, "it is another user's")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def write(state: State) -> str:
    """Makes the file, whole or not at all.

    :returns: its path.
    :raises OSError: it can't be written.
    :raises ViewerError: there is no place for it.
    """
    path = os.path.join(usable_directory(), f"{state.port}.json")
    unfinished = f"{path}.{state.pid}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with open(descriptor, "w") as file:
        json.dump(asdict(state), file)
    os.replace(unfinished, path)
    return path


def read_all() -> list[tuple[str, State]]:
    """The files there are, with their paths; the lowest port first."""
    found = []
    for directory in directories():
        try:
            _check(directory)
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            stem, dot, kind = name.partition(".")
            if dot and kind == "json" and stem.isdecimal() and (state := _read(os.path.join(directory, name))):
                found.append((os.path.join(directory, name), state))
    return sorted(found, key=lambda one: one[1].port)


def _read(path: str) -> State | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor) as file:
            state = State(**json.loads(file.read(_MAX_BYTES)))
        right = all(type(getattr(state, name)) is int for name in ("pid", "port")) and isinstance(state.token, str)
    except (OSError, ValueError, TypeError):
        return None
    return state if right and state.pid > 0 and state.token.isascii() else None


def remove(path: str, state: State) -> None:
    """Takes the file away, unless another viewer has put its own there since."""
    if _read(path) == state:
        with contextlib.suppress(OSError):
            os.unlink(path)


def log_path(directory: str) -> str:
    """The file that a viewer in the background writes to."""
    return os.path.join(directory, "viewer.log")


@contextlib.contextmanager
def lock(directory: str, timeout_s: float) -> Iterator[None]:
    """Held while a viewer is started, so that two who start one at once end with one.

    :raises ViewerError: another has held it all the time.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two may end with two then, on two ports
        yield
        return
    descriptor = os.open(os.path.join(directory, "start.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise ViewerError(f"another program has been starting a viewer for {timeout_s:.0f} s") from None
                time.sleep(_LOCK_EVERY_S)
        yield
    finally:
        os.close(descriptor)
