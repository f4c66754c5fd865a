"""Everything that is wrong with the settings of an environment; loading them stops at the first."""

from __future__ import annotations

from collections.abc import Mapping

from otelagent.config import load
from otelagent.config.parse import Invalid, parse
from otelagent.config.settings import PREFIX, SETTINGS, SETTINGS_BY_NAME
from otelagent.errors import ConfigError, UnknownSettingError

__all__ = ["faults"]


def faults(environ: Mapping[str, str]) -> tuple[tuple[ConfigError, ...], tuple[str, ...]]:
    """What is wrong, and what is ignored or looks wrong: found by taking out one wrong value after the other.

    What only contradicts a value that was taken out isn't told: that value's correction may settle it.
    """
    left, errors, related = dict(environ), list[ConfigError](), set[str]()
    while True:
        try:
            warnings = load({}, left).warnings
        except ConfigError as error:
            variable = next((one.variable for one in SETTINGS if one.option == error.source), error.source)
            if _subject(error.setting) not in related or _wrong_by_itself(error, variable, left):
                errors.append(error)
            if left.pop(variable, None) is None:
                return tuple(errors), ()
            related.add(_subject(error.setting))
        else:
            return tuple(errors), tuple(
                one for one in warnings if " ignored: " in one or _subject_of(one) not in related
            )


def _subject(name: str) -> str:
    """What settings have in common that may contradict each other: ``sampler`` and ``sampler_arg``."""
    return name.removeprefix("logs_").partition("_")[0]


def _subject_of(warning: str) -> str:
    """Of a warning, which begins with a variable or a setting."""
    name = warning.split("=")[0].split()[0]
    setting = next((one for one in SETTINGS if name in (one.name, one.variable, one.option, *one.otel)), None)
    return "" if setting is None else _subject(setting.name)


def _wrong_by_itself(error: ConfigError, variable: str, environ: Mapping[str, str]) -> bool:
    setting = SETTINGS_BY_NAME.get(error.setting)
    if isinstance(error, UnknownSettingError) or setting is None:
        return True
    try:
        parse(setting, environ.get(variable, ""), spec=not variable.startswith(PREFIX))
    except Invalid:
        return True
    return False
