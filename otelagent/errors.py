"""Every error that otelagent raises on purpose. Telemetry trouble is never one of them: it is counted and logged."""

from __future__ import annotations

__all__ = ["ConfigError", "OtelAgentError", "UnknownSettingError"]


class OtelAgentError(Exception):
    """The root of otelagent's own errors."""


class ConfigError(OtelAgentError):
    """A setting is wrong.

    :param setting: the setting's name, as `otelagent.init()` takes it.
    :param value: what was given; the caller masks it when the setting is a secret.
    :param source: where it came from: ``init()``, an environment variable's name, or a command-line option.
    :param problem: what is wrong with it.
    :param hint: what to do, with the nearest valid value or name where there is one.
    """

    def __init__(self, setting: str, value: object, source: str, problem: str, hint: str = "") -> None:
        self.setting = setting
        self.value = value
        self.source = source
        self.problem = problem
        self.hint = hint
        super().__init__(f"{setting} = {value!r} (from {source}): {problem}" + (f"; {hint}" if hint else ""))


class UnknownSettingError(ConfigError):
    """A name that is no setting's. What was given for it is never shown: it may be a secret under a misspelled name.

    :param name: as it was written: a keyword, an option or an environment variable.
    :param source: where it came from.
    :param hint: the nearest name, or where to find them all.
    """

    def __init__(self, name: str, source: str, hint: str) -> None:
        super().__init__(name, "***", source, "there is no such setting", hint)
        self.args = (
            f"{name} (from {source}): {self.problem}; {hint}" if name != source else f"{name}: {self.problem}; {hint}",
        )
