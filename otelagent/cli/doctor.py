"""``otelagent doctor``: why there are no traces."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from otelagent.cli.options import UsageError, read_command_line
from otelagent.cli.run import add_viewer, traced_environment
from otelagent.config.settings import SETTINGS_BY_NAME
from otelagent.errors import ConfigError

__all__ = ["main"]

USAGE = """\
usage: otelagent doctor [options] [-- command [arguments…]]

Looks at the settings, tries every destination with a span, a log record and a metric, and says what is wrong and what
to do about it. With a command, runs it as otelagent-run does and looks at what becomes of its spans, too.

  --json[=FILE]      the report as JSON: the last line of standard output, or a file
  --ui               sends to the viewer of this machine, too
  --timeout SECONDS  for each thing that is tried [5]
  --for SECONDS      ends the command after that, by SIGTERM; Ctrl-C ends it any time
  --as-is            runs the command without otelagent-run, for one that calls otelagent.init() itself

What the command prints goes where it always does; the report comes after it, on standard error.

Every setting is an option too, as of otelagent-run: --service-name, --endpoint, --headers, …

Exit code: 0 if no check fails, 1 if one does, 2 if they can't be made."""

_DEFAULT_TIMEOUT_S = 5.0


class _Options:
    """The command line, taken apart.

    :raises UsageError: it is wrong.
    """

    def __init__(self, words: Sequence[str]) -> None:
        end = words.index("--") if "--" in words else len(words)
        own, self.command = list(words[:end]), tuple(words[end + 1 :])
        self.json = _take_flag(own, "--json")
        self.json_file = _take_value(own, "--json=")
        self.as_is = _take_flag(own, "--as-is")
        self.for_s = _take_number(own, "--for", None)
        self.timeout_s = _take_number(own, "--timeout", _DEFAULT_TIMEOUT_S) or _DEFAULT_TIMEOUT_S
        if self.command and os.path.basename(self.command[0]) == "otelagent-run":
            inner = read_command_line(self.command[1:])
            own += [f"{SETTINGS_BY_NAME[name].option}={value}" for name, value in inner.values.items()]
            own += ["--ui"] if inner.ui else []
            self.command = tuple(inner.command)
        line = read_command_line(own)
        self.help = line.show == "help"
        self.ui = line.ui
        self.settings = line.values
        if line.command:
            raise UsageError(f"a command comes after --: otelagent doctor -- {' '.join(line.command)}")


def main(arguments: Sequence[str]) -> int:
    """The command.

    :returns: 0 if no check fails, 1 if one does, 2 for a wrong command line.
    """
    try:
        options = _Options(arguments)
    except UsageError as error:
        print(f"otelagent doctor: {error}\nsee otelagent doctor --help", file=sys.stderr)
        return 2
    if options.help:
        print(USAGE)
        return 0
    # What delivery would say about its tries, the report says.
    logging.getLogger("otelagent").setLevel(logging.CRITICAL + 1)
    from otelagent.config import load
    from otelagent.doctor.examine import examine_command, examine_destinations, examine_setup
    from otelagent.doctor.faults import faults
    from otelagent.doctor.report import as_json, as_text
    from otelagent.doctor.setup import Setup

    environ = traced_environment(os.environ, options.settings)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC would print of a failure, too; not the command's
    try:
        config = load({}, environ)
        if options.ui:
            if problem := add_viewer(config, environ):
                print(f"otelagent doctor: {problem}", file=sys.stderr)
                return 2
            config = load({}, environ)
        setup = Setup(config, (), config.warnings, environ, options.command, options.timeout_s)
    except ConfigError:
        setup = Setup(None, *faults(environ), environ, options.command, options.timeout_s)
    results = [*examine_setup(setup), *examine_destinations(setup)]
    rows: list[dict[str, Any]] = []
    if options.command and setup.config is None:
        results += examine_command(None)
    elif options.command:
        from otelagent.doctor.application import ledger
        from otelagent.doctor.observe import observe

        try:
            seen = observe(options.command, environ, for_s=options.for_s, as_is=options.as_is)
        except OSError as error:
            print(f"otelagent doctor: {options.command[0]}: {error.strerror or error}", file=sys.stderr)
            return 2
        results += examine_command(seen, results)
        rows = ledger(seen)
    if options.json or options.json_file:
        settings = [] if setup.config is None else setup.config.describe()
        told = [{"name": name, "value": value, "source": source} for name, value, source in settings]
        text = json.dumps(as_json(results, settings=told, ledger=rows), ensure_ascii=False) + "\n"
        if options.json_file:
            with open(options.json_file, "w", encoding="utf-8") as file:
                file.write(text)
        else:
            sys.stdout.write(text)
    if not options.json:
        stream = sys.stderr if options.command else sys.stdout
        width = shutil.get_terminal_size((100, 24)).columns
        print(as_text(results, colour=_coloured(stream), width=width, ledger=rows), file=stream)
    return int(any(result.status == "fail" for result in results))


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _take_flag(words: list[str], name: str) -> bool:
    found = name in words
    words[:] = [word for word in words if word != name]
    return found


def _take_value(words: list[str], prefix: str) -> str:
    found = [word for word in words if word.startswith(prefix)]
    words[:] = [word for word in words if not word.startswith(prefix)]
    return found[-1].removeprefix(prefix) if found else ""


def _take_number(words: list[str], name: str, default: float | None) -> float | None:
    """The value of an option that is a number of seconds; of a repeated one the last."""
    found = default
    position = 0
    while position < len(words):
        option, equals, value = words[position].partition("=")
        if option != name:
            position += 1
            continue
        text = value if equals else "".join(words[position + 1 : position + 2])
        del words[position : position + (1 if equals else 2)]
        try:
            found = float(text)
        except ValueError:
            found = 0.0
        if not 0 < found < 1e6:
            raise UsageError(f"{name} needs a number of seconds")
    return found
