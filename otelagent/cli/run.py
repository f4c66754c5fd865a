"""``otelagent-run``: becomes a command, in an environment in which every Python interpreter starts otelagent.

The process stays the same one: pid, signals, standard streams and exit code are the command's. Nothing of OpenTelemetry
is imported here; the time this module takes is added to the start of every traced application.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` is made of, without the enumerations: they cost 3 ms
import errno
import os
import sys

from otelagent.bootstrap.interpreter import read_program
from otelagent.bootstrap.start import ANNOUNCED, PYTHON, UNTRACED, with_bootstrap, without_bootstrap
from otelagent.cli.options import UsageError, read_command_line
from otelagent.config import load
from otelagent.config.settings import EXPORTERS, OPTIONS_VARIABLE, REFUSED_VARIABLE, SETTINGS_BY_NAME, VIEWER_VARIABLE
from otelagent.errors import ConfigError
from otelagent.standard_streams import open_missing
from otelagent.version import VERSION

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from otelagent.config import Config

__all__ = ["add_viewer", "main", "traced_environment"]


def main() -> int:
    """The command. Returns only if it could not replace itself.

    :returns: 0 after ``--help`` and ``--version``, 2 for a wrong command line, 126 or 127 as a shell has them.
    """
    # Python ignores these two, and a new program inherits what is ignored: `yes | head` would not end quietly any more.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(_signal, name):
            _signal.signal(getattr(_signal, name), _signal.SIG_DFL)
    open_missing()
    try:
        line = read_command_line(sys.argv[1:])
    except UsageError as error:
        return _refuse(str(error))
    if line.show == "version":
        print(f"otelagent {VERSION}")
        return 0
    if line.show == "help":
        from otelagent.cli.usage import help_text

        print(help_text())
        return 0
    if not line.command:
        from otelagent.cli.usage import USAGE

        return _refuse(f"there is no command to run\n{USAGE}\nsee otelagent-run --help")

    environ = traced_environment(os.environ, line.values)
    try:
        config = load({}, environ)
    except ConfigError as error:
        # Whoever gave the option stands before the terminal. Whoever set the variable may be a deployment away, and an
        # application that doesn't start is worse than one that isn't traced.
        if error.setting in line.values:
            return _refuse(str(error))
        _say(f"{error}; running the command without telemetry")
        environ = _untraced(os.environ)
        environ[REFUSED_VARIABLE] = str(error)
    except Exception as error:
        _say(f"cannot read the configuration ({type(error).__name__}: {error}); running the command without telemetry")
        environ = _untraced(os.environ)
    else:
        if line.ui and (problem := add_viewer(config, environ)):
            return _refuse(problem)
        if not config.quiet:
            _warn_of_isolation(line.command)
    return _become(line.command, environ)


def traced_environment(environ: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a command and its children are traced.

    :param values: of options, by the setting's name.
    """
    result = dict(environ)
    for name, value in values.items():
        result[SETTINGS_BY_NAME[name].variable] = value
    inherited = set(environ.get(OPTIONS_VARIABLE, "").split(","))
    options = sorted((inherited | set(values)) - {""})
    if options:
        result[OPTIONS_VARIABLE] = ",".join(options)
    service = values.get("service_name", "")
    if service.strip():
        # All that other SDKs know of it: a MeterProvider of the application's own, a child of another language.
        result[SETTINGS_BY_NAME["service_name"].otel[0]] = service
    result["PYTHONPATH"] = with_bootstrap(environ.get("PYTHONPATH", ""))
    result[PYTHON] = sys.executable
    # What an otelagent-run around this one has said was about its own command.
    for name in (ANNOUNCED, UNTRACED, REFUSED_VARIABLE):
        result.pop(name, None)
    return result


def add_viewer(config: Config, environ: dict[str, str]) -> str:
    """Has everything sent to a viewer as well. Says what is wrong if there can be none."""
    if not config.enabled:
        _say(f"--ui has nothing to show: enabled is false (from {config.sources['enabled']})")
        return ""
    from otelagent.viewer.process import ViewerError, find_or_start

    try:
        viewer = find_or_start()
    except ViewerError as error:
        return f"--ui: {error}"
    except KeyboardInterrupt:
        return "--ui: interrupted"
    environ[VIEWER_VARIABLE] = viewer.http
    if config.console == "json" and config.quiet:
        return ""  # whoever reads standard error takes JSON; `otelagent ui --status` tells the address
    _say(f"traces on {viewer.address}")
    for signal, exporter in EXPORTERS.items():
        if config.export(signal).exporter == "none" and config.sources[exporter].kind != "default":
            _say(f"no {signal} will be there: {exporter} is none (from {config.sources[exporter]})")
    return ""


def _untraced(environ: Mapping[str, str]) -> dict[str, str]:
    result = dict(environ)
    if "PYTHONPATH" in environ:
        result["PYTHONPATH"] = without_bootstrap(environ["PYTHONPATH"])
    return result


def _become(command: Sequence[str], environ: Mapping[str, str]) -> int:
    program = command[0]
    try:
        _execute(command, environ)
    except FileNotFoundError:
        if os.path.exists(program) and os.sep in program:
            _say(f"{program}: the interpreter named in its first line does not exist")
            return 126
        _say(f"{program}: command not found" + _hint(command))
        return 127
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
            problem = "not a program: no binary for this machine, no script whose first line names its interpreter"
        else:
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        _say(f"{program}: cannot be executed ({problem})" + _hint(command))
        return 126


def _execute(command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    os.execvpe(command[0], list(command), dict(environ))


def _hint(command: Sequence[str]) -> str:
    program = command[0]
    if program.endswith(".py") and os.path.exists(program):
        return f"; try: otelagent-run python {' '.join(command)}"
    return ""


def _warn_of_isolation(command: Sequence[str]) -> None:
    # python, python3, python3.13t, pypy3
    if os.path.basename(command[0]).rstrip("t").rstrip("0123456789.") in ("python", "pypy"):
        for flag in read_program(command[1:]).flags:
            if flag in "IES":
                _say(f"python -{flag} does not look at PYTHONPATH's sitecustomize; {command[0]} runs untraced")
                return


def _say(message: str) -> None:
    try:
        print(f"otelagent-run: {message}", file=sys.stderr, flush=True)
    except OSError:  # a full disk, a descriptor that is open for reading only: no reason not to run the command
        pass


def _refuse(message: str) -> int:
    _say(message)
    return 2


if __name__ == "__main__":
    sys.exit(main())
