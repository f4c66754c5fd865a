"""Which engine records: the choice between those that are installed, by the setting `engine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.record.engine import Deliver, Engine, FlushDelivery, LedgerPort

__all__ = ["open_engine"]


def open_engine(
    config: Config, ledger: LedgerPort, deliver: Deliver, *, flush_delivery: FlushDelivery | None = None
) -> Engine:
    """Opens the engine that the configuration asks for. This is what imports an engine; nothing before it does.

    :param ledger: the ledger of the traces signal.
    :param deliver: gets each encoded request.
    :param flush_delivery: continues `TracerProvider.force_flush()` behind `deliver`, so that a user who calls the
        OpenTelemetry API alone gets a truthful answer; `Engine.flush` doesn't use it.
    :raises ConfigError: the `native` engine is asked for and missing; a sampler is unknown or can't be built.
    """
    reason = f"engine is set to {config.engine}"
    if config.engine == "native":
        absence = _native_absence()
        if absence is not None:
            raise ConfigError(
                "engine",
                "native",
                str(config.sources.get("engine", "the configuration")),
                absence,
                "use 'auto' or 'sdk'",
            )
        from otelagent.record.native import NativeEngine

        return NativeEngine(config, ledger, deliver, reason=reason, flush_delivery=flush_delivery)
    if config.engine == "auto":
        # Until the native engine has been through the end-to-end tests it has to be asked for.
        reason = "engine is auto, and the native engine is experimental"

    with hidden(*SDK_VARIABLES):
        from otelagent.record.sdk import SdkEngine

    return SdkEngine(config, ledger, deliver, reason=reason, flush_delivery=flush_delivery)


def _native_absence() -> str | None:
    """Why the native engine can't be had, or None."""
    try:
        import otelagent_native  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "otelagent_native":
            return "the distribution otelagent-native is not installed"
        return f"otelagent-native can't be imported: {error}"
    except Exception as error:  # a wheel of another interpreter, a subinterpreter, another version of the API
        return f"otelagent-native can't be imported: {error}"
    return None
