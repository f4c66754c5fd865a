"""What runs in this process: the program's name from its command line, the container's id from the kernel's tables."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

__all__ = ["PARENT_VARIABLE", "container_id", "program_name"]

PARENT_VARIABLE = "OTELAGENT_INTERNAL_PROGRAM"
"""The environment variable by which a process's workers know what their program is called."""

# Patterns are compiled at their first use, which most processes never come to.
# Of the interpreter's one-letter options, which may be written in one word (`-Im`), those that take an argument.
_OPTION_WITH_ARGUMENT = r"(?s)-[^cmWX]*([cmWX])(.*)"

# Programs that only carry an application; the application is what the service should be called after.
_CARRIERS = frozenset(
    {"gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress", "celery", "flask"}
)
# A new interpreter that does its parent's work: a part of the same program.
_WORKER_CODE = r"from (?:multiprocessing|billiard)\.(?:spawn|forkserver) import "
_WORKER_MODULE = "loky.backend.popen_loky_posix"
_APPLICATION = r"([A-Za-z_][\w.]*):[A-Za-z_][\w.]*(?:\(\))?"
_NOT_AN_APPLICATION = frozenset({"unix", "fd", "http", "https", "localhost"})

_ID_LENGTH = 64
_HEX_ID = rf"[0-9a-f]{{{_ID_LENGTH}}}"
# cgroup v1, and v2 without a cgroup namespace: the last part of the path is the id, perhaps dressed by the runtime:
# /docker/<id>, /kubepods/burstable/pod<uid>/<id>, /system.slice/docker-<id>.scope, .../cri-containerd-<id>.scope
_IN_CGROUP = rf"(?m)/(?:[^/\n]*[-:])?({_HEX_ID})(?:\.scope)?$"
# cgroup v2 in a namespace hides the path; the runtime's bind mounts of /etc/hostname and its like still name the id.
_IN_MOUNTINFO = rf"/(?:overlay-)?containers/({_HEX_ID})/"


def program_name(orig_argv: Sequence[str], argv: Sequence[str], parent: str | None = None) -> str | None:
    """Names the program: what a user would call the service if asked.

    - `python app.py`, `python /srv/app/` → `app`; `__main__.py` is called after its folder
    - `python -m shop.web` → `shop.web`
    - a console script → its name; a known application server → the module of the application it was given, for example
      `gunicorn shop.wsgi:app` → `shop.wsgi`
    - a worker that multiprocessing has spawned (or billiard, loky) and its fork server → the program that they work for
    - `python -c …`, an interactive interpreter → None

    :param orig_argv: `sys.orig_argv`: the interpreter's own arguments included.
    :param argv: `sys.argv`, which an embedding server (uWSGI) fills; multiprocessing does before it imports the
        application.
    :param parent: what the program is called that has started this process, if it has said so.
    """
    words = list(orig_argv[1:])
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            return _carried(_script(word), words)
        if word in ("-", "--check-hash-based-pycs"):
            if word == "-":
                break
            del words[:1]
        option = None if word.startswith("--") else re.match(_OPTION_WITH_ARGUMENT, word)
        if option is None:
            continue
        letter, argument = option.groups()
        if not argument and words:
            argument = words.pop(0)
        if letter == "c":
            if parent and re.match(_WORKER_CODE, argument):
                return parent
            break
        if letter == "m":
            if parent and argument.endswith(_WORKER_MODULE):
                return parent
            return _carried(argument.removesuffix(".__main__"), words)
    if argv and argv[0] and not argv[0].startswith("-"):
        return _carried(_script(argv[0]), argv[1:])
    return None


def _script(path: str) -> str | None:
    stem = os.path.basename(path.rstrip("/\\"))
    for suffix in (".py", ".pyc", ".pyz", ".exe"):
        stem = stem.removesuffix(suffix)
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return stem or None


def _carried(program: str | None, arguments: Sequence[str]) -> str | None:
    if program not in _CARRIERS:
        return program or None
    for position, word in enumerate(arguments):
        option, _, argument = word.partition("=")
        if option in ("-A", "--app"):
            argument = argument or "".join(arguments[position + 1 : position + 2])
            return argument.partition(":")[0] or program
        match = re.fullmatch(_APPLICATION, word)
        if match and match[1] not in _NOT_AN_APPLICATION:
            return match[1]
    return program


def container_id(cgroup: str = "/proc/self/cgroup", mountinfo: str = "/proc/self/mountinfo") -> str | None:
    """The id of the container this process runs in, or None outside of one and where the kernel doesn't tell.

    :param cgroup: the process's cgroups (v1 names the container there).
    :param mountinfo: the process's mounts (v2 needs them).
    """
    for path, pattern in ((cgroup, _IN_CGROUP), (mountinfo, _IN_MOUNTINFO)):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(1 << 20)
        except OSError:
            continue
        # Outside of a container nothing in there is as long as an id, and the patterns needn't be compiled.
        if max(map(len, text.split("/"))) >= _ID_LENGTH and (match := re.search(pattern, text)):
            return match[1]
    return None
