"""The options of ``otelagent-run``: one for every setting, read from the table of settings, and ``--ui``.

`argparse` would import twice what the whole command needs otherwise, and would take options out of the command's own
words.
"""

from __future__ import annotations

from otelagent.config.settings import SETTINGS
from otelagent.struct import struct

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelagent.config.settings import Setting

__all__ = ["CommandLine", "UsageError", "read_command_line"]


class UsageError(Exception):
    """The command line is wrong; the message is for the terminal."""


@struct(frozen=True)
class CommandLine:
    """What was asked for.

    :ivar values: by the setting's name, as its environment variable takes it; of a repeated option the last one.
    :ivar command: the command and its arguments.
    :ivar show: ``help`` or ``version`` instead of a command.
    :ivar ui: whether a viewer is wanted.
    """

    values: dict[str, str]
    command: list[str]
    show: str | None = None
    ui: bool = False


def read_command_line(words: Sequence[str]) -> CommandLine:
    """Reads options up to the first word that is none, or to ``--``; everything after belongs to the command.

    :raises UsageError: an unknown option, one without its value, or one with a value it doesn't take.
    """
    options = {setting.option: setting for setting in SETTINGS}
    negations = {"--no-" + setting.option[2:]: setting for setting in SETTINGS if setting.kind == "bool"}
    values: dict[str, str] = {}
    position = 0
    ui = False
    while position < len(words):
        word = words[position]
        if word == "--":
            position += 1
            break
        if not word.startswith("-") or word == "-":
            break
        position += 1
        option, equals, value = word.partition("=")
        if option in ("--help", "-h", "--version") and not equals:
            return CommandLine(values, [], "version" if option == "--version" else "help")
        if option == "--ui":
            if equals:
                raise UsageError(f"{option} takes no value")
            ui = True
        elif option in negations:
            if equals:
                raise UsageError(f"{option} takes no value")
            values[negations[option].name] = "false"
        elif option not in options:
            raise UsageError(_unknown(option, [*options, *negations, "--ui", "--help", "--version"]))
        elif equals:
            values[options[option].name] = value
        elif options[option].kind == "bool":
            values[options[option].name] = "true"
        else:
            values[options[option].name] = _following(options[option], words[position : position + 1])
            position += 1
    return CommandLine(values, list(words[position:]), ui=ui)


def _following(setting: Setting, words: Sequence[str]) -> str:
    # "--service-name --quiet" is a forgotten value; one that really starts with a dash is given with "=".
    if not words or words[0].startswith("--"):
        raise UsageError(f"{setting.option} needs a value: {setting.option}=…")
    return words[0]


def _unknown(option: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(option, known, n=1, cutoff=0.5)
    return f"unknown option {option}" + (f"; did you mean {near[0]}?" if near else "; see otelagent-run --help")
