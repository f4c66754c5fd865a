"""The help of ``otelagent-run``, written from the table of settings."""

from __future__ import annotations

import re
from itertools import groupby
from textwrap import fill

from otelagent.config.mask import display
from otelagent.config.settings import SETTINGS, Setting

__all__ = ["USAGE", "help_text"]

USAGE = "usage: otelagent-run [options] command [arguments…]"

_INTRODUCTION = """\
Runs a command with OpenTelemetry tracing in it and in every Python process it starts.

  otelagent-run --ui python app.py
  otelagent-run --console=tree python app.py
  otelagent-run --service-name shop uvicorn shop:app --workers 4
  otelagent-run --exporter console gunicorn shop.wsgi

Options end at the first word that is none, or at "--". An option is the same setting as the variable named with it and
goes before it. Times are in milliseconds. Every on-off option has its opposite, as in --no-quiet."""

_LIMITS = """\
Python finds otelagent through PYTHONPATH. These run untraced: python -I, -E and -S, a process started without its
parent's environment (sudo, env -i), and an interpreter of another environment that otelagent isn't installed in.

Exit codes: the command's own; 2 for a wrong option, 126 if the command can't be executed, 127 if there is none. A wrong
variable is reported and the command runs untraced: telemetry keeps no application from starting."""

_MORE = """\
Also: --help (-h), --version, and

  --ui
        Shows the traces in the browser: finds your viewer or starts one in the background, prints its address and sends
        everything there, beside an endpoint that is set. `otelagent ui --stop` ends it."""

_TITLES = {
    "": "Agent",
    "service": "Service",
    "traces": "Traces",
    "otlp": "OTLP exporter",
    "batch": "Batches of spans",
    "queue": "Queue of the destination",
    "spool": "Spool on disk",
    "retry": "Retries",
    "limits": "Limits of one span",
    "instrumentation": "Instrumentation",
}
_METAVARIABLES = {
    "int": "NUMBER",
    "ratio": "0..1",
    "attributes": "KEY=VALUE,…",
    "headers": "NAME=VALUE,…",
    "endpoint": "URL",
    "certificate": "FILE",
    "names": "NAME,…",
    "patterns": "PATTERN,…",
}
_WIDTH = 100


def help_text() -> str:
    """Every option by section, with default, unit and variables."""

    def section(setting: Setting) -> str:
        head, dot, _ = setting.path.partition(".")
        return head if dot else ""

    # Sections in the order of the titles, settings in the table's.
    order = {name: position for position, name in enumerate(_TITLES)}
    settings = sorted(SETTINGS, key=lambda setting: order.get(section(setting), len(order)))
    sections = [
        f"{_TITLES.get(name, name.capitalize())}:\n\n" + "\n".join(map(_option, group))
        for name, group in groupby(settings, section)
    ]
    return "\n\n".join([USAGE, _INTRODUCTION, *sections, _MORE, _LIMITS])


def _option(setting: Setting) -> str:
    default = _plain(setting.default_text) or display(setting.kind, setting.default)
    if setting.unit and setting.default is not None:
        default += f" {setting.unit}"
    variables = ", ".join((setting.variable, *setting.otel))
    choices = f" One of: {', '.join(setting.choices)}." if setting.choices else ""
    return "\n".join(
        (
            f"  {setting.option}{_metavariable(setting)}",
            _indented(_plain(setting.help) + choices),
            _indented(f"[default: {default}; {variables}]"),
        )
    )


def _plain(markdown: str) -> str:
    """A text of the table as a terminal shows it: a link as its title."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown.replace("`", ""))


def _metavariable(setting: Setting) -> str:
    if setting.kind == "bool":
        return ""
    if setting.kind == "choice":
        return " " + "|".join(setting.choices) if len(setting.choices) <= 4 else " NAME"
    if setting.kind == "choices":
        return " NAME,…"
    return " " + _METAVARIABLES.get(setting.kind, "TEXT")


def _indented(text: str) -> str:
    margin = " " * 8
    return fill(
        text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
