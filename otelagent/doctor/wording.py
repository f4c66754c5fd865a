"""What the findings have in common in their words: numbers of things, and where a setting is to be set."""

from __future__ import annotations

from collections.abc import Mapping

from otelagent.config.settings import SETTINGS_BY_NAME

__all__ = ["count_text", "setting_text"]

_INIT = "init()"


def count_text(number: int, noun: str) -> str:
    """A number of things: ``1 span``, ``2,000 spans``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def setting_text(sources: Mapping[str, object], name: str, value: str = "", *, destination: str = "") -> str:
    """A setting as it is to be written where it is in force, so that nothing stronger hides what is set.

    :param sources: where each setting came from, by its name: a variable, an option, ``init()``, or a default.
    :param value: what to set; of a variable that says the opposite, `true` or `false` are turned.
    :param destination: the name of the one that it is for, empty for the main one.
    """
    setting, source = SETTINGS_BY_NAME[name], str(sources.get(name, ""))
    general = SETTINGS_BY_NAME[setting.general or name]
    assigned = f"={value}" if value else ""
    if destination:
        where = setting_text(sources, "destinations")
        return f"{general.name}{assigned} for {destination!r} in {where}"
    if source == _INIT:
        return f"init({name}={value!r})" if value else f"init({name}=…)"
    if source in setting.otel and setting.inverted and value:
        return f"{source}={'false' if value == 'true' else 'true'}"
    if source in (setting.variable, setting.option, general.variable, general.option, *setting.otel):
        return source + assigned
    variable = general.otel[-1] if general.otel and not general.inverted else general.variable
    return f"{variable}{assigned} or {general.option}{assigned}"
