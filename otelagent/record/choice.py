"""Which engine records: the choice between those that are installed, by the setting `engine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.record.engine import Deliver, Engine, FlushDelivery, LedgerPort, LogsEngine
    from otelagent.record.open_spans import OpenSpans

__all__ = ["choose", "open_engine", "open_logs"]


def open_engine(
    config: Config,
    ledger: LedgerPort,
    deliver: Deliver,
    *,
    flush_delivery: FlushDelivery | None = None,
    open_spans: OpenSpans | None = None,
) -> Engine:
    """Opens the engine that the configuration asks for. This is what imports an engine; nothing before it does.

    `auto` is the native engine where it can be had, else the stock SDK's.

    :param ledger: the ledger of the traces signal.
    :param deliver: gets each encoded request.
    :param flush_delivery: continues `TracerProvider.force_flush()` behind `deliver`, so that a user who calls the
        OpenTelemetry API alone gets a truthful answer; `Engine.flush` doesn't use it.
    :param open_spans: hears of each span's start and end.
    :raises ConfigError: the `native` engine is asked for and missing; a sampler is unknown or can't be built.
    """
    name, reason = choose(config)
    if name == "native":
        from otelagent.record.native import NativeEngine

        return NativeEngine(
            config, ledger, deliver, reason=reason, flush_delivery=flush_delivery, open_spans=open_spans
        )

    with hidden(*SDK_VARIABLES):
        from otelagent.record.sdk import SdkEngine

    return SdkEngine(config, ledger, deliver, reason=reason, flush_delivery=flush_delivery, open_spans=open_spans)


def choose(config: Config) -> tuple[Literal["native", "sdk"], str]:
    """The engine that the configuration asks for and why it is this one, in words.

    :raises ConfigError: the native engine is asked for and can't be had.
    """
    asked = f"engine is set to {config.engine}"
    if config.engine == "sdk":
        return "sdk", asked
    absence = _native_absence()
    if config.engine == "native":
        if absence is not None:
            source = str(config.sources.get("engine", "the configuration"))
            raise ConfigError("engine", "native", source, absence, "use 'auto' or 'sdk'")
        return "native", asked
    if absence is not None:
        return "sdk", absence
    return "native", "engine is auto, and otelagent-native is installed"


def open_logs(
    config: Config, engine: Engine, ledger: LedgerPort, deliver: Deliver, *, flush_delivery: FlushDelivery | None = None
) -> LogsEngine:
    """Opens what records log records, of the same kind as the engine that records spans, whose resource it shares.

    :param ledger: the ledger of the logs signal.
    :param deliver: gets each encoded request.
    :param flush_delivery: continues `LoggerProvider.force_flush()` behind `deliver`.
    """
    if engine.name == "native":
        from otelagent.record.native_logs import NativeLogs

        return NativeLogs(config, lambda: engine.resource, ledger, deliver, flush_delivery=flush_delivery)
    with hidden(*SDK_VARIABLES):
        from otelagent.record.sdk_logs import SdkLogs

    return SdkLogs(config, engine.provider.resource, ledger, deliver, flush_delivery=flush_delivery)  # type: ignore[attr-defined]


def _native_absence() -> str | None:
    """Why the native engine can't be had in this interpreter, or None."""
    try:
        import otelagent_native  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "otelagent_native":
            return "otelagent-native is not installed"
        return f"otelagent-native can't be imported: {error}"
    # A wheel of another interpreter, a subinterpreter, an API or a context runtime of it that it can't work with.
    except Exception as error:
        return f"otelagent-native can't be imported: {error}"
    return None
