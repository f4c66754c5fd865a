"""Every error that otelagent raises on purpose. Telemetry trouble is never one of them: it is counted and logged."""

from __future__ import annotations

__all__ = ["ConfigError", "OtelAgentError"]


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
