"""Destinations beside the main one: each is given as the main one is, and means the same.

Imported where there are any.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from otelagent.config.load import KEYWORD, load
from otelagent.config.mask import is_mapping, quoted
from otelagent.config.model import CONSOLE, NamedDestination, Source
from otelagent.config.parse import Invalid, parse, suggest
from otelagent.config.settings import EXPORTERS, SETTINGS, Setting
from otelagent.errors import ConfigError, UnknownSettingError

__all__ = ["resolve_destinations"]

_NAME = r"[a-z0-9_-]{1,32}"

# What is the main destination's own, under its name there: a row that the table gets is a key here.
_OTLP = tuple(setting.name for setting in SETTINGS if setting.path.startswith("otlp."))
_SIGNALS = Setting(
    "signals", "signals", "choices", "Which signals go there.", tuple(EXPORTERS), choices=tuple(EXPORTERS)
)
_OWN = (*_OTLP, "routes")
_KEYS = (*_OWN, _SIGNALS.name)


def resolve_destinations(
    given: Mapping[object, object], source: Source, off: Collection[str]
) -> tuple[tuple[NamedDestination, ...], list[str]]:
    """The destinations, and what looks wrong with them, one sentence each.

    Nothing is inherited from the main destination: its headers and certificates are for it alone.

    :param given: by name.
    :param source: where they were given.
    :param off: signals that are not exported at all.
    :raises ConfigError: a name or a value is wrong; it names the destination and its key.
    """
    found, warnings = [], []
    for name, values in given.items():
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            problem = "a destination's name must be 1 to 32 of the characters a-z, 0-9, _ and -"
            raise ConfigError("destinations", quoted("text", name), source.name, problem)
        if name == CONSOLE:
            problem = "is the name of what the setting console shows"
            raise ConfigError("destinations", quoted("text", name), source.name, problem)
        if not is_mapping(values):
            raise ConfigError(f"destinations.{name}", "***", source.name, "must be a mapping of its settings")
        destination, its_warnings = _resolve(name, values, source)
        found.append(destination)
        warnings += [
            f"destinations.{name}: {one.removeprefix('logs_').replace(KEYWORD, source.name)}" for one in its_warnings
        ]
        if values.get(_SIGNALS.name) is not None:
            warnings += [
                f"destinations.{name}: no {signal} go there, for {EXPORTERS[signal]} is none"
                for signal in destination.otlp
                if signal in off
            ]
    return tuple(found), warnings


def _resolve(name: str, values: Mapping[object, object], source: Source) -> tuple[NamedDestination, tuple[str, ...]]:
    prefix = f"destinations.{name}."
    for key in values:
        if key not in _KEYS:
            nearest = suggest(str(key).lower(), _KEYS)
            hint = f"did you mean {nearest}?" if nearest else f"it takes {', '.join(_KEYS)}"
            raise UnknownSettingError(f"{prefix}{key}", source.name, hint)
    if values.get("endpoint") is None:
        raise ConfigError(f"{prefix}endpoint", None, source.name, "has to be given")
    signals = _signals(values.get(_SIGNALS.name), prefix, source)
    settings = {key: values[key] for key in _OWN if key in values}
    exporters = {exporter: "otlp" if signal in signals else "none" for signal, exporter in EXPORTERS.items()}
    try:
        config = load({**settings, **exporters}, {})
    except ConfigError as error:
        key = error.setting.removeprefix("logs_")
        raise ConfigError(prefix + key, error.value, source.name, error.problem, error.hint) from None
    otlp = {signal: config.export(signal).otlp for signal in signals}
    return NamedDestination(name=name, otlp=MappingProxyType(otlp), routes=config.routes), config.warnings


def _signals(value: object, prefix: str, source: Source) -> tuple[str, ...]:
    if value is None:
        return tuple(EXPORTERS)
    try:
        signals = parse(_SIGNALS, value, spec=False).value
        if not signals:
            raise Invalid("must name one at least", f"leave it out for {' and '.join(EXPORTERS)}")
    except Invalid as error:
        shown = quoted(_SIGNALS.kind, value)
        raise ConfigError(f"{prefix}signals", shown, source.name, error.problem, error.hint) from None
    assert isinstance(signals, tuple)
    return signals
