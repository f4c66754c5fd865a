"""What was asked for: the settings, where each comes from, and what looks wrong before anything is tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from otelagent.config import Config
from otelagent.doctor.check import Check, Finding
from otelagent.doctor.wording import setting_text
from otelagent.errors import ConfigError
from otelagent.struct import struct

__all__ = ["CHECKS", "Setup"]

_OFF = Finding("skip", "the agent is switched off")
_DROPS_ALL = ("always_off", "parentbased_always_off")


@struct(frozen=True)
class Setup:
    """What an application that is started now would be given.

    :ivar config: the settings; None where they are wrong.
    :ivar errors: why they are.
    :ivar warnings: what of them is ignored or looks wrong.
    :ivar environ: the environment, the options among it.
    :ivar command: to be run, empty for none.
    :ivar timeout_s: for each thing that is tried.
    """

    config: Config | None
    errors: Sequence[ConfigError]
    warnings: Sequence[str]
    environ: Mapping[str, str]
    command: tuple[str, ...] = ()
    timeout_s: float = 5.0

    def given(self) -> list[tuple[str, str, str]]:
        """The settings that aren't the defaults: name, value as it may be shown, source."""
        if self.config is None:
            return []
        sources = self.config.sources
        return [one for one in self.config.describe() if sources[one[0]].kind != "default"]


def _settings(setup: Setup) -> Iterator[Finding]:
    given = ", ".join(f"{name}={value} ({source})" for name, value, source in setup.given())
    for error in setup.errors:
        detail = str(error).removesuffix(f"; {error.hint}") if error.hint else str(error)
        yield Finding("fail", detail, error.hint or "correct the value or take it out: nothing is traced with it")
    for left, warning in enumerate(setup.warnings, 1 - len(setup.warnings)):
        # Told with the last: nothing passes beside what is wrong.
        more = f"; in force: {given}" if given and not left else ""
        advice = "a value that is ignored, or that looks wrong: correct it where it was set"
        yield Finding("warn", warning + more, advice)
    if not setup.errors and not setup.warnings:
        yield Finding("pass", given or "all are the defaults")


def _enabled(setup: Setup) -> Iterator[Finding]:
    config = setup.config
    if config is None:
        return
    if not config.enabled:
        yield Finding(
            "fail",
            f"the agent is switched off by {config.sources['enabled']}",
            f"take that out, or set {setting_text(config.sources, 'enabled', 'true')}",
        )
    elif config.traces.exporter == "none":
        where = config.sources["exporter"]
        yield Finding(
            "fail",
            f"exporter=none ({where}): spans are counted and dropped",
            f"set {setting_text(config.sources, 'exporter', 'otlp')}",
        )
    else:
        yield Finding("pass", f"spans go by the exporter {config.traces.exporter}")


def _service_name(setup: Setup) -> Iterator[Finding]:
    config = setup.config
    if config is None:
        return
    if not config.enabled:
        yield _OFF
        return
    name, source = config.service.name, config.sources["service_name"]
    advice = "set OTEL_SERVICE_NAME or --service-name"
    if source.kind != "default" and not name.startswith("unknown_service"):
        yield Finding("pass", f"{name} ({source})")
    elif source.kind != "default":
        yield Finding("warn", f"{source} says {name!r}: that is what backends show for no name", advice)
    elif setup.command:
        yield Finding("skip", "none is set outside the application; what it is called is below")
    else:
        detail = "none is set: it is called after its program, or unknown_service:python where that has no name"
        yield Finding("warn", detail, advice)


def _sampler(setup: Setup) -> Iterator[Finding]:
    config = setup.config
    if config is None:
        return
    if not config.enabled:
        yield _OFF
        return
    sampler, ratio, source = config.traces.sampler, config.traces.sampler_arg, config.sources["sampler"]
    if ratio is not None:
        source = config.sources["sampler_arg"]
    shown = sampler if ratio is None else f"{sampler} with {ratio:g}"
    if sampler in _DROPS_ALL or ratio == 0:
        advice = f"set {setting_text(config.sources, 'sampler', 'parentbased_always_on')}"
        if ratio is not None:
            advice = f"set {setting_text(config.sources, 'sampler_arg')} above 0, to 1 for all traces"
        roots = " that begin here" if sampler.startswith("parentbased") else ""
        yield Finding("fail", f"{shown} ({source}) leaves out all traces{roots}", advice)
    elif ratio is not None and ratio < 0.01:
        advice = f"raise {setting_text(config.sources, 'sampler_arg')} while you look for traces"
        yield Finding("warn", f"{shown} ({source}) keeps one trace in {1 / ratio:,.0f}", advice)
    else:
        yield Finding("pass", f"{shown} ({source})")


def _engine(setup: Setup) -> Iterator[Finding]:
    config = setup.config
    if config is None:
        return
    if not config.enabled:
        yield _OFF
        return
    from otelagent.record.choice import choose

    try:
        name, reason = choose(config)
    except ConfigError as error:
        yield Finding("fail", str(error), error.hint or f"set {setting_text(config.sources, 'engine', 'auto')}")
        return
    yield Finding("pass", f"{name}: {reason}")


CHECKS = (
    Check(
        "settings",
        "Settings",
        "settings",
        "every setting with its value and source; wrong values, and those that are ignored",
        "correct what is named, where it is named",
        _settings,
    ),
    Check(
        "enabled",
        "Telemetry is switched on",
        "settings",
        "`enabled`, `OTEL_SDK_DISABLED`, `exporter=none`",
        "take out what switches it off",
        _enabled,
    ),
    Check(
        "service_name",
        "The service has a name",
        "settings",
        "`service_name` and `service.name` in the resource's attributes",
        "set `OTEL_SERVICE_NAME` or `--service-name`",
        _service_name,
    ),
    Check(
        "sampler",
        "The sampler keeps traces",
        "settings",
        "`sampler` and `sampler_arg`: one that leaves out all, or nearly all",
        "`parentbased_always_on` where the sampler is set, or a higher ratio",
        _sampler,
    ),
    Check(
        "engine",
        "An engine records",
        "settings",
        "which engine records, and why",
        "install what is missing, or `engine=auto`",
        _engine,
    ),
)
