"""Worker processes of other libraries, which end and are told to end in ways of their own.

The watch of the day (`otelagent.process`) is asked for when it is needed: what is registered here stays for the life
of the process, because nothing of it but replaced methods can be taken back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from otelagent.forks import catch_up, choose_heir
from otelagent.import_hooks import when_imported
from otelagent.threads import Thread, hold_back

if TYPE_CHECKING:
    from otelagent.process import ProcessWatch

__all__ = ["hook", "put", "restore"]

# Among multiprocessing's finalizers, high numbers run first: ours is the last.
_LAST = -(2**31)

# Whose workers are terminated while they wait for a lock of the pool.
_POOLS = frozenset(("multiprocessing.pool", "concurrent.futures.process"))

# (class, method's name, ours, the original)
_patched: list[tuple[Any, str, Any, Any]] = []


def _nobody() -> ProcessWatch | None:
    return None


_current: Callable[[], ProcessWatch | None] = _nobody


def hook(current: Callable[[], ProcessWatch | None]) -> None:
    """Registers with the libraries that are imported, and with each other one when it is. Once.

    :param current: the watch of the day.
    """
    global _current
    _current = current
    for name, register in _HOOKS.items():
        when_imported(name, register)
    if _runs_in_uwsgi():
        _expect_uwsgi()


def put() -> None:
    """Puts our methods where the originals are."""
    for owner, name, ours, original in _patched:
        if getattr(owner, name) is original:
            setattr(owner, name, ours)


def restore() -> None:
    """Puts the originals back where nobody has replaced ours."""
    for owner, name, ours, original in _patched:
        if getattr(owner, name) is ours:
            setattr(owner, name, original)


def _finish() -> None:
    watch = _current()
    if watch is not None:
        watch.finish()


def _patch(owner: Any, name: str, ours: Any) -> None:
    """Replaces a method while there is a watch that isn't stopped."""
    _patched.append((owner, name, ours, getattr(owner, name)))
    watch = _current()
    if watch is not None and not watch.stopped:
        setattr(owner, name, ours)


def _finish_in_children_of(util: Any) -> None:
    """Has the children of multiprocessing (or billiard) deliver before they end by ``os._exit``.

    :param util: ``multiprocessing.util``. A child forgets its parent's finalizers, then runs the hooks for after a
        fork, whether it was forked or spawned; there the finalizer is registered anew.
    """
    util.register_after_fork(util, _finish_at_end_of_child)
    parent_process = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    if util.__name__.startswith("multiprocessing.") and parent_process is not None and parent_process() is not None:
        _finish_at_end_of_child(util)  # the child's own code started the agent, after those hooks


def _finish_at_end_of_child(util: Any) -> None:
    util.Finalize(None, _finish, exitpriority=_LAST)
    _handle_sigterm_of_pools()


def _handle_sigterm_of_pools() -> None:
    """In a worker of a pool, has SIGTERM noticed whatever lock it sleeps on."""
    process = getattr(sys.modules.get("multiprocessing.process"), "current_process", None)
    target = getattr(process() if process is not None else None, "_target", None)
    watch = _current()
    if watch is not None and getattr(target, "__module__", None) in _POOLS:
        watch.handle_sigterm_in_thread()


def _handle_sigterm_in_spawned_children_of(context: ModuleType) -> None:
    """The hooks for after a fork aren't run in children that are spawned. They end as every interpreter does, so that
    this is all that is left to do.

    :param context: ``multiprocessing.context``.
    """
    process: Any = getattr(context, "SpawnProcess", None)
    original = vars(process).get("_after_fork") if process is not None else None
    if not isinstance(original, staticmethod):
        return

    def _after_fork() -> None:
        original.__func__()
        _handle_sigterm_of_pools()

    process._after_fork = staticmethod(_after_fork)


def _finish_in_pool_workers_of(pool: ModuleType) -> None:
    """Has the workers of Celery's prefork pool deliver: they end by ``os._exit`` before any finalizer."""
    worker: Any = getattr(pool, "Worker", None)
    end = getattr(worker, "_do_exit", None)
    if end is None:
        return

    def _do_exit(self: Any, *arguments: Any, **keywords: Any) -> Any:
        on_exit = self.on_exit

        def then_finish(*arguments: Any, **keywords: Any) -> None:
            try:
                if on_exit is not None:
                    on_exit(*arguments, **keywords)  # Celery's worker_process_shutdown: may still end spans
            finally:
                _finish()

        self.on_exit = then_finish
        return end(self, *arguments, **keywords)

    _patch(worker, "_do_exit", _do_exit)


