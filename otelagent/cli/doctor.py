"""``otelagent doctor``: why there are no traces."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from otelagent.cli.options import UsageError, read_command_line
from otelagent.cli.run import traced_environment
from otelagent.errors import ConfigError

__all__ = ["main"]

USAGE = """\
usage: otelagent doctor [options] [-- command [arguments…]]

Looks at the settings, tries every destination with a span, a log record and a metric, and says what is wrong and what
to do about it. With a command, runs it as otelagent-run does and looks at what becomes of its spans, too.

  --json            the report as JSON on standard output
  --timeout SECONDS for each thing that is tried [5]

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
        self.timeout_s = _take_number(own, "--timeout", _DEFAULT_TIMEOUT_S)
        line = read_command_line(own)
        self.help = line.show == "help"
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
    from otelagent.doctor.examine import examine_destinations, examine_setup
    from otelagent.doctor.report import as_json, as_text
    from otelagent.doctor.setup import Setup

    environ = traced_environment(os.environ, options.settings)
    try:
        setup = Setup(load({}, environ), None, environ, options.command, options.timeout_s)
    except ConfigError as error:
        setup = Setup(None, error, environ, options.command, options.timeout_s)
    results = [*examine_setup(setup), *examine_destinations(setup)]
    if options.json:
        settings = [] if setup.config is None else setup.config.describe()
        told = [{"name": name, "value": value, "source": source} for name, value, source in settings]
        print(json.dumps(as_json(results, settings=told), ensure_ascii=False))
    else:
        print(as_text(results, colour=_coloured(sys.stdout), width=shutil.get_terminal_size((100, 24)).columns))
    return int(any(result.status == "fail" for result in results))


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _take_flag(words: list[str], name: str) -> bool:
    found = name in words
    words[:] = [word for word in words if word != name]
    return found


def _take_number(words: list[str], name: str, default: float) -> float:
    for position, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option != name:
            continue
        text = value if equals else words[position + 1] if position + 1 < len(words) else ""
        del words[position : position + (1 if equals else 2)]
        try:
            number = float(text)
        except ValueError:
            number = 0.0
        if not 0 < number < 1e6:
            raise UsageError(f"{name} needs a number of seconds")
        return number
    return default