def _handle_signals_in_workers_of(base: ModuleType) -> None:
    """Has the workers of gunicorn that leave their signals at the default deliver when one kills them.

    uvicorn's worker class resets all of them; the server in it then puts back what it found and raises the signal
    again.
    """
    worker: Any = getattr(base, "Worker", None)
    load_wsgi = getattr(worker, "load_wsgi", None)
    if load_wsgi is None:
        return

    def load(self: Any) -> Any:  # the first step of every worker after it has set its signals
        watch = _current()
        if watch is not None:
            watch.handle_signals()
        return load_wsgi(self)

    _patch(worker, "load_wsgi", load)


class _Uwsgi(ModuleType):
    """The module `uwsgi`. uWSGI calls its `post_fork_hook` in each worker; whoever sets it has it called after ours."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "post_fork_hook":

            def start_over(then: Callable[[], object] | None = value) -> None:
                try:
                    _start_over(self)
                finally:
                    if then is not None:
                        then()

            value = start_over
        super().__setattr__(name, value)


def _start_over_in_workers_of(uwsgi: Any) -> None:
    """Has the workers of uWSGI start over after the fork, which Python isn't told of.

    A thread that waits for the interpreter's lock at such a fork would stop the worker for ever: it has asked for the
    lock, and whoever lets go of it in the worker waits until it has come. So there is none in the master, which uWSGI
    ends past every hook, too: what it has recorded while it loaded the application, the first worker delivers.
    """
    if not hasattr(uwsgi, "worker_id") or uwsgi.worker_id() == 0:
        # The first to read it is the heir; who comes in its place one day finds nothing.
        token, write_end = os.pipe()
        os.write(write_end, b"1")
        os.close(write_end)
        choose_heir(lambda: bool(os.read(token, 1)))
        hold_back("uWSGI has not forked yet")
    uwsgi.__class__ = _Uwsgi
    uwsgi.post_fork_hook = getattr(uwsgi, "post_fork_hook", None)


def _start_over(uwsgi: Any) -> None:
    hold_back("")
    catch_up()
    options = getattr(uwsgi, "opt", {})
    if uwsgi.worker_id() == 1 and "enable-threads" not in options and "threads" not in options:
        try:
            # Not here: the worker has its signal handlers already, and what one raises here would be lost.
            Thread(_tell_of_missing_threads, "otelagent-notice").start()
        except RuntimeError:
            pass


def _tell_of_missing_threads() -> None:
    import logging

    logging.getLogger("otelagent").warning(
        "otelagent: uWSGI runs without --enable-threads: telemetry is sent while requests are handled, and when a"
        " worker ends, but not between"
    )


def _expect_uwsgi(_: object = None) -> None:
    """Hooks into uWSGI before it is there: it fills the module that it finds under its name, past the import system,
    and with lazy applications it forks before it runs any other code."""
    if "uwsgi" not in sys.modules:
        sys.modules["uwsgi"] = ModuleType("uwsgi")
        _start_over_in_workers_of(sys.modules["uwsgi"])


def _runs_in_uwsgi() -> bool:
    """Whether this is uWSGI: its own program, which has an interpreter in it, or a script of the package pyuwsgi.

    To know it when the script imports pyuwsgi would be too late: a thread of ours might run by then, and still wait for
    the interpreter's lock when uWSGI forks.
    """
    if sys.orig_argv:
        script = next((argument for argument in sys.orig_argv[1:] if not argument.startswith("-")), "")
        if os.path.basename(script) not in _PYUWSGI_SCRIPTS:
            return False
        from importlib.util import find_spec

        return find_spec("pyuwsgi") is not None
    try:
        return os.path.basename(os.readlink("/proc/self/exe")).startswith("uwsgi")
    except OSError:  # not Linux
        return False


_PYUWSGI_SCRIPTS = frozenset({"uwsgi", "pyuwsgi"})

_HOOKS: dict[str, Callable[[Any], None]] = {
    "multiprocessing.util": _finish_in_children_of,
    "multiprocessing.context": _handle_sigterm_in_spawned_children_of,
    "billiard.util": _finish_in_children_of,
    "billiard.pool": _finish_in_pool_workers_of,
    "gunicorn.workers.base": _handle_signals_in_workers_of,
    "pyuwsgi": _expect_uwsgi,
    "uwsgi": _start_over_in_workers_of,
}
